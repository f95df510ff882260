"""Wrong combinations of settings are named before they hurt."""

import re

import pytest
from django.core.checks import registry
from django.test import override_settings

from apps.common import checks
from tests.support.processes import CHECKOUT

RIGHT = {
    "DEBUG": False, "DEMO": False, "HTTPS": True, "TRUSTED_PROXIES": 1, "ALLOWED_HOSTS": ["podura.example.org"],
    "SITE_URL": "https://podura.example.org", "CACHE_URL": "redis://cache:6379/0", "REDIS_URL": "redis://queue:6379/0",
    "EMAIL_BACKEND": "django.core.mail.backends.smtp.EmailBackend", "DEFAULT_FROM_EMAIL": "podura@museum.example",
    "JOB_LEASE_SECONDS": 60, "JOB_SWEEP_SECONDS": 30, "READY_MAX_WAIT_SECONDS": 3600, "MAP_TILE_URL": "",
}  # fmt: skip


def found(**changes):
    with override_settings(**(RIGHT | changes)):
        return {message.id for check in checks.ALL for message in check(None)}


def test_a_right_production_setup_has_nothing_to_complain_about():
    assert found() == set()


@pytest.mark.parametrize(
    ("changes", "id_"),
    [
        ({"DEBUG": True}, "podura.E001"),
        ({"DEMO": True}, "podura.E002"),
        ({"ALLOWED_HOSTS": ["*"]}, "podura.E003"),
        ({"SITE_URL": "podura.example.org"}, "podura.E004"),
        ({"SITE_URL": "https://podura.example.org/app"}, "podura.E004"),
        ({"SITE_URL": "http://podura.example.org"}, "podura.E005"),
        ({"TRUSTED_PROXIES": 0}, "podura.W006"),
        ({"JOB_LEASE_SECONDS": 5}, "podura.E007"),
        ({"PICTURE_MAX_BYTES": 0}, "podura.E008"),
        ({"READY_MAX_WAIT_SECONDS": 10}, "podura.W009"),
        ({"MAP_TILE_URL": "https://tile.example.org/{z}/{x}.png"}, "podura.E010"),
        ({"MAP_TILE_URL": "https://tile.example.org/{z}/{x}/{y}.png"}, "podura.E011"),
        ({"CACHE_URL": "redis://queue:6379/0"}, "podura.W012"),
        ({"EMAIL_BACKEND": "django.core.mail.backends.console.EmailBackend"}, "podura.W013"),
        ({"DEFAULT_FROM_EMAIL": "Podura <noreply@podura.example>"}, "podura.W014"),
    ],
)
def test_each_wrong_combination_is_named_by_its_id(changes, id_):
    assert id_ in found(**changes)


def test_demo_and_debug_are_fine_on_ones_own_machine():
    own = {"HTTPS": False, "SITE_URL": "http://localhost:8000", "ALLOWED_HOSTS": ["localhost", "127.0.0.1"]}
    assert not {i for i in found(DEBUG=True, DEMO=True, **own) if i.startswith("podura.E")}


def test_every_message_has_a_hint_and_stands_in_the_documentation():
    ids = set(re.findall(r"podura\.[EW]\d{3}", (CHECKOUT / "docs" / "settings.md").read_text()))
    source = (CHECKOUT / "apps" / "common" / "checks.py").read_text()
    written = set(re.findall(r'"(podura\.[EW]\d{3})"', source)) | {"podura.E001", "podura.E002"}
    assert ids == written


def test_django_runs_them():
    registered = registry.registry.get_checks(include_deployment_checks=True)
    assert set(checks.ALL) <= set(registered)

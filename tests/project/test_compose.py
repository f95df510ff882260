"""compose.yaml says what docs/deploy.md promises. There is no container engine in the tests: this reads the file."""

import re

import pytest
import yaml

from tests.support.processes import CHECKOUT

COMPOSE = yaml.safe_load((CHECKOUT / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
OURS = [name for name, service in SERVICES.items() if service["image"].startswith("podura:")]


def test_every_part_of_a_production_site_is_there():
    assert set(OURS) == {
        "web", "worker-inference", "worker-inference-gpu", "worker-training", "worker-training-gpu", "worker-default",
        "beat", "migrate",
    }  # fmt: skip
    assert {"postgis", "queue", "cache", "s3"} <= set(SERVICES)


@pytest.mark.parametrize("name", OURS)
def test_our_processes_run_without_rights_on_a_read_only_file_system(name):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["user"] == "10001:10001"
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]


@pytest.mark.parametrize(
    "name", [name for name, service in SERVICES.items() if service.get("restart") != "no" and name != "tls"]
)
def test_what_stays_up_has_a_health_check(name):
    assert SERVICES[name]["healthcheck"]["test"]


@pytest.mark.parametrize(
    "name",
    [
        "worker-inference",
        "worker-inference-gpu",
        "worker-training",
        "worker-training-gpu",
        "postgis",
        "queue",
        "s3",
    ],
)
def test_what_reads_strangers_files_has_no_way_out(name):
    assert SERVICES[name]["networks"] == ["inner"]
    assert COMPOSE["networks"]["inner"]["internal"] is True


def test_only_the_web_opens_ports_and_only_on_this_host_without_the_proxy():
    open_ports = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert set(open_ports) == {"web", "tls"}
    assert open_ports["web"][0].startswith("127.0.0.1:")


def test_every_queue_that_tasks_use_has_a_worker():
    used = set()
    for path in (CHECKOUT / "apps").rglob("*.py"):
        used |= set(re.findall(r'queue="(\w+)"', path.read_text()))
    served = {
        queue
        for service in SERVICES.values()
        if "-Q" in service.get("command", [])
        for queue in service["command"][service["command"].index("-Q") + 1].split(",")
    }
    assert used
    assert used <= served


def test_no_secret_has_a_default_and_the_example_names_each():
    text = (CHECKOUT / "compose.yaml").read_text()
    example = (CHECKOUT / "deploy.env.example").read_text()
    required = set(re.findall(r"\$\{(\w+):\?", text))
    assert required == {"SECRET_KEY", "SITE_HOST", "POSTGRES_PASSWORD", "S3_PASSWORD"}
    assert all(re.search(rf"^{name}=", example, re.MULTILINE) for name in required)


def test_images_of_others_are_pinned():
    images = [service["image"] for name, service in SERVICES.items() if name not in OURS]
    assert all(re.search(r":.*\d", image) for image in images)


def test_our_environment_is_made_of_documented_settings():
    documented = set(
        re.findall(r"^\| `([A-Z][A-Z0-9_]+)` \|", (CHECKOUT / "docs/settings.md").read_text(), re.MULTILINE)
    )
    assert set(SERVICES["web"]["environment"]) <= documented


@pytest.mark.parametrize(
    ("training", "detection"),
    [("worker-training", "worker-inference"), ("worker-training-gpu", "worker-inference-gpu")],
)
def test_training_has_a_worker_of_its_own_in_every_profile_that_never_takes_the_processor_from_detection(
    training, detection
):
    service = SERVICES[training]
    assert service["profiles"] == SERVICES[detection]["profiles"]
    assert service["command"][service["command"].index("-Q") + 1] == "training"
    assert "training" not in SERVICES[detection]["command"]
    assert service["cpu_shares"] < 1024
    assert "training:/var/lib/podura/training" in service["volumes"]

"""The console's menu: every entry of the experts' loop opens for curators, in both languages, and for nobody else."""

import pytest
from django.conf import settings
from django.contrib.auth.models import Group
from django.urls import reverse

from tests.factories import UserFactory

pytestmark = pytest.mark.django_db
NAMES = [
    *(
        f"annotation_{name}"
        for name in (
            *("annotationtask", "conflict", "annotation", "review", "labelproposal", "goldenphoto"),
            *("annotationpolicy", "queueupdate", "datasetfreeze", "datasetimport", "contributornews"),
        )
    ),
    *("training_dataset", "training_datasetitem", "training_datasetexport"),
]


@pytest.fixture
def curator():
    user = UserFactory(is_staff=True)
    user.groups.add(Group.objects.get(name="Curators"))
    return user


@pytest.mark.parametrize("language", ["en", "fr"])
@pytest.mark.parametrize("name", NAMES)
def test_a_curator_opens_each_list(client, curator, name, language):
    client.force_login(curator)
    response = client.get(reverse(f"admin:{name}_changelist"), headers={"Accept-Language": language})
    assert response.status_code == 200


@pytest.mark.parametrize("name", NAMES)
def test_staff_without_permissions_open_none(client, name):
    client.force_login(UserFactory(is_staff=True))
    assert client.get(reverse(f"admin:{name}_changelist")).status_code == 403


def test_the_menu_leads_where_it_says(client, curator):
    client.force_login(curator)
    menu = {str(part.get("title")): part["items"] for part in settings.UNFOLD["SIDEBAR"]["navigation"]}
    request = client.get(reverse("admin:index")).wsgi_request
    for entry in (*menu["Experts' loop"], *menu["Labelled data"]):
        assert entry["permission"](request), entry["title"]
        link = entry["link"](request) if callable(entry["link"]) else str(entry["link"])
        assert client.get(link).status_code == 200

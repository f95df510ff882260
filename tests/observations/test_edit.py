"""Changing and deleting what one sent, by its owner alone."""

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.contrib.gis.geos import Point
from django.test import Client
from django.urls import reverse

from apps.accounts.models import User
from apps.observations.models import DiscardedFile, Observation, Photo
from tests.factories import CommentFactory, ObservationFactory, PhotoFactory, UserFactory

pytestmark = pytest.mark.django_db
FIELDS = {"licence": "CC-BY-4.0", "visibility": "public"}


@pytest.fixture
def person(client: Client) -> User:
    user = UserFactory()
    client.force_login(user)
    return user


@pytest.fixture
def observation(person: User) -> Observation:
    return ObservationFactory(contributor=person, title="Moss")


def edit_url(observation: Observation) -> str:
    return reverse("observations:edit", args=[observation.public_id])


def delete_url(observation: Observation) -> str:
    return reverse("observations:delete", args=[observation.public_id])


def test_the_form_shows_what_there_is(client: Client, observation: Observation) -> None:
    Observation.objects.filter(pk=observation.pk).update(location=Point(2.35, 48.85, srid=4326))
    PhotoFactory(observation=observation)
    page = client.get(edit_url(observation))
    assert page.status_code == 200
    assert 'value="Moss"' in page.content.decode()
    assert page.context["form"].initial["latitude"] == 48.85


def test_changes_are_kept(client: Client, observation: Observation) -> None:
    changes = {
        "title": "Bark",
        "observed_on": "2026-05-12",
        "observed_time": "14:30",
        "latitude": "48.85",
        "longitude": "2.35",
        "comment": "Under bark",
        "licence": "CC0-1.0",
        "visibility": "private",
    }
    answer = client.post(edit_url(observation), changes)
    assert answer["Location"] == reverse("observations:observation", args=[observation.public_id])
    observation.refresh_from_db()
    assert observation.title == "Bark"
    assert observation.observed_at == datetime(2026, 5, 12, 14, 30, tzinfo=ZoneInfo("Europe/Paris"))
    assert observation.location
    assert (observation.location.x, observation.location.y) == (2.35, 48.85)
    assert observation.public_location
    assert observation.licence == "CC0-1.0"
    assert observation.visibility == "private"


def test_a_place_can_be_taken_away(client: Client, observation: Observation) -> None:
    Observation.objects.filter(pk=observation.pk).update(
        location=Point(1, 1, srid=4326), location_accuracy_m=5
    )
    client.post(edit_url(observation), FIELDS)
    observation.refresh_from_db()
    assert observation.location is None
    assert observation.public_location is None
    assert observation.location_accuracy_m is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("latitude", "NaN"),
        ("latitude", "inf"),
        ("latitude", "90.1"),
        ("longitude", "-180.01"),
        ("longitude", "1e400"),
        ("observed_on", "2999-01-01"),
        ("observed_on", "1999-12-31"),
        ("observed_on", "0000-00-00"),
        ("observed_time", "25:00"),
        ("title", "x" * 161),
        ("title", "a\0b"),
        ("comment", "x" * 4001),
        ("licence", "all mine"),
        ("visibility", "hidden"),
    ],
)
def test_bad_input_is_named_at_its_field_and_nothing_changes(
    client: Client, observation: Observation, field: str, value: str
) -> None:
    filled: dict[str, Any] = FIELDS | {"title": "New", "latitude": "1", "longitude": "2"} | {field: value}
    page = client.post(edit_url(observation), filled)
    assert page.status_code == 422
    assert field in page.context["form"].errors
    observation.refresh_from_db()
    assert observation.title == "Moss"


def test_messages_are_in_the_readers_language(client: Client, observation: Observation) -> None:
    page = client.post(
        edit_url(observation),
        FIELDS | {"latitude": "91", "longitude": "0"},
        headers={"accept-language": "fr"},
    )
    assert "inférieure ou égale à 90" in page.content.decode()


def test_saving_twice_is_the_same_as_once(client: Client, observation: Observation) -> None:
    for _time in range(2):
        assert client.post(edit_url(observation), FIELDS | {"title": "Bark"}).status_code == 302
    assert Observation.objects.get().title == "Bark"


def test_texts_are_one_line_where_they_should_be_and_fit_also_in_their_normal_form(
    client: Client, observation: Observation
) -> None:
    grows = "\u0958"  # its normal form has two characters
    changes = FIELDS | {"title": grows * 160, "place_name": "a\n\u202eb", "comment": "a\n" + grows * 3998}
    assert client.post(edit_url(observation), changes).status_code == 302
    observation.refresh_from_db()
    assert observation.title == "\u0915\u093c" * 80
    assert observation.place_name == "a b"
    assert observation.comment.startswith("a\n\u0915")
    assert len(observation.comment) == 4000


def test_its_owner_cannot_show_what_a_curator_hid(client: Client, observation: Observation) -> None:
    Observation.objects.filter(pk=observation.pk).update(visibility="hidden")
    assert client.get(edit_url(observation)).status_code == 200
    client.post(edit_url(observation), FIELDS | {"title": "Bark", "visibility": "public"})
    observation.refresh_from_db()
    assert observation.title == "Bark"
    assert observation.visibility == "hidden"


def pages_of(observation: Observation) -> list[str]:
    photo = PhotoFactory(observation=observation)
    photo_delete = reverse("observations:photo_delete", args=[photo.public_id])
    return [edit_url(observation), delete_url(observation), photo_delete]


@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("page", range(3))
def test_a_stranger_is_asked_to_sign_in(observation: Observation, method: str, page: int) -> None:
    url = pages_of(observation)[page]
    answer = getattr(Client(), method)(url)
    assert answer["Location"] == f"{reverse('account_login')}?next={url}"
    assert Photo.objects.exists()


@pytest.mark.parametrize("role", ["contributor", "staff"])
@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("page", range(3))
def test_someone_elses_does_not_exist(
    client: Client, observation: Observation, method: str, page: int, role: str
) -> None:
    url = pages_of(observation)[page]
    client.force_login(UserFactory(is_staff=role == "staff"))
    assert getattr(client, method)(url, FIELDS).status_code == 404
    assert Photo.objects.exists()


@pytest.mark.parametrize("page", range(3))
def test_a_post_without_token_is_refused(observation: Observation, page: int) -> None:
    url = pages_of(observation)[page]
    client = Client(enforce_csrf_checks=True)
    client.force_login(observation.contributor)
    assert client.post(url, FIELDS).status_code == 403
    assert Photo.objects.exists()


def test_an_observation_is_deleted_after_a_question(client: Client, observation: Observation) -> None:
    PhotoFactory(observation=observation)
    CommentFactory(observation=observation)
    assert "cannot be undone" in client.get(delete_url(observation)).content.decode()
    assert Observation.objects.exists()
    assert client.post(delete_url(observation))["Location"] == reverse("observations:mine")
    assert not Observation.objects.exists()
    assert DiscardedFile.objects.count() == 3
    assert client.post(delete_url(observation)).status_code == 404


def test_one_photo_of_several_is_deleted(client: Client, observation: Observation) -> None:
    photo, other = PhotoFactory(observation=observation), PhotoFactory(observation=observation)
    url = reverse("observations:photo_delete", args=[photo.public_id])
    assert "only photo" not in client.get(url).content.decode()
    assert client.post(url)["Location"] == reverse("observations:observation", args=[observation.public_id])
    assert list(Photo.objects.all()) == [other]
    assert client.post(url).status_code == 404


def test_the_last_photo_takes_its_observation_along(client: Client, observation: Observation) -> None:
    photo = PhotoFactory(observation=observation)
    url = reverse("observations:photo_delete", args=[photo.public_id])
    assert "only photo" in client.get(url).content.decode()
    assert client.post(url)["Location"] == reverse("observations:mine")
    assert not Observation.objects.exists()

"""The results page of one photo."""

import re
from datetime import UTC, datetime
from typing import Any

import pytest
from django.contrib.gis.geos import Point
from django.test import Client
from django.urls import reverse

from apps.accounts.models import User
from apps.common.leased import WorkStatus
from apps.observations.models import Detection, Observation, Photo
from apps.observations.services.observations import create_observation
from tests.factories import (
    CommentFactory,
    DetectionFactory,
    LabelFactory,
    ModelVersionFactory,
    ObservationFactory,
    PhotoFactory,
    UserFactory,
)

pytestmark = pytest.mark.django_db


def page(client: Client, photo: Photo) -> str:
    response = client.get(reverse("observations:photo", args=[photo.public_id]))
    assert response.status_code == 200
    return response.content.decode()


def identified(boxes: int = 2, **fields: Any) -> Photo:
    """A photo whose shown version found `boxes` animals of the first of three classes."""
    version = ModelVersionFactory.create(labels=["mite", "springtail", "other"])
    photo = PhotoFactory.create(
        status=WorkStatus.DONE, model_version=version, detection_count=boxes, detection_ms=81.0, **fields
    )
    labels = [LabelFactory.create(survey=photo.survey, code=code) for code in version.labels]
    for number in range(1, boxes + 1):
        DetectionFactory.create(
            photo=photo,
            model_version=version,
            number=number,
            label=labels[0],
            score=0.7,
            class_scores=[0.7, 0.2, 0.1],
            x_min=10.0 * number,
            x_max=10.0 * number + 9,
        )
    return photo


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def test_each_animal_is_a_numbered_box_and_a_line_of_the_list(client: Client) -> None:
    text = page(client, identified(2))
    assert re.findall(r'id="mark-(\d+)"', text) == ["1", "2"]
    assert re.findall(r'id="box-(\d+)"', text) == ["1", "2"]
    assert 'x="20.0" y="20.0" width="9.0" height="50.0"' in text
    assert "2 animals" in text


def test_the_three_best_classes_are_named_with_their_confidence(client: Client) -> None:
    text = page(client, identified(1))
    assert "70\u202f%" in text
    assert "20\u202f%" in text
    assert "10\u202f%" in text


def test_boxes_of_an_earlier_version_are_not_shown(client: Client) -> None:
    photo = identified(1)
    DetectionFactory.create(photo=photo, number=7, model_version=ModelVersionFactory.create())
    assert 'id="box-7"' not in page(client, photo)


def test_a_photo_without_animals_says_so(client: Client) -> None:
    text = page(client, identified(0))
    assert "No animal found" in text
    assert "data-animals" not in text


def test_an_earlier_result_stays_while_the_photo_is_looked_at_again(client: Client) -> None:
    photo = identified(2)
    Photo.objects.filter(pk=photo.pk).update(status=WorkStatus.PENDING)
    text = page(client, photo)
    assert "every 2s" in text
    assert 'id="box-2"' in text


def test_names_from_the_admin_cannot_become_markup(client: Client) -> None:
    photo = identified(1)
    label = photo.detections.get().label
    label.scientific_name, label.colour = "<script>x</script>", '"><i>'
    label.save()
    text = page(client, photo)
    assert "<script>x" not in text
    assert "<i>" not in text


def test_a_waiting_photo_asks_for_its_state_again_and_a_finished_one_reloads_the_page(client: Client) -> None:
    photo = PhotoFactory.create()
    assert "every 2s" in page(client, photo)
    address = reverse("observations:photo_progress", args=[photo.public_id])
    waiting = client.get(address)
    assert "HX-Refresh" not in waiting
    assert "every 2s" in waiting.content.decode()
    Photo.objects.filter(pk=photo.pk).update(status=WorkStatus.DONE)
    assert client.get(address)["HX-Refresh"] == "true"


def test_a_waiting_photo_says_how_many_are_before_it(client: Client) -> None:
    PhotoFactory.create_batch(2)
    photo = PhotoFactory.create()
    assert "2 photos are before this one" in page(client, photo)


def test_a_page_that_waits_reloads_itself_without_scripts(client: Client) -> None:
    assert '<noscript><meta http-equiv="refresh"' in page(client, PhotoFactory.create())
    assert '<meta http-equiv="refresh"' not in page(client, identified(1))


class TestAFailedPhoto:
    @pytest.fixture
    def failed(self) -> Photo:
        return PhotoFactory.create(status=WorkStatus.FAILED, failure_reason="truncated", attempts=1)

    def test_it_says_why_and_its_owner_may_try_again(self, failed: Photo) -> None:
        client = signed_in(failed.contributor)
        assert "Try again" in page(client, failed)
        client.post(reverse("observations:detect_again", args=[failed.public_id]))
        failed.refresh_from_db()
        assert (failed.status, failed.attempts) == (WorkStatus.PENDING, 0)

    def test_trying_twice_does_no_harm(self, failed: Photo) -> None:
        client = signed_in(failed.contributor)
        for _ in range(2):
            response = client.post(reverse("observations:detect_again", args=[failed.public_id]))
            assert response.status_code == 302

    def test_strangers_may_not(self, failed: Photo) -> None:
        client = signed_in(UserFactory.create())
        assert "Try again" not in page(client, failed)
        assert client.post(reverse("observations:detect_again", args=[failed.public_id])).status_code == 404
        failed.refresh_from_db()
        assert failed.status == WorkStatus.FAILED

    def test_the_anonymous_are_asked_to_sign_in(self, client: Client, failed: Photo) -> None:
        response = client.post(reverse("observations:detect_again", args=[failed.public_id]))
        assert response.status_code == 302
        assert "login" in response["Location"]


@pytest.mark.parametrize("visibility", ["private", "hidden"])
def test_what_is_not_public_does_not_exist_for_strangers(client: Client, visibility: str) -> None:
    photo = PhotoFactory.create(observation=ObservationFactory.create(visibility=visibility))
    addresses = [
        reverse(f"observations:{name}", args=[photo.public_id])
        for name in (
            "photo",
            "photo_progress",
            "thumbnail",
            "display",
            "photo_picture",
            "photo_json",
            "photo_csv",
        )
    ]
    stranger = signed_in(UserFactory.create())
    for address in addresses:
        assert client.get(address).status_code == 404, address
        assert stranger.get(address).status_code == 404, address
    assert signed_in(photo.contributor).get(addresses[0]).status_code == 200


def test_the_exact_place_and_the_file_name_are_for_the_owner_and_staff(client: Client) -> None:
    owner = UserFactory.create()
    photo = identified(1)
    survey = photo.survey
    survey.geoprivacy = "obscured"
    survey.save()
    observation = create_observation(
        contributor=owner,
        survey=survey,
        location=Point(2.35222, 48.85661, srid=4326),
        place_name="Rue Mouffetard",
    )
    Photo.objects.filter(pk=photo.pk).update(
        observation=observation, name="rare-at-mouffetard.jpg", contributor=owner
    )
    public = page(client, photo)
    for secret in ("48.85661", "2.35222", "Mouffetard", "mouffetard"):
        assert secret not in public
    assert "Blurred" in public
    staff = UserFactory.create(is_staff=True)
    for viewer in (owner, staff):
        exact = page(signed_in(viewer), photo)
        assert "48.85661° N 2.35222° E" in exact
        assert "Rue Mouffetard" in exact


def test_the_owner_is_asked_once_whether_the_file_s_date_and_place_are_right() -> None:
    photo = identified(
        1, proposed_at=datetime(2026, 5, 12, 10, tzinfo=UTC), proposed_location=Point(2.35, 48.85, srid=4326)
    )
    client = signed_in(photo.contributor)
    assert "Is this when and where?" in page(client, photo)
    assert "Is this when and where?" not in page(Client(), photo)
    settle = reverse("observations:settle_proposals", args=[photo.observation.public_id])
    assert signed_in(UserFactory.create()).post(settle, {"answer": "accept"}).status_code == 404
    client.post(settle, {"answer": "accept"})
    observation = Observation.objects.get(pk=photo.observation_id)
    assert observation.observed_at == datetime(2026, 5, 12, 10, tzinfo=UTC)
    assert observation.location is not None
    assert "Is this when and where?" not in page(client, photo)


def test_declining_leaves_date_and_place_empty() -> None:
    photo = identified(1, proposed_at=datetime(2026, 5, 12, 10, tzinfo=UTC))
    client = signed_in(photo.contributor)
    client.post(
        reverse("observations:settle_proposals", args=[photo.observation.public_id]), {"answer": "decline"}
    )
    assert Observation.objects.get(pk=photo.observation_id).observed_at is None
    assert "Is this when and where?" not in page(client, photo)


def test_the_number_of_queries_does_not_grow_with_boxes_and_comments(
    client: Client, django_assert_max_num_queries: Any
) -> None:
    few = identified(1)
    many = identified(40)
    for number in range(1, 11):
        box = Detection.objects.get(photo=many, number=number)
        CommentFactory.create(observation=many.observation, photo=many, box_number=number, detection=box)
    page(client, few)
    for photo in (few, many):
        with django_assert_max_num_queries(9):
            page(client, photo)


def test_a_photo_of_several_leads_to_those_before_and_after(client: Client) -> None:
    first = identified(1)
    second = PhotoFactory.create(observation=first.observation)
    text = page(client, first)
    assert "Photo 1 of 2" in text
    assert reverse("observations:photo", args=[second.public_id]) in text


def test_an_unknown_photo_is_a_helpful_404(client: Client) -> None:
    response = client.get("/photos/00000000-0000-4000-8000-000000000000/")
    assert response.status_code == 404
    assert "Nothing under this lens" in response.content.decode()

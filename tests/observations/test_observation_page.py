"""The page of an observation: a folder's photos together."""

import re
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from apps.observations.models import ArchiveUpload, Observation, Photo, RefusedFile
from apps.observations.views import observation as view
from tests.factories import (
    DetectionFactory,
    LabelFactory,
    ModelVersionFactory,
    ObservationFactory,
    PhotoFactory,
    UserFactory,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def folder() -> Observation:
    observation = ObservationFactory.create(title="Plate K1")
    PhotoFactory.create_batch(3, observation=observation, status="done", detection_count=0)
    return observation


def get(client: Client, observation: Observation, **query: Any) -> Any:
    return client.get(reverse("observations:observation", args=[observation.public_id]), query)


def signed_in(user: Any) -> Client:
    client = Client()
    client.force_login(user)
    return client


def shown(response: Any) -> list[str]:
    """Public ids of the photos on the page, in their order."""
    found = re.findall(r'card__title"><a href="/photos/([0-9a-f-]{36})/', response.content.decode())
    return list(dict.fromkeys(found))


def test_it_shows_all_photos_in_the_order_they_were_sent(client: Client, folder: Observation) -> None:
    response = get(client, folder)
    ids = [str(pk) for pk in folder.photos.order_by("pk").values_list("public_id", flat=True)]
    assert shown(response) == ids
    assert "Plate K1" in response.content.decode()


def test_a_single_photo_s_page_shows_it_all(client: Client) -> None:
    photo = PhotoFactory.create()
    response = get(client, photo.observation)
    assert response.status_code == 302
    assert response["Location"] == reverse("observations:photo", args=[photo.public_id])


def test_photos_are_paged_by_key_forwards_and_back(
    client: Client, folder: Observation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view, "PAGE", 2)
    ids = [str(pk) for pk in folder.photos.order_by("pk").values_list("public_id", flat=True)]
    assert shown(get(client, folder)) == ids[:2]
    assert shown(get(client, folder, after=ids[1])) == ids[2:]
    assert shown(get(client, folder, before=ids[2])) == ids[:2]
    assert shown(get(client, folder, after="no-key")) == ids[:2]
    other = PhotoFactory.create()
    assert shown(get(client, folder, after=str(other.public_id))) == ids[:2]


def test_animals_are_counted_by_label_for_the_shown_version_only(client: Client, folder: Observation) -> None:
    version, older = ModelVersionFactory.create_batch(2)
    label = LabelFactory.create(survey=folder.survey, scientific_name="Podura aquatica")
    Photo.objects.filter(observation=folder).update(model_version=version, detection_count=1)
    for photo in folder.photos.all():
        DetectionFactory.create(photo=photo, model_version=version, label=label, number=1)
        DetectionFactory.create(photo=photo, model_version=older, label=label, number=1)
    text = get(client, folder).content.decode()
    assert re.search(r"Podura aquatica</em></td><td class=\"num\">3<", text)


def test_progress_goes_on_by_itself_and_reloads_the_page_at_the_end(
    client: Client, folder: Observation
) -> None:
    waiting = PhotoFactory.create(observation=folder)
    text = get(client, folder).content.decode()
    assert "3 of 4 photos are through" in text
    address = reverse("observations:observation_progress", args=[folder.public_id])
    assert client.get(address, {"seen": "2"})["HX-Trigger"] == "photos-changed"
    assert "HX-Trigger" not in client.get(address, {"seen": "3"})
    Photo.objects.filter(pk=waiting.pk).update(status="done")
    assert client.get(address)["HX-Refresh"] == "true"


def test_a_zip_that_is_still_read_counts_as_work(client: Client, folder: Observation) -> None:
    ArchiveUpload.objects.create(observation=folder, name="plates.zip", file="archives/x.zip", size_bytes=1)
    assert "A zip is still being read" in get(client, folder).content.decode()


def test_refused_files_are_named_to_the_owner_until_read(folder: Observation) -> None:
    RefusedFile.objects.create(observation=folder, name="notes.txt", code="not_a_picture")
    owner = signed_in(folder.contributor)
    assert "notes.txt" in get(owner, folder).content.decode()
    stranger = signed_in(UserFactory.create())
    assert "notes.txt" not in get(stranger, folder).content.decode()
    dismiss = reverse("observations:dismiss_refused", args=[folder.public_id])
    assert stranger.post(dismiss).status_code == 404
    for _ in range(2):
        assert owner.post(dismiss).status_code == 302
    assert "notes.txt" not in get(owner, folder).content.decode()


def test_refusals_of_an_archive_still_being_read_stay(folder: Observation) -> None:
    archive = ArchiveUpload.objects.create(
        observation=folder, name="plates.zip", file="archives/y.zip", size_bytes=1
    )
    RefusedFile.objects.create(
        observation=folder, name="a.txt", code="not_a_picture", archive=archive, archive_index=0
    )
    signed_in(folder.contributor).post(reverse("observations:dismiss_refused", args=[folder.public_id]))
    assert RefusedFile.objects.count() == 1


def test_only_the_owner_sees_edit_and_delete(client: Client, folder: Observation) -> None:
    for name in ("edit", "delete"):
        address = f"/observations/{folder.public_id}/{name}/"
        assert address not in get(client, folder).content.decode()


def test_file_names_are_the_owner_s_own(client: Client, folder: Observation) -> None:
    Photo.objects.filter(observation=folder).update(name="secret-valley.jpg")
    assert "secret-valley" not in get(client, folder).content.decode()
    assert "secret-valley" in get(signed_in(folder.contributor), folder).content.decode()


def test_private_ones_do_not_exist_for_others(client: Client) -> None:
    observation = ObservationFactory.create(visibility="private")
    PhotoFactory.create_batch(2, observation=observation)
    assert get(client, observation).status_code == 404
    assert get(signed_in(UserFactory.create()), observation).status_code == 404
    assert get(signed_in(observation.contributor), observation).status_code == 200


def test_the_number_of_queries_does_not_grow_with_the_folder(
    client: Client, folder: Observation, django_assert_max_num_queries: Any
) -> None:
    get(client, folder)
    PhotoFactory.create_batch(20, observation=folder, status="done", detection_count=1)
    with django_assert_max_num_queries(7):
        get(client, folder)

"""The same files in an S3 bucket, spoken to over HTTP: kept, read back, handed on or pointed to, removed."""

import io
import zipfile
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest
from django.core.files.storage import storages
from django.test import Client
from django.urls import reverse

from apps.observations.models import ArchiveUpload, DiscardedFile, Photo, TilePyramid
from apps.observations.services.archives import read_next_archive, receive_archive
from apps.observations.services.deletion import delete_observation, purge_discarded_files
from apps.observations.services.intake import receive_photo
from apps.observations.services.tiles import cut_next_pyramid
from project.storage_url import is_public_store, storages_from_url
from tests.factories import ObservationFactory
from tests.support.object_store import empty_bucket
from tests.support.pictures import jpeg

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    """The address of an empty bucket."""
    with empty_bucket() as bucket:
        yield bucket.url


@pytest.fixture(autouse=True)
def in_store(store: str, settings, monkeypatch) -> None:
    own = storages_from_url(store, static_backend="unused")
    settings.STORAGES = {**settings.STORAGES, "default": own["default"], "renditions": own["renditions"]}
    # Fields take their storage when the models are loaded.
    for model, field in (
        (Photo, "original"),
        (Photo, "display"),
        (Photo, "thumbnail"),
        (ArchiveUpload, "file"),
    ):
        alias = "renditions" if field in ("display", "thumbnail") else "default"
        monkeypatch.setattr(model._meta.get_field(field), "storage", storages[alias])


def signed_in(user) -> Client:
    client = Client()
    client.force_login(user)
    return client


def test_a_photo_is_kept_and_handed_on_by_the_site_where_browsers_do_not_reach_the_store():
    content = jpeg()
    observation = ObservationFactory.create()
    photo = receive_photo(observation=observation, file=io.BytesIO(content), name="plate.jpg").photo
    client = signed_in(observation.contributor)
    original = client.get(reverse("observations:original", args=[photo.public_id]))
    assert original.status_code == 200
    assert original.getvalue() == content
    thumbnail = client.get(reverse("observations:thumbnail", args=[photo.public_id]))
    assert (thumbnail.status_code, thumbnail["Content-Type"]) == (200, "image/jpeg")
    assert thumbnail.getvalue().startswith(b"\xff\xd8")


@pytest.mark.slow
def test_browsers_are_sent_to_a_store_that_they_reach_for_five_minutes(settings):
    settings.IS_PUBLIC_STORE = True
    observation = ObservationFactory.create()
    photo = receive_photo(observation=observation, file=io.BytesIO(jpeg()), name="a\r\nb.jpg").photo
    client = signed_in(observation.contributor)
    answer = client.get(reverse("observations:original", args=[photo.public_id]))
    assert answer.status_code == 302
    query = parse_qs(urlsplit(answer["Location"]).query)
    assert query["X-Amz-Expires"] == ["300"]
    assert query["response-content-disposition"][0].startswith("attachment")
    picture = client.get(reverse("observations:thumbnail", args=[photo.public_id]))
    assert picture.status_code == 302
    assert "max-age=240" in picture["Cache-Control"]
    assert Client().get(reverse("observations:original", args=[photo.public_id])).status_code == 404


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("s3://k:s@host/b?public=1", True),
        ("s3://k:s@s3:9000/b?region=r&tls=0", False),
        ("s3://k:s@host/b?public=0", False),
        ("file:///srv/podura?public=1", False),
    ],
)
def test_only_a_store_that_is_said_to_be_public_is(url, expected):
    assert is_public_store(url) is expected


@pytest.mark.slow
def test_a_zip_is_read_from_the_store_without_lying_in_memory():
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.jpg", jpeg())
        archive.writestr("filler.bin", bytes(range(256)) * 40_000)
    observation = ObservationFactory.create()
    upload = receive_archive(observation=observation, file=packed, name="a.zip")
    with upload.file.open("rb") as file:
        file.read(1)
        assert file.file.file._rolled, "ten megabytes belong on disk"
    assert read_next_archive(seconds=60)
    assert observation.photos.count() == 1
    assert observation.refused_files.get().name == "filler.bin"


@pytest.mark.slow
def test_deleting_an_observation_empties_the_store():
    observation = ObservationFactory.create()
    photo = receive_photo(observation=observation, file=io.BytesIO(jpeg()), name="a.jpg").photo
    assert storages["default"].exists(photo.original.name)
    delete_observation(observation=observation)
    purge_discarded_files()
    assert not storages["default"].exists(photo.original.name)
    assert not storages["renditions"].exists(photo.thumbnail.name)
    assert (
        signed_in(observation.contributor).get(f"/photos/{photo.public_id}/thumbnail.jpg").status_code == 404
    )


@pytest.mark.slow
def test_the_tiles_of_a_large_photo_lie_in_the_store_and_leave_it(settings):
    observation = ObservationFactory.create()
    content = jpeg(width=2_700, height=700)
    photo = receive_photo(observation=observation, file=io.BytesIO(content), name="plate.jpg").photo
    assert cut_next_pyramid()
    pyramid = TilePyramid.objects.get()
    stored = storages["renditions"]
    folder = pyramid.folder_name
    assert sorted(stored.listdir(folder)[0]) == ["0", "1", "2", "3"]
    address = reverse("observations:tile", args=[photo.public_id, 3, 5, 1])
    answer = Client().get(address)
    assert answer.status_code == 200
    assert answer.getvalue().startswith(b"\xff\xd8")
    settings.IS_PUBLIC_STORE = True
    assert f"/{folder}3/5_1.jpg?" in Client().get(address)["Location"]
    delete_observation(observation=observation)
    purge_discarded_files()
    assert stored.listdir(folder) == ([], [])
    assert not DiscardedFile.objects.exists()

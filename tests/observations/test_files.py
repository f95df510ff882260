"""Renditions and originals: by id, through the permission check, with headers that make them harmless."""

import pytest
from django.test import Client
from django.urls import reverse

from apps.observations.models import Photo
from tests.factories import PhotoFactory, UserFactory

pytestmark = pytest.mark.django_db


def address(photo: Photo, kind: str) -> str:
    return reverse(f"observations:{kind}", args=[photo.public_id])


def signed_in(user: object) -> Client:
    client = Client()
    client.force_login(user)  # type: ignore[arg-type]
    return client


@pytest.mark.parametrize("kind", ["thumbnail", "display"])
def test_renditions_are_jpeg_kept_by_the_viewer_s_browser_only(client: Client, kind: str) -> None:
    response = client.get(address(PhotoFactory.create(), kind))
    assert response.status_code == 200
    assert response["Content-Type"] == "image/jpeg"
    assert response["X-Content-Type-Options"] == "nosniff"
    assert "private" in response["Cache-Control"]
    assert response.getvalue() == kind.encode()


def test_a_rendition_already_in_the_browser_is_not_sent_again(client: Client) -> None:
    photo = PhotoFactory.create()
    etag = client.get(address(photo, "thumbnail"))["ETag"]
    assert client.get(address(photo, "thumbnail"), headers={"If-None-Match": etag}).status_code == 304


def test_the_original_is_byte_exact_a_download_and_boxed_in() -> None:
    photo = PhotoFactory.create(name='soil é;".jpg')
    response = signed_in(photo.contributor).get(address(photo, "original"))
    assert response.getvalue() == b"original"
    assert response["Content-Disposition"].startswith("attachment;")
    assert response["Content-Type"] == "application/octet-stream"
    assert "sandbox" in response["Content-Security-Policy"]
    assert response["X-Content-Type-Options"] == "nosniff"
    assert "no-store" in response["Cache-Control"]


def test_the_original_exists_for_its_owner_and_staff_only(client: Client) -> None:
    photo = PhotoFactory.create()
    assert client.get(address(photo, "original")).status_code == 404
    assert signed_in(UserFactory.create()).get(address(photo, "original")).status_code == 404
    assert signed_in(UserFactory.create(is_staff=True)).get(address(photo, "original")).status_code == 200


def test_a_file_that_is_gone_is_a_404(client: Client) -> None:
    photo = PhotoFactory.create()
    photo.display.storage.delete(str(photo.display.name))
    assert client.get(address(photo, "display")).status_code == 404
    assert client.get(address(photo, "photo_picture")).status_code == 404


def test_writing_methods_are_not_allowed(client: Client) -> None:
    assert client.post(address(PhotoFactory.create(), "display")).status_code == 405

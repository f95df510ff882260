"""The first page, and the frame around every page."""

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from tests.factories import ObservationFactory, PhotoFactory, UserFactory

pytestmark = pytest.mark.django_db


def test_a_visitor_reads_what_this_is_and_why_an_account_is_needed(client: Client) -> None:
    text = client.get("/").content.decode()
    assert "found, numbered and named" in text
    assert "You need a free account" in text
    assert f"{reverse('account_login')}?next=/send/" in text


def test_someone_signed_in_is_not_told_again(client: Client) -> None:
    client.force_login(UserFactory.create())
    assert "You need a free account" not in client.get("/").content.decode()


def test_the_latest_are_public_identified_photos_one_of_each_observation(client: Client) -> None:
    folder = ObservationFactory.create()
    PhotoFactory.create(observation=folder, status="done", detection_count=2)
    newest = PhotoFactory.create(observation=folder, status="done", detection_count=2)
    hidden = [
        PhotoFactory.create(status="done", detection_count=0),
        PhotoFactory.create(status="pending"),
        PhotoFactory.create(
            observation=ObservationFactory.create(visibility="private"), status="done", detection_count=1
        ),
    ]
    text = client.get("/").content.decode()
    assert text.count(f"/photos/{newest.public_id}/thumbnail.jpg") == 1
    assert text.count("thumbnail.jpg") == 1
    assert all(str(photo.public_id) not in text for photo in hidden)


def test_numbers_are_counted_once_in_a_while(client: Client, django_assert_max_num_queries: Any) -> None:
    client.get("/")
    with django_assert_max_num_queries(1):
        client.get("/")


def test_every_page_obeys_a_policy_that_starts_from_none(client: Client) -> None:
    for address in ("/", "/nowhere/"):
        response = client.get(address)
        policy = response["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        text = response.content.decode()
        assert " style=" not in text
        assert "<style" not in text
        assert "<script>" not in text
        assert " onclick=" not in text


def test_the_theme_comes_from_the_cookie_so_that_no_page_flashes(client: Client) -> None:
    for theme, expected in (("dark", 'data-theme="dark"'), ("light", 'data-theme="light"')):
        client.cookies["theme"] = theme
        assert expected in client.get("/").content.decode()
    client.cookies["theme"] = '"><script>'
    assert "data-theme=" not in client.get("/").content.decode().split("<body")[0]


def test_the_language_is_changed_by_a_form_and_comes_back_to_the_page(client: Client) -> None:
    response = client.post(reverse("set_language"), {"language": "fr", "next": "/?a=1"})
    assert response["Location"] == "/?a=1"
    assert '<html lang="fr"' in client.get("/").content.decode()


def test_an_address_that_does_not_exist_is_answered_with_help(client: Client) -> None:
    response = client.get("/nowhere/")
    assert response.status_code == 404
    text = response.content.decode()
    assert "Nothing under this lens" in text
    assert "name this number" in text


def test_posting_to_the_home_page_is_not_allowed(client: Client) -> None:
    assert client.post("/").status_code == 405

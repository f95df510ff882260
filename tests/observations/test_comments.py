"""Remarks on observations, photos and numbered boxes."""

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from apps.observations.models import Comment, Photo
from tests.factories import (
    CommentFactory,
    DetectionFactory,
    ModelVersionFactory,
    ObservationFactory,
    PhotoFactory,
    UserFactory,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def photo() -> Photo:
    version = ModelVersionFactory.create()
    photo = PhotoFactory.create(model_version=version, status="done", detection_count=3)
    DetectionFactory.create(photo=photo, model_version=version, number=3)
    return photo


@pytest.fixture
def visitor() -> Client:
    client = Client()
    client.force_login(UserFactory.create(display_name="Vera"))
    return client


def address(photo: Photo) -> str:
    return reverse("observations:comment_on_photo", args=[photo.public_id])


def test_a_comment_on_a_numbered_box_is_kept_with_the_box(visitor: Client, photo: Photo) -> None:
    response = visitor.post(address(photo), {"body": "#3 is a mite", "box_number": "3"}, follow=True)
    comment = Comment.objects.get()
    assert (comment.box_number, comment.detection) == (3, photo.detections.get())
    assert f"#comment-{comment.public_id}" in response.redirect_chain[0][0]
    text = response.content.decode()
    assert "#3 is a mite" in text
    assert "Vera" in text


def test_a_comment_may_be_on_the_photo_or_on_the_whole_observation(visitor: Client, photo: Photo) -> None:
    visitor.post(address(photo), {"body": "sharp", "box_number": ""})
    visitor.post(
        reverse("observations:comment_on_observation", args=[photo.observation.public_id]),
        {"body": "a fine place"},
    )
    assert set(Comment.objects.values_list("body", "photo", "box_number")) == {
        ("sharp", photo.pk, None),
        ("a fine place", None, None),
    }
    text = visitor.get(reverse("observations:photo", args=[photo.public_id])).content.decode()
    assert "a fine place" in text


def test_a_form_posted_twice_is_one_comment(visitor: Client, photo: Photo) -> None:
    for _ in range(2):
        visitor.post(address(photo), {"body": "twice"})
    assert Comment.objects.count() == 1


@pytest.mark.parametrize(
    "data",
    [
        {"body": ""},
        {"body": " \n\t "},
        {},
        {"body": "x" * 2001},
        {"body": "ok", "box_number": "4"},
        {"body": "ok", "box_number": "0"},
        {"body": "ok", "box_number": "-1"},
        {"body": "ok", "box_number": "9" * 30},
        {"body": "ok", "box_number": "²"},
        {"body": "ok", "box_number": "3\x00"},
    ],
)
def test_a_refused_comment_says_why_and_stores_nothing(
    visitor: Client, photo: Photo, data: dict[str, Any]
) -> None:
    response = visitor.post(address(photo), data, follow=True)
    assert response.status_code == 200
    assert "message--error" in response.content.decode()
    assert not Comment.objects.exists()


def test_control_characters_are_taken_out_and_markup_stays_text(visitor: Client, photo: Photo) -> None:
    response = visitor.post(address(photo), {"body": "a\x00b \u202e<script>alert(1)</script>"}, follow=True)
    assert Comment.objects.get().body == "ab <script>alert(1)</script>"
    assert "<script>alert" not in response.content.decode()


def test_the_anonymous_are_asked_to_sign_in(client: Client, photo: Photo) -> None:
    response = client.post(address(photo), {"body": "hello"})
    assert response.status_code == 302
    assert "login" in response["Location"]
    assert not Comment.objects.exists()


def test_a_form_without_its_token_is_refused(photo: Photo) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(UserFactory.create())
    assert client.post(address(photo), {"body": "hello"}).status_code == 403
    assert not Comment.objects.exists()


def test_nobody_comments_on_what_they_may_not_see(visitor: Client) -> None:
    photo = PhotoFactory.create(observation=ObservationFactory.create(visibility="private"))
    assert visitor.post(address(photo), {"body": "hello"}).status_code == 404
    assert not Comment.objects.exists()


class TestDeleting:
    def test_the_author_and_staff_may(self) -> None:
        for by_staff in (False, True):
            comment = CommentFactory.create()
            client = Client()
            client.force_login(UserFactory.create(is_staff=True) if by_staff else comment.author)
            client.post(reverse("observations:delete_comment", args=[comment.public_id]))
            assert not Comment.objects.exists()

    def test_others_may_not_and_a_second_time_is_a_404(self, visitor: Client) -> None:
        comment = CommentFactory.create()
        there = reverse("observations:delete_comment", args=[comment.public_id])
        assert visitor.post(there).status_code == 404
        assert visitor.get(there).status_code == 405
        author = Client()
        author.force_login(comment.author)
        assert [author.post(there).status_code for _ in range(2)] == [302, 404]


def test_a_remark_stays_when_a_new_version_numbers_the_boxes_anew(visitor: Client, photo: Photo) -> None:
    visitor.post(address(photo), {"body": "#3 is a mite", "box_number": "3"})
    newer = ModelVersionFactory.create()
    DetectionFactory.create(photo=photo, model_version=newer, number=1)
    Photo.objects.filter(pk=photo.pk).update(model_version=newer)
    text = visitor.get(reverse("observations:photo", args=[photo.public_id])).content.decode()
    assert "#3 is a mite" in text
    assert "number of an earlier model version" in text


def test_too_many_comments_in_an_hour_are_answered_with_when_to_come_back(
    visitor: Client, photo: Photo
) -> None:
    codes = [visitor.post(address(photo), {"body": "again"}).status_code for _ in range(61)]
    assert codes[-1] == 429
    last = visitor.post(address(photo), {"body": "again"})
    assert int(last["Retry-After"]) > 0

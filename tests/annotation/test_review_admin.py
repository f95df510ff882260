"""Reviews and news in the console: to be looked at by curators."""

from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.test import Client
from django.urls import reverse

from apps.annotation.models import Review
from apps.annotation.services.bulk import send_back
from apps.annotation.services.news import record_news
from tests.annotation.factories import ExpertFactory
from tests.annotation.test_bulk import answered
from tests.factories import LabelFactory, UserFactory

pytestmark = pytest.mark.django_db
LISTS = [reverse(f"admin:annotation_{model}_changelist") for model in ("review", "contributornews")]


@pytest.fixture
def curator() -> Client:
    user = UserFactory.create(is_staff=True)
    user.groups.add(Group.objects.get(name="Curators"))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture(autouse=True)
def _decided() -> None:
    label = LabelFactory.create()
    for _photo in range(3):
        answer = answered(label.survey, label)
        record_news()
        send_back(
            survey=label.survey,
            by=ExpertFactory.create(),
            boxes=[(answer.public_id, 1)],
            note="two animals in it",
        )


def test_curators_see_what_was_decided_and_told(curator: Client) -> None:
    reviews, news = (curator.get(address).content.decode() for address in LISTS)
    assert reviews.count("two animals in it") == 3
    assert "plate-" in news


def test_news_are_in_the_menu(curator: Client) -> None:
    assert f'href="{LISTS[1]}"' in curator.get(reverse("admin:index")).content.decode()


def test_they_are_for_curators_and_change_nothing(curator: Client) -> None:
    stranger, staff = Client(), Client()
    staff.force_login(UserFactory.create(is_staff=True))
    for address in LISTS:
        assert stranger.get(address).status_code == 302
        assert staff.get(address).status_code == 403
        assert curator.get(f"{address}add/").status_code == 403
    address = reverse("admin:annotation_review_delete", args=[Review.objects.all()[0].pk])
    assert curator.post(address, {"post": "yes"}).status_code == 403


def test_lists_find_a_photo_or_a_person_and_ask_the_database_the_same(
    curator: Client, django_assert_max_num_queries: Any
) -> None:
    review = Review.objects.all()[0]
    for address in LISTS:
        with django_assert_max_num_queries(16):
            curator.get(address)
        text = curator.get(address, {"q": str(review.task.photo.public_id)}).content.decode()
        assert review.task.photo.name in text

"""From two answers that differ to the one that counts, in a real browser."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.urls import reverse
from playwright.sync_api import Browser, Page, expect

from apps.accounts.models import User
from apps.annotation.models import Annotation, AnnotationTask, Review
from apps.annotation.services.policies import policy_of
from apps.observations.models import Survey
from tests.annotation.browser import Hands, drawing_context, queued_photo
from tests.annotation.drawing import drawing_survey
from tests.annotation.factories import ExpertFactory
from tests.annotation.several import at, say
from tests.factories import UserFactory
from tests.support.browser import accessibility_violations, chromium, is_wider_than_the_screen, open_page

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.browser]


@pytest.fixture(scope="module")
def browser(django_db_setup: None) -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def survey(transactional_db: None) -> Survey:
    survey = drawing_survey()
    policy = policy_of(survey)
    policy.experts_per_photo = 2
    policy.save()
    return survey


@pytest.fixture
def curator(transactional_db: None) -> User:
    user: User = UserFactory.create(is_staff=True, display_name="Clara")
    user.groups.add(Group.objects.get(name="Curators"))
    return user


def address(task: AnnotationTask) -> str:
    return reverse("admin:annotation_conflict_change", args=[task.pk])


def draw_and_send(browser: Browser, base_url: str, expert: User, *, extra: bool) -> None:
    """An expert keeps the machine's two boxes; one of them draws a third."""
    with drawing_context(browser, base_url, expert) as context:
        page = context.new_page()
        page.goto(reverse("annotation:draw", args=["springtails"]))
        hands = Hands(page)
        hands.is_ready()
        if extra:
            hands.draw(400, 400, 480, 470)
        page.get_by_role("button", name="Send, next photo").click()
        expect(page.locator("[data-waiting]")).to_be_visible()


def test_two_experts_draw_they_disagree_and_a_curator_settles_it(
    browser: Browser, live_server: Any, survey: Survey, curator: User
) -> None:
    task = queued_photo(survey, answers_needed=2)
    anna, bruno = ExpertFactory.create(display_name="Anna"), ExpertFactory.create(display_name="Bruno")
    draw_and_send(browser, live_server.url, anna, extra=False)
    draw_and_send(browser, live_server.url, bruno, extra=True)
    task.refresh_from_db()
    assert task.state == AnnotationTask.State.CONFLICT
    with open_page(browser, live_server.url, user=curator) as page:
        page.goto(reverse("admin:annotation_conflict_changelist"))
        page.locator(f'a[href*="{address(task)}"]').first.click()
        expect(page.get_by_role("cell", name=re.compile("drawn by 1 of 2"))).to_be_visible()
        assert _shown(page) == 5
        page.get_by_label("B: Bruno").uncheck()
        assert _shown(page) == 2
        page.get_by_label("B: Bruno").check()
        page.get_by_label("Only what differs").check()
        assert _shown(page) == 1
        page.get_by_label("2×").check()
        page.get_by_role("button", name="Take version B").click()
        expect(page.get_by_text("Settled: this answer counts now.")).to_be_visible()
    task.refresh_from_db()
    assert task.accepted is not None
    assert (task.state, task.accepted.box_count) == (AnnotationTask.State.DONE, 3)
    assert (task.accepted.origin, task.accepted.author) == (Annotation.Origin.CURATOR, curator)
    review = Review.objects.get()
    assert review.before is not None
    assert review.before.author == bruno


@pytest.mark.parametrize("width", [390, 1280])
def test_it_is_settled_row_by_row_without_javascript_and_on_a_phone(
    browser: Browser, live_server: Any, survey: Survey, curator: User, width: int
) -> None:
    task = queued_photo(survey, answers_needed=2)
    say(task, at(100), at(300, "CER"))
    say(task, at(102), at(300, "ISO"), at(500))
    options = {"viewport": {"width": width, "height": 800}, "java_script_enabled": False}
    with open_page(browser, live_server.url, user=curator, **options) as page:
        page.goto(address(task))
        page.locator('input[type=radio][value="ISO"]').check()
        page.locator('input[type=radio][value="none"]').last.check()
        page.get_by_label(re.compile("^Why")).fill("short antennae")
        page.get_by_role("button", name="Settle as chosen in the rows").click()
        page.wait_for_url(f"**{reverse('admin:annotation_conflict_changelist')}")
    task.refresh_from_db()
    assert task.accepted is not None
    codes = task.accepted.boxes.order_by("number").values_list("label__code", flat=True)
    assert (task.state, list(codes)) == (AnnotationTask.State.DONE, ["CER", "ISO"])
    assert Review.objects.get().note == "short antennae"


def test_the_second_curator_is_told_and_changes_nothing(
    browser: Browser, live_server: Any, survey: Survey, curator: User
) -> None:
    task = queued_photo(survey, answers_needed=2)
    say(task, at(100))
    say(task, at(100, "ISO"))
    other = UserFactory.create(is_staff=True, is_superuser=True, display_name="Dora")
    with (
        open_page(browser, live_server.url, user=curator) as first,
        open_page(browser, live_server.url, user=other) as second,
    ):
        first.goto(address(task))
        second.goto(address(task))
        first.get_by_role("button", name="Take version A").click()
        expect(first.get_by_text("Settled: this answer counts now.")).to_be_visible()
        second.get_by_role("button", name="Take version B").click()
        expect(second.get_by_text("Clara has settled this photo already")).to_be_visible()
        expect(second.get_by_role("button", name="Take version A")).to_have_count(0)
    assert Review.objects.count() == 1


def test_the_pages_about_agreement_are_accessible(
    browser: Browser, live_server: Any, survey: Survey, curator: User
) -> None:
    anna, bruno = ExpertFactory.create(), ExpertFactory.create()
    for label in ("CER", "ISO", "CER"):
        task = queued_photo(survey, answers_needed=2)
        say(task, at(100), at(300, label), by=anna, model_version=str(task.photo.model_version))
        say(task, at(102), at(300, label), by=bruno, model_version=str(task.photo.model_version))
    for width in (390, 1280):
        options = {"viewport": {"width": width, "height": 800}, "reduced_motion": "reduce"}
        with open_page(browser, live_server.url, user=anna, **options) as page:
            for name, args in (("annotation:agreement", ["springtails"]), ("annotation:me", [])):
                page.goto(reverse(name, args=args))
                assert accessibility_violations(page) == []
                assert not is_wider_than_the_screen(page)


def _shown(page: Page) -> int:
    """Boxes of the versions that are to be seen on the photo."""
    return sum(
        box.is_visible() for box in page.locator(".conflict__stage .version__box .version__halo").all()
    )

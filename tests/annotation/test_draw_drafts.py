"""Nothing that an expert draws is lost: closed tabs, dead connections, ended sessions, second tabs, lapsed leases."""

import contextlib
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.sessions.models import Session
from django.core.cache import cache
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Browser, BrowserContext, Error, Page, Route, expect

from apps.accounts.models import User
from apps.annotation.models import Annotation, AnnotationTask, Assignment
from tests.annotation.browser import Hands, drawing_context, queued_photo, sign_in
from tests.annotation.drawing import drawing_survey
from tests.annotation.factories import AssignmentFactory, ExpertFactory
from tests.support.browser import chromium

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.browser]


@pytest.fixture(scope="module")
def browser(django_db_setup: None) -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def task(transactional_db: None) -> AnnotationTask:
    return queued_photo(drawing_survey())


@pytest.fixture
def expert() -> User:
    return ExpertFactory.create()


@pytest.fixture
def context(
    browser: Browser, live_server: Any, task: AnnotationTask, expert: User
) -> Iterator[BrowserContext]:
    with drawing_context(browser, live_server.url, expert) as context:
        yield context


def opened(context: BrowserContext, task: AnnotationTask) -> tuple[Page, Hands]:
    page = context.new_page()
    page.goto(reverse("annotation:task", args=[task.public_id]))
    hands = Hands(page)
    hands.is_ready()
    return page, hands


def kept_here(page: Page) -> None:
    """The browser's own copy is written."""
    page.wait_for_function(
        "() => import('/static/annotation/draw/task.js').then(({ page }) => !page.keeper.keeping && !page.local.writing)"
    )


def draft() -> dict[str, Any]:
    """What the server keeps of the one photo in hand."""
    found: dict[str, Any] | None = Assignment.objects.get().draft
    assert found is not None
    return found


def state(page: Page, text: str) -> None:
    expect(page.locator("[data-save]")).to_have_text(text, timeout=10_000)


def test_each_edit_reaches_the_server_by_itself(context: BrowserContext, task: AnnotationTask) -> None:
    page, hands = opened(context, task)
    hands.draw(400, 400, 480, 470)
    hands.is_saved()
    assignment = Assignment.objects.get()
    assert len(draft()["boxes"]) == 3
    assert assignment.draft_version == 1
    page.wait_for_timeout(1500)
    assignment.refresh_from_db()
    assert assignment.draft_version == 1


def test_a_killed_tab_comes_back_with_what_was_drawn(context: BrowserContext, task: AnnotationTask) -> None:
    """Killed before anything reached the server: neither unload nor pagehide runs."""
    page, hands = opened(context, task)
    page.route("**/draft/", lambda route: route.abort())
    hands.draw(400, 400, 480, 470)
    hands.press("2")
    kept_here(page)
    with page.expect_event("crash"):
        _kill(page)
    page.close()
    assert Assignment.objects.get().draft is None
    again, hands = opened(context, task)
    expect(again.get_by_text("What you had drawn here is back")).to_be_visible()
    assert [box["label"] for box in hands.boxes()] == ["CER", "CER", "ISO"]
    hands.is_saved()
    assert len(draft()["boxes"]) == 3


def _kill(page: Page) -> None:
    """The renderer's process is gone, as after a crash."""
    with contextlib.suppress(Error):  # of course it fails
        page.goto("chrome://crash", timeout=2_000)


def test_a_closed_tab_comes_back(context: BrowserContext, task: AnnotationTask) -> None:
    page, hands = opened(context, task)
    hands.press("j", "u", "Control+a", "2")
    page.close(run_before_unload=False)
    _, hands = opened(context, task)
    assert [(box["label"], box["is_uncertain"]) for box in hands.boxes()] == [("ISO", True), ("ISO", False)]


def test_a_draft_follows_the_expert_to_another_browser(
    browser: Browser, live_server: Any, context: BrowserContext, task: AnnotationTask, expert: User
) -> None:
    _, hands = opened(context, task)
    hands.press("j", "Delete")
    hands.is_saved()
    with drawing_context(browser, live_server.url, expert) as other:
        page, hands = opened(other, task)
        expect(page.get_by_text("You go on with your draft")).to_be_visible()
        assert [box["proposal"] for box in hands.boxes()] == [2]


def test_without_a_connection_one_draws_on_and_it_is_saved_later(
    context: BrowserContext, task: AnnotationTask
) -> None:
    page, hands = opened(context, task)
    context.set_offline(True)
    hands.draw(400, 400, 480, 470)
    state(page, "Offline, kept in this browser")
    expect(page.get_by_text("No connection. Go on drawing")).to_be_visible()
    hands.draw(50, 50, 90, 90)
    assert Assignment.objects.get().draft is None
    context.set_offline(False)
    hands.is_saved()
    expect(page.get_by_text("No connection. Go on drawing")).to_be_hidden()
    assert len(draft()["boxes"]) == 4


def test_an_answer_sent_without_a_connection_goes_out_when_it_is_back(
    context: BrowserContext, task: AnnotationTask
) -> None:
    page, hands = opened(context, task)
    context.set_offline(True)
    hands.press("s")
    expect(page.get_by_text("Not sent yet: there is no connection.")).to_be_visible()
    assert hands.count() == 2
    context.set_offline(False)
    expect(page.locator("[data-waiting]")).to_be_visible(timeout=10_000)
    assert Annotation.objects.count() == 1


def test_an_answer_whose_receipt_was_lost_is_not_given_twice(
    context: BrowserContext, task: AnnotationTask
) -> None:
    page, hands = opened(context, task)
    lost = iter([True])

    def lose(route: Any) -> None:
        response = route.fetch()
        if next(lost, False):
            route.abort()
        else:
            route.fulfill(response=response)

    page.route("**/submit/", lose)
    hands.press("s")
    expect(page.get_by_text("Not sent yet: there is no connection.")).to_be_visible()
    page.get_by_role("button", name="Try now").click()
    expect(page.locator("[data-waiting]")).to_be_visible(timeout=10_000)
    assert Annotation.objects.count() == 1


def test_nothing_is_drawn_into_an_answer_that_is_on_its_way(
    context: BrowserContext, task: AnnotationTask
) -> None:
    """It would be in no answer: the page waits, and goes on where the answer does not arrive."""
    page, hands = opened(context, task)
    held: list[Route] = []
    page.route("**/submit/", lambda route: held.append(route))  # noqa: PLW0108 - a builtin is not taken
    hands.press("j")
    with page.expect_request("**/submit/"):
        hands.press("s")
    hands.draw(400, 400, 480, 470)
    hands.press("Delete", "2", "u", "n")
    assert [box["label"] for box in hands.boxes()] == ["CER", "CER"]
    held.pop().abort()
    expect(page.get_by_text("Not sent yet: there is no connection.")).to_be_visible()
    hands.draw(400, 400, 480, 470)
    assert hands.count() == 3


def test_an_ended_session_keeps_all_and_goes_on_after_signing_in(
    context: BrowserContext, live_server: Any, task: AnnotationTask, expert: User
) -> None:
    page, hands = opened(context, task)
    Session.objects.all().delete()
    cache.clear()
    hands.draw(400, 400, 480, 470)
    expect(page.get_by_text("Your session has ended. Nothing is lost")).to_be_visible()
    state(page, "Signed out, kept in this browser")
    hands.draw(50, 50, 90, 90)
    sign_in(context, live_server.url, ExpertFactory.create())
    page.get_by_role("button", name="I have signed in").click()
    expect(page.get_by_text("Somebody else is signed in")).to_be_visible()
    sign_in(context, live_server.url, expert)
    page.get_by_role("button", name="I have signed in").click()
    hands.is_saved()
    expect(page.get_by_text("Your session has ended")).to_be_hidden()
    assert len(draft()["boxes"]) == 4


def test_two_tabs_know_of_each_other_and_the_idle_one_follows(
    context: BrowserContext, task: AnnotationTask
) -> None:
    first, hands_1 = opened(context, task)
    second, hands_2 = opened(context, task)
    for page in (first, second):
        expect(page.get_by_text("This photo is open in another tab of yours")).to_be_visible()
    hands_2.press("j", "Delete")
    hands_2.is_saved()
    expect(first.locator(".box-row")).to_have_count(1)
    assert [box["proposal"] for box in hands_1.boxes()] == [2]
    hands_2.press("s")
    expect(first.get_by_text("You sent this photo in another tab.")).to_be_visible()


@pytest.mark.parametrize(("choice", "labels"), [("Keep this one", {"ISO"}), ("Take the other one", {"CER"})])
def test_two_versions_are_asked_about_and_nothing_is_overwritten(
    browser: Browser, live_server: Any, context: BrowserContext, task: AnnotationTask, expert: User,
    choice: str, labels: set[str],
) -> None:  # fmt: skip
    page, hands = opened(context, task)
    with drawing_context(browser, live_server.url, expert) as elsewhere:
        _, other = opened(elsewhere, task)
        other.press("j", "Delete")
        other.is_saved()
    hands.press("Control+a", "2")
    dialog = page.locator("#versions-dialog")
    expect(dialog).to_be_visible()
    expect(dialog.locator("[data-version-mine]")).to_contain_text("2 boxes")
    expect(dialog.locator("[data-version-theirs]")).to_contain_text("1 box")
    assert len(draft()["boxes"]) == 1
    dialog.get_by_role("button", name=choice).click()
    hands.is_saved()
    assert {box["label"] for box in hands.boxes()} == labels
    page.wait_for_timeout(200)
    assert {box["label"] for box in draft()["boxes"]} == labels
    if choice == "Take the other one":
        hands.press("Control+z")
        assert {box["label"] for box in hands.boxes()} == {"ISO"}


def test_an_answer_from_a_window_that_did_not_see_the_newest_drawing_is_asked_about(
    browser: Browser, live_server: Any, context: BrowserContext, task: AnnotationTask, expert: User
) -> None:
    """Another device has drawn on since: sending here would throw that away."""
    page, hands = opened(context, task)
    with drawing_context(browser, live_server.url, expert) as other:
        _, elsewhere = opened(other, task)
        elsewhere.draw(400, 400, 480, 470)
        elsewhere.is_saved()
        hands.press("s")
        expect(page.get_by_role("dialog", name="Two versions of your drawing")).to_be_visible()
        assert not Annotation.objects.exists()
        page.get_by_role("button", name="Take the other one").click()
        hands.press("s")
        expect(page.locator("[data-waiting]")).to_be_visible(timeout=10_000)
    assert Annotation.objects.get().box_count == 3


def test_a_version_drawn_offline_and_one_from_elsewhere_are_asked_about_after_reopening(
    browser: Browser, live_server: Any, context: BrowserContext, task: AnnotationTask, expert: User
) -> None:
    page, hands = opened(context, task)
    page.route("**/draft/", lambda route: route.abort())
    hands.press("Control+a", "2")
    kept_here(page)
    page.close()
    with drawing_context(browser, live_server.url, expert) as elsewhere:
        _, other = opened(elsewhere, task)
        other.press("j", "Delete")
        other.is_saved()
    page, hands = opened(context, task)
    expect(page.locator("#versions-dialog")).to_be_visible()
    page.get_by_role("button", name="Keep this one").click()
    hands.is_saved()
    assert {box["label"] for box in draft()["boxes"]} == {"ISO"}


def test_a_lapsed_lease_that_nobody_took_is_taken_again_by_drawing_on(
    context: BrowserContext, task: AnnotationTask
) -> None:
    _, hands = opened(context, task)
    Assignment.objects.update(lease_until=timezone.now() - timedelta(minutes=1))
    hands.press("j", "Delete")
    hands.is_saved()
    assert Assignment.objects.held().exists()


def test_a_lapsed_lease_that_somebody_took_is_said_and_the_drawing_kept(
    context: BrowserContext, task: AnnotationTask
) -> None:
    page, hands = opened(context, task)
    Assignment.objects.update(lease_until=timezone.now() - timedelta(minutes=1))
    other = AssignmentFactory.create(task=task)
    hands.press("j", "Delete")
    expect(page.get_by_text("The time to hold this photo went by")).to_be_visible()
    state(page, "Kept in this browser")
    page.get_by_role("button", name="Take it again").click()
    expect(page.get_by_text("Somebody else works on this photo now")).to_be_visible()
    other.delete()
    page.get_by_role("button", name="Try again").click()
    hands.is_saved()
    assert len(draft()["boxes"]) == 1


def test_an_idle_person_is_warned_before_the_photo_goes_back(
    context: BrowserContext, task: AnnotationTask
) -> None:
    page = context.new_page()
    page.clock.install()
    page.goto(reverse("annotation:task", args=[task.public_id]))
    Hands(page).is_ready()
    page.clock.run_for(14 * 60_000)
    expect(page.get_by_text("In less than two minutes the photo goes back")).to_be_visible()
    page.clock.run_for(2 * 60_000)
    expect(page.get_by_text("The time to hold this photo went by")).to_be_visible()


def test_time_counts_only_while_somebody_works(context: BrowserContext, task: AnnotationTask) -> None:
    page, _ = opened(context, task)
    counted = page.evaluate(
        """async () => {
            const { Clock } = await import("/static/annotation/draw/clock.js");
            let now = 0;
            const clock = new Clock({ now: () => now });
            const at = (time) => { now = time; return clock.seconds; };
            const seen = [at(10)];
            clock.used();
            seen.push(at(40), at(500));
            clock.used();
            seen.push(at(510));
            clock.seen(false);
            seen.push(at(600));
            clock.seen(true);
            seen.push(at(605));
            return seen;
        }"""
    )
    assert counted == [10, 40, 70, 80, 80, 85]

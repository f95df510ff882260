"""The grid of crops in a real browser: mouse, keyboard, and the way back; a photo's page with the experts' boxes."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.urls import reverse
from playwright.sync_api import Browser, Page, expect

from apps.accounts.models import User
from apps.annotation.models import Annotation, Review
from apps.annotation.services.crop_sheets import describe_next
from tests.annotation.factories import ExpertFactory
from tests.annotation.test_bulk import accepted, answered, codes
from tests.annotation.test_crops import animal, show
from tests.factories import LabelFactory, SurveyFactory
from tests.support.browser import accessibility_violations, chromium, is_wider_than_the_screen, open_page

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.browser]
PICTURES = os.environ.get("REVIEW_PICTURES", "")


@pytest.fixture(scope="module")
def browser(django_db_setup: None) -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def expert() -> User:
    return ExpertFactory.create()


@pytest.fixture
def answers() -> list[Annotation]:
    """Twelve photos with one answered animal each, and a second label."""
    survey = SurveyFactory.create()
    label = LabelFactory.create(survey=survey, code="A", scientific_name="Folsomia candida")
    LabelFactory.create(survey=survey, code="B", scientific_name="Sminthurus viridis")
    found = [answered(survey, label, boxes=1) for _ in range(12)]
    for seed, answer in enumerate(found):
        show(answer.task.photo, animal(seed))
    while describe_next():
        pass
    return found


@pytest.fixture
def page(browser: Browser, live_server: Any, expert: User, answers: list[Annotation]) -> Iterator[Page]:
    with open_page(browser, live_server.url, user=expert) as page:
        page.goto(address_of(answers))
        yield page


def address_of(answers: list[Annotation]) -> str:
    return reverse("annotation:review", args=[answers[0].task.survey.slug], query={"sort": "new"})


def keep_picture(page: Page, name: str) -> None:
    """A picture to look at, when somebody asks for one."""
    if PICTURES:
        page.screenshot(path=Path(PICTURES) / f"{name}.png", full_page=True)


def chosen(page: Page) -> list[int]:
    return page.eval_on_selector_all(
        'input[name="box"]', "boxes => boxes.flatMap((box, index) => (box.checked ? [index] : []))"
    )


def test_a_click_and_shift_choose_a_range_that_is_relabelled_and_undone(
    page: Page, answers: list[Annotation]
) -> None:
    crops = page.locator(".crop__choice")
    expect(page.get_by_role("button", name="Relabel")).to_be_disabled()
    crops.nth(1).click()
    crops.nth(4).click(modifiers=["Shift"])
    assert chosen(page) == [1, 2, 3, 4]
    crops.nth(2).click()
    expect(page.locator("[data-chosen]")).to_have_text("3 chosen")
    page.get_by_label("New label").select_option("B")
    page.get_by_role("button", name="Relabel").click()
    done = page.locator("[data-review-done]")
    expect(done).to_contain_text("3 boxes relabelled.")
    expect(done).to_be_focused()
    expect(crops).to_have_count(9)
    newest_first = answers[::-1]
    assert [codes(accepted(newest_first[index])) for index in (1, 3, 4)] == [["B"]] * 3
    done.get_by_role("button", name="Undo").click()
    expect(crops).to_have_count(12)
    assert {tuple(codes(accepted(answer))) for answer in answers} == {("A",)}


def test_the_keyboard_alone_does_it_all(page: Page) -> None:
    page.locator('input[name="box"]').first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    assert chosen(page) == [1, 2, 3]
    page.keyboard.press("Home")
    page.keyboard.press("ArrowDown")
    columns = page.evaluate(
        "[...document.querySelectorAll('input[name=box]')].indexOf(document.activeElement)"
    )
    assert columns > 1
    page.keyboard.press("a")
    assert len(chosen(page)) == 12
    page.keyboard.press("Escape")
    assert chosen(page) == []
    page.keyboard.press("Space")
    page.keyboard.press("Enter")
    expect(page.get_by_label("New label")).to_be_focused()
    page.keyboard.press("S")  # a select takes what begins so
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("[data-review-done]")).to_contain_text("1 box relabelled.")


def test_without_a_label_nothing_is_sent_and_sending_back_needs_none(page: Page) -> None:
    page.locator(".crop__choice").first.click()
    page.get_by_role("button", name="Relabel").click()
    expect(page.get_by_label("New label")).to_be_focused()
    assert not Review.objects.exists()
    page.get_by_role("button", name="Send back").click()
    expect(page.locator("[data-review-done]")).to_contain_text("1 photo waits in the queue again.")


def test_every_crop_is_there_and_the_whole_page_can_be_chosen(page: Page) -> None:
    widths = page.eval_on_selector_all(
        ".crop img", "images => Promise.all(images.map(i => i.decode().then(() => i.naturalWidth)))"
    )
    assert widths == [160] * 12
    page.get_by_label("All on this page").check()
    expect(page.locator("[data-chosen]")).to_have_text("12 chosen")


@pytest.mark.parametrize(
    ("width", "scheme"), [(390, "light"), (390, "dark"), (1280, "light"), (1280, "dark")]
)
def test_the_pages_are_accessible_and_fit_phones(
    browser: Browser, live_server: Any, expert: User, answers: list[Annotation], width: int, scheme: Any
) -> None:
    slug = answers[0].task.survey.slug
    options = {"viewport": {"width": width, "height": 900}, "color_scheme": scheme, "has_touch": width < 500}
    with open_page(browser, live_server.url, user=expert, **options) as page:
        page.goto(address_of(answers))
        page.locator(".crop__choice").nth(2).click()
        page.locator(".crop__choice").nth(3).click()
        assert accessibility_violations(page) == []
        assert not is_wider_than_the_screen(page)
        keep_picture(page, f"grid-{width}-{scheme}")
        page.get_by_role("button", name="Send back").click()
        expect(page.locator("[data-review-done]")).to_be_visible()
        assert accessibility_violations(page) == []
        keep_picture(page, f"done-{width}-{scheme}")
        for name in ("review_history", "discussed"):
            page.goto(reverse(f"annotation:{name}", args=[slug]))
            assert accessibility_violations(page) == []
            assert not is_wider_than_the_screen(page)
            keep_picture(page, f"{name}-{width}-{scheme}")
        page.goto(reverse("observations:photo", args=[answers[0].task.photo.public_id]))
        expect(page.locator(".answer")).to_be_visible()
        assert accessibility_violations(page) == []
        keep_picture(page, f"photo-{width}-{scheme}")


def test_a_photos_page_shows_the_experts_boxes_and_brings_the_models_back(
    browser: Browser, live_server: Any, answers: list[Annotation]
) -> None:
    with open_page(browser, live_server.url) as page:
        address = reverse("observations:photo", args=[answers[0].task.photo.public_id])
        page.goto(address)
        experts, model = page.locator(".plate__boxes--answer"), page.locator("[data-boxes]")
        expect(experts).to_be_visible()
        expect(model).to_be_hidden()
        page.get_by_role("button", name="Model", exact=True).click()
        expect(model).to_be_visible()
        expect(experts).to_be_hidden()
        page.get_by_role("button", name="Experts", exact=True).click()
        page.locator(".animal__main").first.click()
        expect(model).to_be_visible()
        page.goto("about:blank")
        page.goto(f"{address}#box-1")
        expect(model).to_be_visible()

"""Drawing with fingers and a pen: what the browser makes of real touches, sent through its debugging protocol."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.urls import reverse
from playwright.sync_api import Browser, CDPSession, Page, expect

from apps.annotation.models import Annotation, AnnotationTask
from tests.annotation.browser import Hands, drawing_context, queued_photo
from tests.annotation.drawing import drawing_survey
from tests.annotation.factories import ExpertFactory
from tests.support.browser import chromium

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.browser]

Points = list[tuple[float, float]]


@pytest.fixture(scope="module")
def browser(django_db_setup: None) -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def task(transactional_db: None) -> AnnotationTask:
    return queued_photo(drawing_survey())


@pytest.fixture
def page(browser: Browser, live_server: Any, task: AnnotationTask) -> Iterator[Page]:
    """A phone."""
    phone: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    with drawing_context(
        browser, live_server.url, ExpertFactory.create(), device_scale_factor=2, **phone
    ) as context:
        page = context.new_page()
        page.goto(reverse("annotation:task", args=[task.public_id]))
        Hands(page).is_ready()
        yield page


class Fingers(Hands):
    def __init__(self, page: Page) -> None:
        super().__init__(page)
        self.touch: CDPSession = page.context.new_cdp_session(page)

    def send(self, kind: str, points: Points) -> None:
        touches = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
        self.touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})

    def glide(self, begins: Points, ends: Points, steps: int = 8) -> None:
        """All fingers go down one after the other, along straight lines, and up."""
        for count in range(1, len(begins) + 1):
            self.send("touchStart", begins[:count])
        for step in range(1, steps + 1):
            share = step / steps
            self.send(
                "touchMove",
                [
                    (x + (to_x - x) * share, y + (to_y - y) * share)
                    for (x, y), (to_x, to_y) in zip(begins, ends, strict=True)
                ],
            )
        self.send("touchEnd", [])

    def slide(self, x: float, y: float, to_x: float, to_y: float) -> None:
        self.glide([self.at(x, y)], [self.at(to_x, to_y)])

    def tap(self, x: float, y: float) -> None:
        self.send("touchStart", [self.at(x, y)])
        self.send("touchEnd", [])

    def scale(self) -> float:
        found: float = self.page.evaluate(
            "import('/static/annotation/draw/task.js').then(({ page }) => page.stage.view.scale)"
        )
        return found


@pytest.fixture
def fingers(page: Page) -> Fingers:
    return Fingers(page)


def test_a_finger_draws_in_draw_mode(page: Page, fingers: Fingers) -> None:
    page.get_by_role("button", name="Draw", exact=True).tap()
    fingers.slide(400, 300, 520, 420)
    drawn = fingers.boxes()[2]
    assert (drawn["x_min"], drawn["y_max"]) == (pytest.approx(400, abs=3), pytest.approx(420, abs=3))
    fingers.is_saved()


def test_two_fingers_zoom_and_draw_nothing(page: Page, fingers: Fingers) -> None:
    page.get_by_role("button", name="Draw", exact=True).tap()
    before = fingers.scale()
    fingers.glide([fingers.at(280, 320), fingers.at(360, 320)], [fingers.at(200, 320), fingers.at(440, 320)])
    assert fingers.scale() == pytest.approx(before * 3, rel=0.1)
    assert fingers.count() == 2
    expect(page.locator("[data-live]")).not_to_contain_text("New box")


def test_two_fingers_move_the_picture(fingers: Fingers) -> None:
    before = fingers.at(320, 320)
    begins = [(150.0, 300.0), (230.0, 300.0)]
    fingers.glide(begins, [(x + 40, y + 60) for x, y in begins])
    assert fingers.at(320, 320) == pytest.approx((before[0] + 40, before[1] + 60), abs=4)
    assert fingers.count() == 2


def test_a_tap_chooses_a_finger_moves_it_and_its_handles_are_large(page: Page, fingers: Fingers) -> None:
    fingers.slide(150, 240, 180, 300)
    assert fingers.boxes()[0]["x_min"] == 100, "a box that is not in hand stays: the finger moves the picture"
    fingers.tap(150, 240)
    expect(page.locator("[data-label-title]")).to_have_text("Label of box 1")
    fingers.slide(150, 240, 180, 300)
    assert fingers.boxes()[0]["x_min"] == pytest.approx(130, abs=4)
    box = fingers.boxes()[0]
    fingers.slide(box["x_max"] + 8, box["y_max"] + 8, box["x_max"] + 68, box["y_max"] + 48)
    assert fingers.boxes()[0]["x_max"] == pytest.approx(box["x_max"] + 60, abs=4)


def test_the_whole_way_on_a_phone(page: Page, fingers: Fingers) -> None:
    fingers.tap(350, 240)
    page.get_by_role("button", name="Boxes 2").tap()
    page.locator("[data-quick-labels] button").nth(1).tap()
    page.get_by_label("I am not certain").tap()
    page.get_by_role("button", name="Send, next photo").tap()
    expect(page.locator("[data-waiting]")).to_be_visible()
    assert Annotation.objects.get().changes["relabelled"] == [2]


def test_every_target_is_large_enough_for_a_finger(page: Page, fingers: Fingers) -> None:
    fingers.tap(150, 240)
    page.get_by_role("button", name="Boxes 2").tap()
    small = page.evaluate(
        """() => [...document.querySelectorAll("button, a, input, summary")].filter((each) => {
            const { width, height } = each.getBoundingClientRect();
            const isChoice = each.matches("[type=checkbox], [type=radio], [type=range], .link-button, .skip-link");
            return each.checkVisibility() && !isChoice && width && (width < 36 || height < 36);
        }).map((each) => each.outerHTML.slice(0, 120))"""
    )
    assert small == []


def test_a_pen_draws_and_its_eraser_takes_away(page: Page, fingers: Fingers) -> None:
    page.get_by_role("button", name="Draw", exact=True).tap()
    for kind, pen_x, pen_y in (
        ("pressed", 400, 300),
        ("moved", 450, 350),
        ("moved", 500, 380),
        ("released", 500, 380),
    ):
        at = fingers.at(pen_x, pen_y)
        fingers.touch.send(
            "Input.dispatchMouseEvent",
            {
                "type": f"mouse{kind[0].upper()}{kind[1:]}", "x": at[0], "y": at[1], "button": "left",
                "buttons": 0 if kind == "released" else 1, "clickCount": 1, "pointerType": "pen",
            },
        )  # fmt: skip
    assert fingers.boxes()[2]["x_max"] == pytest.approx(500, abs=3)
    x, y = fingers.at(450, 340)
    page.evaluate(
        """([x, y]) => {
            const stage = document.querySelector("[data-stage]");
            for (const type of ["pointerdown", "pointerup"]) stage.dispatchEvent(new PointerEvent(type,
                { pointerId: 9, pointerType: "pen", button: 5, clientX: x, clientY: y, bubbles: true }));
        }""",
        [x, y],
    )
    assert fingers.count() == 2

"""What tests of the drawing page share: photos with real pixels in a queue, and the page with its hands."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.core.files.base import ContentFile
from django.test import Client
from playwright.sync_api import Browser, BrowserContext, Page, expect

from apps.annotation.models import AnnotationTask
from apps.observations.models import Survey
from tests.annotation.factories import TaskFactory
from tests.factories import DetectionFactory, PhotoFactory
from tests.support.pictures import jpeg

SIDE_PX = 640
DRAFT = "[data-save]"


def queued_photo(survey: Survey, *, seed: int = 1, score: float = 0, **fields: Any) -> AnnotationTask:
    """640 x 640 px with boxes 1 and 2 of CER (100 px wide, at y 200), and weak ones 3 (score 0.2) and 4 (0.1)."""
    version = survey.registered_model.production_version  # type: ignore[union-attr]
    picture, small = jpeg(seed=seed, width=SIDE_PX, height=SIDE_PX), jpeg(seed=seed, width=240, height=240)
    photo = PhotoFactory.create(
        observation__survey=survey,
        status="done",
        model_version=version,
        detection_count=2,
        display=ContentFile(picture, name="display.jpg"),
        thumbnail=ContentFile(small, name="thumbnail.jpg"),
    )
    label = survey.labels.get(code="CER")
    for number, (x, y, confidence) in enumerate(
        [(100, 200, 0.8), (300, 200, 0.6), (100, 450, 0.2), (400, 450, 0.1)], start=1
    ):
        DetectionFactory.create(
            photo=photo, model_version=version, label=label, number=number, score=confidence,
            class_scores=[confidence, 1 - confidence], x_min=x, x_max=x + 100, y_min=y, y_max=y + 80,
        )  # fmt: skip
    return TaskFactory.create(photo=photo, score=score, **fields)


def sign_in(context: BrowserContext, base_url: str, user: Any) -> None:
    client = Client()
    client.force_login(user)
    session = client.cookies[settings.SESSION_COOKIE_NAME].value
    context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": session, "url": base_url}])


def quiet(page: Page) -> None:
    """Let the page finish what it sends: a request that is under way would hold the database that a test empties."""
    if page.is_closed() or "/annotate/" not in page.url:
        return
    page.evaluate(
        """() => document.querySelector("[data-draw]") && import("/static/annotation/draw/task.js")
            .then(({ page }) => Promise.race([page.keeper.save(), new Promise((done) => setTimeout(done, 1000))]))"""
    )
    page.goto("about:blank")
    page.wait_for_timeout(300)


@contextmanager
def drawing_context(browser: Browser, base_url: str, user: Any, **options: Any) -> Iterator[BrowserContext]:
    """One person's browser. What fails in a page fails the test; refused requests are the tests' own matter."""
    options = {"viewport": {"width": 1280, "height": 800}, "reduced_motion": "reduce", **options}
    context = browser.new_context(base_url=base_url, locale="en-GB", **options)
    errors: list[str] = []

    def watch(page: Page) -> None:
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on(
            "console",
            lambda said: (
                errors.append(said.text)
                if said.type == "error" and "Failed to load" not in said.text
                else None
            ),
        )

    context.on("page", watch)
    sign_in(context, base_url, user)
    try:
        yield context
        for page in context.pages:
            quiet(page)
    finally:
        context.close()
    assert errors == [], errors


class Hands:
    """A person at the drawing page. Places are pixels of the photo."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.stage = page.locator("[data-stage]")

    def is_ready(self) -> None:
        expect(self.page.locator("[data-draw]")).to_have_attribute("data-state", "drawing")
        expect(self.page.locator("[data-stage-wait]")).to_be_hidden()

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where a place of the photo is on the screen."""
        view = self.page.evaluate(
            "import('/static/annotation/draw/task.js').then(({ page }) => page.stage.view)"
        )
        frame = self.stage.bounding_box()
        assert frame is not None
        return frame["x"] + x * view["scale"] + view["x"], frame["y"] + y * view["scale"] + view["y"]

    def click(self, x: float, y: float) -> None:
        self.page.mouse.click(*self.at(x, y))

    def drag(self, x: float, y: float, to_x: float, to_y: float, *, button: Any = "left") -> None:
        self.page.mouse.move(*self.at(x, y))
        end = self.at(to_x, to_y)
        self.page.mouse.down(button=button)
        self.page.mouse.move(*end, steps=6)
        self.page.mouse.up(button=button)

    def draw(self, x: float, y: float, to_x: float, to_y: float) -> None:
        self.page.get_by_role("button", name="Draw", exact=True).click()
        self.drag(x, y, to_x, to_y)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def boxes(self) -> list[dict[str, Any]]:
        """The answer as it would be sent now."""
        found: list[dict[str, Any]] = self.page.evaluate(
            "import('/static/annotation/draw/task.js').then(({ page }) => page.read().boxes)"
        )
        return found

    def count(self) -> int:
        return len(self.boxes())

    def is_saved(self) -> None:
        expect(self.page.locator(DRAFT)).to_have_text("Saved", timeout=10_000)

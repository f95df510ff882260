"""The drawing page in a real browser, by mouse and keys: every answer an expert can give."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from playwright.sync_api import Browser, Page, expect

from apps.accounts.models import User
from apps.annotation.models import Annotation, AnnotationTask, Assignment, GoldenPhoto, LabelProposal
from apps.observations.models import Comment, Survey
from tests.annotation.browser import Hands, drawing_context, queued_photo
from tests.annotation.drawing import drawing_survey
from tests.annotation.factories import AnnotatedBoxFactory, AnnotationFactory, ExpertFactory
from tests.factories import UserFactory
from tests.support.browser import accessibility_violations, chromium, is_wider_than_the_screen

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.browser]


@pytest.fixture(scope="module")
def browser(django_db_setup: None) -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def survey(transactional_db: None) -> Survey:
    return drawing_survey()


@pytest.fixture
def task(survey: Survey) -> AnnotationTask:
    return queued_photo(survey, score=2)


@pytest.fixture
def expert() -> User:
    return ExpertFactory.create()


@pytest.fixture
def page(browser: Browser, live_server: Any, task: AnnotationTask, expert: User) -> Iterator[Page]:
    with drawing_context(browser, live_server.url, expert) as context:
        page = context.new_page()
        page.goto(reverse("annotation:draw", args=["springtails"]))
        Hands(page).is_ready()
        yield page


@pytest.fixture
def hands(page: Page) -> Hands:
    return Hands(page)


def send(page: Page) -> None:
    page.get_by_role("button", name="Send, next photo").click()


def said(page: Page, text: str) -> None:
    expect(page.locator("[data-live]")).to_contain_text(text)


def sent_answer(page: Page) -> Annotation:
    """After the page has gone on to what follows."""
    expect(page.locator("[data-waiting]")).to_be_visible()
    return Annotation.objects.get()


def test_it_begins_with_the_boxes_of_the_machine(page: Page, hands: Hands, task: AnnotationTask) -> None:
    assert [(box["proposal"], box["label"]) for box in hands.boxes()] == [(1, "CER"), (2, "CER")]
    expect(page.locator(".box-row")).to_have_count(2)
    page.wait_for_url(f"**{reverse('annotation:task', args=[task.public_id])}")


def test_boxes_are_drawn_moved_resized_and_deleted_with_the_mouse(page: Page, hands: Hands) -> None:
    hands.draw(400, 400, 480, 470)
    drawn = hands.boxes()[2]
    assert (drawn["x_min"], drawn["y_max"]) == (pytest.approx(400, abs=1), pytest.approx(470, abs=1))
    page.get_by_role("button", name="Select", exact=True).click()
    hands.drag(150, 240, 180, 260)
    assert hands.boxes()[0]["x_min"] == pytest.approx(130, abs=1)
    hands.click(350, 240)
    hands.drag(400, 280, 430, 300)
    assert (hands.boxes()[1]["x_max"], hands.boxes()[1]["y_max"]) == (
        pytest.approx(430, abs=1),
        pytest.approx(300, abs=1),
    )
    hands.click(440, 435)
    hands.press("Delete")
    assert hands.count() == 2
    hands.is_saved()
    send(page)
    answer = sent_answer(page)
    assert answer.changes == {"kept": [], "moved": [1, 2], "relabelled": [], "deleted": [], "drawn": 0}
    assert answer.seconds_spent > 0
    assert answer.model_version is not None


def test_a_handle_dragged_across_the_box_flips_it(hands: Hands) -> None:
    hands.click(150, 240)
    hands.drag(200, 240, 50, 240)
    assert (hands.boxes()[0]["x_min"], hands.boxes()[0]["x_max"]) == (
        pytest.approx(50, abs=1),
        pytest.approx(100, abs=1),
    )


def test_boxes_stay_inside_the_photo(page: Page, hands: Hands) -> None:
    hands.draw(600, 600, 800, 660)
    drawn = hands.boxes()[2]
    assert (drawn["x_max"], drawn["y_max"]) == (640, 640)
    hands.press("v")
    hands.drag(150, 240, -300, 240)
    assert (hands.boxes()[0]["x_min"], hands.boxes()[0]["x_max"]) == (0, 100)


def test_every_step_is_undone_and_done_again(page: Page, hands: Hands) -> None:
    hands.draw(400, 400, 480, 470)
    hands.press("2", "u", "Delete")
    for _ in range(4):
        hands.press("Control+z")
    assert [box["proposal"] for box in hands.boxes()] == [1, 2]
    expect(page.get_by_role("button", name="Undo")).to_have_attribute("aria-disabled", "true")
    for _ in range(3):
        hands.press("Control+y")
    assert (hands.boxes()[2]["label"], hands.boxes()[2]["is_uncertain"]) == ("ISO", True)
    hands.press("Control+Shift+z")
    assert hands.count() == 2


def test_all_of_it_works_by_keys_alone(page: Page, hands: Hands) -> None:
    hands.press("Control+a", "Delete")
    hands.press("n")
    first = hands.boxes()[0]
    for _ in range(3):
        hands.press("ArrowRight")
    hands.press("Shift+ArrowDown", "Control+ArrowUp")
    moved = hands.boxes()[0]
    assert moved["x_min"] > first["x_min"]
    assert moved["y_max"] - moved["y_min"] > first["y_max"] - first["y_min"]
    hands.press("2", "c", "u", "m")
    page.keyboard.type("only half of it")
    hands.press("Enter")
    assert [(box["label"], box["note"]) for box in hands.boxes()] == [("ISO", ""), ("ISO", "only half of it")]
    hands.press("k")
    said(page, "Box 3")
    hands.press("l")
    page.keyboard.type("species")
    hands.press("ArrowDown", "ArrowUp", "Enter")
    expect(page.locator("[data-stage]")).to_be_focused()
    hands.press("Control+Enter")
    assert sent_answer(page).box_count == 2


def test_a_label_that_is_missing_can_be_proposed(page: Page, hands: Hands) -> None:
    hands.click(150, 240)
    page.get_by_label("Search a label").fill("Folsomia candida")
    page.get_by_role("option", name="Propose “Folsomia candida” as a new label").click()
    assert hands.boxes()[0]["proposed_label"] == "Folsomia candida"
    send(page)
    sent_answer(page)
    assert LabelProposal.objects.get().name == "Folsomia candida"


def test_a_proposed_label_is_that_of_new_boxes_until_another_is_chosen(page: Page, hands: Hands) -> None:
    page.get_by_label("Search a label").fill("Folsomia candida")
    page.get_by_role("option", name="Propose “Folsomia candida” as a new label").click()
    expect(page.get_by_label("Search a label")).to_have_value("Folsomia candida")
    hands.draw(400, 400, 480, 470)
    hands.press("Escape")
    hands.drag(20, 20, 90, 90)
    hands.press("2", "Escape")
    hands.drag(500, 20, 590, 90)
    assert [box["proposed_label"] for box in hands.boxes()] == ["", "", "Folsomia candida", "", ""]
    hands.press("Control+z", "Control+z")
    assert [box["proposed_label"] for box in hands.boxes()][2:] == ["Folsomia candida"] * 2


def test_confirmed_empty_is_an_answer_of_its_own(page: Page, hands: Hands) -> None:
    hands.press("Control+a", "Delete")
    send(page)
    expect(page.get_by_text("Is there really no animal on this photo?")).to_be_visible()
    assert not Annotation.objects.exists()
    page.get_by_role("button", name="No animal: send").click()
    assert sent_answer(page).is_empty


def test_no_animal_takes_the_boxes_away_and_undo_brings_them_back(page: Page, hands: Hands) -> None:
    hands.press("e")
    assert hands.count() == 0
    expect(page.get_by_role("button", name="No animal")).to_have_attribute("aria-pressed", "true")
    hands.press("Control+z")
    assert hands.count() == 2


def test_possible_animals_are_shown_on_demand_and_taken_by_a_click(page: Page, hands: Hands) -> None:
    hands.click(150, 490)
    assert hands.count() == 2
    page.get_by_role("button", name="Possible animals").click()
    page.get_by_label("Possible animals down to").fill("15")
    expect(page.locator("[data-weak-count]")).to_contain_text("1 shown of 2")
    page.locator("[data-weak-panel]").get_by_role("button", name="Close").click()
    hands.click(150, 490)
    assert [box["proposal"] for box in hands.boxes()] == [1, 2, 3]


def test_the_next_photo_comes_without_loading_the_page(
    page: Page, hands: Hands, survey: Survey, task: AnnotationTask
) -> None:
    following = queued_photo(survey, seed=2, score=1)
    page.evaluate("window.isTheSame = true")
    hands.press("s")
    page.wait_for_url(f"**{reverse('annotation:task', args=[following.public_id])}")
    hands.is_ready()
    assert page.evaluate("window.isTheSame")
    assert Assignment.objects.get(task=following).state == "open"
    expect(page.locator("[data-mine-today]")).to_have_text("1")
    page.go_back()
    page.wait_for_url(f"**{reverse('annotation:task', args=[task.public_id])}")
    expect(page.get_by_role("button", name="Send the correction")).to_be_visible()


def test_the_next_picture_is_loaded_ahead_and_nobody_holds_it(
    page: Page, hands: Hands, survey: Survey, task: AnnotationTask
) -> None:
    following = queued_photo(survey, seed=2, score=1)
    address = reverse("observations:display", args=[following.photo.public_id])
    with page.expect_response(f"**{address}"):
        page.reload()
    assert not Assignment.objects.filter(task=following).exists()


def test_who_leaves_without_drawing_gives_the_photo_back(page: Page, hands: Hands) -> None:
    page.get_by_role("link", name="Leave the drawing page").first.click()
    page.wait_for_url(f"**{reverse('annotation:home')}")
    for _ in range(50):  # it is sent after the page is gone
        if Assignment.objects.get().state == "returned":
            break
        page.wait_for_timeout(100)
    assert Assignment.objects.get().state == "returned"


def test_an_answer_is_corrected_by_a_new_one(page: Page, hands: Hands, task: AnnotationTask) -> None:
    hands.press("s")
    sent_answer(page)
    page.goto(reverse("annotation:task", args=[task.public_id]))
    hands.is_ready()
    hands.press("j", "2")
    page.get_by_role("button", name="Send the correction").click()
    expect(page.locator("[data-waiting]")).to_be_visible()
    assert Annotation.objects.current().get().changes["relabelled"] == [1]
    assert Annotation.objects.count() == 2


def test_a_photo_is_skipped_with_a_reason(page: Page, hands: Hands) -> None:
    hands.press("p")
    page.get_by_label("Too blurred to tell").check()
    page.get_by_role("button", name="Skip").last.click()
    expect(page.locator("[data-waiting]")).to_be_visible()
    assert Assignment.objects.get().skip_reason == "blurred"


def test_why_this_photo_and_what_people_said(
    browser: Browser, live_server: Any, task: AnnotationTask, expert: User
) -> None:
    photo = task.photo
    Comment.objects.create(
        observation=photo.observation, photo=photo, author=UserFactory.create(), box_number=2, body="A mite?"
    )
    with drawing_context(browser, live_server.url, expert) as context:
        page = context.new_page()
        page.goto(reverse("annotation:task", args=[task.public_id]))
        Hands(page).is_ready()
        expect(page.get_by_text("A mite?")).to_be_visible()
        page.locator("summary", has_text="Why this photo?").click()
        row = page.locator("[data-why] tbody tr").first
        expect(row).to_contain_text("#2")
        expect(row.locator("td")).to_have_text(["#2", "0.60", "0.40", "0.20", "0.80"])
        row.get_by_role("button").click()
        expect(page.locator("[data-label-title]")).to_have_text("Label of box 2")


def test_the_view_zooms_at_the_pointer_and_moves(page: Page, hands: Hands) -> None:
    before = hands.at(150, 240)
    page.mouse.move(*before)
    page.mouse.wheel(0, -400)
    zoom = page.locator("[data-zoom-level]")
    expect(zoom).not_to_have_text("110\u202f%")
    assert hands.at(150, 240) == pytest.approx(before, abs=1.5)
    hands.drag(150, 240, 160, 250, button="middle")
    assert hands.count() == 2
    assert hands.at(150, 240) != pytest.approx(before, abs=3)
    hands.press("r")
    expect(zoom).to_have_text("100\u202f%")
    hands.press("f")
    page.get_by_role("button", name="Brightness").click()
    page.get_by_label("Brightness", exact=True).fill("150")
    assert "brightness(1.5)" in page.locator("[data-layer=picture]").get_attribute("style")  # type: ignore[operator]


def test_space_moves_the_picture_and_draws_nothing(page: Page, hands: Hands) -> None:
    page.get_by_role("button", name="Draw", exact=True).click()
    hands.stage.focus()
    before = hands.at(0, 0)
    page.keyboard.down(" ")
    hands.drag(300, 300, 350, 330)
    page.keyboard.up(" ")
    assert hands.count() == 2
    assert hands.at(0, 0) != pytest.approx(before, abs=3)


def test_single_letters_can_be_switched_off(page: Page, hands: Hands) -> None:
    hands.press("?")
    page.get_by_label("Keys of a single letter").uncheck()
    page.locator("#keys-dialog").get_by_role("button", name="Close").click()
    page.get_by_role("button", name="Whole picture").focus()
    hands.press("e")
    assert hands.count() == 2


def test_the_list_walks_by_arrows_and_says_each_box(page: Page, hands: Hands) -> None:
    first = page.locator(".box-row__main").first
    first.focus()
    hands.press("ArrowDown")
    expect(page.locator(".box-row__main").nth(1)).to_be_focused()
    said(page, "Box 2")
    hands.press("Delete")
    expect(page.locator(".box-row")).to_have_count(1)


def test_refusals_of_the_server_name_the_box_and_keep_the_drawing(
    page: Page, hands: Hands, survey: Survey
) -> None:
    hands.press("j", "2")
    survey.labels.filter(code="ISO").update(is_active=False)
    page.route("**/draft/", lambda route: route.fulfill(json={"version": 1, "lease": None}))
    send(page)
    expect(page.locator('[data-notice="refused"]')).to_contain_text("Box 1")
    assert hands.count() == 2
    assert not Annotation.objects.exists()


def test_a_known_answer_is_told_kindly(page: Page, hands: Hands, task: AnnotationTask) -> None:
    """The same boxes under another label: both are told, without a mark."""
    known = AnnotationFactory.create(task=task, author=None, origin="curator", is_empty=False, box_count=2)
    for number, detection in enumerate(
        task.photo.detections.filter(number__lte=2).order_by("number"), start=1
    ):
        AnnotatedBoxFactory.create(
            annotation=known, number=number, label=detection.label,
            x_min=detection.x_min, x_max=detection.x_max, y_min=detection.y_min, y_max=detection.y_max,
        )  # fmt: skip
    GoldenPhoto.objects.create(task=task, answer=known)
    Assignment.objects.update(given_as="golden")
    hands.press("j", "2")
    send(page)
    notice = page.locator('[data-notice="feedback"]')
    expect(notice).to_contain_text("You found 2 of its 2 animals. 1 has another name there.")


def test_nothing_waits(browser: Browser, live_server: Any, survey: Survey, expert: User) -> None:
    survey.minimum_photos = 3
    survey.save()
    with drawing_context(browser, live_server.url, expert) as context:
        page = context.new_page()
        page.goto(reverse("annotation:draw", args=["springtails"]))
        expect(page.get_by_text("The queue starts when 3 more photos have come.")).to_be_visible()
        assert accessibility_violations(page) == []


def test_only_experts_draw_and_others_learn_how_to_become_one(client: Client, task: AnnotationTask) -> None:
    address = reverse("annotation:task", args=[task.public_id])
    assert client.get(address).status_code == 302
    client.force_login(UserFactory.create())
    response = client.get(address)
    assert response.status_code == 403
    assert reverse("accounts:apply_expert") in response.content.decode()


def test_a_photo_that_another_expert_has_is_shown_only(
    browser: Browser, live_server: Any, task: AnnotationTask, expert: User
) -> None:
    AnnotationFactory.create(task=task)
    AnnotationTask.objects.filter(pk=task.pk).update(state="set_aside")
    with drawing_context(browser, live_server.url, expert) as context:
        page = context.new_page()
        page.goto(reverse("annotation:task", args=[task.public_id]))
        expect(page.get_by_text("This photo was set aside by a curator")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_is_accessible_and_fits_the_screen(
    browser: Browser, live_server: Any, task: AnnotationTask, expert: User, scheme: Any, width: int
) -> None:
    viewport: Any = {"width": width, "height": 844}
    with drawing_context(browser, live_server.url, expert, color_scheme=scheme, viewport=viewport) as context:
        page = context.new_page()
        page.goto(reverse("annotation:task", args=[task.public_id]))
        hands = Hands(page)
        hands.is_ready()
        hands.press("j")
        if width < 600:
            page.get_by_role("button", name="Boxes 2").click()
        assert accessibility_violations(page) == []
        hands.press("l")
        assert accessibility_violations(page) == []
        hands.press("Escape", "w")
        assert accessibility_violations(page) == []
        hands.press("Escape", "?")
        assert accessibility_violations(page) == []
        assert not is_wider_than_the_screen(page)


def test_drawing_only_what_changed_gives_the_same_picture_as_drawing_all(page: Page, hands: Hands) -> None:
    """Random edits of sixty boxes at two zooms: the layer that was patched equals one drawn anew, pixel by pixel.

    But for the smoothing of lines, which is up to 8 of 255 off when a path holds other boxes, too.
    """
    different = page.evaluate(
        """async () => {
            const { page } = await import("/static/annotation/draw/task.js");
            const { editor, scene, stage } = page;
            let seed = 11;
            const random = (low, high) => low + ((seed = (seed * 16807) % 2147483647) / 2147483647) * (high - low);
            const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
            const layer = document.querySelector("[data-layer=boxes]");
            const pixels = () => layer.getContext("2d").getImageData(0, 0, layer.width, layer.height).data;
            for (let n = 0; n < 60; n += 1) {
                const [x, y] = [random(0, 560), random(0, 560)];
                scene.answer.add({ x_min: x, y_min: y, x_max: x + random(8, 80), y_max: y + random(8, 80), label: "CER" });
            }
            const acts = [
                (key) => { editor.select([key]); editor.nudge(random(-30, 30), random(-30, 30)); },
                (key) => editor.select([key]),
                () => { editor.relabel("ISO"); editor.select([]); },
                (key) => scene.answer.change([key], (box) => ({ is_uncertain: !box.is_uncertain })),
                () => editor.duplicate(),
                () => editor.remove(),
                () => editor.undo(),
            ];
            let wrong = 0;
            for (const scale of [null, 3]) {
                stage.fit();
                if (scale) stage.zoom(scale);
                await frame();
                for (let turn = 0; turn < 70; turn += 1) {
                    const keys = scene.answer.list().map((box) => box.key);
                    acts[Math.floor(random(0, acts.length))](keys[Math.floor(random(0, keys.length))]);
                    if (random(0, 1) < 0.4) continue;
                    await frame();
                    const patched = pixels();
                    stage.redraw("boxes");
                    await frame();
                    const whole = pixels();
                    wrong += patched.some((value, at) => Math.abs(value - whole[at]) > 16);
                }
            }
            return wrong;
        }"""
    )
    assert different == 0

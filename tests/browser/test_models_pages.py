"""The model factory's pages in a browser: charts, live runs, the way from a number to the animals; and who cannot see well."""

import csv
import io
import uuid
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone
from PIL import Image
from playwright.sync_api import Page, expect

from apps.common.leased import WorkStatus
from apps.training.models import ModelVersion, TrainingRun
from tests.browser.conftest import sign_in
from tests.browser.test_every_page import problems
from tests.factories import PASSWORD, UserFactory
from tests.support.pictures import jpeg
from tests.training.factories import (
    CandidateFactory,
    ComparisonFactory,
    EvaluationFactory,
    PromotionEventFactory,
    TrainingEpochFactory,
    TrainingLogLineFactory,
    TrainingRunFactory,
)
from tests.training.measured import better, measured_evaluation, report_of

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.django_db(transaction=True)]


CELLS = "(table) => [...table.rows].map((row) => [...row.cells].map((cell) => cell.textContent))"


@pytest.fixture
def places() -> dict[str, str]:
    """A model with two measured versions, a comparison, a run under way and one that failed."""
    person = UserFactory(email="curator@podura.example", is_staff=True, is_superuser=True, is_expert=True)
    person.emailaddress_set.create(email=person.email, verified=True, primary=True)
    champion = CandidateFactory(stage=ModelVersion.Stage.PRODUCTION, number=1)
    model = champion.registered_model
    challenger = CandidateFactory(registered_model=model, number=2, parent=champion, origin="trained")
    old = measured_evaluation(champion)
    photos = [str(item.photo) for item in old.dataset.items.order_by("position")]
    new = measured_evaluation(challenger, dataset=old.dataset, report=better(report_of(photos)))
    comparison = ComparisonFactory(
        registered_model=model,
        champion=champion,
        challenger=challenger,
        dataset=old.dataset,
        champion_evaluation=old,
        challenger_evaluation=new,
        status=WorkStatus.DONE,
        verdict="passed",
        photo_count=3,
        rules=[{"code": "map_better", "passed": True, "difference": 0.1, "threshold": 0}],
    )
    PromotionEventFactory(registered_model=model, to_version=champion, reason="First one", by_name="Inès")
    run = TrainingRunFactory(
        registered_model=model,
        status="processing",
        stage="training",
        epochs=40,
        epochs_done=3,
        lease_token=uuid.uuid4(),
        lease_until=timezone.now() + timedelta(hours=1),
    )
    for epoch in (1, 2, 3):
        TrainingEpochFactory(run=run, epoch=epoch)
    TrainingLogLineFactory(run=run, code="out_of_memory", level="warning", details={"batch": 8, "next": 4})
    failed = TrainingRunFactory(registered_model=model, status="failed", failure_reason="out_of_memory")
    return {
        "model": model.name,
        "run": str(run.public_id),
        "failed": str(failed.public_id),
        "evaluation": str(old.public_id),
        "waiting": str(EvaluationFactory(version=champion).public_id),
        "comparison": str(comparison.public_id),
    }


PAGES = (
    "/models/",
    "/models/{model}/",
    "/models/{model}/1/",
    "/models/{model}/2/",
    "/models/runs/{run}/",
    "/models/runs/{run}/log/",
    "/models/runs/{failed}/",
    "/models/evaluations/{evaluation}/",
    "/models/evaluations/{waiting}/",
    "/models/evaluations/{evaluation}/cell/1/0/",
    "/models/evaluations/{evaluation}/cell/0/1/",
    "/models/evaluations/{evaluation}/photos/",
    "/models/comparisons/{comparison}/",
    "/models/comparisons/{comparison}/differences/",
)


@pytest.mark.parametrize(
    ("width", "dark", "locale"),
    [(1280, False, "en"), (390, True, "fr"), (390, False, "en"), (1280, True, "fr")],
)
def test_every_page_fits_and_is_accessible(
    *,
    width: int,
    dark: bool,
    locale: str,
    places: dict[str, str],
    live_server: Any,
    new_page: Callable[..., Page],
) -> None:
    page = new_page(locale=locale, width=width, dark=dark)
    sign_in(page, live_server.url, "curator@podura.example", PASSWORD)
    found: list[str] = []
    for path in PAGES:
        found += problems(page, live_server.url, path.format(**places))
    assert not found, "\n".join(found)


def test_a_chart_is_drawn_read_by_the_arrow_keys_and_saved(
    places: dict[str, str], live_server: Any, new_page: Callable[..., Page]
) -> None:
    page = new_page()
    sign_in(page, live_server.url, "curator@podura.example", PASSWORD)
    page.goto(f"{live_server.url}/models/evaluations/{places['evaluation']}/")
    chart = page.locator('[data-chart="reliability"]')
    expect(chart.locator(".chart__plot svg path").first).to_be_attached()
    expect(chart.locator("table")).to_be_hidden()
    chart.locator(".chart__plot").focus()
    page.keyboard.press("End")
    expect(chart.locator("[data-chart-said]")).to_contain_text("right: 0.5")
    chart.get_by_text("The numbers as a table").click()
    expect(chart.locator("table")).to_be_visible()

    saved = saved_by(page, chart, "reliability")
    assert saved["png"].startswith(b"\x89PNG")
    assert saved["svg"].startswith(b"<svg")
    rows = list(csv.DictReader(io.StringIO(saved["csv"].decode("utf-8-sig"))))
    assert (rows[1]["right"], rows[1]["mean confidence"], rows[1]["boxes"]) == ("0.5", "0.8", "4")
    assert rows[0]["right"] == ""


def saved_by(page: Page, place: Any, name: str) -> dict[str, bytes]:
    saved = {}
    for kind in ("png", "svg", "csv"):
        with page.expect_download() as download:
            place.locator(f'[data-chart-save="{kind}"]').click()
        assert download.value.suggested_filename == f"{name}.{kind}"
        saved[kind] = Path(download.value.path()).read_bytes()
    return saved


def test_the_matrix_is_saved_as_picture_and_as_numbers(
    places: dict[str, str], live_server: Any, new_page: Callable[..., Page]
) -> None:
    page = new_page(dark=True)
    sign_in(page, live_server.url, "curator@podura.example", PASSWORD)
    page.goto(f"{live_server.url}/models/evaluations/{places['evaluation']}/")
    matrix = page.locator("[data-matrix]")
    shown = [[cell.strip() for cell in row] for row in matrix.locator("table").evaluate(CELLS)]
    saved = saved_by(page, matrix, "confusion-matrix")
    assert list(csv.reader(io.StringIO(saved["csv"].decode("utf-8-sig")))) == shown
    drawn = saved["svg"].decode()
    assert drawn.count("<text") == 1 + sum(map(len, shown))
    assert "How good is" in drawn
    with Image.open(io.BytesIO(saved["png"])) as picture:
        assert picture.convert("RGB").getpixel((2, 2)) == (255, 255, 255)


def test_before_and_after_are_saved_with_their_photo_and_as_numbers(
    places: dict[str, str], live_server: Any, new_page: Callable[..., Page]
) -> None:
    page = new_page()
    page.route(
        "**/models/pictures/*.jpg", lambda route: route.fulfill(body=jpeg(), content_type="image/jpeg")
    )
    sign_in(page, live_server.url, "curator@podura.example", PASSWORD)
    for path in ("", "differences/"):
        page.goto(f"{live_server.url}/models/comparisons/{places['comparison']}/{path}")
        scene = page.locator("[data-scene]").first
        name = f"difference-{scene.get_attribute('data-scene')}"
        scene.get_by_text("The boxes as a table").click()
        rows = scene.locator("[data-boxes] tr")
        both = list(csv.reader(io.StringIO(saved_by(page, scene, name)["csv"].decode("utf-8-sig"))))
        assert rows.count() == len(both) == 1 + scene.locator(".layer-both g").count()
        assert {row[0] for row in both[1:]} <= {"animal, by the experts", "before", "after"}

        page.get_by_label("after", exact=True).check()
        assert rows.count() == 1 + scene.locator(".layer-new g").count()
        saved = saved_by(page, scene, name)
        drawn = saved["svg"].decode()
        assert "data:image/jpeg;base64," in drawn
        kinds = {row[0] for row in csv.reader(io.StringIO(saved["csv"].decode("utf-8-sig")))} - {"line"}
        assert kinds
        assert all(kind in drawn for kind in kinds)
        with Image.open(io.BytesIO(saved["png"])) as picture, Image.open(io.BytesIO(jpeg())) as photo:
            assert picture.width == photo.width
            assert picture.height > photo.height


def test_without_javascript_the_tables_are_open(
    places: dict[str, str], live_server: Any, browser: Any
) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    sign_in(page, live_server.url, "curator@podura.example", PASSWORD)
    page.goto(f"{live_server.url}/models/evaluations/{places['evaluation']}/")
    chart = page.locator('[data-chart="reliability"]')
    expect(chart.locator("table")).to_be_visible()
    expect(chart.locator(".chart__plot")).to_be_hidden()
    page.goto(f"{live_server.url}/models/runs/{places['run']}/")
    page.get_by_role("button", name="Cancel the run").click()
    expect(page.get_by_text("Being cancelled", exact=True)).to_be_visible()
    context.close()


def test_a_run_is_followed_without_a_reload_and_cancelled(
    places: dict[str, str], live_server: Any, new_page: Callable[..., Page]
) -> None:
    page = new_page()
    sign_in(page, live_server.url, "curator@podura.example", PASSWORD)
    page.goto(f"{live_server.url}/models/runs/{places['run']}/")
    page.evaluate("window.isStillTheSamePage = true")
    expect(page.get_by_text("Epoch 3 of 40 is done.")).to_be_visible()
    chart = page.locator('[data-chart="quality"]')
    chart.get_by_text("The numbers as a table").click()
    expect(chart.locator("tbody tr")).to_have_count(3)

    run = TrainingRun.objects.get(public_id=places["run"])
    TrainingEpochFactory(run=run, epoch=4)
    TrainingLogLineFactory(run=run, text="the fourth epoch is done")
    TrainingRun.objects.filter(pk=run.pk).update(epochs_done=4)
    expect(page.get_by_text("Epoch 4 of 40 is done.")).to_be_visible(timeout=10_000)
    expect(chart.locator("tbody tr")).to_have_count(4)
    expect(page.get_by_text("the fourth epoch is done")).to_have_count(1)
    said = chart.locator("[data-chart-said]")
    chart.locator(".chart__plot").focus()
    page.keyboard.press("End")
    expect(said).to_contain_text("epoch: 4")
    assert page.evaluate("window.isStillTheSamePage")

    page.get_by_role("button", name="Cancel the run").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    page.wait_for_timeout(3_500)  # the page asked again meanwhile: the question must still stand
    expect(dialog).to_be_visible()
    dialog.get_by_role("button", name="Cancel the run").click()
    expect(page.get_by_text("Being cancelled", exact=True)).to_be_visible()
    TrainingRun.objects.filter(pk=run.pk).update(status="cancelled", lease_token=None, lease_until=None)
    expect(page.get_by_text("It was cancelled after 4 epochs.")).to_be_visible(timeout=10_000)


def test_a_number_of_the_matrix_leads_to_the_animals_behind_it(
    places: dict[str, str], live_server: Any, new_page: Callable[..., Page]
) -> None:
    page = new_page()
    sign_in(page, live_server.url, "curator@podura.example", PASSWORD)
    page.goto(f"{live_server.url}/models/evaluations/{places['evaluation']}/")
    page.get_by_role("link", name="ISO_MIN, found as CER: 1").click()
    crop = page.locator(".crops img").first
    expect(crop).to_be_visible()
    assert crop.evaluate("image => image.decode().then(() => image.naturalWidth)") > 100
    expect(page.locator(".crops .mark-truth")).to_have_count(1)
    expect(page.locator(".crops .mark-wrong")).to_have_count(1)


def test_before_and_after_are_switched_by_the_arrow_keys(
    places: dict[str, str], live_server: Any, new_page: Callable[..., Page]
) -> None:
    page = new_page()
    sign_in(page, live_server.url, "curator@podura.example", PASSWORD)
    page.goto(f"{live_server.url}/models/comparisons/{places['comparison']}/")
    old, new, both = (page.locator(f".layer-{name}").first for name in ("old", "new", "both"))
    expect(both).to_be_visible()
    expect(old).to_be_hidden()
    page.get_by_label("both").focus()
    page.keyboard.press("ArrowRight")
    expect(old).to_be_visible()
    expect(both).to_be_hidden()
    page.keyboard.press("ArrowRight")
    expect(new).to_be_visible()
    expect(old).to_be_hidden()

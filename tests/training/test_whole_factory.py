"""The model factory from one end to the other, on real pictures, with every part of the site as a process of its own.

Photos arrive, a weak version finds little, experts answer, a training starts by itself, the better version goes live by the
gate and the queue follows it; a worse one is refused; a curator rolls back.
"""

import json
import re
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.urls import reverse
from playwright.sync_api import Browser, Page, expect

from apps.accounts.models import User
from apps.annotation.models import AnnotationPolicy, AnnotationTask, QueueUpdate, TrainingStart
from apps.common.leased import WorkStatus
from apps.observations.models import Detection, Photo, Survey
from apps.training.models import (
    Comparison,
    ModelVersion,
    PromotionEvent,
    PromotionPolicy,
    RunStatus,
    TrainingRun,
)
from tests.annotation.browser import Hands, drawing_context
from tests.annotation.factories import ExpertFactory, PolicyFactory
from tests.api.conftest import verified_user
from tests.factories import LabelFactory, SurveyFactory, UserFactory
from tests.support.browser import chromium, open_page
from tests.support.processes import wait_until
from tests.training.whole.photos import KnownPhoto, hits, known_photos
from tests.training.whole.site import HERE, Caller, Site, self_contained, with_services

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.serial,
    pytest.mark.timeout(3_000),
]
LABEL = "collembola"
ENOUGH_ANSWERS = 60
IN_THE_BROWSER = 3
Kind = PromotionEvent.Kind
OTHER_PHOTO = """(id) => import('/static/annotation/draw/task.js').then(({ page }) => !page.editor.isLocked
    && page.task?.id !== id && page.read().boxes.every((box) => box.proposal))"""
"""The next photo is there with the model's boxes, and can be drawn on."""


@pytest.fixture(scope="module")
def browser(django_db_setup: None) -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def weak_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weak") / "weak.podura"


@pytest.fixture
def survey(transactional_db: None) -> Survey:
    # The weak version is sure of nothing.
    survey = SurveyFactory.create(slug="springtails", minimum_photos=5, confidence_threshold=0.1)
    LabelFactory.create(survey=survey, code=LABEL, scientific_name="Collembola")
    # Photos in which the weak version sees nothing come last: they are there to be looked at anew after the promotion.
    PolicyFactory.create(
        survey=survey,
        control_fraction=0.35,
        validation_share=0.15,
        duplicate_distance=0,
        empty_photos=AnnotationPolicy.EmptyPhotos.LAST,
        train_after=ENOUGH_ANSWERS,
    )
    # Twenty photos have a wide interval and say little of calibration, and a machine that does other things as well says
    # little of latency. Better on average it must be, whatever is allowed here.
    PromotionPolicy.objects.create(
        registered_model=survey.registered_model,
        max_map_loss=0.1,
        max_recall_loss=0.2,
        max_calibration_loss=0.5,
        max_latency_ratio=20,
    )
    return survey


@pytest.fixture(params=["self-contained", "services"])
def site(
    request: pytest.FixtureRequest, survey: Survey, throwaway_broker: Any, weak_weights: Path, tmp_path: Path
) -> Iterator[Site]:
    if request.param == "services":
        opened = with_services(tmp_path, throwaway_broker.url)
    else:
        opened = self_contained(tmp_path)
    with opened as site:
        site.run(str(HERE / "weak_weights.py"), str(weak_weights), survey.registered_model.name)
        site.start()
        yield site


@pytest.fixture
def curator(transactional_db: None) -> User:
    user: User = UserFactory.create(is_staff=True, display_name="Clara")
    user.groups.add(Group.objects.get(name="Curators"))
    return user


def test_answers_become_a_better_model_and_a_worse_one_does_not_get_in(
    browser: Browser, site: Site, survey: Survey, curator: User
) -> None:
    truth = photos_arrive(site)
    first = production(survey)
    assert first.number == 1
    the_queue_is_in_the_order_of_the_scores(site, survey)

    experts_answer_in_the_browser(browser, site, truth)
    assert accepted() == IN_THE_BROWSER
    experts_answer_by_the_api(site, truth)
    unanswered = Photo.objects.filter(annotation_task__accepted=None).order_by("pk")
    # The one that the expert has open in the browser stays as it is: nobody's boxes change under their hands.
    left = list(unanswered.exclude(annotation_task__assignments__state="open"))
    assert len(left) == len(truth) - ENOUGH_ANSWERS - 1
    hits_before = hits_in(left, truth, first)

    second = a_run_starts_by_itself_and_its_version_goes_live(site, survey, first)
    the_queue_follows(site, survey, left, second)
    assert hits_in(left, truth, second) > hits_before

    a_worse_version_is_refused(site, survey, second)
    a_curator_rolls_back(browser, site, survey, curator, first)
    the_queue_follows(site, survey, left, first)
    assert hits_in(left, truth, first) == hits_before


# --- The steps ----------------------------------------------------------------------------------------------


def photos_arrive(site: Site) -> dict[str, KnownPhoto]:
    """By HTTP, one observation each; gives what is known of them by their names."""
    photos = known_photos()
    sender = Caller(site, verified_user(display_name="Zoë"))
    for photo in photos:
        sent = sender.post(
            "observations/",
            data={"survey": "springtails"},
            files={"photos": (photo.name, photo.content, "image/jpeg")},
        )
        assert sent["refused"] == []
    site.wait(
        lambda: Photo.objects.filter(status=WorkStatus.DONE).count() == len(photos),
        seconds=300,
        what="every photo is looked at",
    )
    site.wait(
        lambda: AnnotationTask.objects.count() == len(photos), seconds=60, what="every photo is in the queue"
    )
    assert Photo.objects.exclude(failure_reason="").count() == 0
    return {photo.name: photo for photo in photos}


def the_queue_is_in_the_order_of_the_scores(site: Site, survey: Survey) -> None:
    """Least margin, summed over the boxes, worked out here from the stored class scores."""
    scored = []
    for task in AnnotationTask.objects.select_related("photo"):
        shown = Detection.objects.filter(
            photo=task.photo, model_version=task.photo.model_version, is_weak=False
        )
        scores = [values[0] for values in shown.values_list("class_scores", flat=True)]
        margins = [1 - (p - (1 - p)) for p in scores]
        if margins:
            assert task.score == pytest.approx(sum(margins), abs=1e-5)
            scored.append(task)
    assert len(scored) >= 5
    best = AnnotationTask.objects.filter(arm="active", group__isnull=False).order_by("-score", "pk")[0]
    expert = Caller(site, ExpertFactory.create())
    given = expert.post("annotation/surveys/springtails/next/", json={})["task"]
    assert given["id"] == str(best.public_id)
    expert.session.post(f"{site.url}/api/v1/annotation/tasks/{given['id']}/release/", json={}, timeout=30)


def experts_answer_in_the_browser(browser: Browser, site: Site, truth: dict[str, KnownPhoto]) -> None:
    expert = ExpertFactory.create(display_name="Émile")
    with drawing_context(browser, site.url, expert) as context:
        page = context.new_page()
        page.goto(reverse("annotation:draw", args=["springtails"]))
        for _photo in range(IN_THE_BROWSER):
            hands = Hands(page)
            hands.is_ready()
            task = AnnotationTask.objects.select_related("photo").get(public_id=task_of(page))
            draw_the_truth(page, hands, truth[task.photo.name])
            wait_until(partial(is_at_another, page, str(task.public_id)), what="the next photo is there")


def is_at_another(page: Page, task_id: str) -> bool:
    page.wait_for_timeout(100)
    return bool(page.evaluate(OTHER_PHOTO, task_id))


def task_of(page: Page) -> str:
    found: str = page.evaluate("import('/static/annotation/draw/task.js').then(({ page }) => page.task.id)")
    return found


def draw_the_truth(page: Page, hands: Hands, known: KnownPhoto) -> None:
    for _box in range(hands.count()):
        hands.press("j", "Delete")
    assert hands.boxes() == []
    boxes = lying_apart(known.boxes)
    for box in boxes:
        hands.draw(*box)
    assert hands.count() == len(boxes)
    page.get_by_role("button", name="Send, next photo").click()
    if not known.boxes:
        page.get_by_role("button", name="No animal: send").click()


def lying_apart(
    boxes: tuple[tuple[float, float, float, float], ...], *, gap_px: float = 16
) -> list[tuple[float, float, float, float]]:
    """The larger ones first, without those that begin on another: a pointer there takes hold of the box that is drawn."""
    kept: list[tuple[float, float, float, float]] = []
    for box in sorted(boxes, key=lambda box: (box[0] - box[2]) * (box[3] - box[1])):
        if all(
            box[0] > other[2] + gap_px
            or box[2] < other[0] - gap_px
            or box[1] > other[3] + gap_px
            or box[3] < other[1] - gap_px
            for other in kept
        ):
            kept.append(box)
    return kept


def experts_answer_by_the_api(site: Site, truth: dict[str, KnownPhoto]) -> None:
    experts = [Caller(site, ExpertFactory.create()) for _expert in range(2)]
    for turn in range(ENOUGH_ANSWERS - IN_THE_BROWSER):
        expert = experts[turn % 2]
        task = expert.post("annotation/surveys/springtails/next/", json={})["task"]
        assert task is not None, f"the queue ended after {turn}"
        known = truth[AnnotationTask.objects.get(public_id=task["id"]).photo.name]
        corners = ("x_min", "y_min", "x_max", "y_max")
        boxes = [dict(zip(corners, box, strict=True)) | {"label": LABEL} for box in known.boxes]
        expert.post(
            f"annotation/tasks/{task['id']}/submit/",
            json={
                "key": str(uuid.uuid4()),
                "boxes": boxes,
                "is_empty": not boxes,
                "seconds": 12,
                "model_version": task["model_version"],
            },
        )
    assert accepted() == ENOUGH_ANSWERS


def a_run_starts_by_itself_and_its_version_goes_live(
    site: Site, survey: Survey, first: ModelVersion
) -> ModelVersion:
    site.wait(TrainingRun.objects.exists, seconds=60, what="a run starts by itself")
    run = TrainingRun.objects.get()
    assert (run.trigger, run.base_version) == (TrainingRun.Trigger.AUTOMATIC, first)
    assert TrainingStart.objects.count() == 1
    assert run.dataset.photo_count == ENOUGH_ANSWERS
    site.wait(lambda: not again(run).is_open, seconds=1_200, what="the run ends")
    run = again(run)
    assert run.status == RunStatus.SUCCEEDED, list(run.log_lines.values_list("code", "text"))
    comparison = decided(site, run)
    assert comparison.champion == first
    assert comparison.verdict == Comparison.Verdict.PASSED, json.dumps(comparison.rules, indent=1)
    site.wait(lambda: production(survey) == run.version, seconds=30, what="the better version goes live")
    event = PromotionEvent.objects.get(to_version=run.version)
    assert (event.kind, event.from_version) == (Kind.PROMOTED_BY_GATE, first)
    return production(survey)


def a_worse_version_is_refused(site: Site, survey: Survey, second: ModelVersion) -> None:
    """Trained with steps so long that it forgets everything."""
    site.run(
        "manage.py", "train", "springtails", "--skip-checks", "--epochs", "1", "--set", "learning_rate=0.05"
    )
    run = TrainingRun.objects.latest("pk")
    site.wait(lambda: not again(run).is_open, seconds=600, what="the second run ends")
    run = again(run)
    assert run.status == RunStatus.SUCCEEDED, list(run.log_lines.values_list("code", "text"))
    comparison = decided(site, run)
    assert (comparison.champion, comparison.verdict) == (second, Comparison.Verdict.REFUSED)
    site.wait(
        lambda: again(run.version).stage == ModelVersion.Stage.REFUSED, seconds=30, what="it is refused"
    )
    assert production(survey) == second
    assert PromotionEvent.objects.get(to_version=run.version).kind == Kind.REFUSED_BY_GATE


def a_curator_rolls_back(
    browser: Browser, site: Site, survey: Survey, curator: User, first: ModelVersion
) -> None:
    with open_page(browser, site.url, user=curator) as page:
        page.goto(reverse("admin:training_registeredmodel_change", args=[survey.registered_model_id]))
        page.get_by_role("link", name=re.compile("[Rr]oll back")).first.click()
        page.get_by_label(re.compile("[Rr]eason|Why")).fill("The old one knew the red ones")
        page.get_by_role("button", name=re.compile("[Rr]oll back")).click()
        expect(page.get_by_text(str(first)).first).to_be_visible()
    site.wait(lambda: production(survey) == first, seconds=10, what="the first version serves again")
    event = PromotionEvent.objects.latest("pk")
    assert (event.kind, event.by, event.to_version) == (Kind.ROLLED_BACK, curator, first)


def the_queue_follows(site: Site, survey: Survey, left: list[Photo], version: ModelVersion) -> None:
    """What nobody has answered is looked at by the version that serves, and scored by what it sees."""
    waiting = AnnotationTask.objects.filter(photo__in=left)
    site.wait(
        lambda: not waiting.exclude(photo__model_version=version, scored_version=version).exists(),
        seconds=300,
        what=f"the queue follows {version}",
    )
    site.wait(
        lambda: not QueueUpdate.objects.exclude(status=WorkStatus.DONE).exists(),
        seconds=60,
        what="the queue's update ends",
    )
    assert AnnotationPolicy.objects.get(survey=survey).ranked_version == version


# --- What the rows say --------------------------------------------------------------------------------------


def production(survey: Survey) -> ModelVersion:
    return ModelVersion.objects.get(registered_model=survey.registered_model, stage="production")


def accepted() -> int:
    return AnnotationTask.objects.filter(accepted__isnull=False).count()


def again(row: Any) -> Any:
    return type(row)._default_manager.get(pk=row.pk)


def decided(site: Site, run: TrainingRun) -> Comparison:
    site.wait(
        lambda: Comparison.objects.filter(run=run, status=WorkStatus.DONE).exists(),
        seconds=300,
        what="the gate has decided",
    )
    return Comparison.objects.get(run=run)


def hits_in(photos: list[Photo], truth: dict[str, KnownPhoto], version: ModelVersion) -> int:
    """Animals that this version's boxes meet."""
    total = 0
    for photo in photos:
        rows = Detection.objects.filter(photo=photo, model_version=version, is_weak=False)
        boxes = list(rows.values_list("x_min", "y_min", "x_max", "y_max"))
        total += hits(boxes, truth[photo.name].boxes)
    return total

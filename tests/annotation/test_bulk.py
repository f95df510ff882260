"""Relabelling and sending back many boxes at once, and taking it back."""

import threading
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.utils import timezone

from apps.annotation.models import (
    AnnotatedBox,
    Annotation,
    AnnotationTask,
    Assignment,
    Crop,
    GoldenPhoto,
    Review,
)
from apps.annotation.services.bulk import (
    MAX_BOXES,
    ReviewRefusedError,
    changes_after,
    relabel_boxes,
    send_back,
    undo,
)
from apps.annotation.signals import annotation_accepted
from apps.observations.models import Label, Survey
from apps.training.models import ModelVersion
from tests.annotation.factories import (
    AnnotatedBoxFactory,
    AnnotationFactory,
    AssignmentFactory,
    ExpertFactory,
    TaskFactory,
)
from tests.factories import DetectionFactory, LabelFactory, ModelVersionFactory, PhotoFactory, SurveyFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def survey() -> Survey:
    return SurveyFactory()


@pytest.fixture
def labels(survey: Survey) -> list[Label]:
    return [LabelFactory(survey=survey, code=code) for code in ("A", "B", "C")]


def answered(survey: Survey, label: Label, *, boxes: int = 2, **fields: Any) -> Annotation:
    """A done photo whose answer has so many boxes of the label, each from the proposal of its number."""
    photo = PhotoFactory(
        observation__survey=survey,
        model_version=ModelVersion.objects.filter(registered_model=survey.registered_model).first()
        or ModelVersionFactory(registered_model=survey.registered_model),
        detection_count=boxes,
    )
    for number in range(1, boxes + 1):
        DetectionFactory(photo=photo, model_version=photo.model_version, number=number, label=label)
    task = TaskFactory(photo=photo)
    answer = AnnotationFactory(
        task=task,
        is_empty=False,
        box_count=boxes,
        model_version=photo.model_version,
        changes={
            "kept": list(range(1, boxes + 1)),
            "moved": [],
            "relabelled": [],
            "deleted": [],
            "drawn": 0,
        },
        **fields,
    )
    for number in range(1, boxes + 1):
        AnnotatedBoxFactory(
            annotation=answer,
            number=number,
            label=label,
            x_min=5.0 * number,
            proposal_number=number,
            proposal_score=0.9,
        )
    if answer.author:
        AssignmentFactory(task=task, expert=answer.author, state=Assignment.State.SUBMITTED, lease_until=None)
    accept(answer)
    return answer


def accept(answer: Annotation) -> None:
    AnnotationTask.objects.filter(pk=answer.task_id).update(
        accepted=answer, accepted_at=Now(), state=AnnotationTask.State.DONE, answers=1
    )


def accepted(answer: Annotation) -> Annotation:
    task = AnnotationTask.objects.select_related("accepted").get(pk=answer.task_id)
    assert task.accepted is not None
    return task.accepted


def codes(answer: Annotation) -> list[str]:
    return list(answer.boxes.order_by("number").values_list("label__code", flat=True))


def test_a_new_label_is_a_new_answer_that_supersedes_and_counts(survey: Survey, labels: list[Label]) -> None:
    first, second = answered(survey, labels[0], boxes=3), answered(survey, labels[0])
    reviewer = ExpertFactory()
    result = relabel_boxes(
        survey=survey,
        by=reviewer,
        boxes=[(first.public_id, 1), (first.public_id, 3), (second.public_id, 2)],
        code="B",
    )
    assert (result.boxes, result.photos, result.left_alone) == (3, 2, 0)
    after = accepted(first)
    assert after.supersedes == first
    assert (after.origin, after.author) == (Annotation.Origin.BULK, reviewer)
    assert codes(after) == ["B", "A", "B"]
    assert after.changes["relabelled"] == [1, 3]
    assert after.changes["kept"] == [2]
    first.refresh_from_db()
    assert not first.is_current
    assert codes(first) == ["A", "A", "A"]
    reviews = Review.objects.filter(batch=result.batch)
    assert {(review.before_id, review.kind) for review in reviews} == {
        (first.pk, Review.Kind.RELABELLED),
        (second.pk, Review.Kind.RELABELLED),
    }


def test_the_grid_follows_the_new_answer(survey: Survey, labels: list[Label]) -> None:
    answer = answered(survey, labels[0])
    Crop.objects.update(features=b"seen", outlierness=2.0)
    relabel_boxes(survey=survey, by=ExpertFactory(), boxes=[(answer.public_id, 1)], code="B")
    rows = Crop.objects.order_by("box__number").values_list("label__code", "features", "outlierness")
    assert [(code, bytes(features), far) for code, features, far in rows] == [
        ("B", b"seen", -1),
        ("A", b"seen", 2.0),
    ]


def test_undoing_restores_what_was_there_by_another_answer(survey: Survey, labels: list[Label]) -> None:
    answer = answered(survey, labels[0])
    reviewer = ExpertFactory()
    result = relabel_boxes(survey=survey, by=reviewer, boxes=[(answer.public_id, 1)], code="B")
    assert result.batch
    changed = accepted(answer)
    undone = undo(batch=result.batch, by=reviewer)
    assert (undone.photos, undone.left_alone) == (1, 0)
    restored = accepted(answer)
    assert restored.supersedes == changed
    assert codes(restored) == ["A", "A"]
    assert restored.changes == answer.changes
    assert Review.objects.get(batch=result.batch).undone_at is not None
    with pytest.raises(ReviewRefusedError):
        undo(batch=result.batch, by=reviewer)


def test_what_changed_meanwhile_is_left_alone_and_counted(survey: Survey, labels: list[Label]) -> None:
    first, second = answered(survey, labels[0]), answered(survey, labels[0])
    relabel_boxes(survey=survey, by=ExpertFactory(), boxes=[(first.public_id, 1)], code="C")
    result = relabel_boxes(
        survey=survey, by=ExpertFactory(), boxes=[(first.public_id, 2), (second.public_id, 1)], code="B"
    )
    assert (result.boxes, result.photos, result.left_alone) == (1, 1, 1)
    assert codes(accepted(first)) == ["C", "A"]


def test_undoing_leaves_alone_what_somebody_changed_after(survey: Survey, labels: list[Label]) -> None:
    first, second = answered(survey, labels[0]), answered(survey, labels[0])
    reviewer = ExpertFactory()
    result = relabel_boxes(
        survey=survey, by=reviewer, boxes=[(first.public_id, 1), (second.public_id, 1)], code="B"
    )
    relabel_boxes(survey=survey, by=ExpertFactory(), boxes=[(accepted(first).public_id, 2)], code="C")
    assert result.batch
    undone = undo(batch=result.batch, by=reviewer)
    assert (undone.photos, undone.left_alone) == (1, 1)
    assert codes(accepted(first)) == ["B", "C"]
    assert codes(accepted(second)) == ["A", "A"]


def test_sent_back_it_waits_again_and_its_answer_stays_in_the_history(
    survey: Survey, labels: list[Label]
) -> None:
    answer = answered(survey, labels[0])
    reviewer = ExpertFactory()
    result = send_back(
        survey=survey, by=reviewer, boxes=[(answer.public_id, 1)], note="two animals in one box"
    )
    task = AnnotationTask.objects.get(pk=answer.task_id)
    assert (task.state, task.accepted, task.answers) == (AnnotationTask.State.WAITING, None, 0)
    answer.refresh_from_db()
    assert not answer.is_current
    assert Assignment.objects.get(task=task).state == Assignment.State.RETURNED
    assert not Crop.objects.exists()
    review = Review.objects.get(batch=result.batch)
    assert (review.kind, review.before, review.note) == (
        Review.Kind.SENT_BACK,
        answer,
        "two animals in one box",
    )


def test_sending_back_is_undone_unless_somebody_has_begun_on_the_photo(
    survey: Survey, labels: list[Label]
) -> None:
    free, busy = answered(survey, labels[0]), answered(survey, labels[0])
    reviewer = ExpertFactory()
    result = send_back(survey=survey, by=reviewer, boxes=[(free.public_id, 1), (busy.public_id, 1)])
    AssignmentFactory(task=busy.task)
    assert result.batch
    undone = undo(batch=result.batch, by=reviewer)
    assert (undone.photos, undone.left_alone) == (1, 1)
    assert accepted(free) == free
    free.refresh_from_db()
    assert free.is_current
    assert Assignment.objects.get(task=free.task).state == Assignment.State.SUBMITTED
    assert AnnotationTask.objects.get(pk=busy.task_id).state == AnnotationTask.State.WAITING
    assert Crop.objects.count() == 2


def test_an_answer_corrected_before_it_was_sent_back_does_not_count_again(
    survey: Survey, labels: list[Label]
) -> None:
    answer = answered(survey, labels[0])
    reviewer = ExpertFactory()
    relabel_boxes(survey=survey, by=reviewer, boxes=[(answer.public_id, 1)], code="B")
    latest = accepted(answer)
    result = send_back(survey=survey, by=reviewer, boxes=[(latest.public_id, 1)])
    assert result.batch
    undo(batch=result.batch, by=reviewer)
    assert list(Annotation.objects.current()) == [latest]


def test_an_answer_sent_back_before_does_not_come_back_with_a_later_one(
    survey: Survey, labels: list[Label]
) -> None:
    first = answered(survey, labels[0])
    reviewer = ExpertFactory()
    send_back(survey=survey, by=reviewer, boxes=[(first.public_id, 1)])
    # In one transaction, as tests are, all else has the same time.
    second = AnnotationFactory(task=first.task, created_at=timezone.now() + timedelta(minutes=1))
    AssignmentFactory(
        task=first.task, expert=second.author, state=Assignment.State.SUBMITTED, lease_until=None
    )
    accept(second)
    result = send_back(survey=survey, by=reviewer, boxes=[(second.public_id, 0)])
    assert result.batch
    undo(batch=result.batch, by=reviewer)
    assert accepted(second) == second
    assert list(Annotation.objects.current()) == [second]
    states = dict(Assignment.objects.values_list("expert", "state"))
    assert states == {
        first.author_id: Assignment.State.RETURNED,
        second.author_id: Assignment.State.SUBMITTED,
    }


def test_a_label_that_is_retired_foreign_or_unknown_is_refused_and_nothing_is_done(
    survey: Survey, labels: list[Label]
) -> None:
    answer = answered(survey, labels[0])
    LabelFactory(survey=survey, code="OLD", is_active=False)
    LabelFactory(code="ELSEWHERE")
    for code in ("OLD", "ELSEWHERE", "NONE", "", "x" * 500):
        with pytest.raises(ReviewRefusedError):
            relabel_boxes(survey=survey, by=ExpertFactory(), boxes=[(answer.public_id, 1)], code=code)
    assert Annotation.objects.count() == 1
    assert not Review.objects.exists()


def test_boxes_of_another_survey_too_many_or_none_are_refused(survey: Survey, labels: list[Label]) -> None:
    elsewhere = SurveyFactory()
    foreign = answered(elsewhere, LabelFactory(survey=elsewhere))
    for boxes in (
        [],
        [(foreign.public_id, 1)],
        [(uuid.uuid4(), 1)],
        [(uuid.uuid4(), n) for n in range(MAX_BOXES + 1)],
    ):
        with pytest.raises(ReviewRefusedError):
            relabel_boxes(survey=survey, by=ExpertFactory(), boxes=boxes, code="A")
        with pytest.raises(ReviewRefusedError):
            send_back(survey=survey, by=ExpertFactory(), boxes=boxes)


def test_a_number_that_the_answer_has_not_is_left_alone(survey: Survey, labels: list[Label]) -> None:
    answer = answered(survey, labels[0])
    result = relabel_boxes(survey=survey, by=ExpertFactory(), boxes=[(answer.public_id, 77)], code="B")
    assert (result.boxes, result.left_alone, result.batch) == (0, 1, None)


def test_a_box_that_has_the_label_already_makes_no_answer(survey: Survey, labels: list[Label]) -> None:
    answer = answered(survey, labels[0])
    result = relabel_boxes(survey=survey, by=ExpertFactory(), boxes=[(answer.public_id, 1)], code="A")
    assert (result.boxes, result.unchanged) == (0, 1)
    assert Annotation.objects.count() == 1


def test_photos_that_became_private_are_left_alone(survey: Survey, labels: list[Label]) -> None:
    answer = answered(survey, labels[0])
    observation = answer.task.photo.observation
    observation.visibility = "private"
    observation.save()
    result = relabel_boxes(survey=survey, by=ExpertFactory(), boxes=[(answer.public_id, 1)], code="B")
    assert (result.boxes, result.left_alone) == (0, 1)


def test_only_the_reviewer_and_staff_undo_a_step(survey: Survey, labels: list[Label]) -> None:
    answer = answered(survey, labels[0])
    result = relabel_boxes(survey=survey, by=ExpertFactory(), boxes=[(answer.public_id, 1)], code="B")
    assert result.batch
    with pytest.raises(ReviewRefusedError):
        undo(batch=result.batch, by=ExpertFactory())
    assert undo(batch=result.batch, by=ExpertFactory(is_staff=True)).photos == 1


def test_the_known_answer_of_a_golden_photo_follows(survey: Survey, labels: list[Label]) -> None:
    answer = answered(survey, labels[0])
    golden = GoldenPhoto.objects.create(task=answer.task, answer=answer)
    relabel_boxes(survey=survey, by=ExpertFactory(), boxes=[(answer.public_id, 1)], code="B")
    golden.refresh_from_db()
    assert golden.answer == accepted(answer)


def test_each_new_answer_is_told_once_it_is_committed(
    survey: Survey, labels: list[Label], django_capture_on_commit_callbacks: Any
) -> None:
    answer = answered(survey, labels[0])
    told = []

    def listen(**news: Any) -> None:
        told.append((news["task_id"], news["annotation_id"]))

    annotation_accepted.connect(listen)
    try:
        with django_capture_on_commit_callbacks(execute=True):
            relabel_boxes(survey=survey, by=ExpertFactory(), boxes=[(answer.public_id, 1)], code="B")
    finally:
        annotation_accepted.disconnect(listen)
    assert told == [(answer.task_id, accepted(answer).pk)]


def test_changes_say_what_became_of_the_proposals() -> None:
    boxes = [
        AnnotatedBox(number=1, proposal_number=1, label_id=7),
        AnnotatedBox(number=2, proposal_number=2, label_id=8),
        AnnotatedBox(number=3, label_id=8),
        AnnotatedBox(number=4, proposal_number=5, label_id=8),
    ]
    before = {"kept": [1, 2], "moved": [5], "relabelled": [], "deleted": [3], "drawn": 1}
    assert changes_after(before, boxes, {1: 7, 2: 7, 3: 7, 5: 7}) == {
        "kept": [1],
        "moved": [5],
        "relabelled": [2, 5],
        "deleted": [3],
        "drawn": 1,
    }


def test_queries_do_not_grow_with_boxes(
    survey: Survey, labels: list[Label], django_assert_max_num_queries: Any
) -> None:
    answers = [answered(survey, labels[0], boxes=4) for _ in range(5)]
    reviewer = ExpertFactory()
    with django_assert_max_num_queries(12 + 2 * len(answers)):
        relabel_boxes(
            survey=survey,
            by=reviewer,
            boxes=[(answer.public_id, number) for answer in answers for number in (1, 2, 3)],
            code="B",
        )


@pytest.mark.django_db(transaction=True)
def test_two_reviewers_at_once_do_not_overwrite_each_other() -> None:
    survey = SurveyFactory()
    labels = [LabelFactory(survey=survey, code=code) for code in ("A", "B", "C")]
    answers = [answered(survey, labels[0]) for _ in range(4)]
    boxes = [(answer.public_id, 1) for answer in answers]
    start = threading.Barrier(2)
    results = []

    def review(code: str, order: int) -> None:
        expert = ExpertFactory()
        start.wait()
        try:
            results.append(relabel_boxes(survey=survey, by=expert, boxes=boxes[::order], code=code))
        finally:
            connection.close()

    threads = [threading.Thread(target=review, args=args) for args in (("B", 1), ("C", -1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted((result.boxes, result.left_alone) for result in results) == [(0, 4), (4, 0)]
    assert len({tuple(codes(accepted(answer))) for answer in answers}) == 1

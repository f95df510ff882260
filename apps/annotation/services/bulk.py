"""Review of many boxes at once: another label, or back to the queue; one step of it can be undone.

Answers are immutable, so a new label makes a new answer that supersedes, and undoing makes another. Photos whose answer is
no longer the one that was looked at are left alone and counted: nobody's work is overwritten unseen.
"""

import uuid
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.db import connection, transaction
from django.db.models import Exists, F, OuterRef
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from apps.accounts.models import User
from apps.annotation.models import (
    AnnotatedBox,
    Annotation,
    AnnotationTask,
    Assignment,
    GoldenPhoto,
    Review,
)
from apps.annotation.signals import annotation_accepted
from apps.observations.models import Detection, Label, Observation, Survey

MAX_BOXES = 500
BoxRef = tuple[uuid.UUID, int]
"""A box by its answer's public id and its number there; for sending back, number 0 is the photo as a whole."""


class ReviewRefusedError(Exception):
    """Nothing was written; the message says what to do."""


# One statement for all of them: two hundred photos in a request.
_COUNT_FROM_NOW = """
UPDATE annotation_annotationtask AS task SET accepted_id = answer.id, accepted_at = statement_timestamp()
FROM unnest(%s::bigint[], %s::bigint[]) AS answer(task, id) WHERE task.id = answer.task
"""


@dataclass(frozen=True, slots=True)
class ReviewResult:
    """What a step did. `left_alone` counts boxes (of an undo: photos) that somebody else had changed meanwhile."""

    batch: uuid.UUID | None
    boxes: int
    photos: int
    left_alone: int
    unchanged: int = 0


@dataclass(slots=True)
class _Chosen:
    """Locked photos whose answer is still the one looked at, with the chosen numbers."""

    tasks: dict[int, AnnotationTask]
    numbers: dict[int, set[int]]
    left_alone: int


@transaction.atomic
def relabel_boxes(*, survey: Survey, by: User, boxes: Iterable[BoxRef], code: str) -> ReviewResult:
    """Give boxes another label of the survey. Raises `ReviewRefusedError`."""
    if not code:
        raise ReviewRefusedError(_("Label: choose the new label first."))
    label = Label.objects.filter(survey=survey, code=code).first()
    if label is None:
        raise ReviewRefusedError(_("Label: “%(code)s” is no label of this survey.") % {"code": code[:60]})
    if not label.is_active:
        raise ReviewRefusedError(
            _("Label: “%(name)s” is no longer in use. Choose another one.") % {"name": label}
        )
    chosen = _chosen(survey, boxes)
    copies = _copies([task.accepted_id for task in chosen.tasks.values() if task.accepted_id])
    unchanged = 0
    for pk in list(chosen.tasks):
        rows = {box.number: box for box in copies[chosen.tasks[pk].accepted_id or 0]}
        chosen.left_alone += len(chosen.numbers[pk] - rows.keys())
        already = {n for n in chosen.numbers[pk] & rows.keys() if rows[n].label_id == label.pk}
        unchanged += len(already)
        chosen.numbers[pk] = (chosen.numbers[pk] & rows.keys()) - already
        if not chosen.numbers[pk]:
            del chosen.tasks[pk], chosen.numbers[pk]
    names = _proposed_labels(chosen.tasks.values())
    answers: dict[int, Annotation] = {}
    for pk, task in chosen.tasks.items():
        before = task.accepted
        assert before is not None
        for box in copies[before.pk]:
            if box.number in chosen.numbers[pk]:
                box.label, box.agreement, box.is_uncertain, box.label_proposal = label, None, False, None
        changes = changes_after(before.changes, copies[before.pk], names[pk])
        answers[pk] = _successor(before, by=by, changes=changes)
    batch = _accept(answers, copies, by=by, kind=Review.Kind.RELABELLED, note=label.code)
    boxes_done = sum(len(numbers) for numbers in chosen.numbers.values())
    return ReviewResult(batch, boxes_done, len(answers), chosen.left_alone, unchanged)


@transaction.atomic
def send_back(*, survey: Survey, by: User, boxes: Iterable[BoxRef], note: str = "") -> ReviewResult:
    """Put the photos of these boxes back into the queue: their answers stay in the history and no longer count."""
    chosen = _chosen(survey, boxes)
    done = sum(len(numbers) for numbers in chosen.numbers.values())
    if not chosen.tasks:
        return ReviewResult(None, 0, 0, chosen.left_alone)
    batch = uuid.uuid4()
    tasks = chosen.tasks
    Annotation.objects.filter(task__in=tasks, is_current=True).update(is_current=False)
    # Those who answered may be given the photo once more.
    submitted = Assignment.objects.filter(task__in=tasks, state=Assignment.State.SUBMITTED)
    submitted.exclude(given_as="golden").update(state=Assignment.State.RETURNED)
    GoldenPhoto.objects.filter(task__in=tasks).update(is_active=False)
    AnnotationTask.objects.filter(pk__in=tasks).update(
        state=AnnotationTask.State.WAITING, accepted=None, accepted_at=None, answers=0
    )
    Review.objects.bulk_create(
        Review(
            task=task,
            reviewer=by,
            kind=Review.Kind.SENT_BACK,
            before=task.accepted,
            batch=batch,
            note=note[:500],
        )
        for task in tasks.values()
    )
    return ReviewResult(batch, done, len(tasks), chosen.left_alone)


@transaction.atomic
def undo(*, batch: uuid.UUID, by: User) -> ReviewResult:
    """Take a step back, photo by photo, where nothing has happened since. Raises `ReviewRefusedError`."""
    steps = Review.objects.filter(batch=batch, kind__in=(Review.Kind.RELABELLED, Review.Kind.SENT_BACK))
    if not by.is_staff:
        steps = steps.filter(reviewer=by)
    tasks = _locked(steps.values_list("task", flat=True))
    reviews = list(steps.select_related("before", "after").select_for_update(of=("self",)).order_by("pk"))
    if not reviews:
        raise ReviewRefusedError(_("There is no such step to undo."))
    waiting = [review for review in reviews if review.undone_at is None]
    if not waiting:
        raise ReviewRefusedError(_("This step is undone already."))
    if waiting[0].kind == Review.Kind.SENT_BACK:
        undone = _undo_send_back(waiting, tasks, by)
    else:
        undone = _undo_relabel(waiting, tasks, by)
    Review.objects.filter(pk__in=[review.pk for review in undone]).update(undone_at=Now())
    return ReviewResult(batch, 0, len(undone), len(waiting) - len(undone))


def _undo_relabel(reviews: list[Review], tasks: Mapping[int, AnnotationTask], by: User) -> list[Review]:
    undone = [
        review
        for review in reviews
        if review.before is not None
        and review.after is not None
        and review.task_id in tasks
        and tasks[review.task_id].accepted_id == review.after_id
    ]
    copies = _copies([review.before_id for review in undone if review.before_id])
    answers = {}
    for review in undone:
        assert review.before is not None and review.after is not None  # noqa: PT018  (chosen so above)
        answers[review.task_id] = _successor(review.after, by=by, changes=review.before.changes)
        copies[review.after.pk] = copies[review.before.pk]
    _accept(answers, copies, by=by, kind=Review.Kind.UNDONE)
    return undone


def _undo_send_back(reviews: list[Review], tasks: Mapping[int, AnnotationTask], by: User) -> list[Review]:
    """The same answers count again, where nobody has begun on the photo since."""
    busy = set(Assignment.objects.held().filter(task__in=tasks).values_list("task", flat=True)) | set(
        Annotation.objects.filter(task__in=tasks, is_current=True).values_list("task", flat=True)
    )
    undone = [
        review
        for review in reviews
        if review.before_id is not None
        and review.task_id in tasks
        and review.task_id not in busy
        and tasks[review.task_id].state == AnnotationTask.State.WAITING
        and tasks[review.task_id].accepted_id is None
    ]
    pks = [review.task_id for review in undone]
    corrected = Annotation.objects.filter(supersedes=OuterRef("pk"))
    # Answers that were sent back at another time stay so.
    other_steps = Review.objects.filter(
        task=OuterRef("task"),
        kind=Review.Kind.SENT_BACK,
        undone_at=None,
        created_at__gte=OuterRef("created_at"),
    ).exclude(pk__in=[review.pk for review in undone])
    Annotation.objects.filter(~Exists(corrected), ~Exists(other_steps), task__in=pks).update(is_current=True)
    answered = Assignment.objects.filter(
        Exists(Annotation.objects.current().filter(task=OuterRef("task"), author=OuterRef("expert"))),
        task__in=pks,
        state=Assignment.State.RETURNED,
    )
    answered.update(state=Assignment.State.SUBMITTED)
    for review in undone:
        AnnotationTask.objects.filter(pk=review.task_id).update(
            state=AnnotationTask.State.DONE,
            accepted=review.before,
            accepted_at=Now(),
            answers=F("answers_needed"),
        )
        GoldenPhoto.objects.filter(task=review.task_id, answer=review.before).update(is_active=True)
        _tell(review.task_id, review.before_id or 0)
    Review.objects.bulk_create(
        Review(task_id=review.task_id, reviewer=by, kind=Review.Kind.UNDONE, after=review.before)
        for review in undone
    )
    return undone


def changes_after(
    changes: Mapping[str, Any], boxes: Iterable[AnnotatedBox], proposed: Mapping[int, int]
) -> dict[str, Any]:
    """`Annotation.changes` once the boxes have the labels they have now; `proposed` is the model's label by number."""
    moved = set(changes.get("moved", []))
    kept: set[int] = set()
    relabelled: set[int] = set()
    for box in boxes:
        number = box.proposal_number
        if number is None:
            continue
        if number in proposed and proposed[number] != box.label_id:
            relabelled.add(number)
        elif number not in moved:
            kept.add(number)
    return {**changes, "kept": sorted(kept), "relabelled": sorted(relabelled)}


def _locked(pks: Iterable[int]) -> dict[int, AnnotationTask]:
    """Always in the order of their keys, so that two reviewers wait for each other and never block."""
    tasks = AnnotationTask.objects.filter(pk__in=set(pks)).select_related("accepted")
    return {task.pk: task for task in tasks.select_for_update(of=("self",)).order_by("pk")}


def _chosen(survey: Survey, boxes: Iterable[BoxRef]) -> _Chosen:
    refs = set(boxes)
    if not refs:
        raise ReviewRefusedError(_("Choose at least one box first."))
    if len(refs) > MAX_BOXES:
        raise ReviewRefusedError(_("Choose at most %(limit)s boxes at once.") % {"limit": MAX_BOXES})
    wanted: dict[uuid.UUID, set[int]] = defaultdict(set)
    for answer, number in refs:
        wanted[answer].add(number)
    answers = Annotation.objects.filter(public_id__in=wanted, task__survey=survey)
    found = list(answers.values_list("task", "pk", "public_id"))
    if len(found) < len(wanted):
        raise ReviewRefusedError(_("A chosen box is not of this survey. Load the page anew."))
    locked = _locked(task for task, _pk, _answer in found)
    public = set(
        AnnotationTask.objects.filter(
            pk__in=locked, photo__observation__visibility=Observation.Visibility.PUBLIC
        ).values_list("pk", flat=True)
    )
    chosen = _Chosen({}, {}, 0)
    for pk, answer_pk, answer in found:
        if pk in public and locked[pk].accepted_id == answer_pk:
            chosen.tasks[pk], chosen.numbers[pk] = locked[pk], wanted[answer]
        else:
            chosen.left_alone += len(wanted[answer])
    return chosen


def _copies(answers: Collection[int]) -> dict[int, list[AnnotatedBox]]:
    """Unsaved copies of the boxes of answers, by the answer's key."""
    copies: dict[int, list[AnnotatedBox]] = {pk: [] for pk in answers}
    for box in AnnotatedBox.objects.filter(annotation__in=answers).defer("box").order_by("number"):
        copies[box.annotation_id].append(
            AnnotatedBox(
                number=box.number,
                label_id=box.label_id,
                x_min=box.x_min,
                y_min=box.y_min,
                x_max=box.x_max,
                y_max=box.y_max,
                proposal_number=box.proposal_number,
                proposal_score=box.proposal_score,
                note=box.note,
                is_uncertain=box.is_uncertain,
                label_proposal_id=box.label_proposal_id,
                votes=box.votes,
                agreement=box.agreement,
                mean_iou=box.mean_iou,
            )
        )
    return copies


def _proposed_labels(tasks: Iterable[AnnotationTask]) -> dict[int, dict[int, int]]:
    """For each photo: the model's label by number, of the version its answer started from."""
    by_photo = {
        (task.photo_id, task.accepted.model_version_id): task.pk
        for task in tasks
        if task.accepted is not None and task.accepted.model_version_id is not None
    }
    labels: dict[int, dict[int, int]] = defaultdict(dict)
    rows = Detection.objects.filter(
        photo__in={photo for photo, _version in by_photo},
        model_version__in={version for _photo, version in by_photo},
    ).values_list("photo", "model_version", "number", "label")
    for photo, version, number, label in rows:
        if (photo, version) in by_photo:
            labels[by_photo[photo, version]][number] = label
    return labels


def _successor(before: Annotation, *, by: User, changes: Mapping[str, Any]) -> Annotation:
    return Annotation(
        task_id=before.task_id,
        author=by,
        origin=Annotation.Origin.BULK,
        model_version_id=before.model_version_id,
        is_empty=before.is_empty,
        box_count=before.box_count,
        changes=dict(changes),
        supersedes=before,
    )


def _accept(
    answers: Mapping[int, Annotation],
    boxes: Mapping[int, list[AnnotatedBox]],
    *,
    by: User,
    kind: Review.Kind,
    note: str = "",
) -> uuid.UUID | None:
    """Write the answers with their boxes (keyed by the answer they supersede), and let them count."""
    if not answers:
        return None
    batch = uuid.uuid4()
    before = {pk: answer.supersedes for pk, answer in answers.items()}
    superseded = [answer.pk for answer in before.values() if answer is not None]
    Annotation.objects.filter(pk__in=superseded).update(is_current=False)
    Annotation.objects.bulk_create(answers.values())
    rows: list[AnnotatedBox] = []
    for answer in answers.values():
        for box in boxes[answer.supersedes_id or 0]:
            box.annotation = answer
            rows.append(box)
    AnnotatedBox.objects.bulk_create(rows, batch_size=2_000)
    Review.objects.bulk_create(
        Review(task_id=pk, reviewer=by, kind=kind, before=before[pk], after=answer, batch=batch, note=note)
        for pk, answer in answers.items()
    )
    with connection.cursor() as cursor:
        cursor.execute(_COUNT_FROM_NOW, [list(answers), [answer.pk for answer in answers.values()]])
    for golden in GoldenPhoto.objects.filter(task__in=answers, answer__in=superseded):
        GoldenPhoto.objects.filter(pk=golden.pk).update(answer=answers[golden.task_id])
    for pk, answer in answers.items():
        _tell(pk, answer.pk)
    return batch


def _tell(task_id: int, annotation_id: int) -> None:
    def send() -> None:
        annotation_accepted.send(Annotation, task_id=task_id, annotation_id=annotation_id)

    transaction.on_commit(send)

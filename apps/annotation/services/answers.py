"""Experts' answers: drafts that are kept, and answers that are given once and never altered."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from apps.accounts.models import User
from apps.annotation.answer_rules import (
    CleanBox,
    Frame,
    InvalidAnswerError,
    ModelBox,
    Wrong,
    answer_boxes,
    changes_of,
    draft_boxes,
    emptiness,
)
from apps.annotation.models import AnnotatedBox, Annotation, AnnotationTask, Assignment
from apps.annotation.services.labels import hold_proposals, label_proposals
from apps.annotation.services.leases import LeaseLostError, hold, open_assignment, skip
from apps.annotation.services.settlement import settle
from apps.observations.models import Detection, Label, Photo
from apps.observations.numbering import reading_order
from apps.training.models import ModelVersion

DECIDES: Final = "decides"
"""In a draft: a curator opened it to draw the answer that experts disagree about."""


class SupersededError(Exception):
    """The answer to be corrected, or given for the first time, is not the newest: `current` is, where there is one."""

    def __init__(self, current: Annotation | None) -> None:
        super().__init__("superseded")
        self.current = current


class KeyReusedError(Exception):
    """The key was used for the answer to another photo."""


class DraftConflictError(Exception):
    """Another window has saved another draft meanwhile; it is in `assignment`."""

    def __init__(self, assignment: Assignment) -> None:
        super().__init__("draft conflict")
        self.assignment = assignment


@dataclass(frozen=True, slots=True)
class Answer:
    """As it came: `boxes` has not been looked at yet."""

    boxes: Any
    is_empty: bool
    key: uuid.UUID
    seconds: float = 0.0
    model_version: str | None = None
    supersedes: uuid.UUID | None = None
    base_version: int | None = None
    client: uuid.UUID | None = None


@dataclass(frozen=True, slots=True)
class Submitted:
    annotation: Annotation
    is_new: bool


@transaction.atomic
def submit_answer(*, task: AnnotationTask, expert: User, answer: Answer) -> Submitted:
    """Keep an answer for good; the same key again gives the same annotation.

    Raises `InvalidAnswerError`, `SupersededError`, `KeyReusedError`, `LeaseLostError` or, where a draft is there that the
    sender has not seen, `DraftConflictError`; and then keeps nothing.
    """
    hold_proposals(survey_id=task.survey_id, boxes=answer.boxes)
    task = _locked(task)
    sent_before = Annotation.objects.filter(author=expert, key=answer.key).first()
    if sent_before:
        if sent_before.task_id != task.pk:
            raise KeyReusedError
        return Submitted(sent_before, is_new=False)
    before = _corrected(task, expert, answer.supersedes)
    assignment = take_up(task=task, expert=expert)
    decides = _decides(task, expert, before, assignment)
    if decides:
        before = None  # what they said as one of the experts stays beside the decision
    version, proposals, boxes = _checked(task, answer)
    _require_seen(assignment, answer)
    annotation = Annotation(
        task=task,
        author=expert,
        origin=Annotation.Origin.CURATOR if decides else Annotation.Origin.EXPERT,
        model_version=version,
        is_empty=answer.is_empty,
        box_count=len(boxes),
        seconds_spent=answer.seconds,
        changes=changes_of(proposals, boxes),
        key=answer.key,
        supersedes=before,
    )
    if before:
        Annotation.objects.filter(pk=before.pk).update(is_current=False)
    annotation.save(force_insert=True)
    _keep_boxes(annotation, boxes, proposals)
    Assignment.objects.filter(pk=assignment.pk).update(
        state=Assignment.State.SUBMITTED, closed_at=Now(), draft=None, seconds=answer.seconds
    )
    settle(task=task)
    return Submitted(annotation, is_new=True)


@transaction.atomic
def save_draft(
    *, task: AnnotationTask, expert: User, content: Mapping[str, Any], base_version: int, client: uuid.UUID
) -> Assignment:
    """Keep unfinished work (`boxes`, `is_empty`, `seconds`); the same content again keeps its version.

    Raises `InvalidAnswerError`, `DraftConflictError` or `LeaseLostError`.
    """
    boxes = draft_boxes(content["boxes"])
    if content["is_empty"] and boxes:
        raise InvalidAnswerError(emptiness(boxes=len(boxes), is_empty=True))
    taken = take_up(task=_locked(task), expert=expert)
    assignment = Assignment.objects.select_for_update(of=("self",)).get(pk=taken.pk)
    drawn = {"boxes": boxes, "is_empty": content["is_empty"]}
    kept = assignment.draft and {name: assignment.draft.get(name) for name in drawn}
    if kept and kept != drawn and base_version < assignment.draft_version:
        raise DraftConflictError(assignment)
    if kept != drawn:
        assignment.draft_version += 1
    marks = {DECIDES: True} if assignment.draft and assignment.draft.get(DECIDES) else {}
    assignment.draft = {**drawn, "seconds": content["seconds"], **marks}
    assignment.draft_client, assignment.draft_saved_at = client, Now()
    assignment.seconds = content["seconds"]
    assignment.save(update_fields=["draft", "draft_version", "draft_client", "draft_saved_at", "seconds"])
    return assignment


@transaction.atomic
def take_up(*, task: AnnotationTask, expert: User) -> Assignment:
    """The expert's hold on a photo, extended; raises `LeaseLostError` where they cannot have it.

    Whoever corrects their own answer takes it from nobody. A curator may take a photo that experts disagree about.
    """
    own = Assignment.objects.filter(task=task, expert=expert).first()
    is_answered = own is not None and own.state == Assignment.State.SUBMITTED
    waits = task.state == AnnotationTask.State.WAITING
    if is_answered and not waits and not own_answer(task, expert) and not _may_settle(task, expert):
        raise LeaseLostError(
            task.state
        )  # what they said counts no longer: a review or a decision replaced it
    if not is_answered and _may_settle(task, expert):
        if Assignment.objects.held().filter(task=task).exclude(expert=expert).exists():
            raise LeaseLostError("held")
        return open_assignment(task, expert, "chosen")
    return hold(task, expert)


def pass_on(*, task: AnnotationTask, expert: User, reason: str, note: str) -> None:
    """Skip a photo, also one whose lease ended; one that others took, or that is answered or skipped, is left alone."""
    own = Assignment.objects.filter(task=task, expert=expert).first()
    if own and own.state in (Assignment.State.SUBMITTED, Assignment.State.SKIPPED):
        return
    try:
        with transaction.atomic():
            skip(take_up(task=task, expert=expert), reason, note)
    except LeaseLostError:
        return


def own_answer(task: AnnotationTask, expert: User) -> Annotation | None:
    """The expert's answer that a correction would supersede."""
    answers = Annotation.objects.current().by_experts().filter(task=task, author=expert)
    return answers.select_related("model_version__registered_model").first()


def proposals_of(photo: Photo, version: ModelVersion | None) -> dict[int, ModelBox]:
    """The boxes of a version on a photo by number, the weak ones too."""
    if version is None:
        return {}
    rows = Detection.objects.filter(photo=photo, model_version=version).order_by("number")
    return {
        number: ModelBox(number, label, score, is_weak, (x_min, y_min, x_max, y_max))
        for number, label, score, is_weak, x_min, y_min, x_max, y_max in rows.values_list(
            "number", "label__code", "score", "is_weak", "x_min", "y_min", "x_max", "y_max"
        )
    }


def _locked(task: AnnotationTask) -> AnnotationTask:
    """As it is now; raises `LeaseLostError` for a photo that was deleted meanwhile."""
    tasks = AnnotationTask.objects.select_for_update(of=("self",))
    locked = tasks.select_related("photo__model_version", "survey").filter(pk=task.pk).first()
    if locked is None:
        raise LeaseLostError("not_public")
    return locked


def _corrected(task: AnnotationTask, expert: User, supersedes: uuid.UUID | None) -> Annotation | None:
    """The own current answer, where it is the one that the expert had before their eyes."""
    current = own_answer(task, expert)
    if supersedes is None:
        if current and not _may_settle(task, expert):
            raise SupersededError(current)
        return None
    if current and current.public_id == supersedes:
        return current
    if not Annotation.objects.filter(task=task, author=expert, public_id=supersedes).exists():
        detail = _("This is no answer of yours to this photo.")
        raise InvalidAnswerError([Wrong("supersedes", "unknown_annotation", detail)])
    raise SupersededError(current)


def _require_seen(assignment: Assignment, answer: Answer) -> None:
    """The draft goes with the answer: what another window drew since this one looked is not thrown away unseen."""
    draft = assignment.draft
    if draft is None or answer.base_version is None or assignment.draft_version <= answer.base_version:
        return
    is_same = draft["boxes"] == draft_boxes(answer.boxes) and draft["is_empty"] == answer.is_empty
    if assignment.draft_client != answer.client and not is_same:
        raise DraftConflictError(assignment)


def _may_settle(task: AnnotationTask, expert: User) -> bool:
    return task.state == AnnotationTask.State.CONFLICT and expert.has_perm("annotation.add_review")


def _decides(task: AnnotationTask, expert: User, before: Annotation | None, assignment: Assignment) -> bool:
    """A curator who draws the answer to a photo that experts disagree about is not one more expert, nor do they correct
    what they themselves said as one of these experts.
    """
    if not _may_settle(task, expert):
        return False
    return before is None or bool(assignment.draft and assignment.draft.get(DECIDES))


def _checked(
    task: AnnotationTask, answer: Answer
) -> tuple[ModelVersion | None, dict[int, ModelBox], list[CleanBox]]:
    """The version it started from, that version's boxes, and the answer's own; all that is wrong is told at once."""
    wrongs: list[Wrong] = []
    left_out = 0
    version = _version(task.photo, answer.model_version)
    proposals = proposals_of(task.photo, version)
    labels = dict(Label.objects.filter(survey=task.survey_id).values_list("code", "is_active"))
    is_known = version is not None or answer.model_version is None
    if not is_known:
        detail = _("This version of the model has not looked at this photo.")
        wrongs.append(Wrong("model_version", "unknown_version", detail))
    frame = Frame(task.photo.width_px, task.photo.height_px, labels, proposals.keys() if is_known else None)
    boxes: list[CleanBox] = []
    try:
        boxes = answer_boxes(answer.boxes, frame)
    except InvalidAnswerError as error:
        wrongs += error.wrongs
        left_out = error.left_out
    if isinstance(answer.boxes, list):
        wrongs += emptiness(boxes=len(answer.boxes), is_empty=answer.is_empty)
    if wrongs:
        raise InvalidAnswerError(wrongs, left_out=left_out)
    return version, proposals, boxes


def _version(photo: Photo, name: str | None) -> ModelVersion | None:
    """The version that the expert started from, among those that have looked at the photo."""
    if name is None:
        return None
    looked = Detection.objects.filter(photo=photo).values("model_version")
    versions = ModelVersion.objects.select_related("registered_model")
    found = versions.filter(Q(pk__in=looked) | Q(pk=photo.model_version_id))
    return next((version for version in found if str(version) == name), None)


def _keep_boxes(annotation: Annotation, boxes: list[CleanBox], proposals: Mapping[int, ModelBox]) -> None:
    """One insert; numbered as a text is read. A name proposed and accepted before is that label now."""
    survey = annotation.task.survey
    labels = {label.code: label for label in Label.objects.filter(survey=survey, is_active=True)}
    names = {box.proposed_label for box in boxes if box.proposed_label}
    proposed = label_proposals(survey=survey, names=names, by=annotation.author)
    corners = np.array([box.corners for box in boxes], np.float32).reshape(-1, 4)
    rows = []
    for number, index in enumerate(reading_order(corners), start=1):
        box = boxes[index]
        wanted = proposed.get(box.proposed_label)
        accepted = wanted.label if wanted and wanted.label and wanted.label.is_active else None
        rows.append(
            AnnotatedBox(
                annotation=annotation,
                number=number,
                label=accepted or labels[box.label],
                x_min=box.x_min,
                y_min=box.y_min,
                x_max=box.x_max,
                y_max=box.y_max,
                proposal_number=box.proposal,
                proposal_score=proposals[box.proposal].score if box.proposal is not None else None,
                note=box.note,
                is_uncertain=box.is_uncertain,
                label_proposal=None if accepted else wanted,
            )
        )
    AnnotatedBox.objects.bulk_create(rows)

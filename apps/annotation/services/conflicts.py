"""Disagreements of experts, settled by a curator: by taking one version, difference by difference, or by drawing."""

import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import asdict
from typing import Final

from django.db import transaction
from django.db.models.functions import Now

from apps.accounts.models import User
from apps.annotation.agreement.consensus import Animal, Consensus, Verdict
from apps.annotation.answer_rules import CleanBox
from apps.annotation.models import Annotation, AnnotationTask, Assignment, Review
from apps.annotation.services.answer_sets import AnswerSet, PieceBox, answers_to
from apps.annotation.services.answers import DECIDES, take_up
from apps.annotation.services.comparisons import write_comparisons
from apps.annotation.services.policies import policy_of
from apps.annotation.services.settlement import accept

NOT_THERE: Final = "none"
"""The choice "there is no animal here"."""


class AlreadySettledError(Exception):
    """The photo is no disagreement any more. `review` is the decision, where a person made it."""

    def __init__(self, review: Review | None) -> None:
        super().__init__("already settled")
        self.review = review


class AnswersChangedError(Exception):
    """An expert has corrected their answer since the curator opened the page."""


class UndecidedError(Exception):
    """Differences without a choice, or with one that is not offered; `rows` counts animals from 0."""

    def __init__(self, rows: list[int]) -> None:
        super().__init__(f"{len(rows)} undecided")
        self.rows = rows


def answer_set(task: AnnotationTask) -> AnswerSet:
    """What the experts say now."""
    return AnswerSet.of(task, list(answers_to(task)), min_iou=policy_of(task.survey_id).consensus_iou)


def seen_mark(given: AnswerSet) -> str:
    """Says which answers a curator had before their eyes."""
    ids = "".join(str(answer.public_id) for answer in given.answers)
    return hashlib.sha256(ids.encode()).hexdigest()[:16]


def rows_to_decide(consensus: Consensus) -> list[tuple[int, Animal]]:
    """Animals on which the experts' majority does not settle the matter, and those that only a minority drew."""
    return [
        (index, animal) for index, animal in enumerate(consensus.animals) if animal.verdict != Verdict.AGREED
    ]


@transaction.atomic
def take_version(
    *, task: AnnotationTask, by: User, answer: uuid.UUID, seen: str, note: str = ""
) -> Annotation:
    """One expert's answer, as it is, becomes the curator's. Raises `AlreadySettledError` or `AnswersChangedError`."""
    given = _locked(task, seen)
    index = _position(given, answer)
    chosen = given.answers[index]
    decision = given.write(
        given.pieces_of(index),
        origin=Annotation.Origin.CURATOR,
        version_id=chosen.model_version_id,
        author=by,
    )
    return _decide(given, decision, by=by, before=chosen, note=note)


@transaction.atomic
def settle_rows(
    *, task: AnnotationTask, by: User, choices: Mapping[int, str], seen: str, note: str = ""
) -> Annotation:
    """What is agreed is kept, and each difference is as the curator chose: a label code that an expert gave it, or
    `NOT_THERE`. Raises `AlreadySettledError`, `AnswersChangedError` or `UndecidedError`.
    """
    given = _locked(task, seen)
    wanted = rows_to_decide(given.consensus)
    undecided = [index for index, animal in wanted if choices.get(index) not in (*animal.votes, NOT_THERE)]
    if undecided:
        raise UndecidedError(undecided)
    pieces = [given.piece(animal) for animal in given.consensus.agreed]
    pieces += [given.piece(animal, choices[index]) for index, animal in wanted if choices[index] != NOT_THERE]
    decision = given.write(pieces, origin=Annotation.Origin.CURATOR, version_id=given.version_id, author=by)
    return _decide(given, decision, by=by, before=None, note=note)


@transaction.atomic
def begin_drawing(
    *, task: AnnotationTask, by: User, seen: str, answer: uuid.UUID | None = None
) -> Assignment:
    """Open the photo for the curator with a draft of one version, or of what most experts drew.

    A draft that they have already is left as it is. Raises `AlreadySettledError`, `AnswersChangedError`, or
    `LeaseLostError` while another curator draws.
    """
    given = _locked(task, seen)
    assignment = take_up(task=given.task, expert=by)
    if assignment.draft is not None:
        # Their own answer may be one of those that differ: the draft says that this is the decision, no correction.
        Assignment.objects.filter(pk=assignment.pk).update(draft=assignment.draft | {DECIDES: True})
        assignment.refresh_from_db()
        return assignment
    if answer is None:
        animals = given.consensus.agreed + given.consensus.disputed
        pieces = [given.piece(animal) for animal in animals]
        version = given.version_id
    else:
        index = _position(given, answer)
        pieces, version = given.pieces_of(index), given.answers[index].model_version_id
    boxes = [asdict(_draft_box(piece)) for piece in pieces]
    Assignment.objects.filter(pk=assignment.pk).update(
        draft={"boxes": boxes, "is_empty": False, "seconds": 0.0, DECIDES: True},
        draft_version=assignment.draft_version + 1,
        draft_client=uuid.uuid4(),
        draft_saved_at=Now(),
        model_version=version or assignment.model_version_id,
    )
    assignment.refresh_from_db()
    return assignment


def last_decision(task: AnnotationTask) -> Review | None:
    decisions = Review.objects.filter(task=task, kind=Review.Kind.SETTLED).select_related("reviewer", "after")
    return decisions.order_by("pk").last()


def _locked(task: AnnotationTask, seen: str) -> AnswerSet:
    tasks = AnnotationTask.objects.select_for_update(of=("self",)).select_related("accepted", "photo")
    locked = tasks.get(pk=task.pk)
    if locked.state != AnnotationTask.State.CONFLICT:
        raise AlreadySettledError(last_decision(locked))
    given = answer_set(locked)
    if seen_mark(given) != seen:
        raise AnswersChangedError
    return given


def _position(given: AnswerSet, answer: uuid.UUID) -> int:
    for index, each in enumerate(given.answers):
        if each.public_id == answer:
            return index
    raise AnswersChangedError


def _decide(
    given: AnswerSet, decision: Annotation, *, by: User, before: Annotation | None, note: str
) -> Annotation:
    Review.objects.create(
        task=given.task,
        reviewer=by,
        kind=Review.Kind.SETTLED,
        before=before,
        after=decision,
        note=note.strip()[:500],
    )
    accept(given.task, decision)
    write_comparisons(given)
    return decision


def _draft_box(piece: PieceBox) -> CleanBox:
    return CleanBox(
        *piece.corners,
        label=piece.label_code,
        proposal=piece.proposal,
        note=piece.note,
        is_uncertain=piece.is_uncertain,
    )

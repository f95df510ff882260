"""The experts' answers to one photo side by side, and one answer made of them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

import numpy as np
from django.db.models import Exists, OuterRef, QuerySet

from apps.accounts.models import User
from apps.annotation.agreement.boxes import Corners, LabelledBoxes
from apps.annotation.agreement.consensus import Animal, Consensus, Member, find_consensus
from apps.annotation.answer_rules import CleanBox, ModelBox, changes_of
from apps.annotation.models import AnnotatedBox, Annotation, AnnotationTask, Assignment
from apps.observations.models import Detection
from apps.observations.numbering import reading_order

_NOTE_MAX = 500


def answers_to(task: AnnotationTask) -> QuerySet[Annotation]:
    """What experts say of a photo, one current answer of each, the first one first.

    Answers to a photo whose answer was known say something of the expert, and nothing of the photo.
    """
    tried = Assignment.objects.filter(task=OuterRef("task"), expert=OuterRef("author"), given_as="golden")
    answers = Annotation.objects.current().by_experts().filter(~Exists(tried), task=task)
    # Whoever closed their account has no assignment any more.
    answers = answers.filter(golden_result=None, supersedes__golden_result=None)
    return answers.order_by("pk")


@dataclass(slots=True)
class PieceBox:
    """A box of an answer that is put together of others."""

    corners: Corners
    label_id: int
    label_code: str
    proposal: int | None = None
    proposal_score: float | None = None
    note: str = ""
    is_uncertain: bool = False
    label_proposal_id: int | None = None
    votes: dict[str, int] = field(default_factory=dict)
    agreement: float | None = None
    mean_iou: float | None = None


@dataclass(frozen=True)
class AnswerSet:
    """`boxes` has each answer's boxes by number, in the order of `answers`."""

    task: AnnotationTask
    answers: Sequence[Annotation]
    boxes: Sequence[Sequence[AnnotatedBox]]
    min_iou: float

    @classmethod
    def of(cls, task: AnnotationTask, answers: Sequence[Annotation], *, min_iou: float) -> Self:
        boxes = boxes_of(answer.pk for answer in answers)
        return cls(task, answers, [boxes.get(answer.pk, []) for answer in answers], min_iou)

    @cached_property
    def labelled(self) -> list[LabelledBoxes]:
        return [labelled(boxes) for boxes in self.boxes]

    @cached_property
    def consensus(self) -> Consensus:
        return find_consensus(self.labelled, min_iou=self.min_iou)

    @cached_property
    def version_id(self) -> int | None:
        """The model version that all of them started from; None where they did not start from the same."""
        versions = {answer.model_version_id for answer in self.answers}
        return versions.pop() if len(versions) == 1 else None

    @cached_property
    def proposals(self) -> dict[int, dict[int, ModelBox]]:
        """Boxes by number of each version that one of them started from."""
        versions = {answer.model_version_id for answer in self.answers if answer.model_version_id}
        return model_boxes(self.task.photo_id, versions)

    def box(self, member: Member) -> AnnotatedBox:
        return self.boxes[member.answer][member.box]

    def animal_of(self) -> dict[Member, Animal]:
        return {member: animal for animal in self.consensus.animals for member in animal.members}

    def piece(self, animal: Animal, label: str | None = None) -> PieceBox:
        """The animal with its consensus box, under the commonest label or the given one of those it was given."""
        code = label or animal.label
        members = [self.box(member) for member in animal.members]
        named = [box for box in members if box.label.code == code]
        proposal, score = _common_proposal(members) if self.version_id else (None, None)
        return PieceBox(
            corners=animal.box,
            label_id=named[0].label_id,
            label_code=code,
            proposal=proposal,
            proposal_score=score,
            note=_joined(box.note for box in members),
            is_uncertain=any(box.is_uncertain for box in members),
            label_proposal_id=next((box.label_proposal_id for box in named if box.label_proposal_id), None),
            votes=animal.votes,
            agreement=animal.votes[code] / len(self.answers),
            mean_iou=animal.mean_iou,
        )

    def pieces_of(self, answer: int) -> list[PieceBox]:
        """One expert's boxes as they are, with what the others say of the same animals."""
        animals = self.animal_of()
        pieces = []
        for index, box in enumerate(self.boxes[answer]):
            animal = animals[Member(answer, index)]
            pieces.append(
                PieceBox(
                    corners=corners_of(box),
                    label_id=box.label_id,
                    label_code=box.label.code,
                    proposal=box.proposal_number,
                    proposal_score=box.proposal_score,
                    note=box.note,
                    is_uncertain=box.is_uncertain,
                    label_proposal_id=box.label_proposal_id,
                    votes=animal.votes,
                    agreement=animal.votes[box.label.code] / len(self.answers),
                    mean_iou=animal.mean_iou,
                )
            )
        return pieces

    def write(
        self,
        pieces: list[PieceBox],
        *,
        origin: Annotation.Origin,
        version_id: int | None,
        author: User | None = None,
        supersedes: Annotation | None = None,
    ) -> Annotation:
        """Keep an answer made of pieces; without any it confirms that the photo is empty."""
        _use_proposals_once(pieces)
        proposals = self.proposals.get(version_id, {}) if version_id else {}
        clean = [CleanBox(*piece.corners, piece.label_code, piece.proposal) for piece in pieces]
        made_of = [str(answer.public_id) for answer in self.answers]
        answer = Annotation.objects.create(
            task=self.task,
            author=author,
            origin=origin,
            model_version_id=version_id,
            is_empty=not pieces,
            box_count=len(pieces),
            changes={**changes_of(proposals, clean), "answers": made_of},
            supersedes=supersedes,
        )
        AnnotatedBox.objects.bulk_create(_rows(answer, pieces))
        return answer


def boxes_of(answer_ids: Iterable[int]) -> dict[int, list[AnnotatedBox]]:
    """Boxes by answer, in the order of their numbers."""
    found: dict[int, list[AnnotatedBox]] = {}
    rows = AnnotatedBox.objects.filter(annotation__in=list(answer_ids)).select_related("label").defer("box")
    for box in rows.order_by("number"):
        found.setdefault(box.annotation_id, []).append(box)
    return found


def model_boxes(photo_id: int, versions: Iterable[int]) -> dict[int, dict[int, ModelBox]]:
    """Boxes of these versions on a photo by number, the weak ones too."""
    wanted = list(versions)
    found: dict[int, dict[int, ModelBox]] = {version: {} for version in wanted}
    if not wanted:
        return found
    rows = Detection.objects.filter(photo=photo_id, model_version__in=wanted).order_by("number")
    fields = ("number", "label__code", "score", "is_weak", "x_min", "y_min", "x_max", "y_max")
    for version, number, label, score, is_weak, *corners in rows.values_list("model_version", *fields):
        found[version][number] = ModelBox(number, label, score, is_weak, tuple(corners))
    return found


def labelled(boxes: Iterable[AnnotatedBox]) -> LabelledBoxes:
    rows = list(boxes)
    return LabelledBoxes.of([corners_of(box) for box in rows], [box.label.code for box in rows])


def shown(proposals: Mapping[int, ModelBox]) -> LabelledBoxes:
    """What the model itself says: the boxes that everybody sees."""
    rows = [box for box in proposals.values() if not box.is_weak]
    return LabelledBoxes.of([box.corners for box in rows], [box.label for box in rows])


def corners_of(box: AnnotatedBox) -> Corners:
    return box.x_min, box.y_min, box.x_max, box.y_max


def _rows(answer: Annotation, pieces: list[PieceBox]) -> list[AnnotatedBox]:
    corners = np.array([piece.corners for piece in pieces], np.float32).reshape(-1, 4)
    rows = []
    for number, index in enumerate(reading_order(corners), start=1):
        piece = pieces[index]
        x_min, y_min, x_max, y_max = piece.corners
        fields: dict[str, Any] = {
            "label_id": piece.label_id,
            "proposal_number": piece.proposal,
            "proposal_score": piece.proposal_score,
            "note": piece.note,
            "is_uncertain": piece.is_uncertain,
            "label_proposal_id": piece.label_proposal_id,
            "votes": piece.votes,
            "agreement": piece.agreement,
            "mean_iou": piece.mean_iou,
        }
        rows.append(
            AnnotatedBox(
                annotation=answer,
                number=number,
                x_min=x_min,
                y_min=y_min,
                x_max=x_max,
                y_max=y_max,
                **fields,
            )
        )
    return rows


def _common_proposal(members: list[AnnotatedBox]) -> tuple[int | None, float | None]:
    """The model's box that most of them began as; of equally many the one with the lower number."""
    counts = Counter(box.proposal_number for box in members if box.proposal_number is not None)
    if not counts:
        return None, None
    number = min(counts, key=lambda proposal: (-counts[proposal], proposal))
    return number, next(box.proposal_score for box in members if box.proposal_number == number)


def _use_proposals_once(pieces: list[PieceBox]) -> None:
    """Two animals cannot both have begun as one box of the model: it stays with the better agreed one."""
    taken: set[int] = set()
    for piece in sorted(pieces, key=lambda piece: (-(piece.agreement or 0), piece.corners)):
        if piece.proposal is None:
            continue
        if piece.proposal in taken:
            piece.proposal = piece.proposal_score = None
        else:
            taken.add(piece.proposal)


def _joined(notes: Iterable[str]) -> str:
    return " / ".join(dict.fromkeys(note for note in notes if note))[:_NOTE_MAX]

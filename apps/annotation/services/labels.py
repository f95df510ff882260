"""Labels that experts miss: proposed with a box, made a label or refused by a curator."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.db.models import Value
from django.db.models.functions import Lower, Now

from apps.accounts.models import User
from apps.annotation.models import AnnotatedBox, Annotation, AnnotationTask, LabelProposal
from apps.annotation.services import bulk
from apps.observations.models import Detection, Label, Survey


class ProposalDecidedError(Exception):
    """Somebody has decided before."""


class CodeTakenError(Exception):
    """The survey has a label of this code already."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """`left_alone` counts boxes of photos that are private now: their answers keep the nearest label."""

    label: Label
    boxes: int
    left_alone: int


def label_proposals(*, survey: Survey, names: Collection[str], by: User | None) -> dict[str, LabelProposal]:
    """The proposals of these names, made where they are new; written in whatever case, a name is proposed once."""
    return {name: _known(survey, name) or _propose(survey, name, by) for name in sorted(names)}


def hold_proposals(*, survey_id: int, boxes: Any) -> None:
    """Keep the pending proposals that unread boxes name from being decided until the transaction ends.

    Always before a photo is locked, as deciding does it: an answer never slips through with a name that became a label
    meanwhile, and neither waits for the other for ever.
    """
    items = boxes if isinstance(boxes, list) else []
    texts = (item.get("proposed_label") for item in items if isinstance(item, dict))
    names = {" ".join(text.split()).lower() for text in texts if isinstance(text, str) and text.strip()}
    if names:
        pending = LabelProposal.objects.filter(survey=survey_id, status=LabelProposal.Status.PENDING)
        named = pending.annotate(folded=Lower("name")).filter(folded__in=names).order_by("pk")
        list(named.select_for_update(of=("self",), no_key=True).values_list("pk", flat=True))


@transaction.atomic
def accept_proposal(
    *, proposal: LabelProposal, by: User, existing: Label | None = None, **fields: Any
) -> Accepted:
    """Make it a label (`code`, `scientific_name` …), or say which `existing` one it is, and give it to its boxes.

    Answers are not altered: those that carry the proposal are superseded by ones that carry the label. Raises
    `ProposalDecidedError` and `CodeTakenError`.
    """
    locked = _undecided(proposal)
    label = existing or _new_label(locked.survey, fields)
    locked.status, locked.label = LabelProposal.Status.ACCEPTED, label
    locked.decided_by, locked.decided_at = by, Now()
    locked.save(update_fields=["status", "label", "decided_by", "decided_at"])
    counted, left_alone = _relabel_counting(locked, label, by)
    return Accepted(label, counted + _relabel_others(locked, label), left_alone)


@transaction.atomic
def refuse_proposal(*, proposal: LabelProposal, by: User) -> None:
    """The boxes keep the label they have. Raises `ProposalDecidedError`."""
    locked = _undecided(proposal)
    locked.status = LabelProposal.Status.REFUSED
    locked.decided_by, locked.decided_at = by, Now()
    locked.save(update_fields=["status", "decided_by", "decided_at"])


def _known(survey: Survey, name: str) -> LabelProposal | None:
    proposals = LabelProposal.objects.select_related("label").filter(survey=survey)
    return proposals.annotate(folded=Lower("name")).filter(folded=Lower(Value(name))).first()


def _propose(survey: Survey, name: str, by: User | None) -> LabelProposal:
    """Somebody else may propose the same at this moment: then it is theirs."""
    LabelProposal.objects.bulk_create(
        [LabelProposal(survey=survey, name=name, proposed_by=by)], ignore_conflicts=True
    )
    proposal = _known(survey, name)
    assert proposal is not None
    return proposal


def _undecided(proposal: LabelProposal) -> LabelProposal:
    # Not the key: answers that name the proposal meanwhile must not wait for us while we wait for their photo.
    rows = LabelProposal.objects.select_for_update(of=("self",), no_key=True)
    locked = rows.select_related("survey").get(pk=proposal.pk)
    if locked.status != LabelProposal.Status.PENDING:
        raise ProposalDecidedError
    return locked


def _new_label(survey: Survey, fields: dict[str, Any]) -> Label:
    label, is_new = Label.objects.get_or_create(survey=survey, code=fields.pop("code"), defaults=fields)
    if not is_new:
        raise CodeTakenError
    return label


def _relabel_counting(proposal: LabelProposal, label: Label, by: User) -> tuple[int, int]:
    """Answers that count: as a review of crops does it, so that a curator can look at it there and undo it."""
    boxes = AnnotatedBox.objects.filter(label_proposal=proposal, annotation__accepted_for__isnull=False)
    refs = list(boxes.order_by("annotation", "number").values_list("annotation__public_id", "number"))
    done = left_alone = 0
    for start in range(0, len(refs), bulk.MAX_BOXES):
        some = refs[start : start + bulk.MAX_BOXES]
        result = bulk.relabel_boxes(survey=proposal.survey, by=by, boxes=some, code=label.code)
        done, left_alone = done + result.boxes, left_alone + result.left_alone
    return done, left_alone


def _relabel_others(proposal: LabelProposal, label: Label) -> int:
    """Answers that wait for others', or that others contradict: the same expert's, once more, with the label."""
    from apps.annotation.services.settlement import settle

    boxes = AnnotatedBox.objects.filter(
        label_proposal=proposal, annotation__is_current=True, annotation__accepted_for__isnull=True
    )
    answers = Annotation.objects.filter(pk__in=boxes.values("annotation"), golden_result__isnull=True)
    tasks = AnnotationTask.objects.filter(pk__in=answers.values("task"))
    locked = {task.pk: task for task in tasks.select_for_update(of=("self",)).order_by("pk")}
    done = 0
    for answer in answers.filter(task__in=locked, is_current=True).select_related("task").order_by("pk"):
        done += _answer_anew(answer, proposal, label)
    for task in locked.values():
        settle(task=task)
    return done


def _answer_anew(before: Annotation, proposal: LabelProposal, label: Label) -> int:
    rows = list(before.boxes.defer("box").order_by("number"))
    changed = [row for row in rows if row.label_proposal_id == proposal.pk]
    for row in changed:
        row.label, row.label_proposal = label, None
    after = Annotation(
        task=before.task,
        author=before.author,
        origin=before.origin,
        model_version=before.model_version,
        is_empty=before.is_empty,
        box_count=before.box_count,
        seconds_spent=before.seconds_spent,
        changes=bulk.changes_after(before.changes, rows, _model_labels(before)),
        supersedes=before,
    )
    Annotation.objects.filter(pk=before.pk).update(is_current=False)
    after.save(force_insert=True)
    AnnotatedBox.objects.bulk_create(_owned(rows, after))
    return len(changed)


def _owned(rows: Iterable[AnnotatedBox], answer: Annotation) -> list[AnnotatedBox]:
    return [
        AnnotatedBox(
            annotation=answer,
            number=row.number,
            label_id=row.label_id,
            x_min=row.x_min,
            y_min=row.y_min,
            x_max=row.x_max,
            y_max=row.y_max,
            proposal_number=row.proposal_number,
            proposal_score=row.proposal_score,
            note=row.note,
            is_uncertain=row.is_uncertain,
            label_proposal_id=row.label_proposal_id,
        )
        for row in rows
    ]


def _model_labels(answer: Annotation) -> dict[int, int]:
    """The model's label by number, of the version the answer started from."""
    rows = Detection.objects.filter(photo=answer.task.photo_id, model_version=answer.model_version_id)
    return dict(rows.values_list("number", "label"))

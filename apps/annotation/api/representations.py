"""A photo in the queue as the drawing page gets it (the schema is in `outputs`), with a fixed number of queries."""

from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime
from heapq import nlargest
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
from django.db.models import DurationField, ExpressionWrapper, F
from django.db.models.functions import Now
from django.urls import reverse
from django.utils.formats import number_format
from django.utils.translation import gettext as _

from apps.accounts.models import User
from apps.annotation.active_learning.strategies import least_margin, top_two
from apps.annotation.models import (
    AnnotatedBox,
    Annotation,
    AnnotationPolicy,
    AnnotationTask,
    Arm,
    Assignment,
)
from apps.annotation.services.answers import own_answer
from apps.annotation.services.progress import progress_of
from apps.observations.api.representations import moment
from apps.observations.models import Comment, Detection, Label, Photo, Survey
from apps.observations.renditions import DISPLAY_SIDE_PX
from apps.observations.services.geoprivacy import is_exact_for
from apps.observations.services.tiles import tiles_of
from apps.training.models import ModelVersion

_BEST = 3
_RECENT_ANSWERS, _RECENT_LABELS = 20, 9
_MAX_COMMENTS = 100
_WHY_DECIMALS = 4


def task_body(task: AnnotationTask, *, expert: User) -> dict[str, Any]:
    """Everything to draw with. `task` comes from `reachable_tasks`."""
    assignment = _assignment(task, expert)
    answer = own_answer(task, expert)
    version = _version(task, assignment, answer)
    boxes = _model_boxes(task.photo, version)
    policy = AnnotationPolicy.objects.filter(survey=task.survey).first() or AnnotationPolicy(
        survey=task.survey
    )
    return {
        "id": str(task.public_id),
        "survey": task.survey.slug,
        "state": _state(task, assignment, answer),
        "photo": _photo(task.photo, expert),
        "labels": _labels(task.survey),
        "recent_labels": _recent_labels(task.survey, expert),
        "proposals": [_proposal(box, version) for box in boxes],
        "model_version": str(version) if version else None,
        "draft": draft_body(assignment) if assignment else None,
        "my_annotation": _annotation(answer) if answer else None,
        "lease": lease_body(assignment, policy=policy, is_correcting=answer is not None),
        "why": _why(task, boxes, version, policy),
        "comments": _comments(task.photo),
        "progress": progress_body(expert, task.survey),
    }


def draft_body(assignment: Assignment) -> dict[str, Any] | None:
    draft = assignment.draft
    if draft is None:
        return None
    return {
        "version": assignment.draft_version,
        "boxes": draft["boxes"],
        "is_empty": draft["is_empty"],
        "seconds": draft["seconds"],
        "saved_at": moment(assignment.draft_saved_at),
        "client": str(assignment.draft_client) if assignment.draft_client else None,
    }


def lease_body(
    assignment: Assignment | None, *, policy: AnnotationPolicy, is_correcting: bool = False
) -> dict[str, Any]:
    """How long the photo is the expert's, by the database's clock.

    A correction has no end: nobody else can be given that answer. It looks like a fresh lease, so that pages need no
    second rule.
    """
    if assignment is not None and assignment.state == Assignment.State.OPEN:
        until, seconds = _until(assignment)
    elif is_correcting:
        full = policy.lease_minutes * 60.0
        until, seconds = None, full
    else:
        until, seconds = None, 0.0
    left = max(0.0, seconds)
    return {"until": moment(until), "seconds_left": round(left, 1), "is_mine": left > 0}


def progress_body(expert: User, survey: Survey) -> dict[str, Any]:
    return asdict(progress_of(expert=expert, survey=survey))


def _until(assignment: Assignment) -> tuple[datetime | None, float]:
    left = ExpressionWrapper(F("lease_until") - Now(), output_field=DurationField())
    row = (
        Assignment.objects.filter(pk=assignment.pk)
        .annotate(left=left)
        .values_list("lease_until", "left")
        .first()
    )
    return (row[0], row[1].total_seconds()) if row and row[0] else (None, 0.0)


def _assignment(task: AnnotationTask, expert: User) -> Assignment | None:
    mine = Assignment.objects.filter(task=task, expert=expert)
    return mine.select_related("model_version__registered_model").first()


def _state(task: AnnotationTask, assignment: Assignment | None, answer: Annotation | None) -> str:
    """A photo whose answer is known already looks like any other to the expert who is tried with it."""
    if answer is None and assignment is not None and assignment.state != Assignment.State.SUBMITTED:
        waits = AnnotationTask.State.WAITING
        return waits if assignment.given_as == "golden" or task.state == waits else task.state
    return task.state


def _version(
    task: AnnotationTask, assignment: Assignment | None, answer: Annotation | None
) -> ModelVersion | None:
    """A promotion meanwhile must not exchange the boxes under the hands of whoever works on them."""
    is_begun = assignment is not None and (
        assignment.state == Assignment.State.OPEN or assignment.draft is not None
    )
    if assignment is not None and is_begun and assignment.model_version_id:
        return assignment.model_version
    if answer is not None and answer.model_version_id:
        return answer.model_version
    return task.photo.model_version


def _photo(photo: Photo, expert: User) -> dict[str, Any]:
    factor = min(1.0, DISPLAY_SIDE_PX / max(photo.width_px, photo.height_px))
    is_owner = is_exact_for(photo.observation, expert)
    return {
        "id": str(photo.public_id),
        # File names are their senders': they may say where or who.
        "name": photo.name if is_owner else _("Photo %(id)s") % {"id": str(photo.public_id)[:8]},
        "width": photo.width_px,
        "height": photo.height_px,
        "display": reverse("observations:display", args=[photo.public_id]),
        "display_width": max(1, round(photo.width_px * factor)),
        "display_height": max(1, round(photo.height_px * factor)),
        "thumbnail": reverse("observations:thumbnail", args=[photo.public_id]),
        "tiles": tiles_of(photo),
    }


def _labels(survey: Survey) -> list[dict[str, Any]]:
    return [
        {
            "code": label.code,
            "name": label.name,
            "vernacular": label.vernacular,
            "colour": label.colour,
            "rank": label.rank,
        }
        for label in Label.objects.filter(survey=survey, is_active=True).order_by("position", "code")
    ]


def _recent_labels(survey: Survey, expert: User) -> list[str]:
    """Those the expert used last, the last one first."""
    newest = Annotation.objects.by_experts().filter(author=expert, task__survey=survey).order_by("-pk")
    used = AnnotatedBox.objects.filter(
        annotation__in=list(newest.values_list("pk", flat=True)[:_RECENT_ANSWERS]), label__is_active=True
    )
    codes = used.order_by("-annotation", "-number").values_list("label__code", flat=True)
    return list(dict.fromkeys(codes))[:_RECENT_LABELS]


class _ModelBox(NamedTuple):
    """One of the model's boxes as the database gives it: rows of a whole plate cost more as objects."""

    number: int
    label: str
    score: float
    is_weak: bool
    class_scores: list[float]
    x_min: float
    y_min: float
    x_max: float
    y_max: float


def _model_boxes(photo: Photo, version: ModelVersion | None) -> list[_ModelBox]:
    if version is None:
        return []
    codes = dict(Label.objects.filter(survey=photo.survey_id).values_list("pk", "code"))
    found = Detection.objects.filter(photo=photo, model_version=version).order_by("number")
    columns = ("number", "label_id", "score", "is_weak", "class_scores", "x_min", "y_min", "x_max", "y_max")
    return [_ModelBox(row[0], codes[row[1]], *row[2:]) for row in found.values_list(*columns)]


def _proposal(box: _ModelBox, version: ModelVersion | None) -> dict[str, Any]:
    return {
        "number": box.number,
        "label": box.label,
        "score": box.score,
        "best": _best(box, version.labels if version else []),
        "box": {"x_min": box.x_min, "y_min": box.y_min, "x_max": box.x_max, "y_max": box.y_max},
        "is_weak": box.is_weak,
    }


def _best(box: _ModelBox, labels: Iterable[str]) -> list[list[Any]]:
    """The likeliest labels; the first is the box's own, in the survey's code for it."""
    ranked = nlargest(_BEST, zip(box.class_scores, labels, strict=False), key=itemgetter(0))
    others = [[code, round(score, _WHY_DECIMALS)] for score, code in ranked[1:]]
    return [[box.label, round(box.score, _WHY_DECIMALS)], *others]


def _annotation(answer: Annotation) -> dict[str, Any]:
    boxes = answer.boxes.select_related("label", "label_proposal").defer("box").order_by("number")
    return {
        "id": str(answer.public_id),
        "boxes": [
            {
                "x_min": box.x_min,
                "y_min": box.y_min,
                "x_max": box.x_max,
                "y_max": box.y_max,
                "label": box.label.code,
                "proposal": box.proposal_number,
                "note": box.note,
                "is_uncertain": box.is_uncertain,
                "proposed_label": box.label_proposal.name if box.label_proposal else "",
            }
            for box in boxes
        ],
        "is_empty": answer.is_empty,
        "created_at": moment(answer.created_at),
    }


def _comments(photo: Photo) -> list[dict[str, Any]]:
    comments = Comment.objects.filter(photo=photo).select_related("author").order_by("created_at", "pk")
    return [
        {
            "author": str(comment.author),
            "body": comment.body,
            "box_number": comment.box_number,
            "created_at": moment(comment.created_at),
        }
        for comment in comments[:_MAX_COMMENTS]
    ]


# --- Why this photo ---------------------------------------------------------------------------------------


def _why(
    task: AnnotationTask, boxes: list[_ModelBox], version: ModelVersion | None, policy: AnnotationPolicy
) -> dict[str, Any]:
    shown = [box for box in boxes if not box.is_weak]
    return {
        "arm": task.arm,
        "strategy": policy.strategy,
        "score": round(task.score, _WHY_DECIMALS),
        "aggregate_text": _aggregate_text(task, policy, len(shown)),
        "boxes": _margins(shown, len(version.labels) if version else 0),
        "model_version": str(version) if version else None,
        "rank_before": task.rank_before,
        "rank_after": task.rank_after,
        "comments": task.commented_boxes,
    }


def _margins(shown: list[_ModelBox], labels: int) -> list[dict[str, Any]]:
    """Most uncertain first; a box whose scores are not those of all labels has no margin."""
    whole = [box for box in shown if labels and len(box.class_scores) == labels]
    if not whole:
        return []
    p1, p2 = top_two(np.array([box.class_scores for box in whole]))
    columns = [np.round(values, _WHY_DECIMALS).tolist() for values in (p1, p2, p1 - p2, least_margin(p1, p2))]
    rows = [
        {"number": box.number, "p1": a, "p2": b, "margin": margin, "u": u}
        for box, a, b, margin, u in zip(whole, *columns, strict=True)
    ]
    return sorted(rows, key=lambda row: (-row["u"], row["number"]))


def _aggregate_text(task: AnnotationTask, policy: AnnotationPolicy, count: int) -> str:
    """One sentence for people, with the number it ends in."""
    if task.arm == Arm.CONTROL:
        return _("Drawn at random, whatever the model thinks: it measures whether the order helps.")
    names = {
        "value": number_format(task.uncertainty, 2),
        "n": count,
        "k": min(policy.top_k, count),
        "low": number_format(policy.doubtful_below, 2),
    }
    if not count:
        return _("The model found no animal: queued with an uncertainty of %(value)s.") % names
    strategy = AnnotationPolicy.Strategy
    texts = {
        strategy.MARGIN_SUM: _("Sum of the uncertainty u = 1 − (P1 − P2) of its boxes (%(n)s): %(value)s"),
        strategy.MARGIN_MEAN: _("Mean of the uncertainty u = 1 − (P1 − P2) of its boxes (%(n)s): %(value)s"),
        strategy.MARGIN_MAX: _("Uncertainty u = 1 − (P1 − P2) of its most uncertain box: %(value)s"),
        strategy.MARGIN_TOP_K: _(
            "Mean uncertainty u = 1 − (P1 − P2) of its most uncertain boxes (%(k)s): %(value)s"
        ),
        strategy.MANY_DOUBTFUL: _("Boxes with less than %(low)s confidence: %(value)s"),
        strategy.RANDOM: _("The survey's queue is in random order."),
    }
    return texts[strategy(policy.strategy)] % names

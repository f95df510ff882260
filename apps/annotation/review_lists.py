"""Lists beside the grid of crops: steps that were taken, and answered photos that people discuss. Reads only."""

import uuid
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db.models import Count, Max

from apps.accounts.models import User
from apps.annotation.models import AnnotationTask, Review
from apps.observations.models import Comment, Label, Observation, Survey

STEPS = 30
COMMENTS = 60


@dataclass(frozen=True, slots=True)
class Step:
    """A review of many boxes at once."""

    batch: uuid.UUID
    kind: str
    reviewer: User | None
    at: datetime
    photos: int
    undone: int
    label: Label | None
    note: str

    @property
    def is_undone(self) -> bool:
        return self.undone == self.photos

    @property
    def kind_shown(self) -> str:
        return str(Review.Kind(self.kind).label)


@dataclass(frozen=True, slots=True)
class StepsPage:
    steps: list[Step]
    next_before: int | None


def steps_page(survey: Survey, viewer: User, *, before: int | None) -> StepsPage:
    """Of the viewer, or for staff of everybody; newest first."""
    rows = Review.objects.filter(
        task__survey=survey,
        batch__isnull=False,
        kind__in=(Review.Kind.RELABELLED, Review.Kind.SENT_BACK),
    )
    if not viewer.is_staff:
        rows = rows.filter(reviewer=viewer)
    if before is not None:
        rows = rows.filter(pk__lt=before)
    grouped: Any = (
        rows.order_by()
        .values("batch", "kind", "reviewer", "note")
        .annotate(at=Max("created_at"), last=Max("pk"), photos=Count("pk"), undone=Count("undone_at"))
        .order_by("-last")[: STEPS + 1]
    )
    found: list[dict[str, Any]] = list(grouped)
    people = User.objects.in_bulk({row["reviewer"] for row in found if row["reviewer"]})
    codes = {row["note"] for row in found if row["kind"] == Review.Kind.RELABELLED}
    labels = {label.code: label for label in Label.objects.filter(survey=survey, code__in=codes)}
    steps = [
        Step(
            batch=row["batch"],
            kind=row["kind"],
            reviewer=people.get(row["reviewer"]),
            at=row["at"],
            photos=row["photos"],
            undone=row["undone"],
            label=labels.get(row["note"]) if row["kind"] == Review.Kind.RELABELLED else None,
            note=row["note"] if row["kind"] == Review.Kind.SENT_BACK else "",
        )
        for row in found[:STEPS]
    ]
    return StepsPage(steps, found[STEPS - 1]["last"] if len(found) > STEPS else None)


@dataclass(slots=True)
class Discussion:
    task: AnnotationTask
    comments: list[Comment] = field(default_factory=list)

    @property
    def is_new(self) -> bool:
        """Somebody has written since the answer was accepted."""
        accepted_at = self.task.accepted_at
        return accepted_at is not None and any(comment.created_at > accepted_at for comment in self.comments)


@dataclass(frozen=True, slots=True)
class DiscussedPage:
    discussions: list[Discussion]
    next_before: int | None


def discussed_page(survey: Survey, *, before: int | None) -> DiscussedPage:
    """Photos with an answer that counts, by the latest remarks on their boxes."""
    comments = Comment.objects.filter(
        box_number__isnull=False,
        photo__survey=survey,
        photo__annotation_task__accepted__isnull=False,
        photo__observation__visibility=Observation.Visibility.PUBLIC,
    )
    if before is not None:
        comments = comments.filter(pk__lt=before)
    found = list(comments.select_related("author").order_by("-pk")[: COMMENTS + 1])
    shown = found[:COMMENTS]
    tasks = AnnotationTask.objects.select_related("photo", "accepted").filter(
        photo__in={comment.photo_id for comment in shown}
    )
    by_photo = {task.photo_id: Discussion(task) for task in tasks}
    discussions: dict[int, Discussion] = {}
    for comment in shown:
        if comment.photo_id in by_photo:
            discussions.setdefault(comment.photo_id, by_photo[comment.photo_id]).comments.insert(0, comment)
    next_before = shown[-1].pk if len(found) > COMMENTS else None
    return DiscussedPage(list(discussions.values()), next_before)

"""What the experts' home shows: each survey's queue, and one's own answers and unfinished work."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from django.db.models import Count, Q, QuerySet

from apps.accounts.models import User
from apps.annotation.models import Annotation, AnnotationTask, Assignment
from apps.annotation.services.leases import held_by
from apps.annotation.services.progress import MEDIAN_SECONDS, midnight
from apps.annotation.services.readiness import Readiness, readiness_of
from apps.observations.models import Photo, Survey

PAGE_SIZE: Final = 12
_FEW: Final = 6
State = AnnotationTask.State


@dataclass(slots=True)
class Desk:
    """One survey as an expert finds it."""

    survey: Survey
    waiting: int = 0
    done: int = 0
    conflict: int = 0
    missing: int = 0
    """Photos that must come before the queue opens."""
    mine_total: int = 0
    mine_today: int = 0
    median_seconds: float | None = None
    open: int = 0
    """Photos that the expert has before them now."""
    readiness: Readiness | None = None
    """Whether the survey's model learns from the answers soon."""

    @property
    def has_work(self) -> bool:
        return bool(self.open or (self.waiting and not self.missing))

    @property
    def total(self) -> int:
        return self.waiting + self.done + self.conflict

    @property
    def here(self) -> int:
        """Photos that have come, of those the queue needs."""
        return self.survey.minimum_photos - self.missing

    @property
    def percent(self) -> int:
        return self.done * 100 // self.total if self.total else 0

    @property
    def pace(self) -> str:
        return span(self.median_seconds)


@dataclass(frozen=True, slots=True)
class Mine:
    today: int = 0
    total: int = 0
    median_seconds: float | None = None

    @property
    def pace(self) -> str:
        return span(self.median_seconds)


def span(seconds: float | None) -> str:
    """48 s, 2 min 5 s; nothing where nothing is known."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}\u202fmin {rest}\u202fs" if minutes else f"{rest}\u202fs"


def mine_of(expert: User) -> Mine:
    """Over all surveys."""
    return Mine(**_answers(expert).aggregate(**_counted()))


def _counted() -> dict[str, Any]:
    today = Count("pk", filter=Q(created_at__gte=midnight()))
    return {"total": Count("pk"), "today": today, "median_seconds": MEDIAN_SECONDS}


def desks_of(expert: User) -> list[Desk]:
    """Every survey, those with work to do first; the number of queries does not grow with them."""
    desks = {survey.pk: Desk(survey) for survey in Survey.objects.select_related("registered_model")}
    photos = AnnotationTask.objects.filter(is_public=True).order_by().values_list("survey", "state")
    for survey, state, count in photos.annotate(photos=Count("pk")):
        if state in (State.WAITING, State.DONE, State.CONFLICT):
            setattr(desks[survey], state, count)
    _count_missing(desks.values())
    mine: Any = _answers(expert).order_by().values("task__survey").annotate(**_counted())
    for row in mine:
        desk = desks[row["task__survey"]]
        desk.mine_total, desk.mine_today = row["total"], row["today"]
        desk.median_seconds = row["median_seconds"]
    for survey, count in held_by(expert).order_by().values_list("task__survey").annotate(photos=Count("pk")):
        desks[survey].open = count
    for key, readiness in readiness_of(desk.survey for desk in desks.values()).items():
        desks[key].readiness = readiness
    return sorted(desks.values(), key=lambda desk: not desk.has_work)


def _count_missing(desks: Iterable[Desk]) -> None:
    """Only surveys with few photos in the queue can be short of some: the others are not counted."""
    short = [desk for desk in desks if desk.total < desk.survey.minimum_photos]
    detected = Photo.objects.filter(survey__in=[desk.survey for desk in short], detection_count__isnull=False)
    counts = dict(detected.order_by().values_list("survey").annotate(photos=Count("pk")))
    for desk in short:
        desk.missing = max(0, desk.survey.minimum_photos - counts.get(desk.survey.pk, 0))


@dataclass(frozen=True, slots=True)
class Attention:
    """What waits for this expert beside the queue; a few of each."""

    drafts: list[Assignment] = field(default_factory=list)
    conflicts: list[Annotation] = field(default_factory=list)
    sent_back: list[Annotation] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.drafts or self.conflicts or self.sent_back)


def attention_of(expert: User) -> Attention:
    drafts = Assignment.objects.filter(
        expert=expert, state=Assignment.State.RETURNED, draft__isnull=False, task__state=State.WAITING
    )
    told = _shown(Annotation.objects.by_experts().filter(author=expert))
    sent_back = told.filter(is_current=False, superseded_by=None, task__state=State.WAITING)
    given_anew = _answers(expert).values("task")
    return Attention(
        drafts=list(
            drafts.filter(task__is_public=True)
            .select_related("task__photo", "task__survey")
            .order_by("-draft_saved_at")[:_FEW]
        ),
        conflicts=list(told.filter(is_current=True, task__state=State.CONFLICT)[:_FEW]),
        sent_back=list(sent_back.exclude(task__in=given_anew)[:_FEW]),
    )


@dataclass(frozen=True, slots=True)
class AnswerPage:
    answers: list[Annotation]
    newer: int | None
    older: int | None


def answer_page(expert: User, *, before: int | None = None, after: int | None = None) -> AnswerPage:
    """One's own answers, newest first; one that was corrected by its author is told by the correction."""
    mine = _shown(Annotation.objects.by_experts().filter(author=expert)).exclude(superseded_by__author=expert)
    if after is not None:
        rows = list(mine.filter(pk__gt=after).order_by("pk")[: PAGE_SIZE + 1])
        has_newer, has_older = len(rows) > PAGE_SIZE, True
        rows = rows[:PAGE_SIZE][::-1]
    else:
        older = mine.filter(pk__lt=before) if before is not None else mine
        rows = list(older[: PAGE_SIZE + 1])
        has_newer, has_older = before is not None, len(rows) > PAGE_SIZE
        rows = rows[:PAGE_SIZE]
    if not rows:
        return AnswerPage([], None, None)
    return AnswerPage(rows, rows[0].pk if has_newer else None, rows[-1].pk if has_older else None)


def _answers(expert: User) -> QuerySet[Annotation]:
    return Annotation.objects.current().by_experts().filter(author=expert)


def _shown(answers: QuerySet[Annotation]) -> QuerySet[Annotation]:
    related = ("task__photo", "task__survey", "superseded_by")
    return answers.filter(task__is_public=True).select_related(*related).order_by("-pk")

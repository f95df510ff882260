"""Which photo an expert is given next. It only reads; `queue.next_task` leases what is chosen here.

What an expert is given is decided by the counters on the survey's rules, the expert's own count and the scores, and by
nothing else: who reads these can say beforehand what comes.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from django.db.models import Count, Exists, F, OuterRef, QuerySet, Subquery, Value
from django.db.models.fields import CharField
from django.db.models.functions import MD5, Cast, Coalesce, Concat

from apps.accounts.models import User
from apps.annotation.active_learning.strategies import draw
from apps.annotation.models import AnnotationPolicy, AnnotationTask, Arm, Assignment, GoldenPhoto
from apps.annotation.models.tasks import AnnotationTaskQuerySet
from apps.observations.models import Observation

BY_SCORE: Final = (Arm.ACTIVE, Arm.IMPORTED)
"""Arms whose photos are given by their score; they share one index."""

_ANSWERED: Final = (Assignment.State.SUBMITTED, Assignment.State.SKIPPED)


@dataclass(frozen=True, slots=True)
class Choice:
    """A photo and why it is its turn: `active`, `control` or `golden`."""

    task: AnnotationTask
    given_as: str


def choose(
    policy: AnnotationPolicy, expert: User, *, leave_out: Iterable[int] = (), lock: bool = False
) -> Choice | None:
    """The photo whose turn it is; with `lock` its row is locked, and rows that others hold locked are passed over."""
    taken = list(leave_out)
    if is_golden_turn(policy, expert) and (golden := next_golden(policy, expert, taken, lock=lock)):
        return Choice(golden, "golden")
    free = available(policy.survey_id, expert).exclude(pk__in=taken)
    orders = {
        "active": free.filter(arm__in=BY_SCORE).by_uncertainty(),
        "control": free.filter(arm=Arm.CONTROL).order_by("draw", "id"),
    }
    first, second = ("control", "active") if is_control_turn(policy) else ("active", "control")
    # Near-duplicates of what experts have just looked at come when nothing else is left.
    for waits in (False, True):
        for arm in (first, second):
            if task := _first(orders[arm].filter(waits_for__isnull=not waits), lock=lock):
                return Choice(task, arm)
    return None


def available(survey_id: int, expert: User) -> AnnotationTaskQuerySet:
    """What the expert could be given now: public, waiting, wanting one more answer than it has or is getting."""
    own = Assignment.objects.filter(task=OuterRef("pk"), expert=expert)
    others = Assignment.objects.held().filter(task=OuterRef("pk")).exclude(expert=expert)
    counted = others.order_by().values("task").annotate(held=Count("pk")).values("held")
    return (
        AnnotationTask.objects.waiting()
        .public()
        .filter(survey=survey_id)
        .filter(~Exists(own.filter(state__in=_ANSWERED)))
        .filter(answers_needed__gt=F("answers") + Coalesce(Subquery(counted), 0))
    )


def is_control_turn(policy: AnnotationPolicy) -> bool:
    """Whether the share of the control arm would still be kept if this one were given from it."""
    given = policy.control_given + policy.active_given + 1
    return policy.control_given + 1 <= policy.control_fraction * given


def is_golden_turn(policy: AnnotationPolicy, expert: User) -> bool:
    """By the seed and the number of photos the expert was given, so that nobody can see it coming."""
    if not policy.golden_rate:
        return False
    given = Assignment.objects.filter(expert=expert, task__survey=policy.survey_id).exclude(given_as="chosen")
    return draw(policy.seed, f"golden:{expert.pk}:{given.count()}") < policy.golden_rate


def next_golden(
    policy: AnnotationPolicy, expert: User, leave_out: Iterable[int] = (), *, lock: bool = False
) -> AnnotationTask | None:
    """A photo with a known answer that this expert has never had, in an order of their own."""
    seen = Assignment.objects.filter(task=OuterRef("pk"), expert=expert)
    known = GoldenPhoto.objects.filter(task=OuterRef("pk"), is_active=True).exclude(answer__author=expert)
    text = Concat(Value(f"{policy.seed}:{expert.pk}:"), Cast("pk", CharField()))
    golden = AnnotationTask.objects.filter(
        Exists(known),
        ~Exists(seen),
        survey=policy.survey_id,
        golden__isnull=False,
        photo__observation__visibility=Observation.Visibility.PUBLIC,
    ).exclude(pk__in=list(leave_out))
    return _first(golden.order_by(MD5(text)), lock=lock)


def _first(tasks: QuerySet[AnnotationTask], *, lock: bool) -> AnnotationTask | None:
    if lock:
        tasks = tasks.select_for_update(of=("self",), skip_locked=True, no_key=True)
    return tasks.first()

"""Who holds which photo: an expert's lease on a task, by the database's clock.

A lease that ended needs no job to end it: every question here compares `lease_until` with the clock. The sweep only
writes down afterwards that the photo went back.
"""

from datetime import timedelta
from typing import Final

from django.db import transaction
from django.db.models import Q, QuerySet
from django.db.models.expressions import CombinedExpression
from django.db.models.functions import Now

from apps.accounts.models import User
from apps.annotation.models import AnnotationPolicy, AnnotationTask, Assignment, Review
from apps.annotation.services.groups import Duplicates
from apps.annotation.services.policies import policy_of
from apps.observations.models import Observation

SKIPS_SET_ASIDE: Final = 3
"""So many different experts who pass a photo on make it one for a curator."""


class LeaseLostError(Exception):
    """The expert does not hold the photo and cannot take it; `code` says why.

    `held`: others work on it, as many as it needs; `done`, `conflict`, `set_aside`: the task's state; `not_public`: its
    contributor or a curator withdrew it; `ended`: this assignment was given back or passed on.
    """

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@transaction.atomic
def hold(task: AnnotationTask, expert: User, given_as: str = "chosen") -> Assignment:
    """Extend the expert's lease, or take one if the photo is still free. Raises `LeaseLostError`.

    An expert who has answered may come back to correct: that needs no lease, and takes the photo from nobody.
    """
    locked = locked_task(task)
    own = Assignment.objects.filter(task=locked, expert=expert).first()
    if own is not None and (own.state == Assignment.State.SUBMITTED or is_held(own)):
        return _extend(own)
    if own is None or own.given_as != "golden":
        require_free(locked, expert)
    else:
        given_as = own.given_as
    return open_assignment(locked, expert, given_as)


def release(assignment: Assignment) -> None:
    """Give the photo back to the queue; the draft stays for this expert. Given back already is no error."""
    if return_to_queue(Assignment.objects.filter(pk=assignment.pk)):
        assignment.refresh_from_db()


@transaction.atomic
def skip(assignment: Assignment, reason: str, note: str = "") -> bool:
    """Pass the photo on; it is not given to this expert again. Gives whether it was set aside by that.

    Raises `LeaseLostError` when this assignment ended before.
    """
    task = locked_task(assignment.task)
    skipped = Assignment.objects.filter(pk=assignment.pk, state=Assignment.State.OPEN).update(
        state=Assignment.State.SKIPPED, skip_reason=reason, skip_note=note, closed_at=Now(), lease_until=None
    )
    if not skipped:
        raise LeaseLostError("ended")
    assignment.refresh_from_db()
    if task.state != AnnotationTask.State.WAITING:
        return False
    passed_on = Assignment.objects.filter(task=task, state=Assignment.State.SKIPPED)
    if passed_on.count() < SKIPS_SET_ASIDE:
        return False
    reasons = passed_on.order_by("pk").values_list("skip_reason", flat=True)
    set_aside(task, note=", ".join(dict.fromkeys(reasons)))
    return True


def set_aside(task: AnnotationTask, *, by: User | None = None, note: str = "") -> bool:
    """Take a waiting photo out of the queue until a curator brings it back; whoever has it open may finish."""
    changed = AnnotationTask.objects.waiting().filter(pk=task.pk).update(state=AnnotationTask.State.SET_ASIDE)
    if changed:
        Review.objects.create(task=task, reviewer=by, kind=Review.Kind.SET_ASIDE, note=note[:500])
    return bool(changed)


def return_to_queue(assignments: QuerySet[Assignment]) -> int:
    """End open assignments without an answer; near-duplicates that waited for them alone wait no longer.

    Two steps on purpose: who locks assignments and then tasks would run against who answers, the other way round.
    """
    opened = assignments.filter(state=Assignment.State.OPEN)
    rows = dict(opened.values_list("pk", "task_id"))
    done = opened.filter(pk__in=rows).update(
        state=Assignment.State.RETURNED, closed_at=Now(), lease_until=None
    )
    with transaction.atomic():
        untouched = set(rows.values()) - set(
            Assignment.objects.looked_at().filter(task__in=rows.values()).values_list("task_id", flat=True)
        )
        freed = AnnotationTask.objects.filter(waits_for__in=untouched).select_for_update(no_key=True)
        pks = list(freed.order_by("pk").values_list("pk", flat=True))
        AnnotationTask.objects.filter(pk__in=pks).update(waits_for=None)
    return done


def return_ended(*, limit: int = 1_000) -> int:
    """Write down which leases the clock has ended."""
    ended = Assignment.objects.filter(state=Assignment.State.OPEN, lease_until__lt=Now())
    return return_to_queue(ended.filter(pk__in=list(ended.values_list("pk", flat=True)[:limit])))


def is_held(assignment: Assignment) -> bool:
    """Whether the lease runs, by the database's clock."""
    return Assignment.objects.held().filter(pk=assignment.pk).exists()


def locked_task(task: AnnotationTask) -> AnnotationTask:
    """The task as it is now, locked until the transaction ends. Raises `LeaseLostError` for a deleted one."""
    row = AnnotationTask.objects.select_for_update(no_key=True).filter(pk=task.pk).first()
    if row is None:
        raise LeaseLostError("not_public")
    return row


def require_free(task: AnnotationTask, expert: User) -> None:
    """Raise `LeaseLostError` unless the expert may take this locked task. Curators may draw where experts disagree."""
    if task.state == AnnotationTask.State.CONFLICT and expert.has_perm("annotation.add_review"):
        return
    if task.state != AnnotationTask.State.WAITING:
        raise LeaseLostError(task.state)
    if not AnnotationTask.objects.public().filter(pk=task.pk).exists():
        raise LeaseLostError("not_public")
    others = Assignment.objects.held().filter(task=task).exclude(expert=expert).count()
    if task.answers + others >= task.answers_needed:
        raise LeaseLostError("held")


def open_assignment(task: AnnotationTask, expert: User, given_as: str) -> Assignment:
    """Lease a locked task. A draft from an earlier lease is still there, with the boxes it started from."""
    policy = policy_of(task.survey_id)
    earlier = Assignment.objects.filter(task=task, expert=expert).first()
    assignment = earlier or Assignment(task=task, expert=expert)
    if assignment.draft is None:
        assignment.model_version_id = task.photo.model_version_id
        assignment.seconds = 0
    assignment.state = Assignment.State.OPEN
    assignment.given_as = given_as
    assignment.closed_at = None
    assignment.skip_reason = assignment.skip_note = ""
    assignment.lease_until = _lease_end(policy)
    assignment.opened_at = Now()
    assignment.save()
    if given_as != "golden":
        Duplicates(policy).wait_for(task)
    return _whole(assignment.pk)


def held_by(expert: User) -> QuerySet[Assignment]:
    """What the expert has open now and can go on with."""
    return (
        Assignment.objects.held()
        .filter(expert=expert)
        .filter(
            Q(given_as="golden")
            | Q(
                task__state__in=(AnnotationTask.State.WAITING, AnnotationTask.State.CONFLICT),
                task__photo__observation__visibility=Observation.Visibility.PUBLIC,
            )
        )
    )


def _extend(assignment: Assignment) -> Assignment:
    policy = policy_of(assignment.task.survey_id)
    Assignment.objects.filter(pk=assignment.pk).update(lease_until=_lease_end(policy))
    return _whole(assignment.pk)


def _lease_end(policy: AnnotationPolicy) -> CombinedExpression:
    return Now() + timedelta(minutes=policy.lease_minutes)


def _whole(pk: int) -> Assignment:
    return Assignment.objects.select_related("task__photo__observation", "task__survey", "expert").get(pk=pk)

"""What curators do with whole photos of the queue."""

import uuid
from collections.abc import Iterable

from django.db import transaction
from django.db.models.functions import Now

from apps.accounts.models import User
from apps.annotation.models import Annotation, AnnotationTask, Assignment, GoldenPhoto, Review
from apps.annotation.services import leases

_State = AnnotationTask.State


def release_tasks(*, task_ids: Iterable[int]) -> int:
    """Give back what experts have open; gives how many holds that ended. Their drafts stay."""
    return leases.return_to_queue(Assignment.objects.filter(task__in=list(task_ids)))


@transaction.atomic
def send_back_tasks(*, task_ids: Iterable[int], by: User, note: str = "") -> int:
    """Put answered photos back into the queue; gives how many. Their answers stay in the history and no longer count."""
    tasks = _locked(task_ids, _State.DONE, _State.CONFLICT)
    pks = [task.pk for task in tasks]
    Annotation.objects.filter(task__in=pks, is_current=True).update(is_current=False)
    # Those who answered may be given the photo once more.
    submitted = Assignment.objects.filter(task__in=pks, state=Assignment.State.SUBMITTED)
    submitted.update(state=Assignment.State.RETURNED)
    GoldenPhoto.objects.filter(task__in=pks).update(is_active=False)
    AnnotationTask.objects.filter(pk__in=pks).update(
        state=_State.WAITING, accepted=None, accepted_at=None, answers=0, waits_for=None
    )
    batch = uuid.uuid4()
    Review.objects.bulk_create(
        Review(
            task=task,
            reviewer=by,
            kind=Review.Kind.SENT_BACK,
            before_id=task.accepted_id,
            batch=batch,
            note=note[:500],
        )
        for task in tasks
    )
    return len(tasks)


@transaction.atomic
def set_aside_tasks(*, task_ids: Iterable[int], by: User, note: str = "") -> int:
    """Take waiting photos out of the queue; gives how many."""
    tasks = _locked(task_ids, _State.WAITING)
    return sum(leases.set_aside(task, by=by, note=note) for task in tasks)


@transaction.atomic
def bring_back_tasks(*, task_ids: Iterable[int]) -> int:
    """Let photos that were set aside wait again, also for those who passed them on; gives how many."""
    pks = [task.pk for task in _locked(task_ids, _State.SET_ASIDE)]
    AnnotationTask.objects.filter(pk__in=pks).update(state=_State.WAITING)
    skipped = Assignment.objects.filter(task__in=pks, state=Assignment.State.SKIPPED)
    skipped.update(state=Assignment.State.RETURNED)
    set_aside = Review.objects.filter(task__in=pks, kind=Review.Kind.SET_ASIDE, undone_at=None)
    set_aside.update(undone_at=Now())
    return len(pks)


def _locked(task_ids: Iterable[int], *states: str) -> list[AnnotationTask]:
    """In the order of their keys, so that two curators wait for each other and never block."""
    tasks = AnnotationTask.objects.filter(pk__in=list(task_ids), state__in=states)
    return list(tasks.select_for_update(no_key=True).order_by("pk"))

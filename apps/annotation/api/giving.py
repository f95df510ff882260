"""Which photo comes next, or why none does."""

import uuid
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from apps.accounts.models import User
from apps.annotation.api.permissions import reachable_tasks
from apps.annotation.api.representations import task_body
from apps.annotation.models import AnnotationTask
from apps.annotation.services.queue import missing_photos, next_task, peek_next
from apps.observations.models import Survey


def next_body(survey: Survey, *, expert: User) -> dict[str, Any]:
    """The photo the queue gives, held."""
    assignment = next_task(expert, survey)
    return _body(survey, assignment.task_id if assignment else None, expert)


def peek_body(survey: Survey, *, expert: User, after: uuid.UUID | None) -> dict[str, Any]:
    """The photo that would probably come after this one; nothing is held."""
    current = AnnotationTask.objects.filter(survey=survey, public_id=after).first() if after else None
    task = peek_next(expert, survey, after=current)
    return _body(survey, task.pk if task else None, expert)


def _body(survey: Survey, task_pk: int | None, expert: User) -> dict[str, Any]:
    task = reachable_tasks().filter(pk=task_pk).first() if task_pk else None
    if task is None:
        return {"task": None, "waiting": _waiting(survey)}
    return {"task": task_body(task, expert=expert), "waiting": None}


def _waiting(survey: Survey) -> dict[str, Any]:
    missing = missing_photos(survey)
    if missing > 0:
        message = ngettext(
            "The queue starts when %(n)s more photo has come.",
            "The queue starts when %(n)s more photos have come.",
            missing,
        )
        return {"code": "too_few_photos", "message": message % {"n": missing}, "missing_photos": missing}
    if AnnotationTask.objects.public().waiting().filter(survey=survey).exists():
        message = _("What waits is with other experts now, or you have answered or skipped it.")
        return {"code": "nothing_for_you", "message": message}
    return {"code": "nothing_left", "message": _("Every photo of this survey has its answer.")}

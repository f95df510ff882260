"""After a promotion: recent photos that nobody decided on are looked at again by the new version, at low priority.

Older ones keep the result they have. Nothing is written down of what was asked for: a photo whose version is the one in
production is through, so that a wake-up that was lost, or came twice, changes nothing.
"""

from datetime import timedelta
from typing import Final

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from apps.common.leased import LeasedWork, WorkStatus
from apps.observations.hooks import settled_photos
from apps.observations.models import Photo, Survey
from apps.observations.services.detection import request_later_look
from apps.training.models import ModelVersion

_AT_ONCE: Final = 500
_SETTLES_WITHIN: Final = timedelta(hours=1)
"""So long after a version began to serve, photos are looked for that wait for nothing."""


def redetect_recent() -> int:
    """Ask for the production version's look at each survey's newest photos that lack it; gives how many were asked for.

    Left alone: photos that were never detected or failed (they have ways of their own), that wait already, and those that
    an app to the right calls settled.
    """
    asked = 0
    serving = ModelVersion.objects.filter(stage=ModelVersion.Stage.PRODUCTION)
    for version in serving.filter(promoted_at__gte=Now() - _SETTLES_WITHIN):
        _call_off(version)
    by_model = dict(serving.values_list("registered_model", "pk"))
    for survey in Survey.objects.filter(registered_model__in=by_model):
        assert survey.registered_model_id is not None
        asked += _redetect(survey, by_model[survey.registered_model_id])
    return asked


def _call_off(version: ModelVersion) -> int:
    """After a roll-back: photos that still wait for the look of the version that is gone show the right result already."""
    called_off = last = 0
    waiting = Photo.objects.filter(
        status=WorkStatus.PENDING, priority=LeasedWork.Priority.LOW, model_version=version
    )
    while True:
        with transaction.atomic():
            rows = waiting.filter(pk__gt=last).select_for_update(skip_locked=True, no_key=True).order_by("pk")
            pks = list(rows.values_list("pk", flat=True)[:_AT_ONCE])
            if not pks:
                return called_off
            last = pks[-1]
            called_off += Photo.objects.filter(pk__in=pks).update(
                status=WorkStatus.DONE, finished_at=Now(), failure_reason=""
            )


def _redetect(survey: Survey, version_id: int) -> int:
    newest = Photo.objects.filter(survey=survey).order_by("-pk")
    recent = newest.values_list("pk", "status", "model_version")[: settings.REDETECT_RECENT_PHOTOS]
    stale = [
        pk
        for pk, status, seen_by in recent
        if status == WorkStatus.DONE and seen_by not in (None, version_id)
    ]
    asked = 0
    for start in range(0, len(stale), _AT_ONCE):
        chunk = stale[start : start + _AT_ONCE]
        settled = {pk for answer in settled_photos.answers(chunk) for pk in answer}
        asked += request_later_look(set(chunk) - settled, version_id=version_id)
    return asked

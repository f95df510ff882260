"""Finding photos that no message brought into the queue, at a cost that does not grow with their number.

Every sweep looks at the newest photos of each survey, where a message lost a moment ago shows, and at one stretch of all
the others; the next sweep goes on where this one ended.
"""

from typing import Final

from django.db import connection

from apps.annotation.models import AnnotationPolicy, AnnotationTask, Assignment, QueueUpdate
from apps.annotation.services.policies import policy_of
from apps.annotation.services.queue import enqueue_photos
from apps.common.leased import WorkStatus
from apps.observations.models import Photo, Survey
from apps.observations.services.detection import request_later_look

STRETCH: Final = 2_000
_UNDER_WAY: Final = (WorkStatus.PENDING, WorkStatus.PROCESSING)

# A photo misses its task, or the task was scored before the photo's boxes, or remarks on them, changed.
_LOST = """
SELECT photo.id FROM ({stretch}) AS photo
LEFT JOIN annotation_annotationtask AS task ON task.photo_id = photo.id
WHERE photo.model_version_id IS NOT NULL AND (
    task.id IS NULL
    OR task.scored_version_id IS DISTINCT FROM photo.model_version_id
    OR task.commented_boxes <> (
        SELECT count(DISTINCT comment.box_number) FROM observations_comment AS comment
        WHERE comment.photo_id = photo.id AND comment.box_number IS NOT NULL
    )
)
"""
_NEWEST = "SELECT id, model_version_id FROM observations_photo WHERE survey_id = %s ORDER BY id DESC LIMIT %s"
_FROM = """
SELECT id, model_version_id FROM observations_photo WHERE survey_id = %s AND id >= %s ORDER BY id LIMIT %s
"""


def enqueue_lost() -> int:
    """Queue and score what was left out; gives how many photos that were."""
    found = 0
    for survey_id in Survey.objects.filter(registered_model__isnull=False).values_list("pk", flat=True):
        policy = policy_of(survey_id)
        lost = _select(_LOST.format(stretch=_NEWEST), [survey_id, STRETCH])
        stretch = [survey_id, policy.next_swept, STRETCH]
        lost |= _select(_LOST.format(stretch=_FROM), stretch)
        enqueue_photos(lost)
        found += len(lost)
        if not QueueUpdate.objects.filter(survey=survey_id, status__in=_UNDER_WAY).exists():
            _ask_for_left_behind(policy)
        _go_on(policy)
    return found


def _ask_for_left_behind(policy: AnnotationPolicy) -> None:
    """Photos that an expert had open during a promotion, and gave back, are detected by the new version now."""
    stretch = Photo.objects.filter(survey=policy.survey_id, pk__gte=policy.next_swept).order_by("pk")
    pks = list(stretch.values_list("pk", flat=True)[:STRETCH])
    if policy.ranked_version_id is None or not pks:
        return
    left = (
        Photo.objects.filter(
            pk__in=pks, status=WorkStatus.DONE, annotation_task__state=AnnotationTask.State.WAITING
        )
        .exclude(model_version=policy.ranked_version_id)
        .exclude(annotation_task__assignments__state=Assignment.State.OPEN)
    )
    request_later_look(list(left.values_list("pk", flat=True)), version_id=policy.ranked_version_id)


def _go_on(policy: AnnotationPolicy) -> None:
    """Where the next sweep begins; after the last photo it is the first again."""
    ahead = Photo.objects.filter(survey=policy.survey_id, pk__gte=policy.next_swept).order_by("pk")
    following = list(ahead.values_list("pk", flat=True)[STRETCH : STRETCH + 1])
    AnnotationPolicy.objects.filter(pk=policy.pk).update(next_swept=following[0] if following else 0)


def _select(statement: str, params: list[int]) -> set[int]:
    with connection.cursor() as cursor:
        cursor.execute(statement, params)
        return {pk for (pk,) in cursor}

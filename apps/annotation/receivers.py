"""What the experts' loop does when the apps to its left have news. Connected in `apps.py`."""

from typing import Any

from apps.common.tasks import send
from apps.observations.models import Comment
from apps.observations.signals import comment_added, photos_detected


def connect() -> None:
    """Connect all receivers and register the panels shown on other apps' pages."""
    photos_detected.connect(queue_detected, dispatch_uid="annotation.queue_detected")
    comment_added.connect(score_commented, dispatch_uid="annotation.score_commented")


def queue_detected(photo_ids: list[int], **_news: Any) -> None:
    """The worker that detects goes on with its next photos meanwhile."""
    from apps.annotation.tasks.queue import enqueue_detected

    send(enqueue_detected, photo_ids=photo_ids)


def score_commented(comment_id: int, **_news: Any) -> None:
    """A remark on a box raises its photo in the queue."""
    from apps.annotation.tasks.queue import enqueue_detected

    photo = Comment.objects.filter(pk=comment_id, box_number__isnull=False).values_list("photo", flat=True)
    if photo_ids := list(photo):
        send(enqueue_detected, photo_ids=photo_ids)

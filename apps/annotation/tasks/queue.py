"""Wake-ups for the queue: photos to be queued, leases that ended, queues to be ranked anew."""

from contextlib import suppress

import structlog

from apps.annotation.models import QueueUpdate
from apps.annotation.services.leases import return_ended
from apps.annotation.services.queue import enqueue_photos
from apps.annotation.services.ranking import continue_update, find_missed_promotions
from apps.annotation.services.sweeping import enqueue_lost
from apps.common.leased import LeasedWorkQuerySet, LeaseLostError, kept_lease
from apps.common.tasks import is_awake, send_once, task

logger = structlog.get_logger(__name__)
_AT_ONCE = 50


@task(queue="default", soft_limit_s=600)
def enqueue_detected(*, photo_ids: list[int]) -> None:
    """Queue photos whose detection has just been saved."""
    enqueue_photos(photo_ids)


@task(queue="default", soft_limit_s=1_800)
def update_queues() -> None:
    """Go on with every update of a queue. One that waits for detections waits for the next sweep."""
    is_awake(update_queues)
    rows: LeasedWorkQuerySet = QueueUpdate.objects.all()
    # All at once: an update that waits for hours must not keep others from their turn.
    updates = rows.claim(limit=_AT_ONCE)
    if not updates:
        return
    token = updates[0].lease_token
    try:
        with kept_lease(rows, token):
            for update in updates:
                with suppress(LeaseLostError):  # started over: the next wake-up takes it
                    continue_update(update)
    except Exception as error:
        logger.exception("queue_update_broke")
        rows.give_back_after_error(token, reason=f"{type(error).__name__}: {error}")
    finally:
        rows.release(token)


def sweep_queue() -> None:
    """Find what a lost message left undone."""
    return_ended()
    find_missed_promotions()  # before photos that a promotion left behind are looked for
    enqueue_lost()
    rows: LeasedWorkQuerySet = QueueUpdate.objects.all()
    rows.give_up_exhausted()
    if rows.claimable().exists():
        send_once(update_queues)

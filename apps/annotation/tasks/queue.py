"""Wake-ups for the queue: photos to be queued, leases that ended, queues to be ranked anew."""

from apps.annotation.services.leases import return_ended
from apps.annotation.services.queue import enqueue_photos
from apps.common.tasks import task


@task(queue="default", soft_limit_s=600)
def enqueue_detected(*, photo_ids: list[int]) -> None:
    """Queue photos whose detection has just been saved."""
    enqueue_photos(photo_ids)


def sweep_queue() -> None:
    """Find what a lost message left undone."""
    return_ended()

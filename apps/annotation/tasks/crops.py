"""Wake-ups for the grid of crops."""

import time

from apps.annotation.models import CropSheet, LabelLook
from apps.annotation.services.crop_sheets import describe_next, measure_next_label, request_looks
from apps.common.leased import LeasedWorkQuerySet, is_stopping
from apps.common.tasks import is_awake, send_once, task

DESCRIBE_SECONDS = 10.0


@task(queue="default", soft_limit_s=600)
def describe_crops() -> None:
    """Work on crops for some seconds, so that other work of this queue gets its turn."""
    is_awake(describe_crops)
    until = time.monotonic() + DESCRIBE_SECONDS
    while describe_next():
        if is_stopping():
            return
        if time.monotonic() > until:
            send_once(describe_crops)
            return
    if request_looks() or _waits(LabelLook.objects.all()):
        send_once(measure_looks)


@task(queue="default", soft_limit_s=600)
def measure_looks() -> None:
    """Measure one label's crops, then give the queue to others."""
    is_awake(measure_looks)
    if measure_next_label():
        send_once(measure_looks)


def sweep_crops() -> None:
    """Find what a lost message left undone."""
    for model, wake_up in ((CropSheet, describe_crops), (LabelLook, measure_looks)):
        rows: LeasedWorkQuerySet = model.objects.all()
        rows.give_up_exhausted()
        if _waits(rows):
            send_once(wake_up)


def _waits(rows: LeasedWorkQuerySet) -> bool:
    return rows.claimable().exists()

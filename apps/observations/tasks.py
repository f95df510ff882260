"""Wake-ups for the work that stands in the database. Each may run twice, or late, without harm."""

from typing import Any

from celery.signals import worker_ready, worker_shutting_down

from apps.common.leased import LeasedWorkQuerySet, ask_to_stop
from apps.common.tasks import is_awake, send, send_once, task
from apps.observations.models import (
    ArchiveUpload,
    DataExport,
    DiscardedFile,
    Photo,
    PlaceReview,
    TilePyramid,
)
from apps.observations.services.archives import discard_failed_archives, read_next_archive
from apps.observations.services.closing import closed_accounts_exist, erase_closed_accounts
from apps.observations.services.data_export import discard_exports, pack_next_export
from apps.observations.services.deletion import purge_discarded_files
from apps.observations.services.detection import detect_photos
from apps.observations.services.geoprivacy import continue_review
from apps.observations.services.identify import serve_identifications
from apps.observations.services.map_cells import fold_map_cells
from apps.observations.services.redetection import redetect_recent
from apps.observations.services.tiles import cut_next_pyramid, request_missing_tiles

DETECT_SECONDS = 10.0
READ_SECONDS = 15.0


@task(queue="inference", soft_limit_s=1_200)
def detect_waiting() -> None:
    """Work on waiting photos for some seconds, so that other work of this queue gets its turn."""
    is_awake(detect_waiting)
    if detect_photos(seconds=DETECT_SECONDS, between=serve_identifications):
        send_once(detect_waiting)


@task(queue="inference", soft_limit_s=120)
def identify_waiting() -> None:
    serve_identifications()


@task(queue="default", soft_limit_s=1_200)
def read_archives() -> None:
    """Read zip archives for some seconds."""
    is_awake(read_archives)
    if read_next_archive(seconds=READ_SECONDS):
        send_once(read_archives)


@task(queue="default", soft_limit_s=1_200)
def cut_waiting_tiles() -> None:
    """Cut one large photo into tiles, then give the queue to others."""
    is_awake(cut_waiting_tiles)
    if cut_next_pyramid():
        send_once(cut_waiting_tiles)


@task(queue="default", soft_limit_s=600)
def review_places() -> None:
    """Compute public places anew, because what is sensitive changed."""
    is_awake(review_places)
    for review in PlaceReview.objects.all().claim(limit=1):
        while continue_review(review):
            pass
        send_once(review_places)


@task(queue="default", soft_limit_s=3_600)
def pack_exports() -> None:
    """Pack one person's data, then give the queue to others."""
    is_awake(pack_exports)
    if pack_next_export():
        send_once(pack_exports)


@task(queue="default", soft_limit_s=3_600)
def erase_closed() -> None:
    """Erase what closed accounts had sent and written."""
    is_awake(erase_closed)
    erase_closed_accounts()


@task(queue="default", soft_limit_s=600)
def purge_files() -> None:
    """Remove files whose rows are gone."""
    is_awake(purge_files)
    purge_discarded_files()


@task(queue="default", soft_limit_s=120)
def fold_map() -> None:
    fold_map_cells()


@task(queue="default", soft_limit_s=300)
def redetect() -> None:
    """Recent photos that an earlier version looked at are queued for the one in production."""
    is_awake(redetect)
    redetect_recent()


@task(queue="default", soft_limit_s=60)
def sweep() -> None:
    """Give up work whose last attempt fell silent, and wake workers for all that waits."""
    request_missing_tiles()
    for model, wake_up in (
        (Photo, detect_waiting),
        (ArchiveUpload, read_archives),
        (PlaceReview, review_places),
        (DataExport, pack_exports),
        (TilePyramid, cut_waiting_tiles),
    ):
        rows: LeasedWorkQuerySet = model.objects.all()
        rows.give_up_exhausted()
        if rows.claimable().exists():
            send_once(wake_up)
    discard_failed_archives()
    discard_exports()
    if closed_accounts_exist():
        send_once(erase_closed)
    if DiscardedFile.objects.exists():
        send_once(purge_files)
    send(fold_map)
    send_once(redetect)


@worker_ready.connect
def _sweep_at_start(**_kwargs: Any) -> None:
    """Whatever was lost while no worker ran is found now, not at the next beat."""
    send(sweep)


worker_shutting_down.connect(ask_to_stop)

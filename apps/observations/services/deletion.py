"""Deleting: rows and the list of their files go in one transaction, the files after it."""

from collections.abc import Iterable

import structlog
from django.core.files.storage import Storage, storages
from django.db import router, transaction

from apps.common.tasks import wake_once
from apps.observations.models import (
    ArchiveUpload,
    Comment,
    Detection,
    DiscardedFile,
    Observation,
    Photo,
    TilePyramid,
)
from apps.observations.signals import photos_withdrawn, tell_on_commit
from apps.training.services.datasets import mark_withdrawn

logger = structlog.get_logger(__name__)
_PHOTO_FILES = (("default", "original"), ("renditions", "display"), ("renditions", "thumbnail"))
_AT_ONCE = 500


def discard_files(files: Iterable[tuple[str, str]]) -> None:
    """List stored files (storage alias, name) for removal; call it in the transaction that deletes their rows.

    A name with a slash at its end is a folder with all that lies in it.
    """
    from apps.observations.tasks import purge_files  # tasks call services

    rows = [DiscardedFile(storage=alias, name=name) for alias, name in files if name]
    DiscardedFile.objects.bulk_create(rows, ignore_conflicts=True, batch_size=1000)
    if rows:
        wake_once(purge_files)


@transaction.atomic
def delete_photos(*, photo_ids: Iterable[int]) -> int:
    """Delete photos with their detections, comments and files; gives how many."""
    photos = list(Photo.objects.select_for_update().filter(pk__in=list(photo_ids)).order_by("pk"))
    discard_files((alias, getattr(photo, field).name) for photo in photos for alias, field in _PHOTO_FILES)
    ids = [photo.pk for photo in photos]
    # Locked: a worker that begins to cut tiles at this moment writes its folder down before this, or not at all.
    pyramids = TilePyramid.objects.select_for_update().filter(photo__in=ids).order_by("pk")
    discard_files(("renditions", pyramid.folder_name) for pyramid in pyramids)
    # Django would load every box to look for comments on it: 50,000 boxes took four seconds. Those comments go first.
    Comment.objects.filter(photo__in=ids).delete()
    Detection.objects.filter(photo__in=ids)._raw_delete(using=router.db_for_write(Detection))  # noqa: SLF001
    mark_withdrawn(photos=[photo.public_id for photo in photos])
    Photo.objects.filter(pk__in=ids).delete()
    if photos:
        tell_on_commit(
            photos_withdrawn,
            sender=Photo,
            public_ids=[photo.public_id for photo in photos],
            sha256s=[photo.sha256 for photo in photos],
        )
    return len(photos)


def delete_photo(*, photo: Photo) -> None:
    delete_photos(photo_ids=[photo.pk])


@transaction.atomic
def delete_observation(*, observation: Observation) -> None:
    """Delete an observation with everything on it; a photo arriving meanwhile is refused by its foreign key."""
    if not Observation.objects.select_for_update().filter(pk=observation.pk).exists():
        return
    delete_photos(photo_ids=Photo.objects.filter(observation=observation.pk).values_list("pk", flat=True))
    archives = ArchiveUpload.objects.filter(observation=observation.pk)
    discard_files([("default", name) for name in archives.values_list("file", flat=True)])
    Observation.objects.filter(pk=observation.pk).delete()


def purge_discarded_files() -> int:
    """Remove listed files, then their entries; gives how many. Removing a file that is gone is no error.

    A file that cannot be removed now stays listed for the next time and does not stop the others.
    """
    removed = last = 0
    while batch := list(DiscardedFile.objects.filter(pk__gt=last).order_by("pk")[:_AT_ONCE]):
        last = batch[-1].pk
        for row in batch:
            try:
                _remove(storages[row.storage], row.name)
            except Exception as error:  # noqa: BLE001  (each storage raises the errors of its own library)
                logger.warning("file_not_removed", storage=row.storage, error=type(error).__name__)
                continue
            row.delete()
            removed += 1
    return removed


def _remove(storage: Storage, name: str) -> None:
    if not name.endswith("/"):
        storage.delete(name)
        return
    try:
        folders, files = storage.listdir(name)
    except FileNotFoundError:
        return
    for file in files:
        storage.delete(f"{name}{file}")
    for folder in folders:
        _remove(storage, f"{name}{folder}/")
    storage.delete(name)  # the empty folder itself, where a storage has such a thing

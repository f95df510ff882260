"""Frozen datasets packed for others to read: a zip in one of the formats, made by a worker."""

import hashlib
import tempfile
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Final, cast

import structlog
from django.contrib.auth.models import AbstractBaseUser
from django.core.files import File
from django.core.files.storage import Storage
from django.db import IntegrityError, transaction
from django.db.models import Exists, OuterRef
from django.db.models.functions import Now

from apps.common.leased import LeasedWork, LeaseLostError, WorkStatus, is_stopping, kept_lease
from apps.common.tasks import wake_once
from apps.training.engine.pictures import PictureError
from apps.training.formats import FormatError, LabelledBox, LabelledImage, LabelledSet, write_set
from apps.training.formats.model import MAX_SIDE_PX, Split
from apps.training.formats.pictures import clean_picture, suffix_of
from apps.training.models import Dataset, DatasetExport, DatasetItem
from apps.training.services.datasets import (
    DatasetDamagedError,
    FrozenBox,
    FrozenItem,
    Manifest,
    read_manifest,
)

logger = structlog.get_logger(__name__)

KEPT_FOR: Final = timedelta(days=30)
NOTHING_LEFT: Final = "nothing_left"
_COUNTED_EVERY: Final = 20


class _StoppedError(Exception):
    """The worker was told to end: the packing starts over elsewhere."""


def request_dataset_export(
    *, dataset: Dataset, kind: str, leaves_out_noncommercial: bool = False, by: AbstractBaseUser | None = None
) -> DatasetExport:
    """Have a dataset packed. One that is kept or under way in this shape is given again."""
    from apps.training.tasks.exports import pack_dataset_exports  # tasks call services

    wanted = {"dataset": dataset, "format": kind, "leaves_out_noncommercial": leaves_out_noncommercial}
    kept = DatasetExport.objects.filter(
        **wanted, status=WorkStatus.DONE, expires_at__gt=Now() + timedelta(days=1)
    ).last()
    if kept and not holds_withdrawn(kept):
        return cast("DatasetExport", kept)
    try:
        with transaction.atomic():
            export = DatasetExport.objects.create(
                **wanted, requested_by_id=by.pk if by else None, priority=LeasedWork.Priority.BATCH
            )
            wake_once(pack_dataset_exports)
    except IntegrityError:
        export = DatasetExport.objects.get(**wanted, status__in=(WorkStatus.PENDING, WorkStatus.PROCESSING))
    return export


def pack_next_dataset_export() -> bool:
    """Claim one and pack it; gives False when none waits."""
    rows = DatasetExport.objects.all()
    for export in rows.select_related("dataset").claim(limit=1):
        token = export.lease_token
        try:
            with kept_lease(rows, token):
                _pack(export)
        except LeaseLostError:
            logger.warning("dataset_export_lease_lost", export=export.pk)
        except _StoppedError:
            rows.release(token)
        except (FormatError, DatasetDamagedError) as error:
            export.finish(status=WorkStatus.FAILED, reason=str(error))  # the next attempt would find the same
        except Exception as error:
            logger.exception("dataset_export_failed", export=export.pk)
            rows.give_back_after_error(token, reason=f"{type(error).__name__}: {error}")
        return True
    return False


def discard_dataset_exports() -> int:
    """Remove those whose time is over, and those that hold a photo deleted since; gives how many.

    The file goes first: a row without its file is found again, a file without its row never.
    """
    over = DatasetExport.objects.filter(status=WorkStatus.DONE, expires_at__lt=Now())
    touched = DatasetExport.objects.filter(
        Exists(DatasetItem.objects.filter(dataset=OuterRef("dataset"), is_withdrawn=True)),
        status=WorkStatus.DONE,
    )
    stale = [export for export in touched if holds_withdrawn(export)]
    removed = 0
    for export in {row.pk: row for row in (*over, *stale)}.values():
        export.file.storage.delete(str(export.file.name))
        export.delete()
        removed += 1
    return removed


def holds_withdrawn(export: DatasetExport) -> bool:
    """Whether a photo in a finished export was deleted since: the export then holds more than it would now."""
    items = DatasetItem.objects.filter(dataset=export.dataset_id, is_withdrawn=False)
    if export.leaves_out_noncommercial:
        items = items.exclude(licence__icontains="-NC")
    return export.photos_done > items.count()


def labelled_set(
    dataset: Dataset, manifest: Manifest, *, leaves_out_noncommercial: bool = False
) -> LabelledSet:
    """The dataset as the formats know it, named by photo identifier; photos deleted since are left out."""
    withdrawn = {str(pk) for pk in dataset.items.filter(is_withdrawn=True).values_list("photo", flat=True)}
    index = {code: number for number, code in enumerate(manifest.labels)}
    images = tuple(_image(item, index) for item in manifest.items if item.photo not in withdrawn)
    found = LabelledSet(manifest.labels, images, f"{dataset} ({dataset.digest[:16]})")
    return found.without_noncommercial() if leaves_out_noncommercial else found


def _image(item: FrozenItem, index: dict[str, int]) -> LabelledImage:
    return LabelledImage(
        file_name=f"{item.photo}{suffix_of(item.file)}",
        width_px=item.width_px,
        height_px=item.height_px,
        # A box that has no area when clipped fails the export: left out, its photo could pass for an empty one.
        boxes=tuple(_clipped(box, item, index[box.label]) for box in item.boxes),
        split=cast("Split", item.split),
        licence=item.licence,
        attribution=item.attribution,
        source_id=item.photo,
    )


def _clipped(box: FrozenBox, item: FrozenItem, label: int) -> LabelledBox:
    """Answers may reach out of the picture by a rounding."""
    width, height = min(item.width_px, MAX_SIDE_PX), min(item.height_px, MAX_SIDE_PX)
    return LabelledBox(
        max(0.0, box.x_min), max(0.0, box.y_min), min(width, box.x_max), min(height, box.y_max), label
    )


def _pack(export: DatasetExport) -> None:
    dataset = export.dataset
    manifest = read_manifest(dataset)
    labelled = labelled_set(dataset, manifest, leaves_out_noncommercial=export.leaves_out_noncommercial)
    if not labelled.images:
        export.finish(status=WorkStatus.FAILED, reason=NOTHING_LEFT)
        return
    with tempfile.TemporaryFile() as target:
        write_set(labelled, export.format, target, _pictures(export, manifest))
        size_bytes = target.seek(0, 2)
        target.seek(0)
        export.file.save(f"{uuid.uuid4()}.zip", File(target), save=False)
    try:
        export.finish(
            file=export.file.name,
            size_bytes=size_bytes,
            photos_done=len(labelled.images),
            expires_at=Now() + KEPT_FOR,
        )
    except BaseException:
        export.file.storage.delete(str(export.file.name))  # the row does not know of this file
        raise


def _pictures(export: DatasetExport, manifest: Manifest) -> Callable[[LabelledImage], bytes]:
    """Reads, checks and cleans one original after the other; counts them, and ends when the lease is lost."""
    items = {item.photo: item for item in manifest.items}
    storage: Storage = export.dataset.manifest.storage
    done = 0

    def picture(image: LabelledImage) -> bytes:
        nonlocal done
        if done % _COUNTED_EVERY == 0:
            _count(export, done)
        done += 1
        item = items[image.source_id]
        with storage.open(item.file, "rb") as file:
            content: bytes = file.read()
        if hashlib.sha256(content).hexdigest() != item.file_sha256:
            raise DatasetDamagedError(f"the original of photo {item.photo} is not the one that was frozen")
        try:
            return clean_picture(content, suffix=suffix_of(item.file))
        except PictureError as error:
            raise DatasetDamagedError(f"photo {item.photo}: {error.code}") from error

    return picture


def _count(export: DatasetExport, done: int) -> None:
    if is_stopping():
        raise _StoppedError
    held = DatasetExport.objects.all().held(export.lease_token).filter(pk=export.pk)
    if not held.update(photos_done=done):
        raise LeaseLostError(f"DatasetExport {export.pk}")

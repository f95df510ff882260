"""Deep-zoom tiles of photos larger than their display rendition, made in the background."""

import uuid
from typing import Any, BinaryIO, Final, cast

import structlog
from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.db import transaction
from django.db.models import Q
from django.urls import reverse

from apps.common.leased import LeasedWork, LeaseLostError, WorkStatus, is_stopping, kept_lease
from apps.common.tasks import wake_once
from apps.observations.models import Photo, TilePyramid
from apps.observations.pyramid import TILE_PX, levels_of
from apps.observations.renditions import DISPLAY_SIDE_PX
from apps.observations.services.deletion import discard_files
from apps.observations.services.intake import picture_limits
from apps.observations.tile_cutting import cut_tiles
from apps.training.engine.pictures import PictureError

logger = structlog.get_logger(__name__)

ORIGINAL_MISSING: Final = "original_missing"
_LOOKED_BACK: Final = 500
_TILES_BETWEEN_CHECKS: Final = 50


class _StoppedError(Exception):
    """The worker was told to end: the cutting starts over elsewhere."""


def needs_tiles(photo: Photo) -> bool:
    """Whether the display rendition holds less than the photo."""
    return max(photo.width_px, photo.height_px) > DISPLAY_SIDE_PX


def request_tiles(photo: Photo) -> None:
    """Have a new photo's tiles cut, if it needs any; call it in the transaction that stores the photo."""
    from apps.observations.tasks import cut_waiting_tiles  # tasks call services

    if needs_tiles(photo):
        TilePyramid.objects.create(photo=photo, priority=LeasedWork.Priority.LOW)
        wake_once(cut_waiting_tiles)


def request_missing_tiles() -> int:
    """Large photos among the newest without a pyramid, for whatever reason, get one; gives how many.

    Those older than pyramids themselves were given theirs by the migration that made the table.
    """
    newest = Photo.objects.order_by("-pk").values_list("pk", flat=True)[:_LOOKED_BACK]
    large = Q(width_px__gt=DISPLAY_SIDE_PX) | Q(height_px__gt=DISPLAY_SIDE_PX)
    missing = Photo.objects.filter(large, pk__in=list(newest), tile_pyramid__isnull=True)
    rows = [
        TilePyramid(photo_id=pk, priority=LeasedWork.Priority.LOW)
        for pk in missing.values_list("pk", flat=True)
    ]
    return len(TilePyramid.objects.bulk_create(rows, ignore_conflicts=True)) if rows else 0


def cut_next_pyramid() -> bool:
    """Claim one and cut it; gives False when none waits."""
    for pyramid in TilePyramid.objects.select_related("photo").claim(limit=1):
        token = pyramid.lease_token
        try:
            with kept_lease(TilePyramid.objects.all(), token):
                _cut(pyramid)
        except LeaseLostError:
            logger.warning("tiles_lease_lost", photo=pyramid.photo_id)
        except _StoppedError:
            TilePyramid.objects.all().release(token)
        except FileNotFoundError:
            _fail(pyramid, ORIGINAL_MISSING)
        except PictureError as error:
            # Another attempt would find the same picture; only limits may have been a matter of the moment.
            if error.code == "decoder_limit":
                TilePyramid.objects.all().give_back_after_error(token, reason=error.code)
            else:
                _fail(pyramid, error.code)
        except Exception as error:
            logger.exception("tiles_failed", photo=pyramid.photo_id)
            TilePyramid.objects.all().give_back_after_error(token, reason=type(error).__name__)
        return True
    return False


def tiles_of(photo: Photo) -> dict[str, Any] | None:
    """Where a viewer finds the photo's tiles, and their levels, smallest first; None when there are none (yet)."""
    if not needs_tiles(photo):
        return None
    try:
        pyramid = photo.tile_pyramid
    except TilePyramid.DoesNotExist:
        return None
    if pyramid.status != WorkStatus.DONE:
        return None
    address = reverse("observations:tile", args=[photo.public_id, 0, 0, 0])
    return {
        "url": address.removesuffix("0/0_0.jpg") + "{level}/{column}_{row}.jpg",
        "tile_px": TILE_PX,
        "levels": [
            {
                "level": level.level,
                "width": level.width,
                "height": level.height,
                "columns": level.columns,
                "rows": level.rows,
            }
            for level in levels_of(photo.width_px, photo.height_px)
        ],
    }


def tile_name(folder: uuid.UUID, level: int, column: int, row: int) -> str:
    return f"tiles/{folder}/{level}/{column}_{row}.jpg"


def _cut(pyramid: TilePyramid) -> None:
    folder = _begin(pyramid)
    try:
        tiles, size_bytes = _store(pyramid, folder)
        pyramid.finish(tiles=tiles, size_bytes=size_bytes)
    except BaseException:
        # Whoever holds the row now knows another folder, or none.
        discard_files([("renditions", f"tiles/{folder}/")])
        raise


def _begin(pyramid: TilePyramid) -> uuid.UUID:
    """Write down the folder before anything lies in it, and have that of an attempt before removed."""
    folder = uuid.uuid4()
    with transaction.atomic():
        if pyramid.folder:
            discard_files([("renditions", pyramid.folder_name)])
        if (
            not TilePyramid.objects.all()
            .held(pyramid.lease_token)
            .filter(pk=pyramid.pk)
            .update(folder=folder)
        ):
            raise LeaseLostError(f"TilePyramid {pyramid.pk}")
    return folder


def _store(pyramid: TilePyramid, folder: uuid.UUID) -> tuple[int, int]:
    photo, storage = pyramid.photo, storages["renditions"]
    held = TilePyramid.objects.all().held(pyramid.lease_token).filter(pk=pyramid.pk)
    tiles = size_bytes = 0
    with photo.original.open("rb") as file:
        for tile in cut_tiles(
            cast(BinaryIO, file),
            size_bytes=photo.size_bytes,
            width_px=photo.width_px,
            height_px=photo.height_px,
            limits=picture_limits(),
            seconds=settings.PICTURE_DECODE_SECONDS,
            memory_bytes=settings.PICTURE_DECODE_BYTES,
        ):
            if tiles % _TILES_BETWEEN_CHECKS == 0:
                if is_stopping():
                    raise _StoppedError
                if not held.exists():
                    raise LeaseLostError(f"TilePyramid {pyramid.pk}")
            storage.save(tile_name(folder, tile.level, tile.column, tile.row), ContentFile(tile.jpeg))
            tiles += 1
            size_bytes += len(tile.jpeg)
    return tiles, size_bytes


def _fail(pyramid: TilePyramid, reason: str) -> None:
    """For good: the photo is shown without tiles."""
    try:
        pyramid.finish(status=WorkStatus.FAILED, reason=reason, folder=None)
    except LeaseLostError:
        logger.warning("tiles_lease_lost", photo=pyramid.photo_id)

"""Pictures and features of crops, and how usual each one is for its label: made in the background, once for each box."""

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

import structlog
from django.db import connection
from django.db.models import Count, Q
from PIL import Image

from apps.annotation.crops import MIN_CROPS, SIDE_PX, BoxPx, cut, features, jpeg, outlierness, usual, window
from apps.annotation.models import Crop, CropSheet, LabelLook
from apps.common.leased import LeasedWorkQuerySet, LeaseLostError, WorkStatus, kept_lease
from apps.observations.models import Photo, TilePyramid
from apps.observations.pyramid import TILE_PX, levels_of
from apps.observations.services.tiles import tile_name

logger = structlog.get_logger(__name__)
_WRITTEN_AT_ONCE = 5_000
_GROWTH = 0.1
_ENOUGH = 0.6
"""A rendition serves for a crop if it has this share of the pixels that the crop shows."""


@dataclass(slots=True)
class PhotoPixels:
    """A photo's pixels for its crops: from the thumbnail or the display rendition, each decoded once, or, where an
    animal would be only some pixels there, from the tiles of the full size.
    """

    photo: Photo
    _renditions: dict[str, Image.Image] = field(default_factory=dict)
    _tiles: dict[tuple[int, int, int], Image.Image] = field(default_factory=dict)

    def crop(self, box: BoxPx) -> Image.Image:
        """Raises `OSError` when the picture is missing or damaged."""
        photo = self.photo
        left, top, right, bottom = window(box, width_px=photo.width_px, height_px=photo.height_px)
        needed = _ENOUGH * SIDE_PX / (right - left) * max(photo.width_px, photo.height_px)
        thumbnail_side = min(480, max(photo.width_px, photo.height_px))
        if needed > 2_560 and max(photo.width_px, photo.height_px) > 2_560:
            folder = self._tile_folder()
            if folder is not None:
                return self._from_tiles(folder, (left, top, right, bottom))
        kind = "thumbnail" if needed <= thumbnail_side and "display" not in self._renditions else "display"
        return cut(self._rendition(kind), box, width_px=photo.width_px, height_px=photo.height_px)

    def _rendition(self, kind: str) -> Image.Image:
        if kind not in self._renditions:
            self._renditions[kind] = _opened(
                getattr(self.photo, kind).storage, getattr(self.photo, kind).name
            )
        return self._renditions[kind]

    def _tile_folder(self) -> TilePyramid | None:
        try:
            pyramid: TilePyramid = self.photo.tile_pyramid
        except TilePyramid.DoesNotExist:
            return None
        return pyramid if pyramid.status == WorkStatus.DONE and pyramid.folder else None

    def _from_tiles(self, pyramid: TilePyramid, edges: tuple[float, float, float, float]) -> Image.Image:
        """From the smallest level with enough pixels: the window is less than a tile wide there, so 4 tiles at most."""
        assert pyramid.folder is not None
        levels = levels_of(self.photo.width_px, self.photo.height_px)
        level = next(
            (
                one
                for one in levels
                if (edges[2] - edges[0]) * one.width / self.photo.width_px >= _ENOUGH * SIDE_PX
            ),
            levels[-1],
        )
        scale = level.width / self.photo.width_px
        left, top, right, bottom = (round(edge * scale) for edge in edges)
        right, bottom = max(right, left + 1), max(bottom, top + 1)
        canvas = Image.new("RGB", (right - left, bottom - top))
        for row in range(max(0, top // TILE_PX), min(level.rows - 1, (bottom - 1) // TILE_PX) + 1):
            for column in range(max(0, left // TILE_PX), min(level.columns - 1, (right - 1) // TILE_PX) + 1):
                key = (level.level, column, row)
                if key not in self._tiles:
                    if len(self._tiles) >= 32:
                        self._tiles.clear()
                    storage = self.photo.display.storage
                    self._tiles[key] = _opened(storage, tile_name(pyramid.folder, *key))
                canvas.paste(self._tiles[key], (column * TILE_PX - left, row * TILE_PX - top))
        return canvas.resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC, reducing_gap=2.0)


def _opened(storage: object, name: str) -> Image.Image:
    with storage.open(name, "rb") as file:  # type: ignore[attr-defined]
        content = file.read()
    picture = Image.open(io.BytesIO(content), formats=["JPEG"])  # our own renditions, encoded by Podura
    return picture.convert("RGB")


def describe_next() -> bool:
    """Claim one photo's crops and describe them; gives False when none waits."""
    rows: LeasedWorkQuerySet = CropSheet.objects.all()
    for sheet in rows.select_related("task__photo__tile_pyramid").claim(limit=1):
        token = sheet.lease_token
        try:
            with kept_lease(rows, token):
                _describe(sheet)
            sheet.finish()
        except LeaseLostError:
            logger.info("crop_sheet_lease_lost", task=sheet.task_id)
        except (OSError, ValueError) as error:
            rows.give_back_after_error(token, reason=type(error).__name__)
        return True
    return False


def _describe(sheet: CropSheet) -> None:
    crops = list(Crop.objects.filter(task=sheet.task).defer("picture", "box__box").select_related("box"))
    pixels = PhotoPixels(sheet.task.photo)
    described = []
    for crop in crops:
        if crop.features is not None:
            continue
        box = BoxPx(crop.box.x_min, crop.box.y_min, crop.box.x_max, crop.box.y_max)
        picture = pixels.crop(box)
        crop.features, crop.picture = features(picture, box), jpeg(picture)
        described.append(crop)
    # Where the answer changed meanwhile the rows are gone, and the update finds none.
    Crop.objects.bulk_update(described, ["features", "picture"], batch_size=100)
    _measure_against_known(crops)


def _measure_against_known(crops: Iterable[Crop]) -> None:
    by_label: dict[int, list[tuple[int, bytes]]] = {}
    for crop in crops:
        if crop.features is not None:
            by_label.setdefault(crop.label_id, []).append((crop.pk, bytes(crop.features)))
    for look in LabelLook.objects.filter(label__in=by_label).exclude(middle=[]):
        rows = by_label[look.label_id]
        _write([pk for pk, _row in rows], outlierness([row for _pk, row in rows], look.middle, look.spread))


def request_looks() -> int:
    """Ask for labels whose crops have grown in number by a tenth since they were measured; one query of counts."""
    described = Q(features__isnull=False)
    counts = dict(Crop.objects.order_by().values_list("label").annotate(n=Count("pk", filter=described)))
    looks = {look.label_id: look for look in LabelLook.objects.filter(label__in=counts)}
    LabelLook.objects.bulk_create(
        [LabelLook(label_id=label, status=WorkStatus.DONE) for label in counts if label not in looks],
        ignore_conflicts=True,
    )
    due = [
        label
        for label, n in counts.items()
        if n >= MIN_CROPS and abs(n - (looks[label].crops if label in looks else 0)) > _GROWTH * n
    ]
    rows: LeasedWorkQuerySet = LabelLook.objects.all()
    idle = rows.filter(label__in=due).exclude(status__in=(WorkStatus.PENDING, WorkStatus.PROCESSING))
    return idle.requeue(priority=LabelLook.Priority.LOW) if due else 0


def measure_next_label() -> bool:
    """Claim one label and measure all its crops anew; gives False when none waits."""
    rows: LeasedWorkQuerySet = LabelLook.objects.all()
    for look in rows.claim(limit=1):
        try:
            with kept_lease(rows, look.lease_token):
                seen = Crop.objects.filter(label=look.label_id, features__isnull=False)
                found = [(pk, bytes(row or b"")) for pk, row in seen.values_list("pk", "features")]
                middle, spread = usual([row for _pk, row in found]) if found else ([], [])
                for part in _parts(found):
                    _write([pk for pk, _row in part], outlierness([row for _pk, row in part], middle, spread))
            look.finish(middle=middle, spread=spread, crops=len(found))
        except LeaseLostError:
            logger.info("label_look_lease_lost", label=look.label_id)
        return True
    return False


def _parts(rows: Iterable[tuple[int, bytes]]) -> Iterator[list[tuple[int, bytes]]]:
    iterator = iter(rows)
    while part := list(islice(iterator, _WRITTEN_AT_ONCE)):
        yield part


def _write(pks: list[int], values: list[float]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE annotation_crop AS crop SET outlierness = row.value "
            "FROM unnest(%s::bigint[], %s::float8[]) AS row(id, value) WHERE crop.id = row.id",
            [pks, values],
        )

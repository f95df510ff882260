"""Downloads: a picture with its boxes drawn, JSON, CSV, and a zip of pictures; each states licence and author."""

import csv
import io
import json
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from django.conf import settings
from django.utils.encoding import force_str
from PIL import Image, ImageDraw, ImageFont

from apps.observations.api.representations import BoxRow, detection_body, moment
from apps.observations.models import Detection, Label, Observation, Photo
from apps.observations.results import NamedBox, boxes_of, named_boxes
from apps.observations.services.geoprivacy import is_exact_for, place_for

COLUMNS = (
    "observation", "photo", "file_name", "number", "label", "scientific_name", "confidence", "x", "y", "width",
    "height", "photo_width", "photo_height", "status", "model_version", "survey", "observed_at", "latitude",
    "longitude", "licence", "contributor",
)  # fmt: skip
BATCH = 100
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_CASING = (11, 16, 17)


def csv_cell(value: Any) -> Any:
    """A text that a spreadsheet would run as a formula gets an apostrophe in front; numbers stay numbers."""
    if isinstance(value, str) and value.startswith(_FORMULA_STARTS):
        return f"'{value}"
    return value


def csv_lines(
    observation: Observation, photos: Iterable[Sequence[Photo]], *, user: Any, confidence: float = 0.0
) -> Iterator[str]:
    """RFC 4180 text, a row per animal; a photo without animals keeps one row without a number."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(COLUMNS)
    common = _observation_cells(observation, user)
    yield _taken(buffer)
    for batch in photos:
        boxes = _rows_by_photo(batch)
        for photo in batch:
            kept = [box for box in boxes.get(photo.pk, ()) if box.score >= confidence]
            about_photo = common | _photo_cells(photo, observation, user)
            for cells in [_box_cells(box) for box in kept] or [{}]:
                writer.writerow([csv_cell((about_photo | cells).get(name, "")) for name in COLUMNS])
        yield _taken(buffer)


def _taken(buffer: io.StringIO) -> str:
    text = buffer.getvalue()
    buffer.seek(0)
    buffer.truncate()
    return text


def observation_header(observation: Observation, *, user: Any) -> dict[str, Any]:
    place = place_for(observation, user)
    return {
        "observation": str(observation.public_id),
        "survey": observation.survey.slug,
        "title": observation.title,
        "contributor": force_str(observation.contributor),
        "licence": observation.licence,
        "observed_at": moment(observation.observed_at),
        "latitude": place.location.y if place.location else None,
        "longitude": place.location.x if place.location else None,
        "place_name": place.name,
        "is_place_exact": place.is_exact,
    }


def photo_bodies(
    observation: Observation, photos: Sequence[Photo], *, user: Any, confidence: float = 0.0
) -> Iterator[dict[str, Any]]:
    """Photos with their detections, in the API's shape."""
    boxes = _rows_by_photo(photos)
    labels = {row.label_id: row.label for rows in boxes.values() for row in rows}
    for photo in photos:
        yield {
            "photo": str(photo.public_id),
            "file_name": photo.name if is_exact_for(observation, user) else None,
            "width": photo.width_px,
            "height": photo.height_px,
            "status": photo.status,
            "model_version": str(photo.model_version) if photo.model_version else None,
            "detections": [
                detection_body(_box_row(row), labels=labels, version=photo.model_version)
                for row in boxes.get(photo.pk, ())
                if row.score >= confidence and photo.model_version
            ],
        }


def annotated_picture(photo: Photo, boxes: Sequence[NamedBox]) -> bytes:
    """JPEG of the display rendition with numbered, labelled boxes; its only metadata is whose it is."""
    with photo.display.open("rb") as file, Image.open(file, formats=("JPEG",)) as opened:
        picture = opened.convert("RGB")
    scale = picture.width / photo.width_px
    unit = max(picture.size) / 900
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(max(11.0, 13 * unit))
    for box in boxes:
        corners = tuple(
            value * scale
            for value in (box.x_min, box.y_min, box.x_min + box.width_px, box.y_min + box.height_px)
        )
        draw.rectangle(corners, outline=_CASING, width=max(3, round(4 * unit)))
        draw.rectangle(corners, outline=box.label.colour, width=max(1, round(2 * unit)))
    for box in boxes:  # names above all lines
        _draw_name(draw, box, (box.x_min * scale, box.y_min * scale), font)
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=88, comment=_credit(photo))
    return out.getvalue()


def _credit(photo: Photo) -> str:
    observation = photo.observation
    return f"{observation.contributor}, {observation.licence}, {settings.SITE_URL}/photos/{photo.public_id}/"


def _draw_name(
    draw: ImageDraw.ImageDraw,
    box: NamedBox,
    corner: tuple[float, float],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    text = f"{box.number} {box.label.name}"
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    pad = (bottom - top) * 0.3
    width = right - left + 2 * pad
    x = max(0.0, min(corner[0], draw.im.size[0] - width))
    y = max(0.0, corner[1] - (bottom - top) - 2 * pad)
    draw.rectangle((x, y, x + width, y + bottom - top + 2 * pad), fill=_CASING)
    draw.text((x + pad - left, y + pad - top), text, fill="white", font=font)


def zip_of_annotated_pictures(
    observation: Observation, photos: Iterable[Photo], *, user: Any, confidence: float = 0.0
) -> Iterator[bytes]:
    """A zip made while it is sent; memory holds one picture at a time. Pictures are already compressed: stored."""
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        header = observation_header(observation, user=user)
        archive.writestr("observation.json", json.dumps(header, ensure_ascii=False, indent=1))
        for index, photo in enumerate(photos, start=1):
            photo.observation = observation
            boxes = [box for box in named_boxes(photo) if box.score >= confidence]
            try:
                content = annotated_picture(photo, boxes)
            except OSError:  # one missing file must not cost the others
                continue
            archive.writestr(f"{index:04d}-{str(photo.public_id)[:8]}.jpg", content)
            yield sink.take()
    yield sink.take()


class _Sink(io.RawIOBase):
    """Where the zip is written: handed on piece by piece, never read back."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        return len(self._parts[-1])

    def take(self) -> bytes:
        taken, self._parts = b"".join(self._parts), []
        return taken


def _rows_by_photo(photos: Sequence[Photo]) -> dict[int, list[Detection]]:
    found: dict[int, list[Detection]] = {}
    labels: dict[int, Label] = {}
    for row in boxes_of(photos).select_related("label"):
        row.label = labels.setdefault(row.label_id, row.label)
        found.setdefault(row.photo_id, []).append(row)
    return found


def _box_row(row: Detection) -> BoxRow:
    return BoxRow(
        photo_id=row.photo_id,
        number=row.number,
        label_id=row.label_id,
        score=row.score,
        class_scores=row.class_scores,
        x_min=row.x_min,
        y_min=row.y_min,
        x_max=row.x_max,
        y_max=row.y_max,
    )


def _observation_cells(observation: Observation, user: Any) -> dict[str, Any]:
    header = observation_header(observation, user=user)
    return {name: "" if header.get(name) is None else header[name] for name in COLUMNS if name in header}


def _photo_cells(photo: Photo, observation: Observation, user: Any) -> dict[str, Any]:
    return {
        "photo": str(photo.public_id),
        "file_name": photo.name if is_exact_for(observation, user) else "",
        "photo_width": photo.width_px,
        "photo_height": photo.height_px,
        "status": photo.status,
        "model_version": str(photo.model_version) if photo.model_version else "",
    }


def _box_cells(box: Detection) -> dict[str, Any]:
    return {
        "number": box.number,
        "label": box.label.code,
        "scientific_name": box.label.scientific_name,
        "confidence": round(box.score, 4),
        "x": round(box.x_min, 2),
        "y": round(box.y_min, 2),
        "width": round(box.width_px, 2),
        "height": round(box.height_px, 2),
    }

"""A picture's bytes in, everything Podura keeps of it out: sizes, renditions, hashes, proposals. Pure, no Django.

It runs in the decoding process (`decoding.py`), never in the web process itself.
"""

from __future__ import annotations

import io
import math
import re
import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final

from PIL import Image
from PIL.ExifTags import GPS, IFD, Base

from apps.training.engine.pictures import PictureLimits, decode_upright_rgb, inspect

DISPLAY_SIDE_PX: Final = 2560
THUMBNAIL_SIDE_PX: Final = 480
_HASH_SIDE_PX: Final = 32


@dataclass(frozen=True, slots=True)
class PreparedPicture:
    """What is kept of one picture. Sizes are those of the upright original."""

    format: str
    extension: str
    width_px: int
    height_px: int
    perceptual_hash: int
    """64-bit pHash of the upright picture as a signed integer."""
    display: bytes
    thumbnail: bytes
    camera: str
    taken_at: str
    """ISO 8601, with an offset only if the file states one; empty when unknown."""
    longitude: float | None
    latitude: float | None
    is_flagged: bool
    """The file states a date or a place that cannot be right."""


def prepare_picture(content: bytes, *, limits: PictureLimits) -> PreparedPicture:
    """Decode `content` wholly and derive what is kept. Raises `PictureError`.

    A JPEG larger than the display rendition is decoded at reduced scale, which reads every byte all the same
    and costs a fraction of the time and memory.
    """
    header = inspect(content, limits=limits)
    scale = _decoding_scale(header.width_px, header.height_px)
    picture = decode_upright_rgb(content, scale=scale, limits=limits)
    display = _shrunk(picture, DISPLAY_SIDE_PX)
    thumbnail = _shrunk(display, THUMBNAIL_SIDE_PX)
    metadata = read_metadata(content)
    return PreparedPicture(
        format=header.format,
        extension=header.extension,
        width_px=header.width_px,
        height_px=header.height_px,
        perceptual_hash=perceptual_hash(thumbnail),
        display=_jpeg(display, quality=88),
        thumbnail=_jpeg(thumbnail, quality=82),
        **metadata,
    )


def display_size(width_px: int, height_px: int) -> tuple[int, int]:
    """Width and height of the display rendition of an upright picture of this size."""
    scale = _decoding_scale(width_px, height_px)
    return _shrunk_size((-(-width_px // scale), -(-height_px // scale)), DISPLAY_SIDE_PX)


def _decoding_scale(width_px: int, height_px: int) -> int:
    return next((s for s in (8, 4, 2) if max(width_px, height_px) // s >= DISPLAY_SIDE_PX), 1)


def perceptual_hash(picture: Image.Image) -> int:
    """64-bit pHash (DCT of a 32 x 32 grey picture, low 8 x 8 against their median), as a signed integer."""
    import imagehash

    bits = imagehash.phash(picture.resize((_HASH_SIDE_PX * 4, _HASH_SIDE_PX * 4), Image.Resampling.BOX))
    value = int(str(bits), 16)
    return value - (1 << 64) if value >= 1 << 63 else value


def _shrunk(picture: Image.Image, side_px: int) -> Image.Image:
    if max(picture.size) <= side_px:
        return picture
    size = _shrunk_size(picture.size, side_px)
    return picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def _shrunk_size(size: tuple[int, int], side_px: int) -> tuple[int, int]:
    if max(size) <= side_px:
        return size
    factor = side_px / max(size)
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _jpeg(picture: Image.Image, *, quality: int) -> bytes:
    buffer = io.BytesIO()
    # No exif, icc_profile, xmp or comment is passed on: what Pillow is not given it does not write.
    picture.save(buffer, "JPEG", quality=quality, progressive=True, optimize=True)
    return buffer.getvalue()


# --- EXIF: one tolerant reader ----------------------------------------------------------------------------


def read_metadata(content: bytes, *, now: datetime | None = None) -> dict[str, Any]:
    """Camera, date and place that the file states, cleaned; what cannot be right is left out and flagged."""
    camera, taken_at, place, flagged = "", "", None, False
    try:
        with Image.open(io.BytesIO(content)) as picture:
            exif = picture.getexif()
        camera = _clean(f"{_text(exif.get(Base.Make))} {_text(exif.get(Base.Model))}")
        details = exif.get_ifd(IFD.Exif)
        taken_at, date_is_odd = _date(details, exif, now or datetime.now(UTC))
        place, place_is_odd = _place(exif.get_ifd(IFD.GPSInfo))
        flagged = date_is_odd or place_is_odd
    except Exception:  # noqa: BLE001
        # Damaged metadata makes Pillow raise whatever it met; a sound picture is kept all the same.
        flagged = True
    longitude, latitude = place or (None, None)
    return {
        "camera": camera,
        "taken_at": taken_at,
        "longitude": longitude,
        "latitude": latitude,
        "is_flagged": flagged,
    }


def _text(value: object) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return value if isinstance(value, str) else ""


def _clean(text: str) -> str:
    plain = "".join(
        c if unicodedata.category(c)[0] not in "CZ" else " " for c in unicodedata.normalize("NFC", text)
    )
    return " ".join(plain.split())[:120].lstrip("=+-@")


def _date(details: Any, exif: Any, now: datetime) -> tuple[str, bool]:
    """The date as ISO 8601 text, and whether the file states an impossible one."""
    for stated, offset_tag in (
        (details.get(Base.DateTimeOriginal), Base.OffsetTimeOriginal),
        (details.get(Base.DateTimeDigitized), Base.OffsetTimeDigitized),
        (exif.get(Base.DateTime), Base.OffsetTime),
    ):
        text = _text(stated).strip("\0 ")
        if not text:
            continue
        match = re.fullmatch(r"(\d{4})[:\-/](\d\d)[:\-/](\d\d)[ T](\d\d):(\d\d):(\d\d).*", text)
        if match is None:
            return "", True
        try:
            taken = datetime(*map(int, match.groups()))  # type: ignore[arg-type]  # noqa: DTZ001  (cameras state none)
        except ValueError:
            return "", True
        offset = re.fullmatch(r"([+-])(\d\d):(\d\d)", _text(details.get(offset_tag)).strip("\0 "))
        if offset and int(offset[2]) < 24 and int(offset[3]) < 60:
            minutes = (int(offset[2]) * 60 + int(offset[3])) * (1 if offset[1] == "+" else -1)
            taken = taken.replace(tzinfo=timezone(timedelta(minutes=minutes)))
        aware = taken if taken.tzinfo else taken.replace(tzinfo=UTC)
        if taken.year < 2000 or aware > now + timedelta(days=1):
            return "", True
        return taken.isoformat(), False
    return "", False


def _place(gps: Any) -> tuple[tuple[float, float] | None, bool]:
    """(longitude, latitude) in degrees WGS 84, and whether the file states an impossible place."""
    if not gps or (GPS.GPSLatitude not in gps and GPS.GPSLongitude not in gps):
        return None, False
    latitude = _degrees(gps.get(GPS.GPSLatitude), _text(gps.get(GPS.GPSLatitudeRef)), "NS")
    longitude = _degrees(gps.get(GPS.GPSLongitude), _text(gps.get(GPS.GPSLongitudeRef)), "EW")
    if latitude is None or longitude is None or abs(latitude) > 90 or abs(longitude) > 180:
        return None, True
    if latitude == 0 and longitude == 0:  # what cameras write without a fix
        return None, True
    return (round(longitude, 6), round(latitude, 6)), False


def _degrees(values: Any, reference: str, signs: str) -> float | None:
    letter = reference.strip("\0 ").upper()[:1]
    if letter not in signs or not letter or not isinstance(values, tuple) or len(values) != 3:
        return None
    try:
        degrees, minutes, seconds = (float(value) for value in values)
    except (ValueError, ZeroDivisionError, TypeError):
        return None
    total = degrees + minutes / 60 + seconds / 3600
    if (
        not math.isfinite(total)
        or min(degrees, minutes, seconds) < 0
        or minutes >= 60.001
        or seconds >= 60.001
    ):
        return None
    return -total if letter == signs[1] else total

"""Pictures of frozen datasets for experts' eyes: the whole photo at screen size, or the piece around a box.

Cut from the stored original, without its metadata. A JPEG is decoded at the scale that the piece needs; a web process decodes
one picture at a time, so that a plate of 100 megapixels costs its memory once, not once for each thread.
"""

import hashlib
import io
import threading
from dataclasses import dataclass
from typing import Final

from django.core.cache import cache
from django.core.files.storage import storages
from PIL import Image

from apps.training.engine.pictures import PictureError, PictureLimits, decode_upright_rgb
from apps.training.models import DatasetItem

VIEW_PX: Final = 1_600
"""Long side of a whole photo."""
CROP_PX: Final = 320
"""Longest side of a crop's picture: sharp on a dense screen at half of it."""
MAX_PIXELS: Final = 40_000_000
"""Decoded; above it a JPEG is taken at half its scale or less."""
_MARGIN: Final = 0.25
_LEAST_WINDOW_PX: Final = 48
_KEPT_S: Final = 24 * 3_600
_MAX_BYTES: Final = 256 << 20
_decoding = threading.Lock()
_last: list[tuple[str, int, Image.Image]] = []
"""The picture that was decoded last: the crops of one photo are asked for one after the other."""


class CutError(Exception):
    """The photo is gone or cannot be read."""


@dataclass(frozen=True, slots=True)
class Window:
    """A piece of a photo, in its own pixels; it lies inside the photo."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def name(self) -> str:
        """As it stands in addresses."""
        return f"{self.left}-{self.top}-{self.right}-{self.bottom}"

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @classmethod
    def named(cls, text: str) -> "Window | None":
        parts = text.split("-")
        if len(parts) != 4 or not all(
            part.isascii() and part.isdecimal() and len(part) < 7 for part in parts
        ):
            return None
        window = cls(*(int(part) for part in parts))
        return window if window.left < window.right and window.top < window.bottom else None

    @classmethod
    def around(
        cls, boxes: list[tuple[float, float, float, float]], *, width_px: int, height_px: int
    ) -> "Window":
        """A square with a margin around boxes, as far as the photo reaches."""
        left, top = min(box[0] for box in boxes), min(box[1] for box in boxes)
        right, bottom = max(box[2] for box in boxes), max(box[3] for box in boxes)
        side = max(right - left, bottom - top) * (1 + 2 * _MARGIN)
        half = max(side, _LEAST_WINDOW_PX) / 2
        x, y = (left + right) / 2, (top + bottom) / 2
        first_x, first_y = max(0, int(x - half)), max(0, int(y - half))
        return cls(
            min(first_x, width_px - 1),
            min(first_y, height_px - 1),
            max(first_x + 1, min(width_px, int(x + half) + 1)),
            max(first_y + 1, min(height_px, int(y + half) + 1)),
        )


def cut_jpeg(item: DatasetItem, window: Window | None) -> bytes:
    """The window of a photo, or the whole of it. Raises `CutError`."""
    name = f"cut:{item.file_sha256}:{window.name if window else 'all'}"
    key = hashlib.sha256(name.encode()).hexdigest()
    kept = cache.get(key)
    if isinstance(kept, bytes):
        return kept
    content = _cut(item, window)
    if window is not None:  # whole photos are large and looked at once
        cache.set(key, content, _KEPT_S)
    return content


def _cut(item: DatasetItem, window: Window | None) -> bytes:
    target = CROP_PX if window else VIEW_PX
    side = max(window.width, window.height) if window else max(item.width_px, item.height_px)
    scale = 1
    while scale < 8 and (
        side / (scale * 2) >= target or item.width_px * item.height_px / scale**2 > MAX_PIXELS
    ):
        scale *= 2
    with _decoding:
        picture = _decoded(item, scale)
        if window:
            across, down = picture.width / item.width_px, picture.height / item.height_px
            box = (
                window.left * across,
                window.top * down,
                min(window.right * across, picture.width),
                min(window.bottom * down, picture.height),
            )
            if box[2] - box[0] < 1 or box[3] - box[1] < 1:
                raise CutError("the window lies outside the photo")
            size = _fitted(box[2] - box[0], box[3] - box[1], target)
            piece = picture.resize(size, Image.Resampling.BICUBIC, box=box, reducing_gap=2.0)
        else:
            size = _fitted(picture.width, picture.height, target)
            piece = picture.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)
    buffer = io.BytesIO()
    piece.save(buffer, "JPEG", quality=82)
    return buffer.getvalue()


def _decoded(item: DatasetItem, scale: int) -> Image.Image:
    if _last and _last[0][:2] == (item.file_sha256, scale):
        return _last[0][2]
    _last.clear()
    limits = PictureLimits(bytes=_MAX_BYTES)
    try:
        with storages["default"].open(item.file, "rb") as file:
            picture = decode_upright_rgb(file.read(_MAX_BYTES), scale=scale, limits=limits)
    except (OSError, PictureError) as error:
        raise CutError(str(error)) from error
    if picture.width * picture.height <= MAX_PIXELS:
        _last.append((item.file_sha256, scale, picture))
    return picture


def _fitted(width: float, height: float, target: int) -> tuple[int, int]:
    share = min(1.0, target / max(width, height)) if target == VIEW_PX else target / max(width, height)
    return max(1, round(width * share)), max(1, round(height * share))

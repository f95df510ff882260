"""Crops of boxes: how they are cut, what they look like as numbers, and how far one lies from the usual. Pure, no Django.

The numbers are cheap on purpose (under 1 ms for each box, no network): colour, direction of edges, and shape. They find
what lies in the wrong drawer: a mite among springtails, dirt, a box round two animals. They do not name anything.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from PIL import Image

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SIDE_PX: Final = 160
"""Of a crop's picture; the box fills it but for a margin, so that its surroundings can be seen."""
_MARGIN: Final = 0.12
_FEATURE_SIDE_PX: Final = 48
_HUES: Final = 8
_DIRECTIONS: Final = 8
_COLOURS: Final = _HUES + 4 + 4
_EDGES: Final = 2 * _DIRECTIONS
_SHAPES: Final = 3
FEATURES: Final = _COLOURS + _EDGES + _SHAPES
_BLOCKS: Final = ((0, _COLOURS), (_COLOURS, _COLOURS + _EDGES), (_COLOURS + _EDGES, FEATURES))
MIN_CROPS: Final = 8
"""With fewer crops of a label nothing is usual, so nothing is unusual."""
_CLIP: Final = 6.0
_FLOOR: Final = 4.0
"""Least spread of a number (of 255): what never varies must not make a tiny difference enormous."""


@dataclass(frozen=True, slots=True)
class BoxPx:
    """Pixels of the upright photo, origin top left."""

    x_min: float
    y_min: float
    x_max: float
    y_max: float

    @property
    def long_side(self) -> float:
        return max(self.x_max - self.x_min, self.y_max - self.y_min)


def window(box: BoxPx, *, width_px: int, height_px: int) -> tuple[float, float, float, float]:
    """The square cut out for a box, in the photo's pixels; it may reach over the border, where it is dark."""
    side = max(box.long_side * (1 + 2 * _MARGIN), 8.0)
    side = min(side, 1.3 * max(width_px, height_px))
    x, y = (box.x_min + box.x_max) / 2, (box.y_min + box.y_max) / 2
    return x - side / 2, y - side / 2, x + side / 2, y + side / 2


def cut(picture: Image.Image, box: BoxPx, *, width_px: int, height_px: int) -> Image.Image:
    """The crop of a box, `SIDE_PX` square. `picture` shows the whole photo of `width_px` x `height_px`, at any scale."""
    scale_x, scale_y = picture.width / width_px, picture.height / height_px
    left, top, right, bottom = window(box, width_px=width_px, height_px=height_px)
    edges = (round(left * scale_x), round(top * scale_y), round(right * scale_x), round(bottom * scale_y))
    edges = (edges[0], edges[1], max(edges[2], edges[0] + 1), max(edges[3], edges[1] + 1))
    crop = picture.crop(edges)  # what lies outside is black
    return crop.resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC, reducing_gap=2.0)


def jpeg(crop: Image.Image) -> bytes:
    buffer = io.BytesIO()
    crop.save(buffer, "JPEG", quality=80, optimize=True)
    return buffer.getvalue()


def features(crop: Image.Image, box: BoxPx) -> bytes:
    """`FEATURES` bytes: hue (weighted by saturation), saturation, value; edges in the middle and around it; shape.

    The edges' directions are counted from the strongest one, because an animal under the microscope lies as it lies.
    After Dalal and Triggs, "Histograms of oriented gradients for human detection", CVPR 2005, sections 6.1-6.4, with
    two rings in the place of cells.
    """
    import numpy as np

    small = crop.convert("RGB").resize((_FEATURE_SIDE_PX, _FEATURE_SIDE_PX), Image.Resampling.BOX)
    hue, saturation, value = (np.asarray(band, np.float64) / 255 for band in small.convert("HSV").split())
    colours = np.concatenate(
        [
            _shares(hue, _HUES, saturation * value),
            _shares(saturation, 4, np.ones_like(saturation)),
            _shares(value, 4, np.ones_like(value)),
        ]
    )
    grey = np.asarray(small.convert("L"), np.float64)
    down, right = np.gradient(grey)
    strength, direction = np.hypot(right, down), np.arctan2(down, right) % np.pi / np.pi
    axis = np.linspace(-1, 1, _FEATURE_SIDE_PX)
    is_middle = axis[:, None] ** 2 + axis[None, :] ** 2 < 0.4
    rings = [_shares(direction[ring], _DIRECTIONS, strength[ring]) for ring in (is_middle, ~is_middle)]
    first = int(np.argmax(rings[0] + rings[1]))
    edges = np.concatenate([np.roll(ring, -first) for ring in rings])
    width, height = box.x_max - box.x_min, box.y_max - box.y_min
    shape = np.array(
        [
            min(1.0, np.log2(max(width, height) / min(width, height)) / 4),
            min(1.0, np.log2(1 + max(width, height)) / 15),
            min(1.0, float(strength.mean()) / 40),
        ]
    )
    numbers = np.concatenate([np.sqrt(colours), np.sqrt(edges), shape])
    return bytes(np.clip(np.rint(numbers * 255), 0, 255).astype(np.uint8))


def _shares(values: NDArray[np.float64], bins: int, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Histogram of values between 0 and 1 as shares; all alike where there is no weight."""
    import numpy as np

    counts, _edges = np.histogram(values, bins=bins, range=(0, 1), weights=weights)
    total = counts.sum()
    return counts / total if total > 1e-9 else np.full(bins, 1 / bins)


def usual(rows: Sequence[bytes]) -> tuple[list[float], list[float]]:
    """Middle and spread of each number over the crops of a label: median and 1.4826 x median absolute deviation.

    Both withstand up to half of the crops being wrong ones (Rousseeuw and Croux, JASA 88, 1993), which a mean does not.
    """
    import numpy as np

    table = np.frombuffer(b"".join(rows), np.uint8).reshape(-1, FEATURES).astype(np.float32)
    middle = np.median(table, axis=0)
    spread = 1.4826 * np.median(np.abs(table - middle), axis=0)
    return [float(x) for x in middle], [float(x) for x in np.maximum(spread, _FLOOR)]


def outlierness(rows: Sequence[bytes], middle: Sequence[float], spread: Sequence[float]) -> list[float]:
    """Distance of each crop from the usual, in spreads: 0 = wholly usual. Colour, edges and shape count alike.

    Root of the mean over the three blocks of the mean squared robust z, each z cut at 6.
    """
    import numpy as np

    if not rows:
        return []
    table = np.frombuffer(b"".join(rows), np.uint8).reshape(-1, FEATURES).astype(np.float32)
    z = np.minimum(np.abs(table - np.asarray(middle, np.float32)) / np.asarray(spread, np.float32), _CLIP)
    blocks = [np.square(z[:, start:end]).mean(axis=1) for start, end in _BLOCKS]
    return [round(float(x), 4) for x in np.sqrt(np.mean(blocks, axis=0))]

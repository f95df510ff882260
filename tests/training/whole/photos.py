"""Small photos with known animals: quarters of the shipped sample tiles (their authors: models/springtails/samples)."""

import io
import json
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

SAMPLES = Path(__file__).resolve().parents[3] / "models" / "springtails" / "samples"
SIDE_PX = 320
_VISIBLE = 0.3
"""Of an animal's box must lie in the quarter for it to count as there."""


@dataclass(frozen=True)
class KnownPhoto:
    name: str
    content: bytes
    boxes: tuple[tuple[float, float, float, float], ...]


def known_photos() -> list[KnownPhoto]:
    document = json.loads((SAMPLES / "coco.json").read_text())
    photos = []
    for entry in sorted(document["images"], key=lambda entry: entry["file_name"]):
        bboxes = [row["bbox"] for row in document["annotations"] if row["image_id"] == entry["id"]]
        with Image.open(SAMPLES / entry["file_name"]) as tile:
            for left, top in ((0, 0), (SIDE_PX, 0), (0, SIDE_PX), (SIDE_PX, SIDE_PX)):
                out = io.BytesIO()
                tile.crop((left, top, left + SIDE_PX, top + SIDE_PX)).save(out, "JPEG", quality=92)
                name = f"{Path(entry['file_name']).stem}_{left}_{top}.jpg"
                photos.append(KnownPhoto(name, out.getvalue(), _boxes(bboxes, left, top)))
    return photos


def _boxes(bboxes: list[list[float]], left: int, top: int) -> tuple[tuple[float, float, float, float], ...]:
    found = []
    for x, y, width, height in bboxes:
        x_min, x_max = max(x - left, 0), min(x + width - left, SIDE_PX)
        y_min, y_max = max(y - top, 0), min(y + height - top, SIDE_PX)
        is_there = x_max - x_min > 4 and y_max - y_min > 4
        if is_there and (x_max - x_min) * (y_max - y_min) >= _VISIBLE * width * height:
            found.append((x_min, y_min, x_max, y_max))
    return tuple(found)


def hits(found: list[tuple[float, ...]], truth: tuple[tuple[float, ...], ...], *, iou: float = 0.5) -> int:
    """Animals of the truth that some box meets."""
    return sum(any(_iou(one, other) >= iou for other in found) for one in truth)


def _iou(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)

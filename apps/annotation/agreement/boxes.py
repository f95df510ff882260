"""Sets of boxes as arrays, in an order that depends on nothing but the boxes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

Corners = tuple[float, float, float, float]
"""Left, top, right, bottom; pixels of the upright photo, origin top left."""


@dataclass(frozen=True, slots=True)
class LabelledBoxes:
    """`xyxy_px`: float64 (n, 4); `labels`: n codes. No box is (0, 4) and ()."""

    xyxy_px: NDArray[np.float64]
    labels: tuple[str, ...]

    @classmethod
    def of(cls, boxes: Sequence[Corners], labels: Sequence[str]) -> Self:
        if len(boxes) != len(labels):
            message = f"{len(boxes)} boxes with {len(labels)} labels"
            raise ValueError(message)
        return cls(np.array(boxes, np.float64).reshape(-1, 4), tuple(labels))

    def __len__(self) -> int:
        return len(self.labels)

    def keys(self) -> list[tuple[float, ...] | tuple[object, ...]]:
        """What tells two boxes apart: corners, then label."""
        return [(*corners, label) for corners, label in zip(self.xyxy_px.tolist(), self.labels, strict=True)]

    def canonical_order(self) -> list[int]:
        """Positions sorted by corners, then label; whoever drew first makes no difference."""
        keys = self.keys()
        return sorted(range(len(keys)), key=keys.__getitem__)


def iou_rows(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union of each of `a` (n, 4) with each of `b` (m, 4): (n, m), 0..1."""
    width = np.minimum(a[:, None, 2], b[None, :, 2]) - np.maximum(a[:, None, 0], b[None, :, 0])
    height = np.minimum(a[:, None, 3], b[None, :, 3]) - np.maximum(a[:, None, 1], b[None, :, 1])
    shared = np.clip(width, 0, None) * np.clip(height, 0, None)
    areas_a = (a[:, 2] - a[:, 0]) * (a[:, 3] - a[:, 1])
    areas_b = (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])
    union = areas_a[:, None] + areas_b[None, :] - shared
    ious: NDArray[np.float64] = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return ious

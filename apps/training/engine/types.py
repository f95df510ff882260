"""What the detector hands to its callers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class DetectedBoxes:
    """The animals found on one picture, ordered by descending score (the caller numbers them).

    Pixel coordinates are those of the upright picture at its native size: origin top left, x to the right,
    y down, `x1 <= x2 <= width_px`, `y1 <= y2 <= height_px`. A picture without animals yields arrays of N = 0
    rows with the same dtypes and C columns.
    """

    boxes_xyxy_px: NDArray[np.float32]
    """(N, 4): left, top, right, bottom."""
    scores: NDArray[np.float32]
    """(N,) 0..1, uncalibrated; equal to `class_scores.max(axis=1)`."""
    labels: NDArray[np.int64]
    """(N,) index into `Detector.labels`; equal to `class_scores.argmax(axis=1)`."""
    class_scores: NDArray[np.float32]
    """(N, C): the score of every label for every box, because active learning needs more than the best one."""
    width_px: int
    height_px: int
    duration_ms: float
    """Wall-clock time from the decoded picture to these boxes."""

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def none_found(cls, *, labels: int, width_px: int, height_px: int, duration_ms: float) -> DetectedBoxes:
        """The result of a picture on which no animal was found, for a detector of `labels` classes."""
        return cls(
            boxes_xyxy_px=np.zeros((0, 4), np.float32),
            scores=np.zeros(0, np.float32),
            labels=np.zeros(0, np.int64),
            class_scores=np.zeros((0, labels), np.float32),
            width_px=width_px,
            height_px=height_px,
            duration_ms=duration_ms,
        )

"""From the raw output of a YOLO head to boxes: threshold, non-maximum suppression, all class scores kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Floating = TypeVar("Floating", bound=np.floating[Any])


@dataclass(frozen=True, slots=True)
class Candidates:
    """Boxes with the score of every class, ordered by descending best score."""

    boxes_xyxy_px: NDArray[np.float32]
    """(N, 4) in the frame that the maker states."""
    class_scores: NDArray[np.float32]
    """(N, C)."""

    @property
    def scores(self) -> NDArray[np.float32]:
        best: NDArray[np.float32] = self.class_scores.max(axis=1, initial=0.0)
        return best

    @property
    def labels(self) -> NDArray[np.int64]:
        if not len(self.class_scores):
            return np.zeros(0, np.int64)
        best: NDArray[np.int64] = self.class_scores.argmax(axis=1).astype(np.int64)
        return best

    def take(self, rows: NDArray[np.int64]) -> Candidates:
        return Candidates(self.boxes_xyxy_px[rows], self.class_scores[rows])


def select(raw: NDArray[np.float32], *, confidence: float, iou: float) -> Candidates:
    """The boxes of one raw head output.

    `raw` is (4 + C, A) for A anchors: centre x, centre y, width, height in pixels of the net's input, then the
    class scores 0..1. Keeps anchors whose best score is above `confidence`, suppresses those that overlap a
    better one of the same class by more than `iou`, and returns corners in pixels of the net's input.
    There is no limit on their number or on the time taken, so that a crowded picture loses nothing.
    """
    best = raw[4:].max(axis=0)
    passing = np.flatnonzero(best > confidence)
    passing = passing[np.argsort(-best[passing], kind="stable")]
    half = raw[2:4, passing] / 2
    boxes = np.concatenate([raw[:2, passing] - half, raw[:2, passing] + half]).T.astype(np.float32)
    candidates = Candidates(np.ascontiguousarray(boxes), np.ascontiguousarray(raw[4:, passing].T))
    return candidates.take(kept_by_nms(boxes, candidates.labels, iou=iou))


def kept_by_nms(
    boxes_xyxy: NDArray[np.float32], labels: NDArray[np.int64], *, iou: float
) -> NDArray[np.int64]:
    """Indices that greedy class-aware non-maximum suppression keeps, for boxes in descending order of score.

    Same rule as `torchvision.ops.batched_nms`: a box goes when its IoU with a kept one is above `iou`.
    """
    if not len(boxes_xyxy):
        return np.zeros(0, np.int64)
    # Classes are moved apart instead of looped over: boxes of different ones can then not overlap.
    spread = float(boxes_xyxy.max() - boxes_xyxy.min()) + 1.0
    boxes = boxes_xyxy.astype(np.float64) + (labels * spread)[:, None]
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    waiting = np.arange(len(boxes))
    kept: list[int] = []
    while len(waiting):
        first, waiting = waiting[0], waiting[1:]
        kept.append(int(first))
        shared = intersection_areas(boxes[first], boxes[waiting])
        waiting = waiting[shared <= iou * (areas[first] + areas[waiting] - shared)]
    return np.array(kept, np.int64)


def intersection_areas(box: NDArray[Floating], boxes: NDArray[Floating]) -> NDArray[Floating]:
    """(N,) areas shared by one (4,) box and each of (N, 4) boxes; 0 where they do not meet."""
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    shared: NDArray[Floating] = np.clip(sides, 0, None).prod(axis=1)
    return shared

"""Which found box is which animal: COCO's rule for the averages, and what people are shown of a picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from apps.training.engine.detector import DEFAULT_CONFIDENCE, DEFAULT_IOU
from apps.training.engine.matches import IOU_THRESHOLDS, MatchTable
from apps.training.engine.suppression import kept_by_nms
from apps.training.engine.types import DetectedBoxes

MATCH_IOU: Final = 0.5
MAX_DETECTIONS: Final = 2000
"""COCO's own limit of 100 boxes a picture would count three quarters of a full plate as missed."""
REPORTED_CONFIDENCE: Final = 0.05
"""Weaker boxes count for average precision alone: nobody is shown them, and a picture has hundreds."""

_ROWS_AT_ONCE = 1024
_NEVER_ABOVE = 1 - 1e-10
"""COCO takes a box that lies exactly on its animal at every threshold."""


@dataclass(frozen=True, slots=True)
class Truth:
    """The animals of one picture, in pixels of the upright picture, origin top left."""

    boxes_xyxy_px: NDArray[np.float32]
    """(G, 4)."""
    labels: NDArray[np.int64]
    """(G,) index into the label list."""

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True)
class Found:
    """The boxes that one detector gave for one picture, by descending score, with labels of the same list."""

    boxes_xyxy_px: NDArray[np.float32]
    """(N, 4)."""
    labels: NDArray[np.int64]
    scores: NDArray[np.float32]
    """(N,) 0..1, uncalibrated."""

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_] | slice) -> Found:
        return Found(self.boxes_xyxy_px[rows], self.labels[rows], self.scores[rows])


def found_of(detected: DetectedBoxes, columns: NDArray[np.int64]) -> Found:
    """What a detector found, in the labels of the truth.

    `columns` is (L,): the detector's class for each label, -1 for a label that it does not know. A class that is not
    among the labels cannot be right here: its boxes are judged by the best score among the labels that are.
    """
    known = np.flatnonzero(columns >= 0)
    scores = detected.class_scores[:, columns[known]]
    if not scores.size:
        return Found(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.float32))
    best = scores.argmax(axis=1)
    score = scores[np.arange(len(scores)), best].astype(np.float32)
    order = np.argsort(-score, kind="stable")
    order = order[score[order] > 0]
    return Found(detected.boxes_xyxy_px[order], known[best[order]].astype(np.int64), score[order])


def ious(boxes_xyxy: NDArray[np.float64], others_xyxy: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, M) intersection over union of (N, 4) and (M, 4) boxes, as pycocotools computes it; 0 without any area."""
    x1, y1, x2, y2 = boxes_xyxy.T[:, :, None]
    other_x1, other_y1, other_x2, other_y2 = others_xyxy.T[:, None, :]
    width = np.minimum(x2, other_x2) - np.maximum(x1, other_x1)
    height = np.minimum(y2, other_y2) - np.maximum(y1, other_y1)
    meet = (width > 0) & (height > 0)
    shared: NDArray[np.float64] = np.where(meet, width * height, 0.0)
    union = (x2 - x1) * (y2 - y1) + (other_x2 - other_x1) * (other_y2 - other_y1) - shared
    share: NDArray[np.float64] = np.divide(shared, union, out=np.zeros_like(shared), where=meet)
    return share


def greedy_partners(
    truth: Truth,
    found: Found,
    *,
    thresholds: NDArray[np.float64] = IOU_THRESHOLDS,
    same_label: bool = True,
) -> NDArray[np.int64]:
    """(N, T) the animal that each box is taken for at each threshold, or -1.

    By COCO's rule (Lin et al. 2014; pycocotools `evaluateImg`): boxes choose by descending score, each the free animal
    of its label that it overlaps most, if by the threshold at least; of two alike, the later. `thresholds` rise.
    """
    partners = np.full((len(found), len(thresholds)), -1, np.int64)
    if not len(found) or not len(truth):
        return partners
    limits = np.minimum(thresholds, _NEVER_ABOVE)
    taken = [0] * len(truth)
    open_at = [(1 << len(thresholds)) - 1] * len(found)
    for row, animal, reached in _pairs(truth, found, limits, same_label=same_label):
        # Thresholds are bits: an animal is taken at some of them, a box overlaps it enough at the lowest `reached`.
        hits = open_at[row] & ((1 << reached) - 1) & ~taken[animal]
        if hits:
            taken[animal] |= hits
            open_at[row] &= ~hits
            partners[row, [place for place in range(reached) if hits >> place & 1]] = animal
    return partners


def _pairs(
    truth: Truth, found: Found, limits: NDArray[np.float64], *, same_label: bool
) -> Iterator[tuple[int, int, int]]:
    """(box, animal, how many limits their overlap reaches) for all that reach any: box by box, its best animal first."""
    animals = truth.boxes_xyxy_px.astype(np.float64)
    for start in range(0, len(found), _ROWS_AT_ONCE):
        part = found.take(slice(start, start + _ROWS_AT_ONCE))
        overlap = ious(part.boxes_xyxy_px.astype(np.float64), animals)
        near = overlap >= limits[0]
        if same_label:
            near &= part.labels[:, None] == truth.labels[None, :]
        rows, columns = near.nonzero()
        values = overlap[rows, columns]
        order = np.lexsort((-columns, -values, rows))
        reached = limits.searchsorted(values[order], side="right")
        yield from zip((rows[order] + start).tolist(), columns[order].tolist(), reached.tolist(), strict=True)


@dataclass(frozen=True, slots=True)
class Shown:
    """One picture as people see it: duplicates suppressed as in production, what is weaker than 0.05 left out."""

    found: Found
    strong: NDArray[np.bool_]
    """(N,) whether the box reaches the default confidence."""
    is_match: NDArray[np.bool_]
    """(N,) whether the box found an animal of its label, IoU 0.5 or more (COCO's rule)."""
    pairs: tuple[tuple[int, int], ...]
    """(animal, box) at the default confidence; with the same label first, then what is left whatever its label."""


def shown_of(truth: Truth, found: Found, *, confidence: float = DEFAULT_CONFIDENCE) -> Shown:
    """The boxes of a picture for its report.

    Right names are matched first, so that the matrix's diagonal is what recall and precision count; a box left over
    that lies on an animal left over is a wrong name (the split of errors by Bolya et al. 2020, "TIDE").
    """
    boxes = found.take(found.scores >= REPORTED_CONFIDENCE)
    boxes = boxes.take(kept_by_nms(boxes.boxes_xyxy_px, boxes.labels, iou=DEFAULT_IOU))
    limit = np.array([MATCH_IOU])
    partner = greedy_partners(truth, boxes, thresholds=limit)[:, 0]
    strong = boxes.scores >= confidence
    pairs = [(int(partner[box]), int(box)) for box in np.flatnonzero(strong & (partner >= 0))]
    right = {animal for animal, _ in pairs}
    free_animals = np.array([animal for animal in range(len(truth)) if animal not in right], np.int64)
    free_boxes = np.flatnonzero(strong & (partner < 0))
    if len(free_animals) and len(free_boxes):
        left = Truth(truth.boxes_xyxy_px[free_animals], truth.labels[free_animals])
        wrong = greedy_partners(left, boxes.take(free_boxes), thresholds=limit, same_label=False)[:, 0]
        pairs += [
            (int(free_animals[animal]), int(free_boxes[row]))
            for row, animal in enumerate(wrong)
            if animal >= 0
        ]
    return Shown(boxes, strong, partner >= 0, tuple(pairs))


@dataclass(slots=True)
class TableBuilder:
    """Makes a `MatchTable` picture by picture."""

    labels: tuple[str, ...]
    _found: list[Found] = field(default_factory=list)
    _matches: list[NDArray[np.bool_]] = field(default_factory=list)
    _truths: list[NDArray[np.int64]] = field(default_factory=list)

    def add(self, truth: Truth, found: Found) -> None:
        """The next picture."""
        found = found.take(_rank_within_label(found.labels) < MAX_DETECTIONS)
        self._found.append(found)
        self._matches.append(greedy_partners(truth, found) >= 0)
        self._truths.append(np.bincount(truth.labels, minlength=len(self.labels)).astype(np.int64))

    def table(self) -> MatchTable:
        sizes = [len(found) for found in self._found]
        none = np.zeros((0, len(IOU_THRESHOLDS)), np.bool_)
        return MatchTable(
            labels=self.labels,
            picture=np.repeat(np.arange(len(sizes), dtype=np.int64), sizes),
            label=np.concatenate([np.zeros(0, np.int64), *(found.labels for found in self._found)]),
            score=np.concatenate([np.zeros(0, np.float32), *(found.scores for found in self._found)]),
            is_match=np.concatenate([none, *self._matches]),
            truths=np.array(self._truths, np.int64).reshape(len(sizes), len(self.labels)),
        )


def _rank_within_label(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N,) how many earlier boxes have the same label."""
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], labels[order], side="left")
    ranks = np.empty(len(labels), np.int64)
    ranks[order] = np.arange(len(labels)) - starts
    return ranks

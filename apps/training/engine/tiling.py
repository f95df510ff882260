"""Which pictures are looked at in windows, where the windows lie, and how their results become one.

A whole plate shrunk to the net's input leaves animals of five pixels, and nothing is found. Such a picture is
cut into windows that overlap by more than a large animal, so that every animal is whole in at least one of
them; what a border cut is then replaced by the whole animal from the neighbouring window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from apps.training.engine.letterbox import fitting_scale
from apps.training.engine.suppression import Candidates, intersection_areas

SMALLEST_TRAINED_SHARE: Final = 0.5
"""Tile when the whole picture, shrunk to the input, would show a typical animal below this share of the size
it was trained at. Training varies sizes by 0.6 to 1.4, so that half is where a detector begins to fail."""

OVERLAP_IN_ANIMALS: Final = 2.5
"""Overlap of neighbouring windows in typical animals: on the springtail plate 99 % are shorter than this."""

MAX_UPSCALE: Final = 2.0
"""Windows are never enlarged more: blurred pixels gain nothing and each doubling costs four times the time."""

BORDER_PX: Final = 3.0
"""A box that ends this close to an inner border of its window, in pixels of the input, counts as cut by it."""

SAME_ANIMAL_IOU: Final = 0.45
PIECE_CONTAINED: Final = 0.6
"""Share of a piece's box inside a whole box that makes it a piece of that animal."""

Window = tuple[int, int, int, int]
"""Left, top, right, bottom in whole pixels."""


@dataclass(frozen=True, slots=True)
class TilePlan:
    """How one picture is shown to the net."""

    scale: float
    """Pixels of the net's input for one pixel of the picture."""
    is_tiled: bool


def plan_tiles(
    width_px: int,
    height_px: int,
    *,
    input_size_px: int,
    object_size_px: float,
    trained_size_px: float,
) -> TilePlan:
    """Whether a picture is cut into windows, and at which scale it is looked at.

    `object_size_px` is the long side of a typical animal on this picture, `trained_size_px` the one the net
    saw at its input. A tiled picture is scaled to show animals at the trained size.
    """
    whole = fitting_scale(width_px, height_px, input_size_px)
    if object_size_px * whole >= SMALLEST_TRAINED_SHARE * trained_size_px:
        return TilePlan(whole, is_tiled=False)
    scale = min(trained_size_px / object_size_px, MAX_UPSCALE)
    if scale <= whole:
        return TilePlan(whole, is_tiled=False)
    return TilePlan(scale, is_tiled=True)


def windows_of(width_px: int, height_px: int, *, side_px: int, overlap_px: int) -> list[Window]:
    """Windows of at most `side_px` that cover the picture, evenly spread, overlapping by at least `overlap_px`.

    The last window of a row ends at the border of the picture instead of reaching beyond it.
    """
    overlap = min(overlap_px, side_px // 2)
    return [
        (left, top, min(left + side_px, width_px), min(top + side_px, height_px))
        for top in _starts(height_px, side_px, overlap)
        for left in _starts(width_px, side_px, overlap)
    ]


def _starts(length: int, side: int, overlap: int) -> list[int]:
    if length <= side:
        return [0]
    count = -(-(length - overlap) // (side - overlap))
    return [int(start) for start in np.linspace(0, length - side, count).round()]


@dataclass(frozen=True, slots=True)
class WindowResult:
    """What was found in one window; boxes and window in pixels of the whole picture as it was decoded."""

    window: Window
    found: Candidates
    border_px: float
    """`BORDER_PX` of the input in pixels of the picture."""


def merge(results: Sequence[WindowResult], *, width_px: int, height_px: int, labels: int) -> Candidates:
    """The animals of the whole picture, each once and whole, ordered by descending score.

    Two boxes from different windows are the same animal when their parts in the region that both windows saw
    agree, or when a box that a border cut lies inside a whole one. Whole boxes are kept before cut ones; the
    pieces of an animal too long for any window are joined to one box with the scores of the best piece.
    """
    boxes = np.concatenate([r.found.boxes_xyxy_px for r in results] or [np.zeros((0, 4), np.float32)])
    scores = np.concatenate([r.found.class_scores for r in results] or [np.zeros((0, labels), np.float32)])
    if not len(boxes):
        return Candidates(boxes.reshape(0, 4), scores.reshape(0, labels))
    windows = np.concatenate(
        [np.tile(np.array(r.window, np.float32), (len(r.found.boxes_xyxy_px), 1)) for r in results]
    )
    is_cut = np.concatenate([_cut_by_window(r, width_px, height_px) for r in results])
    best, classes = scores.max(axis=1), scores.argmax(axis=1)

    kept: list[int] = []
    whole_boxes = boxes.astype(np.float32).copy()
    for row in np.lexsort((-best, is_cut)).tolist():
        earlier = np.array(kept, np.int64)
        elsewhere = earlier[(windows[earlier] != windows[row]).any(axis=1)] if kept else earlier
        if not is_cut[row]:
            # Two whole boxes of different names are two opinions, and both are kept as within one window.
            elsewhere = elsewhere[classes[elsewhere] == classes[row]]
        same = elsewhere[_is_same_animal(row, elsewhere, boxes, windows, is_cut)]
        if not len(same):
            kept.append(row)
        elif is_cut[row] and is_cut[same].all():
            partner = same[0]
            low = np.minimum(whole_boxes[partner, :2], boxes[row, :2])
            high = np.maximum(whole_boxes[partner, 2:], boxes[row, 2:])
            whole_boxes[partner] = np.concatenate([low, high])
    order = np.array(kept, np.int64)
    order = order[np.argsort(-best[order], kind="stable")]
    return Candidates(whole_boxes[order], scores[order])


def _cut_by_window(result: WindowResult, width_px: int, height_px: int) -> NDArray[np.bool_]:
    """(N,) whether a box ends at a border of its window that is not a border of the picture."""
    left, top, right, bottom = result.window
    x1, y1, x2, y2 = result.found.boxes_xyxy_px.T
    near = result.border_px
    cut: NDArray[np.bool_] = np.zeros(len(x1), np.bool_)
    if left > 0:
        cut |= x1 <= left + near
    if top > 0:
        cut |= y1 <= top + near
    if right < width_px:
        cut |= x2 >= right - near
    if bottom < height_px:
        cut |= y2 >= bottom - near
    return cut


def _is_same_animal(
    row: int,
    others: NDArray[np.int64],
    boxes: NDArray[np.float32],
    windows: NDArray[np.float32],
    is_cut: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """(len(others),) whether each of them, from another window, shows the animal of `row`."""
    low = np.maximum(windows[row, :2], windows[others, :2])
    high = np.minimum(windows[row, 2:], windows[others, 2:])
    mine = np.concatenate([np.maximum(boxes[row, :2], low), np.minimum(boxes[row, 2:], high)], axis=1)
    theirs = np.concatenate([np.maximum(boxes[others, :2], low), np.minimum(boxes[others, 2:], high)], axis=1)
    shared = _areas(
        np.concatenate(
            [np.maximum(mine[:, :2], theirs[:, :2]), np.minimum(mine[:, 2:], theirs[:, 2:])], axis=1
        )
    )
    seen_mine, seen_theirs = _areas(mine), _areas(theirs)
    agree: NDArray[np.bool_] = shared > SAME_ANIMAL_IOU * (seen_mine + seen_theirs - shared)
    if is_cut[row]:
        area = float(np.prod(boxes[row, 2:] - boxes[row, :2]))
        inside = intersection_areas(boxes[row], boxes[others]) > PIECE_CONTAINED * area
        agree |= inside & ~is_cut[others]
    return agree


def _areas(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    areas: NDArray[np.float32] = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(axis=1)
    return areas

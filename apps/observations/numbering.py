"""The order in which the animals of a photo are numbered: as a text is read. Who has a number keeps it."""

import itertools
from typing import Final

import numpy as np
from numpy.typing import NDArray

SAME_BOX_IOU: Final = 0.7


def reading_order(boxes_xyxy_px: NDArray[np.float32]) -> NDArray[np.intp]:
    """Indices of (N, 4) boxes (left, top, right, bottom; y down) in reading order.

    Rows from top to bottom, in a row from left to right. A row begins with the topmost centre that is left, and takes
    every centre at most half a median box height below it. The result depends on the boxes alone, not on their order:
    ties are settled by the remaining coordinates. No boxes give no indices.
    """
    if not len(boxes_xyxy_px):
        return np.zeros(0, np.intp)
    boxes = boxes_xyxy_px.astype(np.float64)
    x, y = boxes[:, 0::2].mean(axis=1), boxes[:, 1::2].mean(axis=1)
    band_px = 0.5 * float(np.median(boxes[:, 3] - boxes[:, 1]))
    corners = tuple(boxes[:, column] for column in (3, 2, 1, 0))
    downwards = np.lexsort((*corners, x, y))
    rows = np.zeros(len(boxes), np.intp)
    row, row_top = 0, y[downwards[0]]
    for index in downwards:
        if y[index] - row_top > band_px:
            row, row_top = row + 1, y[index]
        rows[index] = row
    return np.lexsort((*corners, y, x, rows))


def kept_numbers(
    boxes_xyxy_px: NDArray[np.float64],
    labels: NDArray[np.int64],
    earlier_xyxy_px: NDArray[np.float64],
    earlier_labels: NDArray[np.int64],
    earlier_numbers: NDArray[np.int64],
) -> list[int]:
    """Numbers of (N, 4) boxes, when (M, 4) boxes of the same photo have been numbered before.

    A box that was there before keeps its number, so that what people said of "#3" stays said of the same animal; the
    others take, in their order, numbers that none had. With other thresholds numbers may therefore have gaps.
    The same box: IoU above 0.7, the best one first, at equal IoU the one with the same label. Each is taken once.
    """
    numbers = np.zeros(len(boxes_xyxy_px), np.int64)
    is_free = np.ones(len(earlier_xyxy_px), np.bool_)
    areas = (earlier_xyxy_px[:, 2:] - earlier_xyxy_px[:, :2]).prod(axis=1)
    for index, box in enumerate(boxes_xyxy_px):
        if not is_free.any():
            break
        sides = np.minimum(box[2:], earlier_xyxy_px[:, 2:]) - np.maximum(box[:2], earlier_xyxy_px[:, :2])
        shared = sides.clip(0).prod(axis=1)
        iou = shared / ((box[2:] - box[:2]).prod() + areas - shared)
        likeness = np.where(
            is_free & (iou > SAME_BOX_IOU), iou + 1e-3 * (earlier_labels == labels[index]), 0.0
        )
        best = int(likeness.argmax())
        if likeness[best] > 0:
            numbers[index], is_free[best] = earlier_numbers[best], False
    taken = set(earlier_numbers.tolist())
    fresh = (number for number in itertools.count(1) if number not in taken)
    return [int(number) or next(fresh) for number in numbers]

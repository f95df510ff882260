"""The order in which the animals of a photo are numbered: as a text is read."""

import numpy as np
from numpy.typing import NDArray


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

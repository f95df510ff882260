"""Fitting a picture, or a window of it, into the square that a net takes, and the way back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

PADDING_GREY: Final = 114
"""The value that Ultralytics pads with in training."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a picture lies in the square: `input = picture * scale + pad`, both in pixels, origin top left."""

    scale: float
    pad_left_px: int
    pad_top_px: int

    def to_picture(self, boxes_xyxy_px: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, 4) boxes of the square as boxes of the picture; not clipped to it."""
        pads = np.array([self.pad_left_px, self.pad_top_px] * 2, np.float32)
        return ((boxes_xyxy_px - pads) / np.float32(self.scale)).astype(np.float32)

    def to_input(self, boxes_xyxy_px: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, 4) boxes of the picture as boxes of the square."""
        pads = np.array([self.pad_left_px, self.pad_top_px] * 2, np.float32)
        return (boxes_xyxy_px * np.float32(self.scale) + pads).astype(np.float32)


def fitting_scale(width_px: int, height_px: int, size_px: int) -> float:
    """The factor by which a whole picture fits into a square of `size_px`; above 1 for a smaller picture."""
    return min(size_px / width_px, size_px / height_px)


def letterbox(
    picture: NDArray[np.uint8], size_px: int, *, scale: float | None = None
) -> tuple[NDArray[np.uint8], Placement]:
    """Scale an (H, W, 3) picture into the middle of a grey square of (size_px, size_px, 3).

    Without `scale` the picture fills the square, as in Ultralytics, whose rounding is followed to the pixel.
    """
    height, width = picture.shape[:2]
    scale = fitting_scale(width, height, size_px) if scale is None else scale
    wide, high = min(size_px, max(1, round(width * scale))), min(size_px, max(1, round(height * scale)))
    left, top = round((size_px - wide) / 2 - 0.1), round((size_px - high) / 2 - 0.1)
    placement = Placement(scale, left, top)
    if (wide, high) != (width, height):
        picture = cv2.resize(picture, (wide, high), interpolation=cv2.INTER_LINEAR).astype(
            np.uint8, copy=False
        )
    if (wide, high) == (size_px, size_px):
        return np.ascontiguousarray(picture), placement
    square = np.full((size_px, size_px, 3), PADDING_GREY, np.uint8)
    square[top : top + high, left : left + wide] = picture
    return square, placement

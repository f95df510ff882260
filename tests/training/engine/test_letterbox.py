"""Into the net's square and back, as exactly as Ultralytics does it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.training.engine.letterbox import PADDING_GREY, letterbox
from tests.support.examples import examples


@settings(deadline=None, max_examples=examples(60))
@given(
    width=st.integers(2, 900),
    height=st.integers(2, 900),
    size=st.sampled_from([64, 320, 640]),
    corners=st.lists(st.floats(0, 1), min_size=4, max_size=4),
)
def test_a_box_that_goes_in_comes_back(width, height, size, corners):
    _, placement = letterbox(np.zeros((height, width, 3), np.uint8), size)
    boxes = np.array([corners], np.float32) * np.array([width, height] * 2, np.float32)
    there = placement.to_input(boxes)
    assert (there >= -1).all()
    assert (there <= size + 1).all()
    assert np.allclose(placement.to_picture(there), boxes, atol=0.01 * max(1, 1 / placement.scale))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("width", "height"), [(640, 480), (481, 640), (1000, 333), (100, 77), (640, 640), (3, 900)]
)
def test_the_square_is_the_one_of_ultralytics(width, height):
    from apps.training.engine.environment import import_ultralytics

    import_ultralytics()
    from ultralytics.data.augment import LetterBox

    picture = np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)
    square, _ = letterbox(picture, 640)
    assert np.array_equal(square, LetterBox((640, 640), auto=False)(image=picture))


def test_a_window_smaller_than_the_square_keeps_its_scale():
    square, placement = letterbox(np.zeros((100, 640, 3), np.uint8), 640, scale=1.0)
    assert (placement.scale, placement.pad_left_px, placement.pad_top_px) == (1.0, 0, 270)
    assert (square[269] == PADDING_GREY).all()
    assert (square[270:370] == 0).all()


def test_a_picture_of_the_right_size_is_not_touched(full_tile):
    square, placement = letterbox(full_tile, 640)
    assert np.array_equal(square, full_tile)
    assert placement.scale == 1.0

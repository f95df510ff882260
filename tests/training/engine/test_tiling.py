"""Which pictures are cut into windows, that the windows miss nothing, and that each animal comes out once."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.training.engine.suppression import Candidates
from apps.training.engine.tiling import WindowResult, merge, plan_tiles, windows_of

SPRINGTAIL = {"input_size_px": 640, "trained_size_px": 117.0}


def test_a_plate_at_native_scale_is_tiled():
    plan = plan_tiles(10_408, 10_338, object_size_px=117, **SPRINGTAIL)
    assert plan.is_tiled
    assert plan.scale == 1.0


@pytest.mark.parametrize("size", [(640, 640), (300, 200), (1200, 900)])
def test_a_picture_whose_animals_stay_large_enough_is_seen_whole(size):
    assert not plan_tiles(*size, object_size_px=117, **SPRINGTAIL).is_tiled


def test_a_phone_photo_of_one_big_animal_is_seen_whole():
    plan = plan_tiles(4000, 3000, object_size_px=1500, **SPRINGTAIL)
    assert not plan.is_tiled
    assert plan.scale == pytest.approx(0.16)


def test_the_same_photo_of_small_animals_is_tiled():
    assert plan_tiles(4000, 3000, object_size_px=117, **SPRINGTAIL).is_tiled


def test_larger_animals_are_looked_at_in_larger_windows():
    plan = plan_tiles(8000, 8000, object_size_px=234, **SPRINGTAIL)
    assert plan.is_tiled
    assert plan.scale == pytest.approx(0.5)


def test_smaller_animals_are_enlarged_but_not_without_bound():
    assert plan_tiles(2000, 2000, object_size_px=78, **SPRINGTAIL).scale == pytest.approx(1.5)
    assert plan_tiles(2000, 2000, object_size_px=5, **SPRINGTAIL).scale == 2.0


@given(
    width=st.integers(1, 4000),
    height=st.integers(1, 4000),
    side=st.integers(64, 900),
    overlap=st.integers(0, 900),
)
def test_windows_cover_everything_and_show_whole_what_fits_the_overlap(width, height, side, overlap):
    windows = windows_of(width, height, side_px=side, overlap_px=overlap)
    for axis, length in ((0, width), (1, height)):
        spans = sorted({(w[axis], w[axis + 2]) for w in windows})
        assert spans[0][0] == 0
        assert spans[-1][1] == length
        for (_, end), (start, _) in itertools.pairwise(spans):
            # Rounding to whole pixels may cost one of them.
            assert end - start >= min(overlap, side // 2) - 1
        assert all(end - start == min(side, length) for start, end in spans)


def looked_through(boxes: np.ndarray, *, width: int, height: int, side: int, overlap: int) -> Candidates:
    """What a perfect detector finds in each window, merged."""
    results = []
    for window in windows_of(width, height, side_px=side, overlap_px=overlap):
        limits = np.array(window, np.float32)
        low, high = np.maximum(boxes[:, :2], limits[:2]), np.minimum(boxes[:, 2:], limits[2:])
        seen = ((high - low) > 4).all(axis=1)
        found = np.concatenate([low, high], axis=1)[seen]
        # A piece is less certain than the whole.
        share = (found[:, 2:] - found[:, :2]).prod(axis=1) / (boxes[seen, 2:] - boxes[seen, :2]).prod(axis=1)
        scores = np.stack([0.5 + 0.4 * share, 0.05 * share], axis=1).astype(np.float32)
        results.append(WindowResult(window, Candidates(found, scores), border_px=2.0))
    return merge(results, width_px=width, height_px=height, labels=2)


def test_every_animal_comes_out_once_and_whole():
    rng = np.random.default_rng(11)
    cells = np.stack(np.meshgrid(np.arange(0, 1900, 130), np.arange(0, 1300, 130)), axis=-1).reshape(-1, 2)
    low = cells + rng.uniform(0, 25, cells.shape)
    boxes = np.concatenate([low, low + rng.uniform(20, 100, cells.shape)], axis=1).astype(np.float32)
    found = looked_through(boxes, width=2050, height=1450, side=400, overlap=110)
    assert len(found.scores) == len(boxes)
    order = [int(np.abs(boxes - box).sum(axis=1).argmin()) for box in found.boxes_xyxy_px]
    assert sorted(order) == list(range(len(boxes)))
    assert np.allclose(found.boxes_xyxy_px, boxes[order], atol=0.01)
    assert np.allclose(found.scores, 0.9)


def test_an_animal_longer_than_any_window_becomes_one_box():
    found = looked_through(
        np.array([[50, 60, 950, 160]], np.float32), width=1000, height=300, side=400, overlap=100
    )
    assert found.boxes_xyxy_px.round().tolist() == [[50, 60, 950, 160]]


def test_two_animals_side_by_side_at_a_seam_stay_two():
    pair = np.array([[330, 100, 395, 160], [398, 100, 470, 160]], np.float32)
    assert len(looked_through(pair, width=1000, height=300, side=400, overlap=100).scores) == 2


def test_an_animal_at_the_border_of_the_picture_is_not_taken_for_cut():
    corner = np.array([[0, 0, 60, 60], [940, 240, 1000, 300]], np.float32)
    found = looked_through(corner, width=1000, height=300, side=400, overlap=100)
    assert sorted(found.boxes_xyxy_px.tolist()) == corner.tolist()


def test_a_piece_that_no_other_window_completed_is_kept():
    half = Candidates(np.array([[350, 10, 400, 60]], np.float32), np.array([[0.6]], np.float32))
    nothing = Candidates(np.zeros((0, 4), np.float32), np.zeros((0, 1), np.float32))
    results = [WindowResult((0, 0, 400, 300), half, 2.0), WindowResult((300, 0, 700, 300), nothing, 2.0)]
    assert merge(results, width_px=700, height_px=300, labels=1).boxes_xyxy_px.tolist() == [
        [350, 10, 400, 60]
    ]


@pytest.mark.parametrize("labels", [1, 4])
def test_an_empty_plate_has_the_right_shapes(labels):
    nothing = Candidates(np.zeros((0, 4), np.float32), np.zeros((0, labels), np.float32))
    found = merge([WindowResult((0, 0, 400, 300), nothing, 2.0)], width_px=400, height_px=300, labels=labels)
    assert found.boxes_xyxy_px.shape == (0, 4)
    assert found.class_scores.shape == (0, labels)

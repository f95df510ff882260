"""Non-maximum suppression against torchvision's, and the class scores that must survive it."""

import time

import numpy as np
import pytest

from apps.training.engine.suppression import kept_by_nms, select


def random_boxes(count: int, *, seed: int, extent: float = 640) -> np.ndarray:
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, extent * 0.9, (count, 2))
    return np.concatenate([low, low + rng.uniform(5, extent / 4, (count, 2))], axis=1).astype(np.float32)


def raw_output(boxes_xyxy: np.ndarray, scores: np.ndarray) -> np.ndarray:
    low, high = boxes_xyxy[:, :2], boxes_xyxy[:, 2:]
    return np.concatenate([((low + high) / 2).T, (high - low).T, scores.T]).astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 50, 700])
@pytest.mark.parametrize("iou", [0.1, 0.45, 0.7])
def test_it_keeps_exactly_what_torchvision_keeps(count, iou):
    import torch
    import torchvision

    boxes = random_boxes(count, seed=count)
    labels = np.random.default_rng(3).integers(0, 3, count)
    scores = torch.linspace(1, 0.3, count)
    expected = torchvision.ops.batched_nms(torch.from_numpy(boxes), scores, torch.from_numpy(labels), iou)
    assert kept_by_nms(boxes, labels, iou=iou).tolist() == expected.tolist()


def test_a_crowd_is_never_cut_short():
    side = np.arange(40, dtype=np.float32) * 16
    x, y = (axis.ravel() for axis in np.meshgrid(side, side))
    apart = np.stack([x, y, x + 10, y + 10], axis=1)
    crowd = np.concatenate([apart, apart + 0.5])
    started = time.perf_counter()
    kept = kept_by_nms(crowd, np.zeros(len(crowd), np.int64), iou=0.45)
    assert kept.tolist() == list(range(1600))
    assert time.perf_counter() - started < 5


def test_every_kept_box_has_its_whole_class_vector():
    rng = np.random.default_rng(5)
    boxes, scores = random_boxes(300, seed=5), rng.uniform(0, 1, (300, 7)).astype(np.float32)
    found = select(raw_output(boxes, scores), confidence=0.8, iou=0.45)
    assert len(found.scores) > 20
    assert np.array_equal(found.scores, found.class_scores.max(axis=1))
    assert np.array_equal(found.labels, found.class_scores.argmax(axis=1))
    assert (np.diff(found.scores) <= 0).all()
    for box, row in zip(found.boxes_xyxy_px, found.class_scores, strict=True):
        source = int(np.abs(scores - row).sum(axis=1).argmin())
        assert np.array_equal(scores[source], row)
        assert np.allclose(boxes[source], box, atol=1e-3)


def test_boxes_of_different_labels_do_not_suppress_each_other():
    boxes = np.array([[10, 10, 50, 50]] * 2, np.float32)
    found = select(raw_output(boxes, np.array([[0.9, 0.1], [0.2, 0.8]])), confidence=0.25, iou=0.45)
    assert found.labels.tolist() == [0, 1]
    boxes_of_one = select(raw_output(boxes, np.array([[0.9, 0.1], [0.8, 0.2]])), confidence=0.25, iou=0.45)
    assert len(boxes_of_one.scores) == 1


@pytest.mark.parametrize("labels", [1, 5])
def test_nothing_found_has_the_right_shapes(labels):
    found = select(np.zeros((4 + labels, 100), np.float32), confidence=0.25, iou=0.45)
    assert found.boxes_xyxy_px.shape == (0, 4)
    assert found.class_scores.shape == (0, labels)
    assert found.scores.shape == found.labels.shape == (0,)
    assert (found.boxes_xyxy_px.dtype, found.labels.dtype) == (np.float32, np.int64)

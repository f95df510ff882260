"""Ground truth read from COCO, plates stitched and cut again."""

import json

import numpy as np
import pytest
from PIL import Image

from apps.training.engine.labelled import Cutting, cut, read_coco, recut, stitch
from tests.training.engine.conftest import SHIPPED


def test_the_samples_are_the_validation_pictures_of_the_card(samples):
    assert {p.path.name for p in samples.pictures} == set((SHIPPED / "validation.txt").read_text().split())
    assert len(samples.pictures) <= 40
    assert sum(len(p.labels) for p in samples.pictures) == 104
    assert samples.labels == ("collembola",)
    assert 100 < samples.typical_object_px() < 140


def test_labels_follow_the_ids_of_the_categories_and_crowds_are_left_out(tmp_path):
    Image.new("RGB", (20, 10)).save(tmp_path / "a.png")
    document = {
        "images": [
            {"id": 7, "file_name": "a.png", "width": 20, "height": 10},
            {"id": 8, "file_name": "../../etc/b.png", "width": 20, "height": 10},
        ],
        "categories": [{"id": 5, "name": "mite"}, {"id": 2, "name": "springtail"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 5, "bbox": [1, 2, 3, 4]},
            {"id": 2, "image_id": 7, "category_id": 2, "bbox": [0, 0, 9, 9], "iscrowd": 1},
        ],
    }
    (tmp_path / "coco.json").write_text(json.dumps(document))
    labelled = read_coco(tmp_path, tmp_path / "coco.json")
    assert labelled.labels == ("springtail", "mite")
    assert labelled.pictures[0].boxes_xyxy_px.tolist() == [[1, 2, 4, 6]]
    assert labelled.pictures[0].labels.tolist() == [1]
    assert labelled.pictures[1].boxes_xyxy_px.shape == (0, 4)
    assert labelled.pictures[1].path.parent == tmp_path
    assert [p.path.name for p in labelled.without(["a.png"]).pictures] == ["b.png"]
    with pytest.raises(ValueError, match=r"c\.png"):
        labelled.only(["c.png"])


def test_pieces_of_an_animal_on_two_tiles_become_one_box(samples):
    block = [p for p in samples.pictures if p.place_px[0] >= 5120]
    plate = stitch(block)
    names = [name for p in block for name in p.individuals]
    assert len(plate.cutting.boxes_xyxy_px) == len(set(names)) < len(names)
    assert plate.covered.all()
    tile = block[0]
    x, y = tile.place_px[0] - 5120, tile.place_px[1] - 640
    assert np.array_equal(plate.cutting.pixels[y : y + 640, x : x + 640], tile.pixels())


def test_recutting_keeps_to_the_tiles_and_every_box_to_its_window(samples):
    block = [p for p in samples.pictures if p.place_px[0] >= 5120]
    windows = recut(stitch(block), size_px=640)
    assert len(windows) == 3 * 9
    for window in windows:
        assert window.pixels.shape == (640, 640, 3)
        assert window.boxes_xyxy_px.min(initial=0) >= 0
        assert window.boxes_xyxy_px.max(initial=0) <= 640
    transposed = next(w for w in windows if w.name.endswith("_t"))
    assert np.array_equal(transposed.transposed().transposed().pixels, transposed.pixels)


def test_a_gap_in_the_plate_is_not_taught_as_empty(samples):
    block = [p for p in samples.pictures if p.place_px[0] >= 5120][:-1]
    for window in recut(stitch(block), size_px=640):
        assert (window.pixels.reshape(-1, 3).max(axis=1) > 0).mean() > 0.99


def test_hardly_visible_pieces_are_not_labelled():
    source = Cutting("s", np.zeros((100, 200, 3), np.uint8), np.array([[90, 10, 110, 30], [98, 50, 130, 60]], np.float32),
                     np.array([0, 1]))  # fmt: skip
    left, right = cut(source, [(0, 0, 100, 100), (100, 0, 200, 100)])
    assert left.boxes_xyxy_px.tolist() == [[90, 10, 100, 30]]
    assert right.boxes_xyxy_px.tolist() == [[0, 10, 10, 30], [0, 50, 30, 60]]
    assert right.labels.tolist() == [0, 1]

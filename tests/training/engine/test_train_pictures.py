"""Labelled pictures as the trainer reads them: shrunk, in windows where they must be, never a box beyond a border."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from apps.training.engine.events import TrainingError
from apps.training.engine.labelled import LabelledPicture, LabelledPictures
from apps.training.engine.prepared import prepare
from apps.training.engine.recipe import Recipe

RECIPE = Recipe(image_size=128)


@pytest.fixture
def picture(tmp_path):
    """A picture with a white square for each box."""

    def make(name, width, height, boxes, *, suffix="png"):
        pixels = np.zeros((height, width, 3), np.uint8)
        for x1, y1, x2, y2 in np.array(boxes, int).reshape(-1, 4).clip(0):
            pixels[y1:y2, x1:x2] = 255
        path = tmp_path / f"{name}.{suffix}"
        Image.fromarray(pixels).save(path)
        labels = np.arange(len(boxes)) % 2
        return LabelledPicture(
            path, np.array(boxes, np.float32).reshape(-1, 4), labels.astype(np.int64), width, height
        )

    return make


def both(*pictures):
    labelled = LabelledPictures(("disc", "bar"), pictures)
    return {"training": labelled, "validation": labelled}


def written(folder, part="train"):
    """The files as (pixels, boxes in pixels, labels)."""
    found = []
    for path in sorted((folder / part / "images").iterdir()):
        pixels = np.asarray(Image.open(path))
        height, width = pixels.shape[:2]
        rows = (folder / part / "labels" / f"{path.stem}.txt").read_text().split()
        rows = np.array(rows, float).reshape(-1, 5)
        centres, sizes = rows[:, 1:3] * [width, height], rows[:, 3:] * [width, height]
        found.append((pixels, np.hstack([centres - sizes / 2, centres + sizes / 2]), rows[:, 0].astype(int)))
    return found


def test_a_large_picture_of_large_animals_is_shrunk_once(picture, tmp_path):
    prepared = prepare(
        **both(picture("a", 1024, 512, [(100, 200, 600, 400)])), folder=tmp_path / "out", recipe=RECIPE
    )
    ((pixels, boxes, labels),) = written(tmp_path / "out")
    assert pixels.shape == (64, 128, 3)
    np.testing.assert_allclose(boxes, [[12.5, 25, 75, 50]], atol=0.01)
    assert labels.tolist() == [0]
    assert pixels[30:45, 20:70].min() > 200  # the animal is where its box is
    assert prepared.training == prepared.validation == 1
    assert prepared.object_size_px == 500
    assert prepared.trained_size_px == 62.5


def test_small_animals_are_shown_at_native_scale_in_windows(picture, tmp_path):
    boxes = [(20 + 97 * i, 30 + 53 * i, 44 + 97 * i, 50 + 53 * i) for i in range(6)]
    prepared = prepare(**both(picture("plate", 600, 400, boxes)), folder=tmp_path / "out", recipe=RECIPE)
    found = written(tmp_path / "out")
    assert prepared.tiled == 2  # in both parts
    assert prepared.windows == 2 * len(found) > 20
    assert prepared.trained_size_px == prepared.object_size_px == 24
    assert all(max(pixels.shape[:2]) <= 128 for pixels, _, _ in found)
    for pixels, inside, _ in found:
        for x1, y1, x2, y2 in inside.round().astype(int):
            assert pixels[y1:y2, x1:x2].mean() > 250
    assert sum(len(inside) for _, inside, _ in found) >= len(boxes)


@pytest.mark.parametrize(("tiling", "files"), [("never", 1), ("always", 20)])
def test_whether_photos_are_cut_can_be_said(picture, tmp_path, tiling, files):
    large = picture("a", 600, 500, [(100, 100, 400, 400)])
    prepare(**both(large), folder=tmp_path / "out", recipe=replace(RECIPE, tiling=tiling))
    assert len(written(tmp_path / "out")) >= files if files > 1 else len(written(tmp_path / "out")) == 1


def test_a_plate_among_crops_is_cut_to_show_its_animals_as_large_as_they_do(picture, tmp_path):
    crops = [picture(f"crop{i}", 256, 256, [(50, 50, 150, 150)]) for i in range(3)]
    plate = picture("plate", 1024, 1024, [(300, 300, 400, 400)])
    prepared = prepare(**both(*crops, plate), folder=tmp_path / "out", recipe=RECIPE)
    assert prepared.side_px == 256
    assert prepared.tiled == 2
    sizes = {round(float(x2 - x1)) for _, boxes, _ in written(tmp_path / "out") for x1, _, x2, _ in boxes}
    assert max(sizes) == 50  # everywhere half of the native 100 px


def test_boxes_end_at_the_border_and_empty_pictures_stay(picture, tmp_path):
    pictures = both(picture("a", 100, 80, [(-10, -5, 60, 90), (99, 10, 130, 40)]), picture("b", 100, 80, []))
    prepare(**pictures, folder=tmp_path / "out", recipe=RECIPE)
    (_, boxes, _), (_, none, _) = written(tmp_path / "out")
    assert boxes.min() >= 0
    assert (boxes[:, 2] <= 100).all()
    assert (boxes[:, 3] <= 80.001).all()
    assert len(boxes) == 2
    assert len(none) == 0


def test_it_is_written_once_for_the_same_pictures_and_anew_for_others(picture, tmp_path):
    first = both(picture("a", 100, 80, [(10, 10, 60, 60)]))
    prepared = prepare(**first, folder=tmp_path / "out", recipe=RECIPE)
    stamp = next((tmp_path / "out" / "train" / "images").iterdir()).stat().st_mtime_ns
    assert prepare(**first, folder=tmp_path / "out", recipe=replace(RECIPE, epochs=3)) == prepared
    assert next((tmp_path / "out" / "train" / "images").iterdir()).stat().st_mtime_ns == stamp
    prepare(**first, folder=tmp_path / "out", recipe=replace(RECIPE, image_size=64))
    assert written(tmp_path / "out")[0][0].shape == (51, 64, 3)
    # Interrupted while it wrote: begun anew.
    (tmp_path / "out" / "prepared.json").unlink()
    assert prepare(**first, folder=tmp_path / "out", recipe=RECIPE) == prepared


def test_a_picture_of_another_size_than_stated_is_refused(picture, tmp_path):
    wrong = replace(picture("a", 100, 80, [(10, 10, 60, 60)]), width_px=101)
    with pytest.raises(TrainingError, match=r"a\.png is not 101 x 80 px"):
        prepare(**both(wrong), folder=tmp_path / "out", recipe=RECIPE)


def test_pictures_without_any_animal_are_refused(picture, tmp_path):
    one, none = both(picture("a", 100, 80, [(10, 10, 60, 60)])), both(picture("b", 100, 80, []))
    with pytest.raises(TrainingError) as refused:
        prepare(
            training=none["training"], validation=one["validation"], folder=tmp_path / "out", recipe=RECIPE
        )
    assert refused.value.code == "no_boxes"
    with pytest.raises(TrainingError) as refused:
        prepare(
            training=one["training"], validation=none["validation"], folder=tmp_path / "out", recipe=RECIPE
        )
    assert refused.value.code == "no_validation"

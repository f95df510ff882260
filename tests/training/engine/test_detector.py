"""The shipped detector on real pictures: what it finds, in which order, on files good and bad, large and small."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from apps.training.engine.detector import Detector, load_detector
from apps.training.engine.labelled import stitch
from apps.training.engine.pictures import PictureError, PictureLimits
from apps.training.engine.runtimes import TorchRuntime
from apps.training.engine.suppression import intersection_areas
from apps.training.engine.types import DetectedBoxes
from apps.training.engine.weights import WeightsError, file_sha256, load_torch_model
from tests.training.engine.conftest import ROOT, SHIPPED, WEIGHTS

pytestmark = pytest.mark.slow


def matches(expected: np.ndarray, found: np.ndarray, *, iou: float = 0.5) -> list[list[int]]:
    """For each expected box the rows of `found` that overlap it by `iou`."""
    areas = (found[:, 2:] - found[:, :2]).prod(axis=1)
    rows = []
    for box in expected:
        shared = intersection_areas(box, found)
        rows.append(np.flatnonzero(shared >= iou * ((box[2:] - box[:2]).prod() + areas - shared)).tolist())
    return rows


def test_it_finds_the_animals_of_a_tile(detector, samples):
    picture = max(samples.pictures, key=lambda p: len(p.labels))
    (found,) = detector.detect([picture.pixels()])
    hits = matches(picture.boxes_xyxy_px, found.boxes_xyxy_px)
    assert sum(bool(rows) for rows in hits) >= 0.8 * len(picture.labels)
    assert (found.width_px, found.height_px) == (640, 640)
    assert found.duration_ms > 0


def test_boxes_are_ordered_within_the_picture_and_of_the_promised_types(detector, full_tile):
    (found,) = detector.detect([full_tile], confidence=0.05)
    assert (np.diff(found.scores) <= 0).all()
    assert np.array_equal(found.scores, found.class_scores.max(axis=1))
    assert found.boxes_xyxy_px.min() >= 0
    assert found.boxes_xyxy_px.max() <= 640
    assert (found.boxes_xyxy_px[:, 2:] > found.boxes_xyxy_px[:, :2]).all()
    kinds = (found.boxes_xyxy_px.dtype, found.scores.dtype, found.labels.dtype, found.class_scores.dtype)
    assert kinds == (np.float32, np.float32, np.int64, np.float32)
    assert found.class_scores.shape == (len(found), len(detector.labels))


def test_a_picture_without_animals_gives_empty_arrays(detector):
    (found,) = detector.detect([np.full((500, 700, 3), 128, np.uint8)])
    assert len(found) == 0
    assert found.boxes_xyxy_px.shape == (0, 4)
    assert found.class_scores.shape == (0, 1)
    assert (found.width_px, found.height_px) == (700, 500)


def test_no_pictures_give_no_results(detector):
    assert detector.detect([]) == []
    assert list(detector.detect_files([])) == []


def test_arrays_files_and_bytes_give_the_same(detector, samples):
    some = samples.pictures[:5]
    arrays = detector.detect([p.pixels() for p in some])
    files = list(detector.detect_files(p.path for p in some))
    contents = list(detector.detect_encoded(p.path.read_bytes() for p in some))
    for a, b, c in zip(arrays, files, contents, strict=True):
        assert np.array_equal(a.boxes_xyxy_px, b.boxes_xyxy_px)
        assert np.array_equal(a.boxes_xyxy_px, c.boxes_xyxy_px)
        assert np.array_equal(a.class_scores, b.class_scores)


def test_a_bad_file_is_answered_in_its_place_and_the_rest_go_on(detector, samples, tmp_path):
    cut, html, empty = tmp_path / "cut.jpg", tmp_path / "page.jpg", tmp_path / "nothing.jpg"
    good = samples.pictures[0].path
    cut.write_bytes(good.read_bytes()[:5000])
    html.write_text("<html>")
    empty.touch()
    outcomes = list(detector.detect_files([cut, good, html, empty, good, cut]))
    codes = [o.code if isinstance(o, PictureError) else "found" for o in outcomes]
    assert codes == ["truncated", "found", "not_a_picture", "empty", "found", "truncated"]
    assert [o.code for o in detector.detect_encoded([b"", b"x"])] == ["empty", "not_a_picture"]


def test_limits_are_those_of_the_caller(detector, samples):
    (outcome,) = detector.detect_files([samples.pictures[0].path], limits=PictureLimits(side_px=639))
    assert isinstance(outcome, PictureError)
    assert outcome.code == "too_long_side"


def test_a_caller_may_stop_listening_and_ask_again(detector, samples):
    paths = [p.path for p in samples.pictures]
    answers = detector.detect_files(paths)
    first = next(answers)
    answers.close()
    again = next(detector.detect_files(paths))
    assert np.array_equal(first.boxes_xyxy_px, again.boxes_xyxy_px)


def test_something_that_is_no_picture_array_is_refused(detector):
    for wrong in (np.zeros((9, 9), np.uint8), np.zeros((9, 9, 3), np.float32), np.zeros((0, 9, 3), np.uint8)):
        with pytest.raises(ValueError, match="picture"):
            detector.detect([wrong])
    for wrong_size in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="object_size_px"):
            detector.detect([np.zeros((9, 9, 3), np.uint8)], object_size_px=wrong_size)


@pytest.fixture(scope="module")
def block(samples):
    """The ten neighbouring tiles of the upper part as the one piece of plate they were cut from."""
    return stitch([p for p in samples.pictures if p.place_px[0] >= 5120]).cutting


def test_a_stitched_plate_shows_the_animals_of_its_tiles_and_none_twice(detector, samples, block):
    assert block.pixels.shape == (3200, 1280, 3)
    (whole,) = detector.detect([block.pixels])
    hits = matches(block.boxes_xyxy_px, whole.boxes_xyxy_px)
    found = sum(bool(rows) for rows in hits)
    assert found >= 0.85 * len(block.boxes_xyxy_px)
    # No window's box is left beside that of its neighbour: suppression would have removed such a pair.
    doubles = matches(whole.boxes_xyxy_px, whole.boxes_xyxy_px, iou=0.45)
    assert [rows for rows in doubles if len(rows) > 1] == []
    # The net itself may be of two minds about the length of an animal, as on single tiles.
    assert sum(len(rows) > 1 for rows in hits) <= 2

    # What the tiles show whole, and well, the plate shows too, at the same place.
    tiles = [p for p in samples.pictures if p.place_px[0] >= 5120]
    seen, missed = 0, 0
    for tile, single in zip(tiles, detector.detect([t.pixels() for t in tiles], confidence=0.5), strict=True):
        inside = ((single.boxes_xyxy_px > 4) & (single.boxes_xyxy_px < 636)).all(axis=1)
        place = np.array([tile.place_px[0] - 5120, tile.place_px[1] - 640] * 2, np.float32)
        again = matches(single.boxes_xyxy_px[inside] + place, whole.boxes_xyxy_px)
        seen += sum(bool(rows) for rows in again)
        missed += sum(not rows for rows in again)
    assert missed <= 0.05 * seen


def test_animals_cut_by_the_borders_of_tiles_come_out_whole(detector, block):
    """Those that lie across a border between two tiles of 640 px, where single tiles show only pieces."""
    boxes = block.boxes_xyxy_px
    crosses = (boxes[:, 0] // 640 != boxes[:, 2] // 640) | (boxes[:, 1] // 640 != boxes[:, 3] // 640)
    crossing = boxes[crosses]
    assert len(crossing) >= 10
    (whole,) = detector.detect([block.pixels])
    hits = matches(crossing, whole.boxes_xyxy_px, iou=0.6)
    assert sum(bool(rows) for rows in hits) >= 0.8 * len(crossing)


def test_a_large_photo_of_one_big_animal_is_not_tiled(detector, full_tile):
    photo = np.asarray(Image.fromarray(full_tile).resize((3000, 3000)))
    (found,) = detector.detect([photo], object_size_px=117 * 3000 / 640)
    (small,) = detector.detect([full_tile])
    assert (found.width_px, found.height_px) == (3000, 3000)
    hits = matches(small.boxes_xyxy_px * (3000 / 640), found.boxes_xyxy_px, iou=0.7)
    assert sum(bool(rows) for rows in hits) >= 0.9 * len(small)


def test_a_reduced_decoding_gives_coordinates_of_the_original(detector, full_tile, tmp_path):
    path = tmp_path / "photo.jpg"
    Image.fromarray(full_tile).resize((2600, 2600)).save(path, quality=95)
    (from_file,) = detector.detect_files([path], object_size_px=117 * 2600 / 640)
    (small,) = detector.detect([full_tile])
    assert (from_file.width_px, from_file.height_px) == (2600, 2600)
    hits = matches(small.boxes_xyxy_px * (2600 / 640), from_file.boxes_xyxy_px, iou=0.7)
    assert sum(bool(rows) for rows in hits) >= 0.9 * len(small)


def test_pytorch_gives_the_same_boxes_as_the_fast_runtime_in_single_precision(full_tile, tmp_path):
    """The code path of a GPU, on the CPU: batches, and the same boxes within a pixel and a hundredth."""
    from apps.training.engine.conversion import converted_model
    from apps.training.engine.runtimes import OpenVinoRuntime

    model, metadata = load_torch_model(WEIGHTS)
    torch_detector = Detector(TorchRuntime(model, device="cpu", batch=2), metadata)
    converted = converted_model(
        WEIGHTS, sha256=file_sha256(WEIGHTS), cache_dir=ROOT / ".podura" / "engine-tests"
    )
    fast = Detector(OpenVinoRuntime(converted.model, precision="fp32"), metadata)
    assert (torch_detector.runtime, fast.runtime) == ("torch", "openvino-fp32")
    pictures = [full_tile, full_tile[:480], full_tile[::-1].copy()]
    for expected, found in zip(torch_detector.detect(pictures), fast.detect(pictures), strict=True):
        assert len(expected) == len(found) > 3
        assert np.abs(expected.boxes_xyxy_px - found.boxes_xyxy_px).max() < 1
        assert np.abs(expected.class_scores - found.class_scores).max() < 0.01


def test_a_wrong_digest_is_refused_before_anything_is_read(tmp_path):
    with pytest.raises(WeightsError, match="digest"):
        load_detector(WEIGHTS, sha256="0" * 64, cache_dir=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_one_changed_byte_is_noticed_even_when_a_converted_model_is_there(detector, tmp_path):
    changed = tmp_path / "weights.podura"
    content = bytearray(WEIGHTS.read_bytes())
    content[len(content) // 2] ^= 1
    changed.write_bytes(content)
    with pytest.raises(WeightsError, match="digest"):
        load_detector(changed, sha256=file_sha256(WEIGHTS), cache_dir=ROOT / ".podura" / "engine-tests")
    with pytest.raises(WeightsError):
        load_detector(changed, sha256=file_sha256(changed), cache_dir=tmp_path / "cache")


def test_the_process_that_infers_on_a_cpu_has_no_torch_and_no_django(detector):
    code = f"""
import sys
from pathlib import Path
from apps.training.engine.detector import load_detector
weights = Path({str(WEIGHTS)!r})
detector = load_detector(weights, sha256={file_sha256(WEIGHTS)!r}, cache_dir=Path(".podura/engine-tests"), device="cpu")
found = sum(len(boxes) for boxes in detector.detect_files(sorted(Path({str(SHIPPED / "samples")!r}).glob("*.jpg"))[:3]))
print(found, detector.runtime, "torch" in sys.modules, "ultralytics" in sys.modules, "django" in sys.modules)
"""
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert answer.returncode == 0, answer.stderr
    found, runtime, *imported = answer.stdout.split()
    assert int(found) > 0
    assert runtime in ("openvino-fp32", "openvino-bf16")
    assert imported == ["False"] * 3


def test_a_whole_plate_of_108_megapixels_is_read_in_bounded_memory(detector, block, tmp_path):
    path, left, top = tmp_path / "plate.jpg", 4107, 6211
    plate = Image.new("RGB", (10_408, 10_338), (45, 56, 53))
    plate.paste(Image.fromarray(block.pixels), (left, top))
    plate.save(path, quality=95)
    del plate
    # Not getrusage: its peak would begin with that of the process that starts this one.
    code = f"""
import json
from pathlib import Path
from apps.training.engine.detector import load_detector
detector = load_detector(
    Path({str(WEIGHTS)!r}), sha256={file_sha256(WEIGHTS)!r}, cache_dir=Path(".podura/engine-tests"), device="cpu"
)
(found,) = detector.detect_files([Path({str(path)!r})])
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
peak_mb = int(status["VmHWM"].split()[0]) / 1024
print(json.dumps([found.width_px, found.height_px, peak_mb, found.boxes_xyxy_px.tolist()]))
"""
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    width, height, peak_mb, boxes = json.loads(answer.stdout)
    assert (width, height) == (10_408, 10_338)
    assert peak_mb < 1600
    hits = matches(block.boxes_xyxy_px + np.array([left, top] * 2), np.array(boxes))
    assert sum(bool(rows) for rows in hits) >= 0.85 * len(hits)


def test_threads_may_share_a_detector(detector, samples):
    from concurrent.futures import ThreadPoolExecutor

    pictures = [p.pixels() for p in samples.pictures[:4]]
    alone = [detector.detect([picture])[0] for picture in pictures]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda picture: detector.detect([picture])[0], pictures))
    for one, other in zip(alone, together, strict=True):
        assert isinstance(other, DetectedBoxes)
        assert np.array_equal(one.boxes_xyxy_px, other.boxes_xyxy_px)

"""The evaluator: perfect is 1, nothing is 0, and no ground truth is no number at all."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from apps.training.engine import evaluate as evaluation
from apps.training.engine.detector import load_detector
from apps.training.engine.evaluate import evaluate, quality_of
from apps.training.engine.types import DetectedBoxes
from tests.training.engine.conftest import ROOT, SHIPPED, WEIGHTS


def answer(picture, *, shift_px=0.0, score=0.9, keep=slice(None)):
    boxes = picture.boxes_xyxy_px[keep] + np.float32(shift_px)
    scores = np.full(len(boxes), score, np.float32)
    return DetectedBoxes(boxes, scores, np.zeros(len(boxes), np.int64), scores[:, None], 640, 640, 1.0)


def test_perfect_answers_have_an_map_of_one(samples):
    quality = quality_of(samples, [answer(p) for p in samples.pictures])
    assert quality.map50 == quality.map50_95 == quality.precision == quality.recall == pytest.approx(1.0)


def test_no_answers_have_an_map_of_zero(samples):
    nothing = [
        DetectedBoxes.none_found(labels=1, width_px=640, height_px=640, duration_ms=1)
        for _ in samples.pictures
    ]
    quality = quality_of(samples, nothing)
    assert quality.map50 == quality.map50_95 == quality.recall == 0
    assert math.isnan(quality.precision)


def test_loose_boxes_lose_more_of_the_stricter_measure(samples):
    quality = quality_of(samples, [answer(p, shift_px=6.0) for p in samples.pictures])
    assert quality.map50 > 0.85
    assert quality.map50_95 < quality.map50 - 0.2


def test_without_a_single_animal_there_is_no_number(samples):
    empty = replace(
        samples,
        pictures=tuple(
            replace(p, boxes_xyxy_px=np.zeros((0, 4), np.float32), labels=np.zeros(0, np.int64))
            for p in samples.pictures
        ),
    )
    quality = quality_of(empty, [answer(p) for p in samples.pictures])
    assert math.isnan(quality.map50)
    assert math.isnan(quality.recall)


def test_more_than_a_hundred_animals_of_a_plate_all_count(samples):
    side = np.arange(20, dtype=np.float32) * 30
    x, y = (axis.ravel() for axis in np.meshgrid(side, side))
    boxes = np.stack([x, y, x + 20, y + 20], axis=1)
    plate = replace(samples.pictures[0], boxes_xyxy_px=boxes, labels=np.zeros(400, np.int64))
    assert quality_of(replace(samples, pictures=(plate,)), [answer(plate)]).map50 == pytest.approx(1.0)


def test_each_picture_is_counted_for_itself(samples):
    first = samples.pictures[0]
    missing_one = quality_of(replace(samples, pictures=(first,)), [answer(first, keep=slice(1, None))])
    (counted,) = missing_one.pictures
    assert (counted.name, counted.animals, counted.missed, counted.false) == (first.path.name, 8, 1, 0)


@pytest.mark.slow
def test_the_shipped_model_is_as_good_as_its_card_says(detector, samples):
    card = json.loads((SHIPPED / "metrics.json").read_text())
    cache = ROOT / ".podura" / "engine-tests"
    single = load_detector(
        WEIGHTS, sha256=card["weights_sha256"], cache_dir=cache, device="cpu", precision="fp32"
    )
    quality = evaluate(single, samples)
    assert quality.map50 == pytest.approx(card["map50"], abs=0.001)
    assert quality.map50_95 == pytest.approx(card["map50_95"], abs=0.001)
    chosen = evaluate(detector, samples)
    assert chosen.map50 >= max(0.92, quality.map50 - 0.005)
    assert chosen.map50_95 >= quality.map50_95 - 0.005


@pytest.mark.slow
def test_the_command_writes_what_it_prints(tmp_path, capsys, samples):
    target = tmp_path / "quality.json"
    arguments = [
        "--weights",
        WEIGHTS,
        "--images",
        SHIPPED / "samples",
        "--coco",
        SHIPPED / "samples" / "coco.json",
    ]
    arguments += ["--names", SHIPPED / "validation.txt", "--cache", ROOT / ".podura" / "engine-tests"]
    evaluation.main([str(a) for a in [*arguments, "--device", "cpu", "--json", target]])
    written = json.loads(target.read_text())
    assert f"mAP50 {written['map50']:.4f}" in capsys.readouterr().out
    assert len(written["pictures"]) == len(samples.pictures)


@pytest.mark.slow
def test_other_labels_cannot_be_compared(detector, samples):
    with pytest.raises(ValueError, match="labelled"):
        evaluate(detector, replace(samples, labels=("mite",)))

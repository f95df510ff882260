"""Measure a detector on labelled pictures with the COCO evaluator (faster-coco-eval).

python -m apps.training.engine.evaluate --weights W --images DIR --coco coco.json [--names names.txt]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from apps.training.engine.detector import DEFAULT_CONFIDENCE, Detector, load_detector
from apps.training.engine.labelled import LabelledPicture, LabelledPictures, read_coco
from apps.training.engine.suppression import intersection_areas
from apps.training.engine.types import DetectedBoxes
from apps.training.engine.weights import file_sha256

EVALUATED_CONFIDENCE: Final = 0.001
"""mAP integrates over all thresholds, so that hardly anything may be cut off beforehand."""
EVALUATED_IOU: Final = 0.7
MATCH_IOU: Final = 0.5
MAX_DETECTIONS: Final = 2000
"""COCO's own limit of 100 boxes a picture would count three quarters of a full plate as missed."""
EVALUATOR: Final = "COCO mAP by faster-coco-eval, 101-point interpolation, up to 2000 boxes a picture"


@dataclass(frozen=True, slots=True)
class PictureQuality:
    """One picture at the default confidence: matches are greedy, of the same label, IoU 0.5 or more."""

    name: str
    animals: int
    found: int
    false: int

    @property
    def missed(self) -> int:
        return self.animals - self.found


@dataclass(frozen=True, slots=True)
class Quality:
    """All 0..1. Of no labelled animal at all, mAP is NaN: whoever compares must refuse it."""

    map50: float
    map50_95: float
    precision: float
    recall: float
    pictures: tuple[PictureQuality, ...]


def evaluate(detector: Detector, labelled: LabelledPictures) -> Quality:
    """Run `detector` over the pictures and compare with their ground truth. Labels must be the same, in order."""
    if detector.labels != labelled.labels:
        raise ValueError(f"the detector knows {detector.labels}, the pictures are labelled {labelled.labels}")
    outcomes = detector.detect_files(
        [picture.path for picture in labelled.pictures], confidence=EVALUATED_CONFIDENCE, iou=EVALUATED_IOU
    )
    found = []
    for picture, outcome in zip(labelled.pictures, outcomes, strict=True):
        if not isinstance(outcome, DetectedBoxes):
            raise ValueError(f"{picture.path.name}: {outcome}")  # noqa: TRY004 - a wrong file, not a wrong type
        found.append(outcome)
    return quality_of(labelled, found)


def quality_of(labelled: LabelledPictures, detected: Sequence[DetectedBoxes]) -> Quality:
    """MAP over all scores given; precision and recall at the default confidence."""
    map50_95, map50 = _coco_map(labelled, detected)
    pictures = tuple(_match(p, d) for p, d in zip(labelled.pictures, detected, strict=True))
    found, false = sum(p.found for p in pictures), sum(p.false for p in pictures)
    animals = sum(p.animals for p in pictures)
    return Quality(
        map50=map50,
        map50_95=map50_95,
        precision=found / (found + false) if found + false else float("nan"),
        recall=found / animals if animals else float("nan"),
        pictures=pictures,
    )


def _coco_map(labelled: LabelledPictures, detected: Sequence[DetectedBoxes]) -> tuple[float, float]:
    """(mAP50-95, mAP50)."""
    from faster_coco_eval import COCO, COCOeval_faster

    truth: dict[str, Any] = {
        "images": [
            {"id": i, "width": p.width_px, "height": p.height_px} for i, p in enumerate(labelled.pictures)
        ],
        "categories": [{"id": i, "name": name} for i, name in enumerate(labelled.labels)],
        "annotations": [],
    }
    rows: list[dict[str, Any]] = []
    for image_id, (picture, boxes) in enumerate(zip(labelled.pictures, detected, strict=True)):
        for box, label in zip(picture.boxes_xyxy_px, picture.labels, strict=True):
            x, y, width, height = _xywh(box)
            row = {"id": len(truth["annotations"]) + 1, "image_id": image_id, "category_id": int(label)}
            truth["annotations"].append(
                row | {"bbox": [x, y, width, height], "area": width * height, "iscrowd": 0}
            )
        for box, label, score in zip(boxes.boxes_xyxy_px, boxes.labels, boxes.scores, strict=True):
            rows.append(
                {"image_id": image_id, "category_id": int(label), "bbox": _xywh(box), "score": float(score)}
            )
    if not truth["annotations"]:
        return float("nan"), float("nan")
    if not rows:
        return 0.0, 0.0
    with contextlib.redirect_stdout(io.StringIO()):  # the evaluator prints its table
        ground = COCO(truth)
        evaluator = COCOeval_faster(ground, ground.loadRes(rows), "bbox")
        evaluator.params.maxDets = [1, 100, MAX_DETECTIONS]
        evaluator.evaluate()
        evaluator.accumulate()
    # (thresholds 0.50 to 0.95, recalls, labels, all sizes, most boxes); -1 marks labels without an animal
    precision = np.asarray(evaluator.eval["precision"])[:, :, :, 0, -1]
    known = precision.min(axis=(0, 1)) > -1
    return float(precision[:, :, known].mean()), float(precision[0][:, known].mean())


def _xywh(box: Any) -> list[float]:
    x1, y1, x2, y2 = (float(value) for value in box)
    return [x1, y1, x2 - x1, y2 - y1]


def _match(picture: LabelledPicture, detected: DetectedBoxes) -> PictureQuality:
    free = np.ones(len(picture.labels), np.bool_)
    shown = detected.scores >= DEFAULT_CONFIDENCE
    areas = (picture.boxes_xyxy_px[:, 2:] - picture.boxes_xyxy_px[:, :2]).prod(axis=1)
    found = 0
    for box, label in zip(detected.boxes_xyxy_px[shown], detected.labels[shown], strict=True):
        shared = intersection_areas(box, picture.boxes_xyxy_px)
        iou = shared / np.maximum(areas + (box[2:] - box[:2]).prod() - shared, 1e-9)
        iou[~free | (picture.labels != label)] = 0
        if len(iou) and iou.max() >= MATCH_IOU:
            free[int(iou.argmax())] = False
            found += 1
    return PictureQuality(picture.path.name, len(picture.labels), found, int(shown.sum()) - found)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--coco", type=Path, required=True)
    parser.add_argument("--names", type=Path, help="text file: only these pictures")
    parser.add_argument(
        "--cache", type=Path, default=Path(".podura/engine"), help="where converted models are"
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--precision", choices=("auto", "fp32"), default="auto")
    parser.add_argument("--json", type=Path, help="write the result here as well")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parse(arguments)
    labelled = read_coco(options.images, options.coco)
    if options.names:
        labelled = labelled.only(options.names.read_text().split())
    digest = file_sha256(options.weights)
    detector = load_detector(
        options.weights,
        sha256=digest,
        cache_dir=options.cache,
        device=options.device,
        precision=options.precision,
    )
    quality = evaluate(detector, labelled)
    print(f"{'picture':<32} {'animals':>7} {'found':>5} {'missed':>6} {'false':>5}")
    for picture in quality.pictures:
        row = f"{picture.animals:>7} {picture.found:>5} {picture.missed:>6} {picture.false:>5}"
        print(f"{picture.name:<32} {row}")
    print(f"{detector.runtime}: mAP50 {quality.map50:.4f}, mAP50-95 {quality.map50_95:.4f} ({EVALUATOR})")
    print(
        f"at confidence {DEFAULT_CONFIDENCE}: precision {quality.precision:.3f}, recall {quality.recall:.3f}"
    )
    if options.json:
        record = {
            "weights_sha256": digest,
            "runtime": detector.runtime,
            "evaluator": EVALUATOR,
            "map50": quality.map50,
            "map50_95": quality.map50_95,
            "precision": quality.precision,
            "recall": quality.recall,
            "pictures": [
                {"name": p.name, "animals": p.animals, "found": p.found, "false": p.false}
                for p in quality.pictures
            ],
        }
        options.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()

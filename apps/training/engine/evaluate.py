"""Measure a detector on labelled pictures with the COCO evaluator (faster-coco-eval).

python -m apps.training.engine.evaluate --weights W --images DIR --coco coco.json [--names names.txt]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from apps.training.engine.detector import DEFAULT_CONFIDENCE, Detector, load_detector
from apps.training.engine.labelled import LabelledPictures, read_coco
from apps.training.engine.matching import MATCH_IOU, Found, Truth, greedy_partners
from apps.training.engine.reference import EVALUATOR, coco_precisions
from apps.training.engine.types import DetectedBoxes
from apps.training.engine.weights import file_sha256

EVALUATED_CONFIDENCE: Final = 0.001
"""mAP integrates over all thresholds, so that hardly anything may be cut off beforehand."""
EVALUATED_IOU: Final = 0.7


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
    truths = [Truth(picture.boxes_xyxy_px, picture.labels) for picture in labelled.pictures]
    boxes = [Found(d.boxes_xyxy_px, d.labels, d.scores) for d in detected]
    precisions = coco_precisions(truths, boxes, labels=labelled.labels)
    pictures = tuple(
        _match(picture.path.name, truth, found)
        for picture, truth, found in zip(labelled.pictures, truths, boxes, strict=True)
    )
    found, false = sum(p.found for p in pictures), sum(p.false for p in pictures)
    animals = sum(p.animals for p in pictures)
    return Quality(
        map50=precisions.map50,
        map50_95=precisions.map50_95,
        precision=found / (found + false) if found + false else float("nan"),
        recall=found / animals if animals else float("nan"),
        pictures=pictures,
    )


def _match(name: str, truth: Truth, found: Found) -> PictureQuality:
    shown = found.take(found.scores >= DEFAULT_CONFIDENCE)
    right = int((greedy_partners(truth, shown, thresholds=np.array([MATCH_IOU])) >= 0).sum())
    return PictureQuality(name, len(truth), right, len(shown) - right)


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

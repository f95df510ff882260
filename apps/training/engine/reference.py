"""Average precision by the reference implementation, faster-coco-eval (equal to pycocotools, a test holds them together)."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from apps.training.engine.matching import MAX_DETECTIONS, Found, Truth

EVALUATOR: Final = "COCO mAP by faster-coco-eval, 101-point interpolation, up to 2000 boxes a picture"
_NO_LIMIT: Final = 1e12


@dataclass(frozen=True, slots=True)
class SizeRange:
    """Animals whose box has an area in this range; those outside are ignored, and so are boxes that match them."""

    name: str
    from_area_px: float
    to_area_px: float


@dataclass(frozen=True, slots=True)
class Precisions:
    """The evaluator's own arrays; NaN where there is no animal to find."""

    precision: NDArray[np.float64]
    """(10, 101, L) interpolated precision at each threshold and recall 0, 0.01 … 1, all sizes."""
    map50_95_by_size: dict[str, float]
    recall_by_size: dict[str, float]
    """At IoU 0.5, with all boxes."""

    @property
    def map50_95(self) -> float:
        return _mean(self.precision)

    @property
    def map50(self) -> float:
        return _mean(self.precision[0])

    def of_label(self, label: int) -> tuple[float, float]:
        """(AP50-95, AP50)."""
        return _mean(self.precision[:, :, label]), _mean(self.precision[0, :, label])


def coco_precisions(
    truths: Sequence[Truth],
    found: Sequence[Found],
    *,
    labels: Sequence[str],
    sizes: Sequence[SizeRange] = (),
) -> Precisions:
    """Run the evaluator on P pictures. Without any animal, everything is NaN."""
    shape = (10, 101, len(labels))
    if not any(len(truth) for truth in truths):
        nothing = {size.name: float("nan") for size in sizes}
        return Precisions(np.full(shape, np.nan), nothing, dict(nothing))
    from faster_coco_eval import COCO, COCOeval_faster

    names = [{"id": i, "name": name} for i, name in enumerate(labels)]
    images = [{"id": i} for i in range(len(truths))]
    with contextlib.redirect_stdout(io.StringIO()):  # the evaluator prints its table
        ground, results = COCO(), COCO()
        ground.dataset = {"images": images, "categories": names, "annotations": _truth_rows(truths)}
        # Not by loadRes: it gives each box a polygon, a third of a gigabyte for a thousand pictures.
        results.dataset = {"images": images, "categories": names, "annotations": _found_rows(found)}
        ground.createIndex()
        results.createIndex()
        evaluator = COCOeval_faster(ground, results, "bbox")
        evaluator.params.maxDets = [MAX_DETECTIONS]
        evaluator.params.areaRng = [
            [0, _NO_LIMIT],
            *([size.from_area_px, size.to_area_px] for size in sizes),
        ]
        evaluator.params.areaRngLbl = ["all", *(size.name for size in sizes)]
        evaluator.evaluate()
        evaluator.accumulate()
    # (thresholds, recalls, labels, sizes, most boxes); -1 marks labels without an animal
    precision = np.asarray(evaluator.eval["precision"], np.float64)[:, :, :, :, -1]
    recall = np.asarray(evaluator.eval["recall"], np.float64)[0, :, :, -1]
    precision[precision < 0] = np.nan
    recall[recall < 0] = np.nan
    return Precisions(
        precision[:, :, :, 0],
        {size.name: _mean(precision[:, :, :, place]) for place, size in enumerate(sizes, 1)},
        {size.name: _mean(recall[:, place]) for place, size in enumerate(sizes, 1)},
    )


def _truth_rows(truths: Sequence[Truth]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for image, truth in enumerate(truths):
        for box, label in zip(_xywh(truth.boxes_xyxy_px), truth.labels.tolist(), strict=True):
            rows.append(
                {
                    "id": len(rows) + 1,
                    "image_id": image,
                    "category_id": label,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                }
            )
    return rows


def _found_rows(found: Sequence[Found]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for image, boxes in enumerate(found):
        lists = (_xywh(boxes.boxes_xyxy_px), boxes.labels.tolist(), boxes.scores.tolist())
        for box, label, score in zip(*lists, strict=True):
            rows.append(
                {
                    "id": len(rows) + 1,
                    "image_id": image,
                    "category_id": label,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                    "score": score,
                }
            )
    return rows


def _xywh(boxes_xyxy: NDArray[np.float32]) -> list[list[float]]:
    boxes = boxes_xyxy.astype(np.float64)
    boxes[:, 2:] -= boxes[:, :2]
    rows: list[list[float]] = boxes.tolist()
    return rows


def _mean(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")

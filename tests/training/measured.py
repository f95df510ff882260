"""A finished evaluation with a report written by hand: three photos, two labels, each kind of mistake once."""

import hashlib
import uuid
from dataclasses import replace
from io import BytesIO
from typing import Any

from django.core.files.base import ContentFile
from django.core.files.storage import storages
from PIL import Image

from apps.common.leased import WorkStatus
from apps.training.engine.report import (
    Bin,
    Calibration,
    Curve,
    PictureReport,
    Report,
    SizeBucket,
)
from apps.training.models import Dataset, Evaluation, ModelVersion
from tests.training.factories import DatasetItemFactory, EvaluationFactory

SIDE_PX = 640
RECALLS = tuple(step / 100 for step in range(101))
CONFIDENCES = (0.05, 0.5, 1.0)
METRICS = {
    "map50": 0.7,
    "map50_95": 0.5,
    "map50_95_low": 0.4,
    "map50_95_high": 0.6,
    "precision": 0.5,
    "recall": 0.25,
    "f1": 0.33,
    "ece": 0.2,
    "latency_ms": 41.0,
    "photos": 3,
    "boxes": 4,
    "confidence": 0.25,
}
BY_LABEL = {
    "ISO_MIN": {"map50": 0.6, "map50_95": 0.4, "precision": 0.5, "recall": 0.5, "f1": 0.5, "boxes": 2},
    "CER": {"map50": 0.8, "map50_95": 0.6, "precision": 1.0, "recall": 0.2, "f1": 0.3, "boxes": 20},
}


def colourful_jpeg(side_px: int = SIDE_PX) -> bytes:
    buffer = BytesIO()
    Image.linear_gradient("L").resize((side_px, side_px)).convert("RGB").save(buffer, "JPEG")
    return buffer.getvalue()


def stored_photo(dataset: Dataset, *, split: str = "test", **fields: Any) -> Any:
    """An item whose original is in the storage."""
    content = colourful_jpeg()
    name = storages["default"].save(f"originals/{uuid.uuid4()}.jpg", ContentFile(content))
    return DatasetItemFactory(
        dataset=dataset,
        split=split,
        file=name,
        file_sha256=hashlib.sha256(content).hexdigest(),
        width_px=SIDE_PX,
        height_px=SIDE_PX,
        **fields,
    )


def report_of(photos: list[str]) -> Report:
    """Photo 1: right, and a wrong name. Photo 2: a missed animal and a box where nothing is. Photo 3: no mistake."""
    curve = Curve(RECALLS, (0.9,) * 101, CONFIDENCES, (0.5, 0.6, None), (0.4, 0.8, None), (0.9, 0.5, 0.0))
    pictures = (
        PictureReport(
            photos[0], SIDE_PX, SIDE_PX,
            truth=((10, 10, 110, 60, 0), (200, 200, 300, 300, 1)),
            found=((12, 12, 108, 58, 0, 0.9), (201, 199, 305, 298, 0, 0.8), (400, 400, 420, 420, 1, 0.1)),
            pairs=((0, 0), (1, 1)), tp=1, fp=1, fn=1, latency_ms=40.0,
        ),
        PictureReport(
            photos[1], SIDE_PX, SIDE_PX,
            truth=((0, 0, 50, 50, 0),), found=((500, 500, 600, 600, 1, 0.7),),
            pairs=(), tp=0, fp=1, fn=1, latency_ms=42.0,
        ),
        PictureReport(
            photos[2], SIDE_PX, SIDE_PX,
            truth=((300, 300, 400, 400, 0),), found=((300, 300, 400, 400, 0, 0.99),),
            pairs=((0, 0),), tp=1, fp=0, fn=0, latency_ms=None,
        ),
    )  # fmt: skip
    return Report(
        labels=("CER", "ISO_MIN"),
        confidence=0.25,
        match_iou=0.5,
        evaluator="counted by hand",
        pictures=pictures,
        curves={"all": curve, "CER": curve, "ISO_MIN": curve},
        confusion=((2, 0, 1), (1, 0, 0), (0, 1, 0)),
        cells={
            "0,0": ((0, 0, 0), (2, 0, 0)),
            "1,0": ((0, 1, 1),),
            "0,2": ((1, 0, None),),
            "2,1": ((1, None, 0),),
        },
        calibration=Calibration(0.2, (Bin(0.0, 0.5, 0, None, None), Bin(0.5, 1.0, 4, 0.8, 0.5))),
        sizes={"small": SizeBucket(0, 60, 2, 0.4, 0.5), "large": SizeBucket(60, None, 2, None, None)},
    )


def better(report: Report) -> Report:
    """The same photos, with nothing missed and nothing found that is not there."""
    second = replace(report.pictures[1], found=((1, 1, 50, 50, 0, 0.9),), pairs=((0, 0),), tp=1, fp=0, fn=0)
    return replace(report, pictures=(report.pictures[0], second, report.pictures[2]))


def measured_evaluation(
    version: ModelVersion | None = None, *, report: Report | None = None, **fields: Any
) -> Evaluation:
    """Done, with its report in the storage and its three photos in the dataset."""
    if version is not None:
        fields["version"] = version
    evaluation: Evaluation = EvaluationFactory(
        status=WorkStatus.DONE, metrics=METRICS, by_label=BY_LABEL, photo_count=3, photos_done=3, **fields
    )
    if report is None:
        report = report_of([str(stored_photo(evaluation.dataset).photo) for _ in range(3)])
    evaluation.report.save("report.json.gz", ContentFile(report.encoded()))
    return evaluation

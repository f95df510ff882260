"""Frozen pictures whose truth the stub detector finds, and a report of a made-up evaluation."""

import hashlib
import io
import uuid
from pathlib import Path

from django.core.files.base import ContentFile
from django.core.files.storage import storages
from PIL import Image

from apps.training.engine.report import Report
from apps.training.services.datasets import FrozenBox, FrozenItem
from tests.support.stub_detector import boxes_of

LABELS = ("CER", "ISO_MIN")


def example_report() -> Report:
    """40 pictures with three labels, all kinds of errors, and pictures without an animal."""
    return Report.decoded((Path(__file__).parent / "data" / "report.json.gz").read_bytes())


def picture(number: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (80, 60), (number, 120, 80)).save(out, "PNG")
    return out.getvalue()


def frozen(number: int, *, split: str = "test", labels=LABELS, keep=slice(None)) -> FrozenItem:
    """A picture whose truth is what the stub finds on it, or a part of that."""
    content = picture(number)
    found = boxes_of(content, 80, 60, len(labels))
    rows = list(zip(found.boxes_xyxy_px.tolist(), found.labels.tolist(), strict=True))[keep]
    return FrozenItem(
        photo=str(uuid.UUID(int=number)),
        annotation=str(uuid.UUID(int=1000 + number)),
        split=split,
        group=f"g{number}",
        file=storages["default"].save(f"originals/{number}.png", ContentFile(content)),
        file_sha256=hashlib.sha256(content).hexdigest(),
        width_px=80,
        height_px=60,
        licence="CC-BY-4.0",
        attribution="",
        boxes=tuple(FrozenBox(*box, labels[label]) for box, label in rows),
    )

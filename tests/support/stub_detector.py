"""Stands in for the engine where a test is about everything around it. Boxes follow from the picture's bytes alone."""

import hashlib
import os
import signal
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from apps.training.engine.pictures import PictureError, inspect
from apps.training.engine.types import DetectedBoxes

POISON = b"poison-for-the-detector"
"""A picture with these bytes behind it kills the process that looks at it."""


class StubDetector:
    """One to four boxes a picture; the number is `expected_boxes(content)`."""

    runtime = "stub"

    def __init__(self, labels: tuple[str, ...], *, seconds_a_picture: float = 0.0) -> None:
        self.labels = labels
        self.seconds_a_picture = seconds_a_picture
        self.seen: list[str] = []

    def detect_encoded(
        self, contents: Iterable[bytes], *, confidence: float = 0.25, **_options: Any
    ) -> Iterator[DetectedBoxes | PictureError]:
        for content in contents:
            self.seen.append(hashlib.sha256(content).hexdigest())
            time.sleep(self.seconds_a_picture)
            if content.endswith(POISON):
                os.kill(os.getpid(), signal.SIGKILL)
            try:
                header = inspect(content)
            except PictureError as error:
                yield error
            else:
                yield boxes_of(content, header.width_px, header.height_px, len(self.labels))

    def detect_files(self, paths: Iterable[Path], **options: Any) -> Iterator[DetectedBoxes | PictureError]:
        return self.detect_encoded((path.read_bytes() for path in paths), **options)


def expected_boxes(content: bytes) -> int:
    return hashlib.sha256(content).digest()[0] % 4 + 1


def boxes_of(content: bytes, width_px: int, height_px: int, labels: int) -> DetectedBoxes:
    """Boxes side by side, scores from the bytes."""
    count = expected_boxes(content)
    dice = np.random.default_rng(list(hashlib.sha256(content).digest()[:8]))
    left = np.arange(count, dtype=np.float32) * (width_px / count)
    boxes = np.stack(
        [
            left,
            np.full(count, height_px * 0.25),
            left + width_px / count * 0.8,
            np.full(count, height_px * 0.75),
        ],
        axis=1,
    ).astype(np.float32)
    class_scores = dice.uniform(0.3, 1, (count, labels)).astype(np.float32)
    order = np.argsort(-class_scores.max(axis=1))
    return DetectedBoxes(
        boxes_xyxy_px=boxes[order],
        scores=class_scores.max(axis=1)[order],
        labels=class_scores.argmax(axis=1)[order],
        class_scores=class_scores[order],
        width_px=width_px,
        height_px=height_px,
        duration_ms=1.0,
    )


def load(weights: Path, *, sha256: str, cache_dir: Path) -> StubDetector:
    """In the place of `load_detector`: the file of "weights" holds the labels, one a line."""
    labels = tuple(weights.read_text().splitlines()[0].split())
    return StubDetector(labels, seconds_a_picture=float(os.environ.get("STUB_SECONDS_A_PICTURE", "0")))


def stub_version(registered_model: Any, *labels: str, **fields: Any) -> Any:
    """A production version of the model whose "weights" `load` understands; its predecessor is archived."""
    from django.core.files.base import ContentFile

    from apps.training.models import ModelVersion
    from tests.factories import ModelVersionFactory

    content = f"{' '.join(labels or ('collembola',))}\n# {os.urandom(8).hex()}".encode()
    ModelVersion.objects.filter(registered_model=registered_model, stage="production").update(
        stage="archived"
    )
    return ModelVersionFactory(
        registered_model=registered_model,
        weights=ContentFile(content, name="stub.podura"),
        weights_sha256=hashlib.sha256(content).hexdigest(),
        weights_bytes=len(content),
        labels=list(labels or ("collembola",)),
        **fields,
    )

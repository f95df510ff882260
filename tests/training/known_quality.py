"""Detectors of a known quality: they find what the truth of `gate_dataset` holds, and miss as much as they are told to.

The "weights" hold the labels in the first line and the quality in the second: `right=0.8 milliseconds=1 false=0.1 at=confident`.
"""

import hashlib
import os
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from django.core.files.base import ContentFile
from django.core.files.storage import storages

from apps.training.engine.pictures import PictureError
from apps.training.engine.types import DetectedBoxes
from apps.training.models import Comparison, Dataset, ModelVersion, PromotionEvent, RegisteredModel
from apps.training.services.comparisons import continue_next_comparison, request_comparison
from apps.training.services.datasets import FrozenBox, FrozenItem, create_dataset
from apps.training.services.promotion import promote
from tests.factories import ModelVersionFactory
from tests.support.pictures import png
from tests.support.stub_detector import StubDetector, boxes_of

LOADER = "tests.training.known_quality.load"
LABELS = ("CER", "ISO_MIN")
SIDE = (96, 64)


class KnownDetector(StubDetector):
    def __init__(self, labels: tuple[str, ...], *, right: float, milliseconds: float, score: float) -> None:
        super().__init__(labels)
        self.right, self.milliseconds, self.score = right, milliseconds, score

    def detect_encoded(
        self, contents: Iterable[bytes], *, confidence: float = 0.25, **_options: Any
    ) -> Iterator[DetectedBoxes | PictureError]:
        for content in contents:
            truth = boxes_of(content, *SIDE, len(LABELS))
            luck = np.random.default_rng(list(hashlib.sha256(content).digest()[8:16])).random(
                len(truth.labels)
            )
            kept = luck < self.right
            count = int(kept.sum())
            class_scores = np.full((count, len(self.labels)), 0.01, np.float32)
            names = truth.labels[kept]
            known = names < len(self.labels)
            class_scores[np.flatnonzero(known), names[known]] = self.score
            yield DetectedBoxes(
                boxes_xyxy_px=truth.boxes_xyxy_px[kept],
                scores=class_scores.max(axis=1, initial=0),
                labels=class_scores.argmax(axis=1) if count else np.zeros(0, np.int64),
                class_scores=class_scores,
                width_px=SIDE[0],
                height_px=SIDE[1],
                duration_ms=self.milliseconds,
            )


def load(weights: Path, *, sha256: str, cache_dir: Path) -> KnownDetector:
    labels, quality, *_rest = weights.read_text().splitlines()
    told = dict(part.split("=") for part in quality.split())
    if told.get("broken"):
        raise RuntimeError("this net cannot be run")
    return KnownDetector(
        tuple(labels.split()),
        right=float(told["right"]),
        milliseconds=float(told["milliseconds"]),
        score=float(told["score"]),
    )


def known_version(
    model: RegisteredModel,
    *,
    right: float,
    milliseconds: float = 10,
    score: float = 0.9,
    labels: tuple[str, ...] = LABELS,
    broken: bool = False,
    **fields: Any,
) -> ModelVersion:
    quality = f"right={right} milliseconds={milliseconds} score={score}" + (" broken=1" if broken else "")
    content = f"{' '.join(labels)}\n{quality}\n# {os.urandom(8).hex()}".encode()
    number = model.versions.count() + 1
    return ModelVersionFactory(
        registered_model=model,
        number=number,
        weights=ContentFile(content, name="known.podura"),
        weights_sha256=hashlib.sha256(content).hexdigest(),
        weights_bytes=len(content),
        labels=list(labels),
        **{"stage": ModelVersion.Stage.CANDIDATE} | fields,
    )


def gate_items(count: int, *, split: str = "test", seed: int = 0) -> list[FrozenItem]:
    return [_item(png(seed=seed * 1000 + number), split) for number in range(count)]


def gate_dataset(
    model: RegisteredModel, *, test: int = 20, train: int = 2, seed: int = 0, more: Iterable[FrozenItem] = ()
) -> Dataset:
    items = [*gate_items(test, seed=seed), *gate_items(train, split="train", seed=seed + 500), *more]
    return create_dataset(
        name=f"gate-{uuid.uuid4().hex[:8]}", labels=LABELS, items=items, registered_model=model
    )


def _item(content: bytes, split: str) -> FrozenItem:
    photo = str(uuid.uuid4())
    truth = boxes_of(content, *SIDE, len(LABELS))
    return FrozenItem(
        photo=photo,
        annotation=str(uuid.uuid4()),
        split=split,
        group=photo,
        file=storages["default"].save(f"originals/{photo}.png", ContentFile(content)),
        file_sha256=hashlib.sha256(content).hexdigest(),
        width_px=SIDE[0],
        height_px=SIDE[1],
        licence="CC-BY-4.0",
        attribution="Zoë",
        boxes=tuple(
            FrozenBox(*map(float, box), LABELS[label])
            for box, label in zip(truth.boxes_xyxy_px, truth.labels, strict=True)
        ),
    )


def champion_of(model, **quality) -> ModelVersion:
    version = known_version(model, **{"right": 0.6} | quality)
    promote(version=version)
    return version


def compared(challenger, dataset=None, **more) -> Comparison:
    comparison = request_comparison(challenger=challenger, dataset=dataset, **more)
    assert continue_next_comparison()
    comparison.refresh_from_db()
    challenger.refresh_from_db()
    return comparison


def kinds(model) -> list[str]:
    return list(
        PromotionEvent.objects.filter(registered_model=model).order_by("pk").values_list("kind", flat=True)
    )

"""One step of the loop as the product does it: fine-tune a detector, measure it, let it look at the other photos."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from apps.annotation.active_learning.strategies import BoxScores, top_two
from apps.training.engine.detector import Detector
from apps.training.engine.evaluate import evaluate
from apps.training.engine.labelled import LabelledPicture, LabelledPictures
from apps.training.engine.recipe import Recipe
from apps.training.engine.train import train_detector
from apps.training.engine.types import DetectedBoxes

SMALLEST_CHECK = 8
"""Annotated pictures that choose the best epoch. They are trained on as well, see `FineTuning`."""
EVALUATION_BATCH = 8


@dataclass(frozen=True, slots=True)
class Lesson:
    """What one training gave: its quality on the test part, and what it sees on the pool."""

    map50: float
    map50_95: float
    pool: BoxScores
    """The boxes of the pool's pictures in their order."""
    seconds: float


class Learner(Protocol):
    """Something that learns from annotated pictures."""

    def learn(
        self,
        *,
        annotated: LabelledPictures,
        test: LabelledPictures,
        pool: LabelledPictures,
        seed: int,
        folder: Path,
    ) -> Lesson:
        """`folder` may be left by an interrupted call with the same arguments, and is removed at the end."""
        ...


@dataclass(frozen=True, slots=True)
class FineTuning:
    """Fine-tune `base` anew on all annotated pictures for a fixed number of epochs.

    The test part has no say in the training: the best epoch is chosen on some of the annotated pictures themselves,
    which prefers late epochs. Neighbouring tiles are not recut from their plate (`labelled.recut`), or a strategy
    that happens to choose neighbours would train on more pictures than it paid for.
    """

    base: Path
    recipe: Recipe
    confidence: float
    """Lowest score of a box that counts for the strategies: what the survey would show."""
    device: str = "cpu"

    def learn(
        self,
        *,
        annotated: LabelledPictures,
        test: LabelledPictures,
        pool: LabelledPictures,
        seed: int,
        folder: Path,
    ) -> Lesson:
        started = time.monotonic()
        alone = _without_places(annotated)
        trained = train_detector(
            training=alone,
            validation=replace(alone, pictures=alone.pictures[:SMALLEST_CHECK]),
            base=self.base,
            output=folder / "weights.podura",
            folder=folder,
            recipe=replace(self.recipe, seed=seed),
            name="simulation",
            device=self.device,
        )
        detector = self._load(trained.weights)
        quality = evaluate(detector, test)
        seen = self._look_at(detector, pool)
        shutil.rmtree(folder)
        return Lesson(quality.map50, quality.map50_95, seen, time.monotonic() - started)

    def _load(self, weights: Path) -> Detector:
        """In PyTorch: converting a detector that is used once would take longer than using it."""
        from apps.training.engine.runtimes import TorchRuntime
        from apps.training.engine.weights import load_torch_model

        model, metadata = load_torch_model(weights)
        device = "cpu" if self.device == "cpu" else "cuda"
        return Detector(TorchRuntime(model, device=device, batch=EVALUATION_BATCH), metadata)

    def _look_at(self, detector: Detector, pool: LabelledPictures) -> BoxScores:
        paths = [picture.path for picture in pool.pictures]
        p1, p2, offsets = [np.zeros(0)], [np.zeros(0)], [0]
        for path, found in zip(paths, detector.detect_files(paths, confidence=self.confidence), strict=True):
            if not isinstance(found, DetectedBoxes):
                raise ValueError(f"{path.name}: {found}")  # noqa: TRY004 - a wrong file, not a wrong type
            best, second = top_two(found.class_scores)
            p1.append(best)
            p2.append(second)
            offsets.append(offsets[-1] + len(found))
        return BoxScores(np.concatenate(p1), np.concatenate(p2), np.array(offsets))


def _without_places(labelled: LabelledPictures) -> LabelledPictures:
    def alone(picture: LabelledPicture) -> LabelledPicture:
        return replace(picture, place_px=None, individuals=())

    return replace(labelled, pictures=tuple(alone(picture) for picture in labelled.pictures))

"""The production detector of a registered model, loaded once per process.

Importing this module loads no runtime: web processes import it for the errors it names.
"""

from __future__ import annotations

import shutil
import threading
import time
import uuid
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import structlog
from django.conf import settings
from django.utils.module_loading import import_string

from apps.training.engine.weights import WeightsError, file_sha256
from apps.training.models import ModelVersion, RegisteredModel

if TYPE_CHECKING:
    from apps.training.engine.detector import Detector

logger = structlog.get_logger(__name__)

LOADED_AT_ONCE = 2
"""Detectors kept in memory: a worker that serves two surveys in turn must not load at every batch."""
RETRY_AFTER_S = 60.0
"""How long a version that could not be loaded is left alone."""


class ModelUnavailableError(Exception):
    """The production version cannot be loaded; its text is a reason for curators. Photos wait meanwhile."""


class Loader(Protocol):
    def __call__(self, weights: Path, *, sha256: str, cache_dir: Path) -> Detector: ...


class _Loaded:
    """This process's detectors by digest, newest use last, and what could not be loaded."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.detectors: OrderedDict[tuple[str, str], Detector] = OrderedDict()
        self.broken: dict[tuple[str, str], tuple[float, str]] = {}


_loaded = _Loaded()


def production_detector(registered_model: RegisteredModel | int) -> tuple[ModelVersion, Detector] | None:
    """The production version now and its detector; None when the model has none.

    A promotion takes effect at the next call. Raises `ModelUnavailableError` for weights that are missing, altered or
    cannot be run; the same version is then tried again a minute later at the earliest.
    """
    version = ModelVersion.objects.filter(
        registered_model=registered_model, stage=ModelVersion.Stage.PRODUCTION
    ).first()
    return (version, detector_of(version)) if version else None


def detector_of(version: ModelVersion) -> Detector:
    """The detector of one version. Raises `ModelUnavailableError`."""
    key = (str(settings.DETECTOR_LOADER), version.weights_sha256)
    with _loaded.lock:
        if key in _loaded.detectors:
            _loaded.detectors.move_to_end(key)
            return _loaded.detectors[key]
        failed_at, reason = _loaded.broken.get(key, (0.0, ""))
        if reason and time.monotonic() - failed_at < RETRY_AFTER_S:
            raise ModelUnavailableError(reason)
        try:
            detector = _load(version)
        except Exception as error:
            # Whatever is wrong with a file of weights, its storage or the runtime: the queue waits, the site stays up.
            reason = f"{version}: {error}"[:300]
            _loaded.broken[key] = (time.monotonic(), reason)
            logger.exception("model_unavailable", version=str(version))
            raise ModelUnavailableError(reason) from error
        _loaded.broken.pop(key, None)
        _loaded.detectors[key] = detector
        while len(_loaded.detectors) > LOADED_AT_ONCE:
            _loaded.detectors.popitem(last=False)
        return detector


def forget_detectors() -> None:
    """Drop what is loaded (tests, and after a change of the cache folder)."""
    with _loaded.lock:
        _loaded.detectors.clear()
        _loaded.broken.clear()


def _load(version: ModelVersion) -> Detector:
    load: Loader = import_string(settings.DETECTOR_LOADER)
    started = time.monotonic()
    cache_dir = Path(settings.MODEL_CACHE_DIR)
    detector = load(local_weights(version), sha256=version.weights_sha256, cache_dir=cache_dir / "converted")
    if list(detector.labels) != list(version.labels):
        raise WeightsError("the labels of the weights are not those of the version")
    logger.info(
        "model_loaded",
        version=str(version),
        runtime=detector.runtime,
        seconds=round(time.monotonic() - started, 1),
    )
    return detector


def local_weights(version: ModelVersion) -> Path:
    """The weights as a file of this machine, fetched from the storage once and checked at each use."""
    folder = Path(settings.MODEL_CACHE_DIR) / "weights"
    path = folder / version.weights_sha256
    if path.is_file() and file_sha256(path) == version.weights_sha256:
        return path
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f".{uuid.uuid4().hex}"
    try:
        stored: Any = version.weights.storage.open(str(version.weights.name), "rb")
        with stored, unfinished.open("wb") as target:
            shutil.copyfileobj(stored, target, 1 << 20)
        if file_sha256(unfinished) != version.weights_sha256:
            raise WeightsError("the stored weights are not those that were registered: their SHA-256 differs")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path

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
ROLL_BACKS_AT_ONCE = 4
"""So many versions in a row may turn out to be broken within one call."""


class ModelUnavailableError(Exception):
    """A version cannot be loaded; its text is a reason for curators. Photos wait meanwhile.

    `is_fault` tells that the version itself is to blame (its weights are gone or altered, its labels are others, the runtime
    cannot run it), not a storage that is away, a full disk, or memory that ran out.
    """

    def __init__(self, reason: str, *, is_fault: bool = False) -> None:
        super().__init__(reason)
        self.is_fault = is_fault


class WeightsMissingError(WeightsError):
    """The storage answers, and has no such file."""


class _StorageError(Exception):
    """The weights could not be fetched just now."""


class Loader(Protocol):
    def __call__(self, weights: Path, *, sha256: str, cache_dir: Path) -> Detector: ...


class _Loaded:
    """This process's detectors by digest, newest use last, and what could not be loaded."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.detectors: OrderedDict[tuple[str, str], Detector] = OrderedDict()
        self.broken: dict[tuple[str, str], tuple[float, ModelUnavailableError]] = {}


_loaded = _Loaded()


def production_detector(registered_model: RegisteredModel | int) -> tuple[ModelVersion, Detector] | None:
    """The production version now and its detector; None when the model has none.

    A promotion takes effect at the next call. A version that is at fault itself gives way to the last one that served
    and that this machine can load. Raises `ModelUnavailableError` where there is none, or where the storage is away; the
    same version is then tried again a minute later at the earliest.
    """
    for _attempt in range(ROLL_BACKS_AT_ONCE):
        version = ModelVersion.objects.filter(
            registered_model=registered_model, stage=ModelVersion.Stage.PRODUCTION
        ).first()
        if version is None:
            return None
        try:
            return version, detector_of(version)
        except ModelUnavailableError as error:
            if not error.is_fault or not _has_given_way(version, str(error)):
                raise
    raise ModelUnavailableError("several versions could not be loaded, one after the other")


def is_loadable_here(version: ModelVersion) -> bool:
    """Whether this process can run a version whose weights the storage has: a copy on this machine alone is not enough."""
    try:
        if not version.weights.storage.exists(str(version.weights.name)):
            return False
        detector_of(version)
    except ModelUnavailableError:
        return False
    except Exception:
        logger.exception("storage_not_asked", version=str(version))
        return False
    return True


def _has_given_way(version: ModelVersion, reason: str) -> bool:
    """Whether another version serves now, by this process's report or by somebody else's decision."""
    from apps.training.services.promotion import report_unloadable  # services load detectors, too

    report_unloadable(version, reason)
    return not ModelVersion.objects.filter(pk=version.pk, stage=ModelVersion.Stage.PRODUCTION).exists()


def detector_of(version: ModelVersion) -> Detector:
    """The detector of one version. Raises `ModelUnavailableError`."""
    key = (str(settings.DETECTOR_LOADER), version.weights_sha256)
    with _loaded.lock:
        if key in _loaded.detectors:
            _loaded.detectors.move_to_end(key)
            return _loaded.detectors[key]
        failed_at, known = _loaded.broken.get(key, (0.0, None))
        if known and time.monotonic() - failed_at < RETRY_AFTER_S:
            raise ModelUnavailableError(str(known), is_fault=known.is_fault)
        try:
            detector = _load(version)
        except Exception as error:
            # Whatever is wrong with a file of weights, its storage or the runtime: the queue waits, the site stays up.
            unavailable = ModelUnavailableError(f"{version}: {error}"[:300], is_fault=_is_fault(error))
            _loaded.broken[key] = (time.monotonic(), unavailable)
            logger.exception("model_unavailable", version=str(version), is_fault=unavailable.is_fault)
            raise unavailable from error
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


def _is_fault(error: Exception) -> bool:
    """Whether the version is to blame. What may be this machine's or the storage's trouble is not held against it."""
    if isinstance(error, WeightsError):
        return True
    # Torch's own error for memory that ran out is a RuntimeError, and torch is not to be imported for it.
    is_machines = isinstance(error, OSError | MemoryError | ImportError | _StorageError)
    return not is_machines and type(error).__name__ != "OutOfMemoryError"


def _load(version: ModelVersion) -> Detector:
    load: Loader = import_string(settings.DETECTOR_LOADER)
    started = time.monotonic()
    cache_dir = Path(settings.MODEL_CACHE_DIR)
    try:
        weights = local_weights(version)
    except WeightsError:
        raise
    except Exception as error:
        raise _StorageError(str(error)) from error
    detector = load(weights, sha256=version.weights_sha256, cache_dir=cache_dir / "converted")
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
    # A transfer that was cut short must not cost a good version its place: it gets a second one.
    if not _fetched(version, path) and not _fetched(version, path):
        raise WeightsError("the stored weights are not those that were registered: their SHA-256 differs")
    return path


def _fetched(version: ModelVersion, path: Path) -> bool:
    """Copy the weights from the storage; False when what came is not what was registered."""
    unfinished = path.parent / f".{uuid.uuid4().hex}"
    try:
        try:
            stored: Any = version.weights.storage.open(str(version.weights.name), "rb")
        except FileNotFoundError as error:
            raise WeightsMissingError(
                f"the storage has no weights by the name {version.weights.name}"
            ) from error
        with stored, unfinished.open("wb") as target:
            shutil.copyfileobj(stored, target, 1 << 20)
        if file_sha256(unfinished) != version.weights_sha256:
            return False
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return True

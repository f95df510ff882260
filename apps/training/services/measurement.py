"""Model versions on the pictures of a frozen dataset: how right they are, and how fast.

Heavy: only workers of the queue `training` call this.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from django.core.files.storage import Storage

from apps.training.engine.label_codes import label_code
from apps.training.inference import detector_of
from apps.training.models import ModelVersion
from apps.training.services.datasets import DatasetDamagedError, FrozenItem
from apps.training.services.pictures import fetch_pictures

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from apps.training.engine.detector import Detector
    from apps.training.engine.labelled import LabelledPicture
    from apps.training.engine.measures import Measured, Measurement

BLOCK: Final = 32
"""Versions that are compared take turns after so many pictures: whatever else the machine does hits both."""
LATENCY_PICTURES: Final = 12
COMPARED_LATENCY_PICTURES: Final = 24
"""A ratio of two needs more than a number for people to read."""
LATENCY_WARM_UP: Final = 2
LATENCY_SECONDS: Final = 60.0
"""A whole plate takes a minute: then fewer pictures must do."""
_FETCHED_AHEAD: Final = 32
_FETCHING_AT_ONCE: Final = 4


class LabelsUnknownError(Exception):
    """The version in question shares no label with the dataset: there is nothing to measure."""


class PictureDamagedError(DatasetDamagedError):
    """The original of one photo is missing, is another than was frozen, or cannot be decoded."""

    def __init__(self, photo: str, reason: str) -> None:
        super().__init__(f"photo {photo}: {reason}")
        self.photo = photo


def measure_versions(
    versions: Sequence[ModelVersion],
    items: Sequence[FrozenItem],
    *,
    labels: Sequence[str],
    storage: Storage,
    between: Callable[[int], None] = lambda _done: None,
) -> "list[Measured]":
    """Each version on the same pictures, in turns, one result for each.

    `between` hears after each picture how many all versions have done, and may raise to end. A version that lacks some of
    `labels` misses their animals. Raises `LabelsUnknownError` where the first version lacks all of them (another one then
    finds nothing), `DatasetDamagedError`, and `ModelUnavailableError`.
    """
    from apps.training.engine.measures import Measurement

    sides = [_side(version, labels, Measurement(tuple(labels))) for version in versions]
    if not (sides[0].columns >= 0).any():
        raise LabelsUnknownError(f"{versions[0]} knows {', '.join(sides[0].detector.labels)}")
    detectors = [side.detector for side in sides]
    block = len(items) if len(versions) == 1 else BLOCK
    worked = 0
    with ThreadPoolExecutor(_FETCHING_AT_ONCE, thread_name_prefix="fetch") as pool:
        source = _Source(labels, storage, pool)
        for start in range(0, len(items), max(block, 1)):
            for side in sides:
                for _ in _collected(side, items[start : start + block], source):
                    worked += 1
                    between(worked // len(sides))
    latencies = latencies_ms(
        detectors, items, labels=labels, storage=storage, between=lambda: between(len(items))
    )
    return [
        side.measurement.measured(latency_ms=latency, runtime=str(side.detector.runtime))
        for side, latency in zip(sides, latencies, strict=True)
    ]


def latencies_ms(
    detectors: "Sequence[Detector]",
    items: Sequence[FrozenItem],
    *,
    labels: Sequence[str],
    storage: Storage,
    between: Callable[[], None] = lambda: None,
) -> "list[NDArray[np.float64]]":
    """(P,) for each detector: milliseconds from the decoded picture to its boxes, with the settings of production.

    One picture at a time, detectors in turns, on a few pictures spread over all (NaN for the others): while several
    are in the net at once, a picture's own time cannot be told from its waiting.
    """
    latencies = [np.full(len(items), np.nan) for _ in detectors]
    wanted = min(LATENCY_PICTURES if len(detectors) == 1 else COMPARED_LATENCY_PICTURES, len(items))
    places = np.unique(np.linspace(0, len(items) - 1, wanted).round().astype(np.int64))
    began = time.monotonic()
    for turn, place in enumerate([*places[:1].repeat(LATENCY_WARM_UP), *places]):
        picture = _fetch(items[place], labels, storage)
        content = picture.path.read_bytes()
        order = range(len(detectors)) if turn % 2 else reversed(range(len(detectors)))
        for which in order:
            taken = _alone(detectors[which], content)
            if turn >= LATENCY_WARM_UP:
                latencies[which][place] = taken
        between()
        if turn >= LATENCY_WARM_UP + 2 and time.monotonic() - began > LATENCY_SECONDS:
            break
    return latencies


def _alone(detector: "Detector", content: bytes) -> float:
    from apps.training.engine.detector import DEFAULT_IOU
    from apps.training.engine.matching import REPORTED_CONFIDENCE
    from apps.training.engine.types import DetectedBoxes

    (found,) = detector.detect_encoded([content], confidence=REPORTED_CONFIDENCE, iou=DEFAULT_IOU)
    return found.duration_ms if isinstance(found, DetectedBoxes) else float("nan")


@dataclass(frozen=True, slots=True)
class _Side:
    """One version at work."""

    detector: "Detector"
    columns: "NDArray[np.int64]"
    """(L,) the detector's class for each label, -1 where it knows none of that code."""
    measurement: "Measurement"


@dataclass(frozen=True, slots=True)
class _Source:
    labels: Sequence[str]
    storage: Storage
    pool: ThreadPoolExecutor

    def fetched_ahead(self, items: Sequence[FrozenItem]) -> "Iterator[LabelledPicture]":
        """The pictures in their order, each fetched before it is asked for."""
        coming = iter(items)
        waiting = deque(map(self._submit, islice(coming, _FETCHED_AHEAD)))
        try:
            while waiting:
                picture = waiting.popleft().result()
                waiting.extend(map(self._submit, islice(coming, 1)))
                yield picture
        finally:
            for future in waiting:
                future.cancel()

    def _submit(self, item: FrozenItem) -> "Future[LabelledPicture]":
        return self.pool.submit(_fetch, item, self.labels, self.storage)


def _side(version: ModelVersion, labels: Sequence[str], measurement: "Measurement") -> _Side:
    detector = detector_of(version)
    known = {label_code(name): number for number, name in enumerate(detector.labels)}
    columns = np.array([known.get(code, -1) for code in labels], np.int64)
    return _Side(detector, columns, measurement)


def _collected(side: _Side, items: Sequence[FrozenItem], source: _Source) -> Iterator[None]:
    """Detect and match, picture after picture: while one is matched, the next are in the net, decoded and fetched."""
    from apps.training.engine.evaluate import EVALUATED_CONFIDENCE, EVALUATED_IOU
    from apps.training.engine.matching import Truth, found_of
    from apps.training.engine.types import DetectedBoxes

    fetched: deque[LabelledPicture] = deque()

    def paths() -> Iterator[Path]:
        for picture in source.fetched_ahead(items):
            fetched.append(picture)
            yield picture.path

    outcomes = side.detector.detect_files(paths(), confidence=EVALUATED_CONFIDENCE, iou=EVALUATED_IOU)
    for item, detected in zip(items, outcomes, strict=True):
        if not isinstance(detected, DetectedBoxes):
            raise PictureDamagedError(item.photo, str(detected))
        if (detected.width_px, detected.height_px) != (item.width_px, item.height_px):
            raise PictureDamagedError(item.photo, "it has another size than was frozen")
        picture = fetched.popleft()
        side.measurement.add(
            photo=item.photo,
            width_px=item.width_px,
            height_px=item.height_px,
            truth=Truth(picture.boxes_xyxy_px, picture.labels),
            found=found_of(detected, side.columns),
        )
        yield


def _fetch(item: FrozenItem, labels: Sequence[str], storage: Storage) -> "LabelledPicture":
    try:
        return fetch_pictures([item], labels=labels, storage=storage)[0]
    except DatasetDamagedError as error:
        raise PictureDamagedError(item.photo, str(error)) from error

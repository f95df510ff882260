"""What a training says of itself while it runs, and the words for its ends."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from apps.training.engine.pictures import PictureError
from apps.training.engine.weights import WeightsError

Level = Literal["info", "warning", "error"]
FailureCode = Literal[
    "out_of_memory",
    "disk_full",
    "unusable_base",
    "no_boxes",
    "no_validation",
    "picture_unreadable",
    "diverged",
    "error",
]

LOG_TEXTS: Final = {
    "windows": "{pictures} large pictures are trained on in {windows} windows of {side_px} px.",
    "untrained": "No base weights: an untrained {architecture} is the start.",
    "head_extended": "Labels carried over from the base: {known}. New labels: {new}.",
    "device": "Trained on {device} with batches of {batch}.",
    "resumed": "Goes on after epoch {epoch}.",
    "checkpoint_unreadable": "A checkpoint could not be read ({name}); an earlier one is used.",
    "recovered": "The loss of epoch {epoch} was no number; the epoch is done again from the last checkpoint.",
    "stopped_early": "Ended after epoch {epoch}: nothing better for {patience} epochs, epoch {best_epoch} was best.",
}
"""All codes of log lines; pages translate them by code and fill in the details themselves."""


class TrainingError(Exception):
    """A training that cannot be done or go on, with the stable code of its reason."""

    def __init__(self, code: FailureCode, detail: str = "") -> None:
        super().__init__(detail or code)
        self.code: FailureCode = code
        self.detail = detail


@dataclass(frozen=True, slots=True)
class EpochReport:
    """What is known after an epoch, measured by the trainer on the validation pictures."""

    epoch: int
    """1 for the first."""
    epochs: int
    metrics: dict[str, float]
    """`box_loss, cls_loss, dfl_loss, val_box_loss, ..., map50, map50_95, precision, recall, learning_rate`."""
    seconds: float = 0.0
    batch: int = 0


@dataclass(frozen=True, slots=True)
class LogLine:
    code: str
    details: dict[str, Any] = field(default_factory=dict)
    level: Level = "info"

    @property
    def text(self) -> str:
        words = {k: ", ".join(v) or "none" if isinstance(v, list) else v for k, v in self.details.items()}
        return LOG_TEXTS[self.code].format(**words)


class Listener:
    """Whoever wants to know; each method may be left out."""

    def prepared(self, training: int, validation: int) -> None:
        """So many pictures, windows counted singly, are ready for the trainer."""

    def epoch(self, report: EpochReport) -> None: ...

    def checkpoint(self, epoch: int, path: Path, sha256: str) -> None:
        """`path` stays as it is until two checkpoints later. Called from a thread of its own."""

    def log(self, line: LogLine) -> None: ...


_NO_MEMORY: Final = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "insufficient memory",
    "cublas_status_alloc_failed",
    "cudnn_status_internal_error",
    "unable to find an engine",
)
_NO_SPACE: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def failure_of(error: BaseException) -> TrainingError:
    """The reason behind an exception, wherever in the chain of causes it lies."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    for known in (_memory_failure, _disk_failure, _named_failure):
        for one in chain:
            if found := known(one):
                return found
    return TrainingError("error", f"{type(error).__name__}: {error}"[:1000])


def _memory_failure(error: BaseException) -> TrainingError | None:
    is_memory = isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
    if isinstance(error, PictureError):  # a picture that is too large for its reader, not for the machine
        return None
    is_memory = is_memory or any(words in str(error).lower() for words in _NO_MEMORY)
    return TrainingError("out_of_memory", str(error)[:1000]) if is_memory else None


def _disk_failure(error: BaseException) -> TrainingError | None:
    if isinstance(error, OSError) and error.errno in _NO_SPACE:
        return TrainingError("disk_full", str(error)[:1000])
    return None


def _named_failure(error: BaseException) -> TrainingError | None:
    if isinstance(error, TrainingError):
        return error
    if isinstance(error, WeightsError):
        return TrainingError("unusable_base", str(error)[:1000])
    if isinstance(error, PictureError):
        return TrainingError("picture_unreadable", str(error)[:1000])
    return None

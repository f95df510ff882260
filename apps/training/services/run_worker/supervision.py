"""Watching over the training's process: what it tells is written down, and it is ended when it must end."""

import signal
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog
from django.conf import settings

from apps.training.models import TrainingLogLine
from apps.training.services.run_worker.checkpoints import CheckpointKeeper, StoredCheckpoint
from apps.training.services.run_worker.ends import RunBrokeError, RunFailedError, StoppedError
from apps.training.services.run_worker.folder import RunFolder
from apps.training.services.run_worker.process import JobProcess, killed_by, shown_status
from apps.training.services.run_worker.record import RunRecord, unless_away

logger = structlog.get_logger(__name__)

_LISTEN_S: Final = 0.25
_LAST_CHECKPOINT_S: Final = 15.0
"""What a stopping worker takes for its last checkpoint; it has 30 s in all."""
_MOST_UNWRITTEN: Final = 10_000


@dataclass(frozen=True, slots=True)
class Finished:
    weights: Path
    sha256: str
    best_epoch: int


@dataclass(frozen=True, slots=True)
class OutOfMemory:
    detail: str
    is_by_system: bool
    """The kernel ended it, without a word of its own."""
    batch: int
    """What it had chosen by itself, as far as is known."""


def supervise(job_file: Path, record: RunRecord, folder: RunFolder) -> Finished | OutOfMemory:
    """One process of the training, from its start to its end.

    Raises `StoppedError`, `CancelledError` and `LeaseLostError` when it must be left, `RunFailedError` when it failed
    for good, and `RunBrokeError` when another attempt may do better. No process is left in any case.
    """
    keeper = CheckpointKeeper(record.run)
    watch = _Watch(record, folder, keeper)
    try:
        with JobProcess(job_file, mark=folder.mark) as job:
            while job.exit_status is None:
                watch.take(*job.listen(seconds=_LISTEN_S))
                record.pulse()
                watch.collect()
                watch.judge_silence()
            job.kill()  # what it started ends with it
            watch.drain(job)
        return watch.end(job.exit_status)
    except (StoppedError, RunBrokeError):
        watch.settle()  # whoever goes on may be another machine
        raise
    finally:
        keeper.close()


class _Watch:
    """What is known of the process so far."""

    def __init__(self, record: RunRecord, folder: RunFolder, keeper: CheckpointKeeper) -> None:
        self.record = record
        self.folder = folder
        self.keeper = keeper
        self._end: dict[str, Any] = {}
        self._batch = 0
        self._is_prepared = False
        self._last_words: deque[str] = deque(maxlen=20)
        self._heard_at = time.monotonic()
        self._arrived: StoredCheckpoint | None = None
        self._said: list[str] = []
        self._unwritten: tuple[list[dict[str, Any]], list[str]] = ([], [])

    def take(self, events: list[dict[str, Any]], words: list[str]) -> None:
        if events:
            self._heard_at = time.monotonic()
        for event in events:
            self._heed(event)
        self._last_words.extend(words)
        kept_events, kept_words = self._unwritten
        kept_events += events
        kept_words += words[: _MOST_UNWRITTEN - len(kept_words)]
        if self.record.write(kept_events, kept_words):
            self._unwritten = ([], [])

    def _heed(self, event: dict[str, Any]) -> None:
        kind = event.get("event")
        if kind == "finished":
            self._end = event
        elif kind == "failed":
            self._take_failure(event)
        elif kind == "prepared":
            self._is_prepared = True
        elif kind == "checkpoint":
            epoch, path = int(event["epoch"]), Path(event["path"])
            self.folder.remember_checkpoint(epoch)
            self.keeper.keep(epoch=epoch, path=path, sha256=str(event["sha256"]))
        elif kind == "log" and event.get("code") == "device":
            self._batch = int((event.get("details") or {}).get("batch") or 0)

    def _take_failure(self, event: dict[str, Any]) -> None:
        """Of several processes the first says why; the others only that it is gone. Want of memory goes before all."""
        if not self._end or event.get("code") == "out_of_memory":
            self._end = event

    def collect(self) -> None:
        """The row gets to know checkpoints that have arrived."""
        try:
            self._arrived = self.keeper.collect() or self._arrived
        except Exception as error:
            logger.exception("checkpoint_not_kept", run=self.record.run.pk)
            self._said.append(str(error)[:300])
        with unless_away(self.record.run):
            while self._said:
                level = TrainingLogLine.Level.WARNING
                self.record.note("checkpoint_not_kept", level=level, error=self._said[0])
                self._said.pop(0)
            self._tell_row()

    def _tell_row(self) -> None:
        if self._arrived and (before := self.record.keep_checkpoint(self._arrived)):
            self.keeper.forget(before)
        self._arrived = None

    def settle(self) -> None:
        """The last checkpoint still goes to the storage."""
        self._arrived = self.keeper.settle(seconds=_LAST_CHECKPOINT_S) or self._arrived
        self._tell_row()

    def judge_silence(self) -> None:
        silent_s = time.monotonic() - self._heard_at
        if silent_s > settings.TRAINING_SILENCE_SECONDS:
            raise RunBrokeError("silent", f"no sign of life for {silent_s:.0f} s")

    def drain(self, job: JobProcess) -> None:
        """What it told last. The database may be away just now; the end is worth waiting for."""
        self.take(*job.listen(seconds=0))
        while True:
            events, words = job.listen(seconds=0.05)
            self.take(events, words)
            if not events and not words:
                break
        while self._unwritten[0] or self._unwritten[1]:
            time.sleep(1)
            self.record.pulse()
            self.take([], [])

    def end(self, status: int | None) -> Finished | OutOfMemory:
        assert status is not None
        if self._end.get("event") == "finished":
            return Finished(
                Path(self._end["weights"]), str(self._end["sha256"]), int(self._end.get("best_epoch") or 0)
            )
        detail = str(self._end.get("detail") or "")[:1000]
        if self._end.get("event") == "failed":
            code = str(self._end.get("code") or "error")
            if code == "out_of_memory":
                return OutOfMemory(detail, is_by_system=False, batch=self._batch)
            raise RunFailedError(code[:40], detail)
        if killed_by(status, signal.SIGKILL) and self._is_prepared:
            return OutOfMemory(detail, is_by_system=True, batch=self._batch)
        # Killed while it prepares pictures it holds no batch yet that could be made smaller.
        last_words = " / ".join(list(self._last_words)[-3:])
        raise RunBrokeError("job_ended", f"{shown_status(status)}: {last_words}"[:1000])

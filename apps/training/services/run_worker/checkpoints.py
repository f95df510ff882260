"""Checkpoints in the storage: from them a run goes on when its machine is gone."""

import hashlib
import shutil
from concurrent.futures import Future, ThreadPoolExecutor, wait
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, Final

import structlog
from django.core.files import File

from apps.training.models import OPEN_RUNS, TrainingRun, private_storage
from apps.training.services.run_worker.folder import RunFolder, identifiers

logger = structlog.get_logger(__name__)
FOLDER: Final = "checkpoints"
_LAST_UPLOAD_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class StoredCheckpoint:
    epoch: int
    name: str
    sha256: str


@dataclass(frozen=True, slots=True)
class _Waiting:
    """An open file stays what it was, whatever the trainer does with its name meanwhile."""

    epoch: int
    sha256: str
    file: BufferedReader


class CheckpointKeeper:
    """Brings checkpoints to the storage beside the training: one at a time, and of those that wait only the newest."""

    def __init__(self, run: TrainingRun) -> None:
        self._folder = f"{FOLDER}/{run.public_id}"
        self._storage = private_storage()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._under_way: Future[StoredCheckpoint] | None = None
        self._waiting: _Waiting | None = None

    def keep(self, *, epoch: int, path: Path, sha256: str) -> None:
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return  # a newer one has taken its place
        if self._waiting:
            self._waiting.file.close()
        self._waiting = _Waiting(epoch, sha256, file)
        self._go_on()

    def collect(self) -> StoredCheckpoint | None:
        """One that has arrived since. Raises what kept it from arriving."""
        if self._under_way is None or not self._under_way.done():
            return None
        done, self._under_way = self._under_way, None
        self._go_on()
        return done.result()

    def settle(self, *, seconds: float) -> StoredCheckpoint | None:
        """The newest one that arrives within this time."""
        newest = None
        while self._under_way is not None:
            try:
                self._under_way.result(timeout=seconds)
                newest = self.collect() or newest
            except FutureTimeoutError:
                break
            except Exception:
                logger.exception("checkpoint_not_kept")
                self._under_way = None
                self._go_on()
        return newest

    def forget(self, name: str) -> None:
        """Remove an older one, beside the training as well."""
        self._pool.submit(_delete, name)

    def close(self) -> None:
        if self._waiting:
            self._waiting.file.close()
            self._waiting = None
        if self._under_way is not None:
            wait([self._under_way], timeout=_LAST_UPLOAD_S)  # what arrives later is swept
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _go_on(self) -> None:
        if self._under_way is None and self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            self._under_way = self._pool.submit(self._store, waiting)

    def _store(self, waiting: _Waiting) -> StoredCheckpoint:
        with waiting.file as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != waiting.sha256:
                raise OSError("the checkpoint changed while it was read")
            file.seek(0)
            name: str = self._storage.save(f"{self._folder}/{waiting.epoch:05}.pt", File(file))
        return StoredCheckpoint(waiting.epoch, name, waiting.sha256)


def fetch_checkpoint(run: TrainingRun, folder: RunFolder) -> Path | None:
    """The run's checkpoint as a file of its folder; None when it is gone or is not the one that was stored."""
    try:
        with (
            private_storage().open(str(run.checkpoint.name), "rb") as stored,
            folder.stored_checkpoint.open("wb") as target,
        ):
            shutil.copyfileobj(stored, target, 1 << 20)
    except FileNotFoundError:
        return None
    with folder.stored_checkpoint.open("rb") as file:
        is_same = hashlib.file_digest(file, "sha256").hexdigest() == run.checkpoint_sha256
    return folder.stored_checkpoint if is_same else None


def discard_checkpoints_of(run: TrainingRun) -> None:
    """Remove all of a run that has ended, also those that a killed worker stored without telling."""
    storage: Any = private_storage()
    place = f"{FOLDER}/{run.public_id}"
    for name in _listed(place)[1]:
        storage.delete(f"{place}/{name}")
    _delete(place)
    TrainingRun.objects.filter(pk=run.pk).update(checkpoint="", checkpoint_sha256="", checkpoint_epoch=0)


def discard_checkpoints() -> int:
    """Remove what ended runs left in the storage; gives of how many."""
    left = identifiers(_listed(FOLDER)[0])
    ended = TrainingRun.objects.exclude(status__in=OPEN_RUNS)
    runs = list(ended.filter(public_id__in=left)) + list(
        ended.exclude(checkpoint="").exclude(public_id__in=left)
    )
    for run in runs:
        discard_checkpoints_of(run)
    return len(runs)


def _listed(place: str) -> tuple[list[str], list[str]]:
    try:
        folders, files = private_storage().listdir(place)
    except FileNotFoundError:
        return [], []
    return list(folders), list(files)


def _delete(name: str) -> None:
    try:
        private_storage().delete(name)
    except Exception:  # what stays is found when the run has ended
        logger.exception("checkpoint_not_removed", name=name)

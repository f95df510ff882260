"""Checkpoints that survive whatever interrupts a training: found again, checked, copied while it goes on.

A copy is a tar of `last.pt` and `best.pt`: the best epoch may lie before the last, and would otherwise be lost when
the run goes on with another machine.
"""

from __future__ import annotations

import hashlib
import os
import queue
import shutil
import tarfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, cast

from apps.training.engine.environment import import_ultralytics
from apps.training.engine.events import Listener, LogLine

MEMBERS: Final = ("last.pt", "best.pt")
KEPT: Final = 3
"""The copy just announced and two before it."""
_FOLDER: Final = "checkpoints"


@dataclass(frozen=True, slots=True)
class Resumable:
    """Where an interrupted training stands; its files are `last.pt` and `best.pt` in the folder of weights."""

    epochs_done: int


def restore(folder: Path, given: Path | None, listener: Listener) -> Resumable | None:
    """Put the furthest sound checkpoint in its place: the folder's own, one of its copies, or the given one."""
    weights = folder / "run" / "weights"
    copies = sorted((folder / _FOLDER).glob("*.tar"), reverse=True)
    found: list[tuple[int, Path]] = []
    for place in (weights, *copies, *([given] if given is not None else [])):
        if not place.exists() or (place == weights and not any((place / name).exists() for name in MEMBERS)):
            continue
        unpacked = place if place == weights else _unpack(place, folder / f"restored-{len(found)}")
        epochs = None if unpacked is None else _epochs_done(unpacked)
        if unpacked is None or epochs is None:
            listener.log(LogLine("checkpoint_unreadable", {"name": place.name}, "warning"))
            continue
        found.append((epochs, unpacked))
        if place in (weights, *copies[:1]) and given is None:
            break  # its copies are older
    best = max(found, key=lambda candidate: candidate[0], default=None)
    if best is not None and best[1] != weights:
        weights.mkdir(parents=True, exist_ok=True)
        for name in MEMBERS:
            (best[1] / name).replace(weights / name)
    elif best is None:
        shutil.rmtree(weights.parent, ignore_errors=True)
    for leftover in folder.glob("restored-*"):
        shutil.rmtree(leftover)
    return None if best is None else Resumable(best[0])


def _epochs_done(weights: Path) -> int | None:
    """None where a file is missing or torn."""
    import_ultralytics()
    from ultralytics.nn.tasks import torch_safe_load

    epochs = 0
    for name in reversed(MEMBERS):
        try:
            epochs = int(torch_safe_load(str(weights / name), safe_only=True)[0]["epoch"]) + 1
        except Exception:  # noqa: BLE001 - a torn file fails wherever it likes inside PyTorch
            return None
    return epochs if epochs > 0 else None


def _unpack(copy: Path, folder: Path) -> Path | None:
    """Only the two files by name, whatever else the archive holds."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        with tarfile.open(copy) as archive:
            for name in MEMBERS:
                member = archive.getmember(name)
                source = archive.extractfile(member)
                if source is None:
                    return None
                with source, (folder / name).open("wb") as target:
                    shutil.copyfileobj(source, target, 1 << 20)
    except (tarfile.TarError, KeyError, EOFError):
        return None
    return folder


class Copier(threading.Thread):
    """Copies and digests checkpoints beside the training, which only makes two hard links for it.

    Epochs that end faster than a copy is written are passed over: only the newest is copied.
    """

    def __init__(self, folder: Path, listener: Listener) -> None:
        super().__init__(name="checkpoints", daemon=True)
        self._folder = folder / _FOLDER
        self._folder.mkdir(parents=True, exist_ok=True)
        self._listener = listener
        self._waiting: queue.Queue[tuple[int, Path] | None] = queue.Queue()
        self._failure: BaseException | None = None

    def take(self, epoch: int, weights: Path) -> None:
        """Called by the training after an epoch; raises what an earlier copy failed with."""
        self.raise_failure()
        links = self._folder / f"links-{epoch:06}"
        shutil.rmtree(links, ignore_errors=True)
        links.mkdir()
        for name in MEMBERS:
            os.link(weights / name, links / name)
        self._waiting.put((epoch, links))

    def end(self) -> None:
        """Wait for the last copy."""
        self._waiting.put(None)
        self.join()
        self.raise_failure()

    def abandon(self) -> None:
        """After a failure: the training's own error is the one to tell."""
        self._waiting.put(None)
        self.join()

    def raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def run(self) -> None:
        try:
            while (newest := self._newest()) is not None:
                epoch, links = newest
                target = self._folder / f"{epoch:06}.tar"
                sha256 = _pack(links, target)
                shutil.rmtree(links)
                self._listener.checkpoint(epoch, target, sha256)
                for old in sorted(self._folder.glob("*.tar"))[:-KEPT]:
                    old.unlink()
        except BaseException as error:  # noqa: BLE001 - raised in the training's own thread
            self._failure = error

    def _newest(self) -> tuple[int, Path] | None:
        item = self._waiting.get()
        while item is not None and not self._waiting.empty():
            following = self._waiting.get()
            if following is None:
                self._waiting.put(None)
                break
            shutil.rmtree(item[1])
            item = following
        return item


class _Hashing:
    """A file that is digested while it is written."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def write(self, data: Any) -> int:
        self.digest.update(data)
        return self._file.write(data)


def _pack(folder: Path, target: Path) -> str:
    unfinished = target.with_suffix(".part")
    try:
        with unfinished.open("wb") as file:
            stream = _Hashing(file)
            with tarfile.open(fileobj=cast("IO[bytes]", stream), mode="w|", bufsize=1 << 20) as archive:
                for name in MEMBERS:
                    archive.add(folder / name, name, recursive=False)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
    return stream.digest.hexdigest()

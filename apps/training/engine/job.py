r"""One training in a process of its own: no database, no secrets, told by a file, telling by lines of JSON.

    python -m apps.training.engine.job JOB.json --events-fd N

What is in the file and in the events: docs/engine.md. On several devices this process prepares the pictures, starts
one process a device, and writes the weights at the end. It ends with the process that started it.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from apps.training.engine.environment import prepare_environment
from apps.training.engine.events import EpochReport, Listener, LogLine, failure_of
from apps.training.engine.labelled import LabelledPicture, LabelledPictures
from apps.training.engine.recipe import Recipe

FAILED: Final = 3
"""Exit status after a `failed` event."""
_PR_SET_PDEATHSIG: Final = 1


class Events(Listener):
    """One line of JSON for each event, from whichever thread."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._lock = threading.Lock()

    def tell(self, event: str, **content: Any) -> None:
        line = memoryview(json.dumps({"event": event, **content}, allow_nan=False).encode() + b"\n")
        with self._lock:
            while line:
                line = line[os.write(self.descriptor, line) :]

    def prepared(self, training: int, validation: int) -> None:
        self.tell("prepared", training=training, validation=validation)

    def epoch(self, report: EpochReport) -> None:
        self.tell("epoch", **asdict(report))

    def checkpoint(self, epoch: int, path: Path, sha256: str) -> None:
        self.tell("checkpoint", epoch=epoch, path=str(path), sha256=sha256)

    def log(self, line: LogLine) -> None:
        self.tell("log", level=line.level, code=line.code, details=line.details, text=line.text)


@dataclass(frozen=True, slots=True)
class Job:
    """The content of JOB.json, checked."""

    training: LabelledPictures
    validation: LabelledPictures
    base: Path | None
    recipe: Recipe
    batch: int | None
    folder: Path
    checkpoint: Path | None
    output: Path
    name: str
    licences: tuple[str, ...]
    attribution: str
    device: str

    @classmethod
    def read(cls, path: Path) -> Job:
        content: dict[str, Any] = json.loads(path.read_text())
        labels = tuple(content["labels"])
        weights = (content.get("base") or {}).get("weights")
        checkpoint = content.get("checkpoint")
        return cls(
            training=_pictures(labels, content["training"]),
            validation=_pictures(labels, content["validation"]),
            base=Path(weights) if weights else None,
            recipe=Recipe.checked(content["recipe"]),
            batch=content.get("batch"),
            folder=Path(content["folder"]),
            checkpoint=Path(checkpoint) if checkpoint else None,
            output=Path(content["output"]),
            name=content.get("name", "detector"),
            licences=tuple(content.get("licences", ())),
            attribution=content.get("attribution", ""),
            device=str(content.get("device", "auto")),
        )


def _pictures(labels: tuple[str, ...], records: Sequence[Mapping[str, Any]]) -> LabelledPictures:
    pictures = [
        LabelledPicture(
            path=Path(record["path"]),
            boxes_xyxy_px=np.array(record["boxes"], np.float32).reshape(-1, 4),
            labels=np.array(record["labels"], np.int64),
            width_px=int(record["width_px"]),
            height_px=int(record["height_px"]),
        )
        for record in records
    ]
    if any(len(p.labels) != len(p.boxes_xyxy_px) for p in pictures):
        raise ValueError("a picture has another number of labels than of boxes")
    if any(((p.labels < 0) | (p.labels >= len(labels))).any() for p in pictures):
        raise ValueError("a picture has a label that is not on the list")
    return LabelledPictures(labels, tuple(pictures))


def run_job(path: Path, events: Events) -> None:
    """Do what the file says. Raises whatever goes wrong."""
    job = Job.read(path)
    from apps.training.engine.fitting import fit_here
    from apps.training.engine.hardware import describe_hardware
    from apps.training.engine.processes import FitInProcesses
    from apps.training.engine.train import train_detector
    from apps.training.engine.trainer import chosen_device

    device = chosen_device(job.device)
    events.tell("hardware", device=device, **describe_hardware())
    trained = train_detector(
        training=job.training,
        validation=job.validation,
        base=job.base,
        output=job.output,
        folder=job.folder,
        recipe=job.recipe,
        name=job.name,
        licences=job.licences,
        attribution=job.attribution,
        device=device,
        batch=job.batch,
        checkpoint=job.checkpoint,
        listener=events,
        fit=FitInProcesses(events.descriptor) if "," in device else fit_here,
    )
    events.tell(
        "finished", weights=str(trained.weights), sha256=trained.sha256, best_epoch=trained.best_epoch
    )


def end_with_parent(parent: int | None) -> None:
    """Be killed when the process that started this one dies, however it dies."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent is not None and os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)  # it died before the line above


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("job", type=Path, help="JOB.json, or the plan of one of several processes")
    parser.add_argument("--events-fd", type=int, required=True, help="open file descriptor for the events")
    parser.add_argument("--parent", type=int, help="id of the process that starts this one")
    parser.add_argument("--fit-only", action="store_true", help="one of several processes")
    options = parser.parse_args(arguments)
    end_with_parent(options.parent)
    prepare_environment()
    events = Events(options.events_fd)
    try:
        if options.fit_only:
            _fit_only(options.job, events)
        else:
            run_job(options.job, events)
    except Exception as error:  # noqa: BLE001 - whatever it was, it is told before the process ends
        import traceback

        traceback.print_exc()
        failure = failure_of(error)
        if not getattr(error, "is_told", False):
            events.tell("failed", code=failure.code, detail=failure.detail)
        return FAILED
    return 0


def _fit_only(path: Path, events: Events) -> None:
    from apps.training.engine.fitting import FitPlan, fit_here

    fit_here(FitPlan.from_record(json.loads(path.read_text())), events)


if __name__ == "__main__":
    sys.exit(main())

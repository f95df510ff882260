"""A run's folder on this machine. Nothing in it is missed when it is gone: the checkpoint in the storage goes on."""

import json
import shutil
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from django.conf import settings

from apps.training.models import OPEN_RUNS, TrainingRun
from apps.training.services.pictures import forget_unused_pictures
from apps.training.services.run_worker.process import end_marked

if TYPE_CHECKING:
    from apps.training.engine.labelled import LabelledPicture

_FORGOTTEN_S: Final = 30 * 24 * 3600


class RunFolder:
    """Where the job of one run works."""

    def __init__(self, run: TrainingRun) -> None:
        self.mark = str(run.public_id)
        self.path = runs_folder() / self.mark
        self.job_file = self.path / "job.json"
        self.work = self.path / "work"
        self.output = self.path / "weights.podura"
        self.stored_checkpoint = self.path / "stored.pt"
        self._latest = self.path / "latest.json"

    def open(self) -> None:
        """Make the folder; a job that outlived its worker here is ended first, it would write into it."""
        end_marked(self.mark)
        self.work.mkdir(parents=True, exist_ok=True)

    def remove(self) -> None:
        end_marked(self.mark)
        shutil.rmtree(self.path, ignore_errors=True)

    def remember_checkpoint(self, epoch: int) -> None:
        """The trainer's own last checkpoint here is at least this far."""
        self._latest.write_text(json.dumps({"epoch": epoch}))

    @property
    def checkpoint_epoch(self) -> int:
        """How far the trainer came on this machine; 0: it never has."""
        try:
            return int(json.loads(self._latest.read_text())["epoch"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0

    def write_job(self, record: dict[str, Any]) -> Path:
        unfinished = self.job_file.with_suffix(".part")
        unfinished.write_text(json.dumps(record))
        unfinished.replace(self.job_file)
        return self.job_file


def job_pictures(pictures: Sequence["LabelledPicture"]) -> list[dict[str, Any]]:
    """Labelled pictures as the job reads them."""
    return [
        {
            "path": str(picture.path),
            "boxes": picture.boxes_xyxy_px.tolist(),
            "labels": picture.labels.tolist(),
            "width_px": picture.width_px,
            "height_px": picture.height_px,
        }
        for picture in pictures
    ]


def runs_folder() -> Path:
    return Path(settings.TRAINING_DIR) / "runs"


def tidy_folders() -> None:
    """Remove what runs that ended elsewhere left on this machine, and pictures that nobody asked for lately."""
    folders = {path.name: path for path in runs_folder().glob("*") if path.is_dir()}
    known = dict(
        TrainingRun.objects.filter(public_id__in=identifiers(folders)).values_list("public_id", "status")
    )
    statuses = {str(public_id): status for public_id, status in known.items()}
    for name, path in folders.items():
        if name in statuses:
            is_over = statuses[name] not in OPEN_RUNS
        else:  # of another database that shares the folder, or of one that is gone
            is_over = path.stat().st_mtime < time.time() - _FORGOTTEN_S
        if is_over:
            end_marked(name)
            shutil.rmtree(path, ignore_errors=True)
    forget_unused_pictures()


def identifiers(names: Iterable[str]) -> list[UUID]:
    """Those names that can be of a run."""
    found = []
    for name in names:
        with suppress(ValueError):
            found.append(UUID(name))
    return found

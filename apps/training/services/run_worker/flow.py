"""One attempt at a run: what is fetched, the training that is supervised, and every way it can end."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import structlog
from django.conf import settings

from apps.common.leased import LeaseLostError, is_stopping, kept_lease
from apps.common.tasks import send
from apps.training.engine.hardware import Gpu, Hardware
from apps.training.engine.recipe import Recipe
from apps.training.engine.weights import WeightsError
from apps.training.inference import local_weights
from apps.training.models import Split, TrainingLogLine, TrainingRun
from apps.training.services.datasets import DatasetDamagedError, FrozenItem, counted, read_manifest
from apps.training.services.datasets import Manifest as FrozenManifest
from apps.training.services.pictures import fetch_pictures
from apps.training.services.run_worker import outcome
from apps.training.services.run_worker.checkpoints import fetch_checkpoint
from apps.training.services.run_worker.ends import (
    CancelledError,
    RunFailedError,
    StoppedError,
    failure_behind,
)
from apps.training.services.run_worker.folder import RunFolder, job_pictures, tidy_folders
from apps.training.services.run_worker.record import RunRecord
from apps.training.services.run_worker.supervision import Finished, OutOfMemory, supervise
from apps.training.services.runs import ParametersError, recipe_of

logger = structlog.get_logger(__name__)
_GPU_DRIVER: Final = Path("/proc/driver/nvidia/gpus")
_ASK_FOR_GPUS: Final = (
    "import json, torch; from apps.training.engine.hardware import describe_hardware;"
    " print(json.dumps(describe_hardware()))"
)
_LONGEST_ATTRIBUTION: Final = 2_000


def continue_next_run() -> bool:
    """Claim a run and work on it until it ends or must be left; gives whether there was one."""
    if is_stopping():
        return False
    tidy_folders()
    rows = TrainingRun.objects.all()
    related = ("registered_model", "dataset", "base_version__registered_model")
    for run in rows.select_related(*related).claim(limit=1):
        with kept_lease(rows, run.lease_token):
            try:
                _attempt(run)
            except LeaseLostError:  # the folder is the next holder's, if it is on this machine
                logger.warning("run_lease_lost", run=run.pk)
        return True
    return False


def _attempt(run: TrainingRun) -> None:
    """However it goes: a run that ended leaves nothing on this machine, one that did not can go on."""
    from apps.training.tasks.runs import continue_runs  # tasks call services

    record, folder = RunRecord(run), RunFolder(run)
    is_over = True
    try:
        _work(record, folder)
    except LeaseLostError:
        raise
    except StoppedError:
        is_over = False
        record.note("worker_stopped")
        TrainingRun.objects.filter(pk=run.pk).update(seconds_spent=record.seconds_spent)
        TrainingRun.objects.all().release(run.lease_token)
        send(continue_runs)  # another worker need not wait for the sweep
    except CancelledError:
        outcome.cancel(record)
    except Exception as error:
        failure = failure_behind(error)
        if failure is None:
            logger.exception("run_broke", run=run.pk)
            is_over = outcome.end_attempt(record, error)
        else:
            outcome.fail(record, failure)
    if is_over:
        outcome.clear(run, folder)


def _work(record: RunRecord, folder: RunFolder) -> None:
    run = record.run
    record.pulse(is_due=True)
    folder.open()
    run.hardware |= {"machine": socket.gethostname()}
    record.change(stage=TrainingRun.Stage.PREPARING, code_commit=code_commit(), hardware=run.hardware)
    record.note("continued" if run.epochs_done else "started", machine=socket.gethostname())
    _settle_parameters(record)
    job = _job(record, folder)
    checkpoint = _checkpoint(record, folder)
    job |= {"checkpoint": str(checkpoint) if checkpoint else None}
    while True:
        job |= {"batch": record.batch, "recipe": Recipe.checked(run.parameters).as_record()}
        end = supervise(folder.write_job(job), record, folder)
        if isinstance(end, Finished):
            outcome.succeed(record, weights=end.weights, sha256=end.sha256, best_epoch=end.best_epoch)
            return
        _halve_batch(record, end)


def _halve_batch(record: RunRecord, end: OutOfMemory) -> None:
    """Half the batch from here on; fails when it is one already."""
    run = record.run
    batch = record.batch or int(run.parameters.get("batch") or 0) or end.batch
    if batch <= 1:
        raise RunFailedError("out_of_memory", end.detail)
    smaller = batch // 2
    code = "killed_by_system" if end.is_by_system else "out_of_memory"
    record.note(code, level=TrainingLogLine.Level.WARNING, batch=batch, next=smaller, detail=end.detail)
    record.batch = smaller
    # What the machine had chosen is kept: a step goes on learning from as many pictures.
    run.parameters["batch"] = int(run.parameters.get("batch") or 0) or batch
    record.change(batch=smaller, attempts=1, parameters=run.parameters)


def _settle_parameters(record: RunRecord) -> None:
    """Whoever asked for the run did not know this machine: what nobody chose is decided by it, once."""
    run = record.run
    if run.epochs_done or run.checkpoint_epoch or run.batch:
        return
    photos = int(run.dataset.counts[Split.TRAIN]["photos"])
    try:
        recipe = recipe_of(run.chosen, hardware=_hardware(), pictures=photos, base=run.base_version)
    except ParametersError as error:  # accepted by another version of the code
        raise RunFailedError("error", str(error)) from error
    run.parameters, run.epochs = recipe.as_record(), recipe.epochs
    record.change(parameters=run.parameters, epochs=run.epochs)


def _job(record: RunRecord, folder: RunFolder) -> dict[str, Any]:
    """All that the training is told."""
    run = record.run
    try:
        manifest = read_manifest(run.dataset)
    except (DatasetDamagedError, FileNotFoundError) as error:
        raise RunFailedError("dataset_damaged", str(error)) from error
    items = _remaining(record, manifest)
    wanted = [item for item in items if item.split in (Split.TRAIN, Split.VALIDATION)]
    try:
        pictures = fetch_pictures(
            wanted,
            labels=manifest.labels,
            storage=run.dataset.manifest.storage,
            between=lambda _done: record.pulse(),
        )
    except DatasetDamagedError as error:
        raise RunFailedError("dataset_damaged", str(error)) from error
    record.note("pictures_fetched", n=len(pictures))
    parts = {
        split: job_pictures([p for p, item in zip(pictures, wanted, strict=True) if item.split == split])
        for split in (Split.TRAIN, Split.VALIDATION)
    }
    return {
        "labels": list(manifest.labels),
        "training": parts[Split.TRAIN],
        "validation": parts[Split.VALIDATION],
        "base": {"weights": _base(run)},
        "folder": str(folder.work),
        "output": str(folder.output),
        "name": run.registered_model.name,
        "licences": sorted({item.licence for item in wanted}),
        "attribution": _attribution(wanted),
        "device": "auto",
    }


def _remaining(record: RunRecord, manifest: FrozenManifest) -> list[FrozenItem]:
    """The dataset without photos that were deleted since it was frozen."""
    run = record.run
    gone = {
        str(photo) for photo in run.dataset.items.filter(is_withdrawn=True).values_list("photo", flat=True)
    }
    items = [item for item in manifest.items if item.photo not in gone]
    left_out = sum(item.photo in gone and item.split != Split.TEST for item in manifest.items)
    if left_out:
        record.note("withdrawn_left_out", n=left_out)
    counts = counted(FrozenManifest(manifest.labels, tuple(items)))
    unseen = [label for label in manifest.labels if not counts[Split.TRAIN]["labels"][label]]
    if unseen:
        record.note("label_never_seen", level=TrainingLogLine.Level.WARNING, label=", ".join(unseen))
    return items


def _attribution(items: list[FrozenItem]) -> str:
    named = ", ".join(sorted({item.attribution for item in items if item.attribution}))
    return named if len(named) <= _LONGEST_ATTRIBUTION else named[: _LONGEST_ATTRIBUTION - 1] + "…"


def _base(run: TrainingRun) -> str | None:
    if run.base_version is None:
        return None
    try:
        return str(local_weights(run.base_version))
    except (WeightsError, FileNotFoundError) as error:
        raise RunFailedError("unusable_base", str(error)) from error


def _checkpoint(record: RunRecord, folder: RunFolder) -> Path | None:
    """The stored checkpoint, where it is further than what the trainer left in its own folder; it takes the furthest."""
    run = record.run
    if not run.checkpoint or folder.checkpoint_epoch >= run.checkpoint_epoch:
        return None
    found = fetch_checkpoint(run, folder)
    if found is None:
        record.note("checkpoint_unusable", level=TrainingLogLine.Level.WARNING)
    return found


def code_commit() -> str:
    """Which code trains: as the image was told, or as the checkout says."""
    if settings.CODE_COMMIT:
        return str(settings.CODE_COMMIT)[:40]
    command = ["git", "-C", str(settings.BASE_DIR), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()[:40]


def _hardware() -> Hardware:
    """This machine. Its GPUs are asked for in a process of its own: a worker that holds CUDA leaves less to the job."""
    here = Hardware.here()
    if not _GPU_DRIVER.is_dir():
        return here
    began = time.monotonic()
    try:
        done = subprocess.run(
            [sys.executable, "-c", _ASK_FOR_GPUS],
            cwd=settings.BASE_DIR,
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        found: Mapping[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        logger.exception("gpus_not_asked", seconds=time.monotonic() - began)
        return here
    gpus = tuple(Gpu(**gpu) for gpu in found["gpus"])
    return Hardware(here.cpu, here.cores, here.memory_bytes, gpus, found["versions"])

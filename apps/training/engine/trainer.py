"""Ultralytics' trainer with what a service needs of it: own data and net, whole checkpoints, named failures.

Import it only where PyTorch may be imported. Several devices are Ultralytics' own distributed training: one process
of `job.py` for each, told apart by the environment (RANK, LOCAL_RANK, WORLD_SIZE) as by torchrun.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from apps.training.engine.environment import import_ultralytics
from apps.training.engine.events import EpochReport, TrainingError

import_ultralytics()

import torch  # noqa: E402
import ultralytics.engine.trainer  # noqa: E402
from torch import nn  # noqa: E402
from ultralytics.models.yolo.detect import DetectionTrainer  # noqa: E402
from ultralytics.utils import RANK  # noqa: E402

IS_FIRST = RANK in {-1, 0}
"""Whether this is the only process, or the one of several that tells and writes."""
WORLD_SIZE = int(os.environ.get("WORLD_SIZE", "1"))
_METRICS = {
    "metrics/precision(B)": "precision",
    "metrics/recall(B)": "recall",
    "metrics/mAP50(B)": "map50",
    "metrics/mAP50-95(B)": "map50_95",
    "lr/pg0": "learning_rate",
}


class FineTuning(DetectionTrainer):  # type: ignore[misc]
    """Not named ...Trainer: that word makes Ultralytics load its reporting to other services."""

    last: Path
    best: Path

    make_net: Callable[[], nn.Module]
    """Gives the net of a training that is not resumed; called after the seed is set."""
    description: Mapping[str, Any]
    on_recovery: Callable[[int], None] | None = None

    def __init__(self, overrides: dict[str, Any], description: Mapping[str, Any]) -> None:
        self.description = description
        super().__init__(overrides=overrides)
        if self.device.type == "cpu" and WORLD_SIZE > 1:
            self.world_size = WORLD_SIZE
        self.add_callback("on_train_epoch_start", _begin_epoch)
        if IS_FIRST:
            for leftover in self.wdir.glob("*.part"):
                leftover.unlink()

    def check_resume(self, overrides: dict[str, Any]) -> None:
        super().check_resume(overrides)
        self.args.amp = overrides["amp"]  # that of this machine, not of the one that wrote the checkpoint

    def get_dataset(self) -> dict[str, Any]:
        """Known already: Ultralytics would look for fonts, scripts and addresses first."""
        return dict(self.description)

    def setup_model(self) -> Any:
        if self.resume:
            return super().setup_model()
        self.model = self.make_net()
        return None

    def _setup_ddp(self) -> None:
        if self.device.type != "cpu":
            super()._setup_ddp()
            return
        torch.distributed.init_process_group(backend="gloo", rank=RANK, world_size=self.world_size)

    def _setup_train(self) -> None:
        with _without_device_ids(self.device.type == "cpu" and self.world_size > 1):
            super()._setup_train()

    def _handle_nan_recovery(self, epoch: int) -> bool:
        try:
            recovers: bool = super()._handle_nan_recovery(epoch)
        except RuntimeError as error:
            raise TrainingError("diverged", str(error)) from error
        if recovers and self.on_recovery is not None:
            self.on_recovery(epoch + 1)
        if not recovers and not all(torch.isfinite(p).all() for p in self.model.parameters()):
            raise TrainingError("diverged", f"epoch {epoch + 1}: the weights are no numbers")
        return recovers

    def read_results_csv(self) -> dict[str, Any]:
        return {}  # the same numbers are in the run's own table

    def save_model(self) -> bool:
        """Each file appears whole or not at all, and a link to the one before stays as it was."""
        last, best = self.last, self.best
        self.last, self.best = last.with_suffix(".part"), best.with_name("best.part")
        try:
            saved: bool = super().save_model()
            if self.best.exists():
                # The best epoch so far: the same content, which a copy then holds once.
                self.best.unlink()
                os.link(self.last, self.best)
                self.best.replace(best)
            self.last.replace(last)
        finally:
            for part in (self.last, self.best):
                part.unlink(missing_ok=True)
            self.last, self.best = last, best
        return saved

    def final_eval(self) -> None:
        """Left out: the best epoch was just measured, and every version is evaluated by the reference anyway."""

    def report(self) -> EpochReport:
        """Of the epoch that has just ended."""
        known = {**self.label_loss_items(self.tloss), **self.metrics, **self.lr}
        named = {_METRICS.get(key) or _loss_name(key): float(value) for key, value in known.items()}
        finite = {key: value for key, value in named.items() if key and abs(value) < float("inf")}
        return EpochReport(
            self.epoch + 1, self.epochs, finite, float(self.epoch_time or 0.0), int(self.batch_size)
        )


def _loss_name(key: str) -> str:
    part, _, name = key.partition("/")
    if not name.endswith("_loss"):
        return ""
    return name if part == "train" else f"{part}_{name}"


def _begin_epoch(running: FineTuning) -> None:
    # Ultralytics leaves one core idle, which on two cores doubles the time.
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // max(1, running.world_size)))
    # Out of memory it would halve the batch by itself up to three times, in the first epoch only and untold: whoever
    # supervises the run does that, in every epoch, down to one picture.
    running._oom_retries = 3  # noqa: SLF001 - there is no public switch


@contextmanager
def _without_device_ids(is_needed: bool) -> Iterator[None]:  # noqa: FBT001
    """Ultralytics names a device for its distributed net, which PyTorch refuses on CPUs."""
    original = nn.parallel.DistributedDataParallel

    def wrapped(model: nn.Module, **options: Any) -> nn.Module:
        options.pop("device_ids", None)
        return original(model, **options)

    if is_needed:
        nn.parallel.DistributedDataParallel = wrapped
    try:
        yield
    finally:
        nn.parallel.DistributedDataParallel = original


def _is_precision_safe(_model: nn.Module) -> bool:
    """Instead of Ultralytics' check, which downloads a net: `mixed_precision` has already judged the GPU."""
    return True


ultralytics.engine.trainer.check_amp = _is_precision_safe


def mixed_precision(device: str) -> str | bool:
    """The precision that is safe on all of these devices: "bf16", True for fp16, or False."""
    if "cpu" in device:
        return False
    generations = [torch.cuda.get_device_capability(int(number)) for number in device.split(",")]
    if min(generations) >= (8, 0):
        return "bf16"
    names = [torch.cuda.get_device_name(int(number)) for number in device.split(",")]
    # Turing without tensor cores gives NaN in half precision (GTX 16xx, T400 ...), as Ultralytics found.
    is_weak = any(word in name for name in names for word in ("GTX 16", "T400", "T550", "T600", "T1000"))
    return min(generations) >= (7, 0) and not is_weak


def chosen_device(wanted: str) -> str:
    """What `auto` stands for: all GPUs, else the CPU."""
    if wanted != "auto":
        return wanted
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return ",".join(str(index) for index in range(count)) or "cpu"

"""The fitting itself: from prepared pictures to `best.pt`, in this process or as one of several."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apps.training.engine.checkpoints import Copier
from apps.training.engine.events import Listener, LogLine
from apps.training.engine.nets import build_net, heritage, load_base
from apps.training.engine.recipe import Recipe

if TYPE_CHECKING:
    from apps.training.engine.trainer import FineTuning


@dataclass(frozen=True, slots=True)
class FitPlan:
    """What one process that fits must know; plain enough to be handed to another as JSON."""

    pictures: str
    """The folder that `prepared.prepare` filled."""
    folder: str
    base: str | None
    labels: tuple[str, ...]
    recipe: Recipe
    batch: int
    device: str
    is_resumed: bool

    @property
    def weights(self) -> Path:
        return Path(self.folder) / "run" / "weights"

    @property
    def _mark(self) -> Path:
        return Path(self.folder) / "run" / "ended"

    def mark_ended(self) -> None:
        self._mark.touch()

    def is_done(self, epochs_done: int) -> bool:
        """Whether an earlier process ended the last epoch, or ended early because nothing got better."""
        return epochs_done >= self.recipe.epochs or self._mark.exists()

    def as_record(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> FitPlan:
        recipe, labels = Recipe(**record["recipe"]), tuple(record["labels"])
        return cls(**{**record, "recipe": recipe, "labels": labels})


def fit_here(plan: FitPlan, listener: Listener) -> None:
    """Train until the last epoch, or until nothing gets better; the best epoch is then in `plan.weights`."""
    from apps.training.engine.trainer import IS_FIRST

    trainer = _trainer(plan, listener if IS_FIRST else Listener())
    if not IS_FIRST:
        trainer.train()
        return
    copier = Copier(Path(plan.folder), listener)
    copier.start()

    def report(running: FineTuning) -> None:
        listener.epoch(running.report())
        copier.take(running.epoch + 1, plan.weights)

    trainer.add_callback("on_fit_epoch_end", report)
    try:
        trainer.train()
    except BaseException:
        copier.abandon()
        raise
    copier.end()
    plan.mark_ended()
    stopper = trainer.stopper
    if trainer.epoch + 1 < trainer.epochs:
        details = {
            "epoch": trainer.epoch + 1,
            "patience": plan.recipe.patience,
            "best_epoch": stopper.best_epoch,
        }
        listener.log(LogLine("stopped_early", details))


def _trainer(plan: FitPlan, listener: Listener) -> FineTuning:
    from apps.training.engine.trainer import FineTuning, mixed_precision

    base = None
    if not plan.is_resumed:
        base = load_base(Path(plan.base)) if plan.base is not None else None
        _tell_heritage(plan, base, listener)
    pictures = Path(plan.pictures).resolve()
    description = {
        "path": pictures,
        "train": str(pictures / "train" / "images"),
        "val": str(pictures / "val" / "images"),
        "names": dict(enumerate(plan.labels)),
        "nc": len(plan.labels),
        "channels": 3,
    }
    is_mixed = plan.recipe.mixed_precision
    overrides = plan.recipe.overrides(batch=plan.batch) | {
        "model": "podura.yaml",  # a name only: the net is made by `make_net`
        "data": str(pictures / "data.yaml"),
        "device": plan.device,
        "workers": 4,  # for each GPU; without one Ultralytics reads pictures in the process itself
        "amp": mixed_precision(plan.device) if is_mixed else False,
        "save_dir": str(Path(plan.folder).resolve() / "run"),
        "exist_ok": True,
    }
    if plan.is_resumed:
        overrides["resume"] = str(plan.weights / "last.pt")
    trainer = FineTuning(overrides, description)
    trainer.make_net = lambda: build_net(base, plan.labels, architecture=plan.recipe.architecture)
    trainer.on_recovery = lambda epoch: listener.log(LogLine("recovered", {"epoch": epoch}, "warning"))
    return trainer


def _tell_heritage(plan: FitPlan, base: Any, listener: Listener) -> None:
    if base is None:
        listener.log(LogLine("untrained", {"architecture": plan.recipe.architecture}))
        return
    labels = heritage(base, plan.labels)
    if labels.new:
        listener.log(LogLine("head_extended", {"known": list(labels.known), "new": list(labels.new)}))

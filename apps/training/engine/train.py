r"""Fine-tune a detector: labelled pictures and base weights in, a weights file with its measured quality out.

    python -m apps.training.engine.train --images DIR --coco coco.json --validation names.txt \
        --base base.pt --output models/springtails/weights.podura --folder RUN

An interrupted run continues from its last epoch when it is started again with the same folder.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from apps.training.engine.checkpoints import restore
from apps.training.engine.events import EpochReport, Listener, LogLine
from apps.training.engine.fitting import FitPlan, fit_here
from apps.training.engine.hardware import Hardware
from apps.training.engine.labelled import LabelledPictures, read_coco
from apps.training.engine.prepared import prepare
from apps.training.engine.recipe import Recipe, automatic_batch
from apps.training.engine.weights import (
    WeightsError,
    WeightsMetadata,
    save_weights,
)

if TYPE_CHECKING:
    from ultralytics.nn.tasks import DetectionModel

__all__ = ["EpochReport", "TrainedDetector", "train_detector"]

_PARAMETERS_OF_SIZES: Final = (("n", 4_000_000), ("s", 15_000_000))


@dataclass(frozen=True, slots=True)
class TrainedDetector:
    weights: Path
    sha256: str
    metadata: WeightsMetadata
    best_epoch: int = 0
    """The epoch whose weights these are; 1 for the first."""


def train_detector(
    *,
    training: LabelledPictures,
    validation: LabelledPictures,
    base: Path | None,
    output: Path,
    folder: Path,
    recipe: Recipe | None = None,
    name: str = "detector",
    licences: Sequence[str] = (),
    attribution: str = "",
    on_epoch: Callable[[EpochReport], None] | None = None,
    device: str = "cpu",
    batch: int | None = None,
    checkpoint: Path | None = None,
    listener: Listener | None = None,
    fit: Callable[[FitPlan, Listener], None] | None = None,
) -> TrainedDetector:
    """Fine-tune `base` (an Ultralytics `.pt` or a Podura weights file; None: an untrained net) and write the best
    epoch to `output`.

    `folder` holds the pictures as the trainer reads them and the checkpoints; from its own or the given one an
    interrupted run goes on, also with a smaller `batch`. Pictures that say where on a plate they lie are recut as
    well (`labelled.recut`). `fit` may do the fitting elsewhere, e.g. in several processes.
    """
    recipe = recipe or Recipe()
    listener = listener or Listener()
    if base is not None and not base.is_file():
        raise WeightsError(f"no such file: {base}")
    prepared = prepare(training, validation, folder=folder / "pictures", recipe=recipe)
    if prepared.tiled:
        details = {"pictures": prepared.tiled, "windows": prepared.windows, "side_px": prepared.side_px}
        listener.log(LogLine("windows", details))
    listener.prepared(prepared.training, prepared.validation)
    resumable = restore(folder, checkpoint, listener)
    plan = FitPlan(
        pictures=str(prepared.description.parent),
        folder=str(folder),
        base=None if base is None else str(base),
        labels=training.labels,
        recipe=recipe,
        batch=batch or recipe.batch or _automatic_batch(recipe, device, prepared.training, base),
        device=device,
        is_resumed=resumable is not None,
    )
    if resumable is not None:
        listener.log(LogLine("resumed", {"epoch": resumable.epochs_done}))
    if resumable is None or not plan.is_done(resumable.epochs_done):
        listener.log(LogLine("device", {"device": device, "batch": plan.batch}))
        (fit or fit_here)(plan, _Both(listener, on_epoch) if on_epoch else listener)
    model, best_epoch = _best(folder)
    metadata = WeightsMetadata(
        architecture=_architecture(model),
        labels=training.labels,
        image_size=recipe.image_size,
        object_size_px=prepared.object_size_px,
        trained_size_px=prepared.trained_size_px,
        name=name,
        recipe=recipe.as_record()
        | {"base": base.name if base is not None else "", "pictures": len(training.pictures)},
        licences=tuple(licences),
        attribution=attribution,
    )
    try:
        sha256 = save_weights(output, model, metadata)
    finally:
        output.with_name(output.name + ".part").unlink(missing_ok=True)
    return TrainedDetector(output, sha256, metadata, best_epoch)


class _Both(Listener):
    """A listener and a function that only wants the epochs."""

    def __init__(self, listener: Listener, on_epoch: Callable[[EpochReport], None]) -> None:
        self._on_epoch = on_epoch
        self._listener = listener
        self.checkpoint, self.log = listener.checkpoint, listener.log  # type: ignore[method-assign]

    def epoch(self, report: EpochReport) -> None:
        self._listener.epoch(report)
        self._on_epoch(report)


def _automatic_batch(recipe: Recipe, device: str, pictures: int, base: Path | None) -> int:
    size = recipe.architecture[-1]
    if base is not None:
        parameters = base.stat().st_size / 2  # both kinds of file hold half precision
        size = next((size for size, most in _PARAMETERS_OF_SIZES if parameters < most), "m")
    import torch  # noqa: F401 - without it the hardware has no GPU

    hardware = Hardware.here().only(device)
    return automatic_batch(hardware, image_size=recipe.image_size, pictures=pictures, size=size)


def _best(folder: Path) -> tuple[DetectionModel, int]:
    """The net of the best epoch, and which one that was."""
    from apps.training.engine.environment import import_ultralytics

    import_ultralytics()
    from ultralytics.nn.tasks import torch_safe_load

    path = folder / "run" / "weights" / "best.pt"
    checkpoint: dict[str, Any] = torch_safe_load(str(path), safe_only=True)[0]
    return checkpoint["ema"].float(), int(checkpoint["epoch"]) + 1


def _architecture(model: DetectionModel) -> dict[str, Any]:
    """The model's description without the paths and notes that Ultralytics adds to it."""
    wanted = ("nc", "scale", "scales", "backbone", "head", "activation", "reg_max", "end2end", "strides")
    return json.loads(json.dumps({key: model.yaml[key] for key in wanted if key in model.yaml}))  # type: ignore[no-any-return]


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--images", type=Path, required=True, help="folder of the pictures")
    parser.add_argument("--coco", type=Path, required=True, help="ground truth in COCO's format")
    parser.add_argument("--validation", type=Path, required=True, help="text file: a picture's name per line")
    parser.add_argument("--base", type=Path, help="Ultralytics .pt or Podura weights file; none: untrained")
    parser.add_argument("--output", type=Path, required=True, help="weights file to write")
    parser.add_argument("--folder", type=Path, required=True, help="working folder; start again to resume")
    parser.add_argument("--name", default="detector")
    parser.add_argument("--licence", action="append", default=[], help="licence statement, may be repeated")
    parser.add_argument("--attribution", default="")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="PARAMETER=VALUE",
        help="any parameter of the recipe, e.g. image_size=512, may be repeated",
    )
    parser.add_argument("--epochs", type=int, default=Recipe().epochs)
    parser.add_argument("--seed", type=int, default=Recipe().seed)
    parser.add_argument("--device", default="cpu", help="cpu, or the number of a CUDA device")
    return parser.parse_args(arguments)


def _recipe(options: argparse.Namespace) -> Recipe:
    record: dict[str, Any] = {"epochs": options.epochs, "seed": options.seed}
    for assignment in options.set:
        parameter, _, value = assignment.partition("=")
        try:
            record[parameter] = json.loads(value)
        except ValueError:
            record[parameter] = value  # a word, e.g. tiling=never
    return Recipe.checked(record)


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parse(arguments)
    try:
        trained = _train(options)
    except WeightsError as error:
        raise SystemExit(f"refused: {error}") from None
    print(f"{trained.weights} {trained.weights.stat().st_size} bytes, sha256 {trained.sha256}")


def _train(options: argparse.Namespace) -> TrainedDetector:
    labelled = read_coco(options.images, options.coco)
    names = options.validation.read_text().split()
    return train_detector(
        training=labelled.without(names),
        validation=labelled.only(names),
        base=options.base,
        output=options.output,
        folder=options.folder,
        recipe=_recipe(options),
        name=options.name,
        licences=options.licence,
        attribution=options.attribution,
        on_epoch=lambda report: print(
            f"epoch {report.epoch}/{report.epochs} "
            + " ".join(f"{key}={value:.4f}" for key, value in report.metrics.items()),
            flush=True,
        ),
        device=options.device,
    )


if __name__ == "__main__":
    main()

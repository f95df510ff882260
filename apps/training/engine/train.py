r"""Fine-tune a detector: labelled pictures and base weights in, a weights file with its measured quality out.

    python -m apps.training.engine.train --images DIR --coco coco.json --validation names.txt \
        --base base.pt --output models/springtails/weights.podura --folder RUN

An interrupted run continues from its last epoch when it is started again with the same folder.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from PIL import Image

from apps.training.engine.environment import import_ultralytics
from apps.training.engine.labelled import Cutting, LabelledPictures, cut, read_coco, recut, stitch
from apps.training.engine.letterbox import fitting_scale
from apps.training.engine.recipe import Recipe
from apps.training.engine.tiling import windows_of
from apps.training.engine.weights import (
    WeightsMetadata,
    load_checkpoint_model,
    load_torch_model,
    save_weights,
)

if TYPE_CHECKING:
    from ultralytics.nn.tasks import DetectionModel


SMALLEST_VISIBLE_PX: Final = 32.0
"""Below this long side at the net's input, COCO's border of small objects, pictures are trained on in windows."""


@dataclass(frozen=True, slots=True)
class EpochReport:
    """What is known after an epoch; metrics are Ultralytics' own, of the validation pictures."""

    epoch: int
    epochs: int
    metrics: dict[str, float]


@dataclass(frozen=True, slots=True)
class TrainedDetector:
    weights: Path
    sha256: str
    metadata: WeightsMetadata


def train_detector(
    *,
    training: LabelledPictures,
    validation: LabelledPictures,
    base: Path,
    output: Path,
    folder: Path,
    recipe: Recipe | None = None,
    name: str = "detector",
    licences: Sequence[str] = (),
    attribution: str = "",
    on_epoch: Callable[[EpochReport], None] | None = None,
    device: str = "cpu",
) -> TrainedDetector:
    """Fine-tune `base` (an Ultralytics `.pt` or a Podura weights file) and write the best epoch to `output`.

    `folder` holds the pictures as the trainer reads them, its log and its checkpoints; with a `last.pt` in it
    the run is resumed. Pictures that say where on a plate they lie are recut as well (`labelled.recut`).
    """
    recipe = recipe or Recipe()
    if training.labels != validation.labels:
        raise ValueError("training and validation pictures have different labels")
    scale = _training_scale(training, recipe.image_size)
    data = _write_pictures(training, validation, folder / "pictures", recipe.image_size, scale)
    best = _run_trainer(data, base, folder, recipe, on_epoch=on_epoch, device=device)
    model = load_checkpoint_model(best)
    metadata = WeightsMetadata(
        architecture=_architecture(model),
        labels=training.labels,
        image_size=recipe.image_size,
        object_size_px=training.typical_object_px(),
        trained_size_px=training.typical_object_px() * scale,
        name=name,
        recipe=recipe.as_record() | {"base": base.name, "pictures": len(training.pictures)},
        licences=tuple(licences),
        attribution=attribution,
    )
    return TrainedDetector(output, save_weights(output, model, metadata), metadata)


def _architecture(model: DetectionModel) -> dict[str, Any]:
    """The model's description without the paths and notes that Ultralytics adds to it."""
    wanted = ("nc", "scale", "scales", "backbone", "head", "activation", "reg_max", "end2end", "strides")
    return json.loads(json.dumps({key: model.yaml[key] for key in wanted if key in model.yaml}))  # type: ignore[no-any-return]


def _run_trainer(
    data: Path,
    base: Path,
    folder: Path,
    recipe: Recipe,
    *,
    on_epoch: Callable[[EpochReport], None] | None,
    device: str,
) -> Path:
    import_ultralytics()
    import torch
    from ultralytics.models.yolo.detect import DetectionTrainer

    base_model = load_torch_model(base)[0] if base.suffix != ".pt" else load_checkpoint_model(base)

    class Trainer(DetectionTrainer):  # type: ignore[misc]
        def setup_model(self) -> Any:
            if self.resume:
                return super().setup_model()
            self.model = self.get_model(cfg=base_model.yaml, weights=base_model)
            return None

    run = folder / "run"
    last, best = run / "weights" / "last.pt", run / "weights" / "best.pt"
    overrides = recipe.overrides() | {
        "model": "podura.yaml",  # a name only: setup_model above makes the net
        "data": str(data),
        "device": device,
        "workers": 1,
        "project": str(folder),
        "name": "run",
        "exist_ok": True,
    }
    if last.exists():
        if _is_finished(last):
            return best
        overrides["resume"] = str(last)
    trainer = Trainer(overrides=overrides)

    begun: set[int] = set()

    def begin(running: Any) -> None:
        begun.add(running.epoch)
        # Ultralytics leaves one core idle, which on two cores doubles the time, and says so again in validation.
        torch.set_num_threads(len(os.sched_getaffinity(0)))

    def report(running: Any) -> None:
        if on_epoch and running.epoch in begun:  # the evaluation at the very end calls as if it were an epoch
            metrics = {key: float(value) for key, value in running.metrics.items()}
            on_epoch(EpochReport(running.epoch + 1, running.epochs, metrics))

    trainer.add_callback("on_train_epoch_start", begin)
    trainer.add_callback("on_fit_epoch_end", report)
    trainer.train()
    return best


def _is_finished(checkpoint: Path) -> bool:
    """Whether a run ended: Ultralytics then strips the optimiser and marks the epoch with -1."""
    from ultralytics.nn.tasks import torch_safe_load

    epoch: int = torch_safe_load(str(checkpoint), safe_only=True)[0].get("epoch", -1)
    return epoch == -1


def _training_scale(labelled: LabelledPictures, size_px: int) -> float:
    """Pixels of the net's input for one pixel of the pictures: they are shrunk whole if animals stay visible.

    Otherwise they are cut into windows at native scale, as the detector will do with such pictures.
    """
    scales = [fitting_scale(p.width_px, p.height_px, size_px) for p in labelled.pictures]
    whole = statistics.median(scales)
    return whole if labelled.typical_object_px() * whole >= SMALLEST_VISIBLE_PX else 1.0


def _write_pictures(
    training: LabelledPictures, validation: LabelledPictures, folder: Path, size_px: int, scale: float
) -> Path:
    """Write the pictures and labels as the trainer reads them, with a description made here and nowhere else.

    A description of Ultralytics may name a URL or a script to run, so that none is ever taken from a user.
    """
    description = folder / "data.yaml"
    if description.exists():
        return description
    shutil.rmtree(folder, ignore_errors=True)
    for part, cuttings in (
        ("train", itertools.chain(_cuttings(training, size_px, scale), _recuttings(training, size_px))),
        ("val", _cuttings(validation, size_px, scale)),
    ):
        (folder / part / "images").mkdir(parents=True)
        (folder / part / "labels").mkdir()
        for number, cutting in enumerate(cuttings):
            _write_cutting(folder / part, f"{number:06}_{cutting.name}", cutting)
    names = [f"  {index}: {json.dumps(label)}" for index, label in enumerate(training.labels)]
    lines = [f"path: {json.dumps(str(folder.resolve()))}", "train: train/images", "val: val/images", "names:"]
    description.write_text("\n".join([*lines, *names, ""]))
    return description


def _cuttings(labelled: LabelledPictures, size_px: int, scale: float) -> Iterator[Cutting]:
    """Every picture, whole or in windows."""
    side = round(size_px / scale)
    for picture in labelled.pictures:
        whole = Cutting(picture.path.stem, picture.pixels(), picture.boxes_xyxy_px, picture.labels)
        if scale < 1.0 or max(picture.width_px, picture.height_px) <= side:
            yield whole
        else:
            windows = windows_of(picture.width_px, picture.height_px, side_px=side, overlap_px=side // 4)
            yield from cut(whole, windows)


def _recuttings(labelled: LabelledPictures, size_px: int) -> Iterator[Cutting]:
    """New windows of the plate that the pictures were cut from, where they say so, without those they are."""
    places = [picture.place_px for picture in labelled.pictures if picture.place_px is not None]
    if not places:
        return
    left, top = min(x for x, _ in places), min(y for _, y in places)
    placed = tuple(picture for picture in labelled.pictures if picture.place_px is not None)
    for cutting in recut(stitch(placed), size_px=size_px):
        x, y = (int(part[1:]) for part in cutting.name.removesuffix("_t").split("_")[-2:])
        if cutting.name.endswith("_t") or (x + left, y + top) not in places:
            yield cutting


def _write_cutting(folder: Path, name: str, cutting: Cutting) -> None:
    Image.fromarray(cutting.pixels).save(folder / "images" / f"{name}.png", compress_level=1)
    height, width = cutting.pixels.shape[:2]
    rows = []
    for (x1, y1, x2, y2), label in zip(cutting.boxes_xyxy_px.tolist(), cutting.labels.tolist(), strict=True):
        centre = f"{(x1 + x2) / 2 / width:.6f} {(y1 + y2) / 2 / height:.6f}"
        rows.append(f"{label} {centre} {(x2 - x1) / width:.6f} {(y2 - y1) / height:.6f}\n")
    (folder / "labels" / f"{name}.txt").write_text("".join(rows))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--images", type=Path, required=True, help="folder of the pictures")
    parser.add_argument("--coco", type=Path, required=True, help="ground truth in COCO's format")
    parser.add_argument("--validation", type=Path, required=True, help="text file: a picture's name per line")
    parser.add_argument("--base", type=Path, required=True, help="Ultralytics .pt or Podura weights file")
    parser.add_argument("--output", type=Path, required=True, help="weights file to write")
    parser.add_argument("--folder", type=Path, required=True, help="working folder; start again to resume")
    parser.add_argument("--name", default="detector")
    parser.add_argument("--licence", action="append", default=[], help="licence statement, may be repeated")
    parser.add_argument("--attribution", default="")
    parser.add_argument("--epochs", type=int, default=Recipe().epochs)
    parser.add_argument("--seed", type=int, default=Recipe().seed)
    parser.add_argument("--device", default="cpu", help="cpu, or the number of a CUDA device")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parse(arguments)
    labelled = read_coco(options.images, options.coco)
    names = options.validation.read_text().split()
    trained = train_detector(
        training=labelled.without(names),
        validation=labelled.only(names),
        base=options.base,
        output=options.output,
        folder=options.folder,
        recipe=Recipe(epochs=options.epochs, seed=options.seed),
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
    print(f"{trained.weights} {trained.weights.stat().st_size} bytes, sha256 {trained.sha256}")


if __name__ == "__main__":
    main()

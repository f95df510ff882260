"""Wall time of a whole training job against Ultralytics' own trainer on the same pictures with the same settings.

Each side is a fresh process from its start to its end; they take turns (A B A B), and the ratio is that of the medians.
The job's time holds everything that a run adds: decoding and writing the pictures, an event for each epoch, a copied and
digested checkpoint for each epoch, the compressed weights file. Ultralytics finds its pictures ready on the disk in its
own layout and draws no plots. Each side has one core: threads of PyTorch that wait for each other would measure what
else the machine does.

`Lesson`, `direct_seconds`, `job_seconds` and `in_turns` can be used with further sides, e.g. a run with its database.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from apps.training.engine.labelled import LabelledPicture, LabelledPictures
from apps.training.engine.prepared import prepare
from apps.training.engine.recipe import Recipe

CHECKOUT = Path(__file__).resolve().parent.parent
TARGET = 1.05
LABELS = ("disc", "bar")
SIDE_PX = 160


class Seconds(NamedTuple):
    """Of one process and all that it started."""

    wall: float
    cpu: float
    """Hardly depends on what else the machine does; for the record beside the ratio of the wall times."""


@dataclass(frozen=True)
class Lesson:
    """Drawn pictures and how a net is trained on them."""

    pictures: LabelledPictures
    validation: LabelledPictures
    recipe: Recipe
    ready: Path
    """The same in Ultralytics' layout, with its `data.yaml`."""


def make_lesson(folder: Path, *, pictures: int, epochs: int) -> Lesson:
    rng = np.random.default_rng(9)
    made = [_draw(folder / f"{number:04}.jpg", rng) for number in range(pictures + pictures // 4)]
    training = LabelledPictures(LABELS, tuple(made[:pictures]))
    validation = LabelledPictures(LABELS, tuple(made[pictures:]))
    recipe = Recipe(epochs=epochs, image_size=SIDE_PX, batch=8, epochs_without_mosaic=epochs // 4)
    prepare(training, validation, folder=folder / "ready", recipe=recipe)
    return Lesson(training, validation, recipe, folder / "ready")


def _draw(path: Path, rng: np.random.Generator) -> LabelledPicture:
    pixels = rng.integers(80, 110, (SIDE_PX, SIDE_PX, 3)).astype(np.uint8)
    picture = Image.fromarray(pixels)
    draw = ImageDraw.Draw(picture)
    boxes = []
    for label in range(2):
        width, height = (50, 50) if label == 0 else (70, 24)
        x, y = (int(rng.integers(1, SIDE_PX - side - 1)) for side in (width, height))
        boxes.append((x, y, x + width, y + height))
        (draw.ellipse if label == 0 else draw.rectangle)(boxes[-1], fill=(200, 60, 60 + 100 * label))
    picture.save(path, quality=90)
    return LabelledPicture(path, np.array(boxes, np.float32), np.arange(2), SIDE_PX, SIDE_PX)


def direct_seconds(lesson: Lesson, folder: Path) -> Seconds:
    """Ultralytics' trainer as its documentation calls it, in a process of its own."""
    order = {
        "recipe": lesson.recipe.as_record(),
        "data": str(lesson.ready / "data.yaml"),
        "folder": str(folder),
    }
    for cache in lesson.ready.rglob("*.cache"):
        cache.unlink()  # the job reads its labels anew as well
    (folder / "order.json").write_text(json.dumps(order))
    return _timed(
        [sys.executable, "-m", "benchmarks.training", "--direct", str(folder / "order.json")], folder
    )


def job_of(lesson: Lesson, folder: Path) -> dict[str, Any]:
    """JOB.json of the same training."""

    def records(labelled: LabelledPictures) -> list[dict[str, Any]]:
        return [
            {
                "path": str(p.path),
                "boxes": p.boxes_xyxy_px.tolist(),
                "labels": p.labels.tolist(),
                "width_px": p.width_px,
                "height_px": p.height_px,
            }
            for p in labelled.pictures
        ]

    return {
        "labels": list(LABELS),
        "training": records(lesson.pictures),
        "validation": records(lesson.validation),
        "base": {"weights": None},
        "recipe": lesson.recipe.as_record(),
        "folder": str(folder / "run"),
        "output": str(folder / "weights.podura"),
        "device": "cpu",
    }


def job_seconds(lesson: Lesson, folder: Path) -> Seconds:
    """The job as a run starts it, its events read."""
    path = folder / "job.json"
    path.write_text(json.dumps(job_of(lesson, folder)))
    reading, writing = os.pipe()
    command = [sys.executable, "-m", "apps.training.engine.job", str(path), "--events-fd", str(writing)]
    with os.fdopen(reading) as events:
        seconds = _timed(command, folder, writing, events.read)
    if not (folder / "weights.podura").exists():
        raise RuntimeError(f"the job failed: {(folder / 'output.log').read_text()[-2000:]}")
    return seconds


def _timed(
    command: list[str], folder: Path, events: int | None = None, read: Callable[[], object] | None = None
) -> Seconds:
    began = time.perf_counter()
    with (folder / "output.log").open("wb") as log:
        process = subprocess.Popen(
            ["taskset", "--cpu-list", str(min(os.sched_getaffinity(0))), *command],
            cwd=CHECKOUT,
            stdout=log,
            stderr=log,
            pass_fds=() if events is None else (events,),
        )
        if events is not None and read is not None:
            os.close(events)
            read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError((folder / "output.log").read_text()[-2000:])
    return Seconds(time.perf_counter() - began, usage.ru_utime + usage.ru_stime)


Side = Callable[[Lesson, Path], Seconds]


def in_turns(sides: Mapping[str, Side], lesson: Lesson, *, rounds: int) -> dict[str, list[Seconds]]:
    """What each side took, one after the other in every round."""
    seconds: dict[str, list[Seconds]] = {name: [] for name in sides}
    for number in range(rounds):
        # Who begins changes, or what warms up would always cost the same side.
        for name in list(sides)[:: 1 if number % 2 == 0 else -1]:
            with tempfile.TemporaryDirectory() as folder:
                seconds[name].append(sides[name](lesson, Path(folder)))
    return seconds


def row(name: str, side: list[Seconds], direct: list[Seconds], *, target: float = TARGET) -> dict[str, Any]:
    """The benchmark's row for one side."""
    wall = [statistics.median(one.wall for one in seconds) for seconds in (side, direct)]
    cpu = [statistics.median(one.cpu for one in seconds) for seconds in (side, direct)]
    return {
        "name": name,
        "ratio": round(wall[0] / wall[1], 3),
        "target": target,
        "holds": wall[0] / wall[1] <= target,
        "better": "lower",
        "cpu_ratio": round(cpu[0] / cpu[1], 3),
        "seconds": round(wall[0], 1),
        "direct_seconds": round(wall[1], 1),
        "rounds": len(side),
    }


def run(quick: bool) -> list[dict[str, Any]]:  # noqa: FBT001  (the signature of all benchmarks)
    with tempfile.TemporaryDirectory() as folder:
        lesson = make_lesson(Path(folder), pictures=64 if quick else 160, epochs=4 if quick else 20)
        sides: dict[str, Side] = {"direct": direct_seconds, "job": job_seconds}
        seconds = in_turns(sides, lesson, rounds=1 if quick else 3)
    measured = row("training job", seconds["job"], seconds["direct"])
    return [measured | {"holds": measured["holds"] or quick}]  # of a few epochs the imports are most


def _train_directly(order: dict[str, Any]) -> None:
    from apps.training.engine.environment import import_ultralytics

    import_ultralytics()
    from ultralytics import YOLO

    recipe = Recipe.checked(order["recipe"])
    model = YOLO(f"{recipe.architecture}.yaml")
    options = recipe.overrides() | {"data": order["data"], "device": "cpu", "project": order["folder"]}
    model.train(**options, name="direct")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--direct", type=Path)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    if arguments.direct:
        _train_directly(json.loads(arguments.direct.read_text()))
    else:
        print(json.dumps(run(arguments.quick), indent=1))

"""Drawn scenes that a tiny net learns within a minute, and jobs on them in a process of their own."""

import json
import os
import resource
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

ROOT = Path(__file__).parents[3]
COLOURS = {"disc": (230, 60, 60), "bar": (60, 60, 230), "cross": (60, 200, 60)}
SIZES = {"disc": (22, 22), "bar": (28, 9), "cross": (22, 22)}


def draw_scene(path, rng, kinds, side=64):
    """One animal of each kind on grey; gives the picture as JOB.json names it, labels by name."""
    picture = Image.new("RGB", (side, side), (90, 90, 90))
    draw = ImageDraw.Draw(picture)
    boxes = []
    for kind in kinds:
        width, height = SIZES[kind]
        x, y = int(rng.integers(1, side - width - 1)), int(rng.integers(1, side - height - 1))
        corners = (x, y, x + width, y + height)
        if kind == "disc":
            draw.ellipse(corners, fill=COLOURS[kind])
        elif kind == "bar":
            draw.rectangle(corners, fill=COLOURS[kind])
        else:
            draw.line((x, y, x + width, y + height), fill=COLOURS[kind], width=6)
            draw.line((x + width, y, x, y + height), fill=COLOURS[kind], width=6)
        boxes.append(list(corners))
    picture.save(path)
    return {
        "path": str(path),
        "boxes": boxes,
        "labels": list(kinds),
        "width_px": side,
        "height_px": side,
    }


def draw_scenes(folder, count, kinds, *, seed=1, side=64):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    return [draw_scene(folder / f"{number:03}.png", rng, kinds, side) for number in range(count)]


def job_content(folder, *, labels, training, validation, base=None, recipe=None, **more):
    def indexed(pictures):
        return [p | {"labels": [labels.index(name) for name in p["labels"]]} for p in pictures]

    small = {"image_size": 64, "batch": 8, "epochs": 2, "mosaic": 0.0, "epochs_without_mosaic": 0}
    return {
        "labels": list(labels),
        "training": indexed(training),
        "validation": indexed(validation),
        "base": {"weights": str(base) if base else None},
        "recipe": small | (recipe or {}),
        "batch": None,
        "folder": str(folder / "run"),
        "checkpoint": None,
        "output": str(folder / "new.podura"),
        "name": "drawn",
        "licences": ["CC0"],
        "attribution": "",
        "device": "cpu",
    } | more


@dataclass
class RunningJob:
    """A job's process and the events that came so far."""

    process: subprocess.Popen
    pipe: object
    events: list[dict] = field(default_factory=list)

    def next(self):
        line = self.pipe.readline()
        if not line:
            return None
        self.events.append(json.loads(line))
        return self.events[-1]

    def until(self, name, **wanted):
        while (event := self.next()) is not None:
            if event["event"] == name and wanted.items() <= event.items():
                return event
        raise AssertionError(f"the job ended without {name} {wanted}: {self.events}")

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def end(self):
        while self.next() is not None:
            pass
        return self.process.wait()

    def named(self, name):
        return [event for event in self.events if event["event"] == name]


def _on_one_core():
    """Threads of PyTorch wait for each other in a loop: on a busy machine two are far slower than one."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[os.getpid() % len(cores)]})


def start_job(content, *, limit=None, environment=None):
    folder = Path(content["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "job.json"
    path.write_text(json.dumps(content))
    reading, writing = os.pipe()

    def prepare():
        _on_one_core()
        if limit is not None:
            resource.setrlimit(*limit)

    with (folder / "output.log").open("ab") as log:
        process = subprocess.Popen(
            [
                sys.executable, "-m", "apps.training.engine.job", str(path),
                "--events-fd", str(writing), "--parent", str(os.getpid()),
            ],
            cwd=ROOT,
            pass_fds=(writing,),
            stdout=log,
            stderr=log,
            preexec_fn=prepare,  # noqa: PLW1509 - the tests start it from their only thread
            env={**os.environ, **(environment or {})},
        )  # fmt: skip
    os.close(writing)
    return RunningJob(process, os.fdopen(reading))


def run_job(content, **options):
    job = start_job(content, **options)
    job.status = job.end()
    return job

"""Wall time of a whole training run against Ultralytics' own trainer on the same pictures with the same settings.

Baseline: Ultralytics as its documentation calls it, in a fresh process, its pictures ready on the disk in its own layout.
Candidate: the run from the row that is claimed to the version that is registered: every original fetched from the storage and
held against its digest, the job's own process, curves and log written to the database, a checkpoint brought to the
storage for each epoch, the weights stored. They take turns, and the ratio is that of the medians. Either side has one core.
`benchmarks.training` measures the job alone.
"""

import argparse
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

from benchmarks.training import LABELS, Lesson, Seconds, direct_seconds, in_turns, make_lesson, row

CHECKOUT = Path(__file__).resolve().parent.parent
DATABASE = "podura_bench_training"


def run(quick: bool) -> list[dict[str, Any]]:  # noqa: FBT001  (the signature of all benchmarks)
    """Measure in a process of its own, because settings are read once."""
    core = str(min(os.sched_getaffinity(0)))
    job = ["taskset", "--cpu-list", core, sys.executable, "-m", "apps.training.engine.job"]
    with tempfile.TemporaryDirectory(prefix="podura-bench-") as folder:
        environment = os.environ | {
            "DJANGO_SETTINGS_MODULE": "project.settings",
            "PODURA_DB_NAME": DATABASE,
            "STORAGE_URL": f"file://{folder}/media",
            "TRAINING_DIR": f"{folder}/training",
            "TRAINING_COMMAND": shlex.join(job),
            "SECRET_KEY": "only-for-benchmarks-only-for-benchmarks-only",
            "LOG_LEVEL": "WARNING",
            "PYTHONPATH": str(CHECKOUT),
        }
        sizes = ("64", "3", "1") if quick else ("160", "20", "3")
        command = [sys.executable, "-m", "benchmarks.training_run", "--sizes", *sizes]
        finished = subprocess.run(
            command,
            cwd=CHECKOUT,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=5400,
        )
    measured: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return [measured | {"holds": measured["holds"] or quick}]  # of a few epochs the imports are most


def measure(*, pictures: int, epochs: int, rounds: int) -> dict[str, Any]:
    import django

    django.setup()
    from django.conf import settings
    from django.db import connection

    name = connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
    # No worker of a running site may hear of these runs.
    settings.CELERY_BROKER_TRANSPORT_OPTIONS["global_keyprefix"] = f"{name}:"
    try:
        with tempfile.TemporaryDirectory() as folder:
            lesson = make_lesson(Path(folder), pictures=pictures, epochs=epochs)
            sides = {"direct": direct_seconds, "run": run_seconds}
            seconds = in_turns(sides, lesson, rounds=rounds)
    finally:
        connection.creation.destroy_test_db(DATABASE, verbosity=0)
    return row("training run", seconds["run"], seconds["direct"])


def run_seconds(lesson: Lesson, _folder: Path) -> Seconds:
    """A run of a new model, worked off by this process as by a worker, on the same core."""
    from django.conf import settings

    from apps.training.models import RegisteredModel, RunStatus
    from apps.training.services.run_worker import continue_next_run
    from apps.training.services.runs import request_run

    model = RegisteredModel.objects.create(name=f"bench-{uuid.uuid4().hex[:8]}")
    dataset = _frozen(lesson, model)
    # Fetched anew each time: the machine has never seen these pictures.
    shutil.rmtree(Path(settings.TRAINING_DIR), ignore_errors=True)
    run = request_run(
        registered_model=model, dataset=dataset, parameters=lesson.recipe.as_record(), trigger="command"
    )
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        began, before = time.perf_counter(), sum(os.times()[:4])
        continue_next_run()
        seconds = Seconds(time.perf_counter() - began, sum(os.times()[:4]) - before)
    finally:
        os.sched_setaffinity(0, cores)
    run.refresh_from_db()
    if run.status != RunStatus.SUCCEEDED:
        raise RuntimeError(f"the run failed: {list(run.log_lines.values_list('code', 'details', 'text'))}")
    return seconds


def _frozen(lesson: Lesson, model: Any) -> Any:
    from django.core.files.base import ContentFile
    from django.core.files.storage import storages

    from apps.training.services.datasets import FrozenBox, FrozenItem, create_dataset

    items = []
    for split, labelled in (("train", lesson.pictures), ("validation", lesson.validation)):
        for picture in labelled.pictures:
            content, photo = picture.path.read_bytes(), str(uuid.uuid4())
            boxes = zip(picture.boxes_xyxy_px.tolist(), picture.labels.tolist(), strict=True)
            items.append(
                FrozenItem(
                    photo=photo,
                    annotation=str(uuid.uuid4()),
                    split=split,
                    group=photo,
                    file=storages["default"].save(f"originals/{photo}.jpg", ContentFile(content)),
                    file_sha256=hashlib.sha256(content).hexdigest(),
                    width_px=picture.width_px,
                    height_px=picture.height_px,
                    licence="CC0-1.0",
                    attribution="",
                    boxes=tuple(
                        FrozenBox(x1, y1, x2, y2, LABELS[label]) for (x1, y1, x2, y2), label in boxes
                    ),
                )
            )
    return create_dataset(name=model.name, labels=LABELS, items=items, registered_model=model)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", nargs=3, type=int, required=True, metavar=("PICTURES", "EPOCHS", "ROUNDS"))
    wanted_pictures, wanted_epochs, wanted_rounds = parser.parse_args().sizes
    print(json.dumps(measure(pictures=wanted_pictures, epochs=wanted_epochs, rounds=wanted_rounds)))

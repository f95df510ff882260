"""What an evaluation of 1,000 pictures costs beyond looking at them.

Baseline: the engine's own loop over the files, with the evaluation's thresholds (nothing but boxes comes out). Candidate:
the whole of it, from the row that is claimed to the row that is done: manifest, fetching each original from the storage and
holding it against its digest, the same boxes, matching, reference, curves, interval, latency, report. Both have the model
loaded and take turns (A B A B); the ratio is that of the medians. The loop with the thresholds of production, which gives fewer
boxes, is measured too: `ratio_to_production_loop`. `ratio_of_processor_time` is what the evaluation itself costs, whatever else the
machine did meanwhile.
"""

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parent.parent
SHIPPED = CHECKOUT / "models" / "springtails"
TARGET = 1.1
DATABASE = "podura_bench_evaluation"


def run(quick: bool) -> list[dict[str, Any]]:  # noqa: FBT001  (the signature of all benchmarks)
    """Measure in a process of its own, because settings are read once."""
    with tempfile.TemporaryDirectory(prefix="podura-bench-") as folder:
        environment = os.environ | {
            "DJANGO_SETTINGS_MODULE": "project.settings",
            "PODURA_DB_NAME": DATABASE,
            "STORAGE_URL": f"file://{folder}/media",
            "TRAINING_DIR": f"{folder}/training",
            "MODEL_CACHE_DIR": str(CHECKOUT / ".podura" / "models"),
            "SECRET_KEY": "only-for-benchmarks-only-for-benchmarks-only",
            "LOG_LEVEL": "WARNING",
            "PYTHONPATH": str(CHECKOUT),
        }
        pictures, rounds = ("200", "3") if quick else ("1000", "3")
        command = [sys.executable, "-m", "benchmarks.evaluation", "--pictures", pictures, "--rounds", rounds]
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
    ratio = measured["evaluation_s"] / measured["engine_s"]
    return [
        {
            "name": "evaluation",
            "ratio": round(ratio, 3),
            "target": TARGET,
            "holds": ratio <= TARGET,
            **measured,
        }
    ]


def measure(*, pictures: int, rounds: int) -> dict[str, Any]:
    import django

    django.setup()
    from django.db import connection

    connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
    try:
        return _measure(pictures, rounds)
    finally:
        connection.creation.destroy_test_db(DATABASE, verbosity=0)


def _measure(pictures: int, rounds: int) -> dict[str, Any]:
    from apps.training.engine.detector import DEFAULT_IOU
    from apps.training.engine.evaluate import EVALUATED_CONFIDENCE, EVALUATED_IOU
    from apps.training.engine.matching import REPORTED_CONFIDENCE
    from apps.training.inference import detector_of
    from apps.training.models import Evaluation

    version, dataset, paths = _frozen(pictures)
    detector = detector_of(version)

    def loop(confidence: float, iou: float) -> float:
        started = time.perf_counter()
        assert sum(1 for _ in detector.detect_files(paths, confidence=confidence, iou=iou)) == len(paths)
        return time.perf_counter() - started

    list(detector.detect_files(paths[:20]))  # warm
    work: dict[str, list[float]] = {"engine": [], "evaluation": []}
    seconds: dict[str, list[float]] = {"engine": [], "evaluation": [], "production": []}
    for _round in range(rounds):
        began = time.process_time()
        seconds["engine"].append(loop(EVALUATED_CONFIDENCE, EVALUATED_IOU))
        between = time.process_time()
        seconds["evaluation"].append(_evaluate(version, dataset))
        work["engine"].append(between - began)
        work["evaluation"].append(time.process_time() - between)
        seconds["production"].append(loop(REPORTED_CONFIDENCE, DEFAULT_IOU))
    median = {name: statistics.median(values) for name, values in seconds.items()}
    evaluation = Evaluation.objects.latest("pk")
    return {
        "pictures": pictures,
        "rounds": rounds,
        "cores": len(os.sched_getaffinity(0)),
        "runtime": detector.runtime,
        "engine_s": round(median["engine"], 2),
        "evaluation_s": round(median["evaluation"], 2),
        "ratio_of_processor_time": round(
            statistics.median(work["evaluation"]) / statistics.median(work["engine"]), 3
        ),
        "ratio_to_production_loop": round(median["evaluation"] / median["production"], 3),
        "map50_95": round(evaluation.metrics["map50_95"], 4),
    }


def _frozen(pictures: int) -> tuple[Any, Any, list[Path]]:
    """The sample tiles, each several times: bytes behind the picture's end make another file."""
    from django.core.files.base import ContentFile
    from django.core.files.storage import storages

    from apps.training.engine.labelled import read_coco
    from apps.training.models import RegisteredModel
    from apps.training.services import register_model_version
    from apps.training.services.datasets import FrozenBox, FrozenItem, create_dataset

    model = RegisteredModel.objects.create(name="bench")
    weights = next(SHIPPED.glob("weights*"))
    version = register_model_version(registered_model=model, weights_path=weights)
    storage: Any = storages["default"]
    samples = read_coco(SHIPPED / "samples", SHIPPED / "samples" / "coco.json")
    items = []
    for index in range(pictures):
        sample = samples.pictures[index % len(samples.pictures)]
        content = sample.path.read_bytes() + index.to_bytes(4, "big")
        boxes = zip(sample.boxes_xyxy_px.tolist(), sample.labels.tolist(), strict=True)
        items.append(
            FrozenItem(
                photo=str(uuid.UUID(int=index)),
                annotation=str(uuid.UUID(int=index)),
                split="test",
                group=str(index),
                file=storage.save(f"originals/{index}.jpg", ContentFile(content)),
                file_sha256=hashlib.sha256(content).hexdigest(),
                width_px=sample.width_px,
                height_px=sample.height_px,
                licence="CC0-1.0",
                attribution="",
                boxes=tuple(
                    FrozenBox(box[0], box[1], box[2], box[3], samples.labels[label]) for box, label in boxes
                ),
            )
        )
    dataset = create_dataset(name="bench", labels=samples.labels, items=items, registered_model=model)
    return version, dataset, [Path(storage.path(item.file)) for item in items]


def _evaluate(version: Any, dataset: Any) -> float:
    from django.conf import settings

    from apps.training.services.evaluations import continue_next_evaluation, request_evaluation

    shutil.rmtree(Path(settings.TRAINING_DIR) / "pictures", ignore_errors=True)  # fetched anew each time
    evaluation = request_evaluation(version=version, dataset=dataset)
    started = time.perf_counter()
    assert continue_next_evaluation()
    elapsed = time.perf_counter() - started
    evaluation.refresh_from_db()
    assert evaluation.status == "done", evaluation.failure_reason
    return elapsed


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--pictures", type=int, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    options = parser.parse_args()
    print(json.dumps(measure(pictures=options.pictures, rounds=options.rounds)))

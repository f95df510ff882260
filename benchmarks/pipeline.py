"""How much of the bare engine's speed is left when photos go through queue, storage and database.

Baseline: the engine's own loop over the files of 200 stored photos. Candidate: the same photos queued, one Celery
worker woken, until the last detection is saved. Both have the model loaded, and they take turns (A B A B); the ratio is
that of the medians. Everything happens in a database, a storage folder and a queue prefix of its own.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parent.parent
SAMPLES = CHECKOUT / "models" / "springtails" / "samples"
TARGET = 0.85
DATABASE = "podura_bench_pipeline"


def run(quick: bool) -> list[dict[str, Any]]:  # noqa: FBT001  (the signature of all benchmarks)
    """Measure in a process of its own, because settings are read once."""
    with tempfile.TemporaryDirectory(prefix="podura-bench-") as folder:
        environment = os.environ | {
            "DJANGO_SETTINGS_MODULE": "project.settings",
            "PODURA_DB_NAME": DATABASE,
            "STORAGE_URL": f"file://{folder}/media",
            "MODEL_CACHE_DIR": str(CHECKOUT / ".podura" / "models"),
            "SECRET_KEY": "only-for-benchmarks-only-for-benchmarks-only",
            "LOG_LEVEL": "WARNING",
            "PYTHONPATH": str(CHECKOUT),
        }
        photos, rounds = (60, 3) if quick else (200, 7)
        command = [
            sys.executable,
            "-m",
            "benchmarks.pipeline",
            "--photos",
            str(photos),
            "--rounds",
            str(rounds),
        ]
        finished = subprocess.run(
            command,
            cwd=CHECKOUT,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=1800,
        )
    measured: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    ratio = measured["pipeline_images_per_s"] / measured["engine_images_per_s"]
    return [
        {"name": "pipeline", "ratio": round(ratio, 3), "target": TARGET, "holds": ratio >= TARGET, **measured}
    ]


def measure(*, photos: int, rounds: int) -> dict[str, Any]:
    import django

    django.setup()
    with _database():
        version, detector = _model()
        paths = _stored_photos(version, photos)
        with _worker() as is_alive:
            _through_pipeline(photos, is_alive)  # the worker loads the model and plans its queries
            _bare(detector, paths)
            bare, piped = [], []
            for _round in range(rounds):
                bare.append(_bare(detector, paths))
                piped.append(_through_pipeline(photos, is_alive))
        return {
            "photos": photos,
            "rounds": rounds,
            "runtime": detector.runtime,
            "boxes": _boxes(),
            "engine_images_per_s": round(photos / statistics.median(bare), 2),
            "pipeline_images_per_s": round(photos / statistics.median(piped), 2),
        }


@contextmanager
def _database() -> Iterator[None]:
    from django.conf import settings
    from django.db import connection

    name = connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
    os.environ["PODURA_DB_NAME"] = name  # the worker's
    # Before the first message is sent: connections remember their prefix.
    settings.CELERY_BROKER_TRANSPORT_OPTIONS["global_keyprefix"] = f"{name}:"
    try:
        yield
    finally:
        connection.creation.destroy_test_db(DATABASE, verbosity=0)


def _model() -> tuple[Any, Any]:
    from apps.training.inference import production_detector
    from apps.training.models import RegisteredModel
    from apps.training.services import promote, register_model_version

    model = RegisteredModel.objects.create(name="bench")
    weights = next((CHECKOUT / "models" / "springtails").glob("weights*"))
    promote(version=register_model_version(registered_model=model, weights_path=weights))
    found = production_detector(model)
    assert found is not None
    return found


def _stored_photos(version: Any, count: int) -> list[Path]:
    """Sample tiles through the one door, each several times: bytes behind the picture's end make another file."""
    from apps.accounts.models import User
    from apps.observations.models import Photo, Survey
    from apps.observations.services.intake import receive_photo
    from apps.observations.services.observations import create_observation

    person = User.objects.create_user("bench@podura.example", "none")
    survey = Survey.objects.create(
        slug="bench", name_en="b", name_fr="b", registered_model=version.registered_model
    )
    observation = create_observation(contributor=person, survey=survey)
    samples = sorted(SAMPLES.rglob("*.jpg"))
    for index in range(count):
        content = samples[index % len(samples)].read_bytes() + index.to_bytes(4, "big")
        receive_photo(observation=observation, file=BytesIO(content), name=f"{index}.jpg")
    return [Path(photo.original.path) for photo in Photo.objects.order_by("pk")]


@contextmanager
def _worker() -> Iterator[Callable[[], bool]]:
    command = [sys.executable, "-m", "celery", "-A", "project", "worker", "-Q", "inference", "-c", "1",
               "--loglevel", "WARNING", "--without-gossip", "--without-mingle"]  # fmt: skip
    worker = subprocess.Popen(command, cwd=CHECKOUT, stdout=sys.stderr)
    try:
        yield lambda: worker.poll() is None
    finally:
        worker.terminate()
        worker.wait(60)


def _bare(detector: Any, paths: list[Path]) -> float:
    from apps.observations.models import Survey

    confidence = Survey.objects.get().kept_threshold  # the pipeline's: weak boxes are found and stored too
    started = time.perf_counter()
    results = list(detector.detect_files(paths, confidence=confidence))
    assert len(results) == len(paths)
    return time.perf_counter() - started


def _through_pipeline(photos: int, is_alive: Callable[[], bool]) -> float:
    """Seconds from queued to saved, by the database's clock; looking whether it is done costs ten queries a second."""
    from django.db.models import Count, Max

    from apps.common.leased import WorkStatus
    from apps.common.tasks import send_once
    from apps.observations.models import Detection, Photo
    from apps.observations.tasks import detect_waiting

    Detection.objects.all().delete()
    Photo.objects.update(model_version=None, detection_count=None)
    Photo.objects.all().requeue()
    waiting = Photo.objects.filter(status__in=(WorkStatus.PENDING, WorkStatus.PROCESSING))
    assert waiting.count() == photos
    began, deadline = _database_time(), time.monotonic() + 180
    send_once(detect_waiting)
    while waiting.exists():
        if not is_alive() or time.monotonic() > deadline:
            raise RuntimeError("the worker does not work")
        time.sleep(0.1)
    done = Photo.objects.filter(status=WorkStatus.DONE).aggregate(count=Count("pk"), last=Max("finished_at"))
    assert done["count"] == photos
    time.sleep(0.3)  # the worker's last, empty look into the queue is not the next measurement's
    elapsed: float = (done["last"] - began).total_seconds()
    return elapsed


def _database_time() -> datetime:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        (now,) = cursor.fetchone()
    assert isinstance(now, datetime)
    return now


def _boxes() -> int:
    from apps.observations.models import Detection

    return Detection.objects.count()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--photos", type=int, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    options = parser.parse_args()
    print(json.dumps(measure(photos=options.photos, rounds=options.rounds)))

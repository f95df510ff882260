"""Photos settled per second while the production version changes again and again, against the same load without a change.

Three versions of the shipped weights take turns, each a file of its own, so that a worker that keeps two loads at each
swap. It holds when every photo is settled by one of them and none fails; the ratio tells what the loading costs.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.pipeline import CHECKOUT, _database, _stored_photos, _through_pipeline, _worker

SWAP_EVERY_S = 1.5


def run(quick: bool) -> list[dict[str, Any]]:  # noqa: FBT001  (the signature of all benchmarks)
    """Measure in a process of its own, because settings are read once."""
    with tempfile.TemporaryDirectory(prefix="podura-bench-") as folder:
        environment = os.environ | {
            "DJANGO_SETTINGS_MODULE": "project.settings",
            "PODURA_DB_NAME": "podura_bench_hot_swap",
            "STORAGE_URL": f"file://{folder}/media",
            "MODEL_CACHE_DIR": f"{folder}/models",
            "SECRET_KEY": "only-for-benchmarks-only-for-benchmarks-only",
            "LOG_LEVEL": "WARNING",
            "PYTHONPATH": str(CHECKOUT),
        }
        photos, rounds = (40, 1) if quick else (200, 3)
        options = ["--photos", str(photos), "--rounds", str(rounds)]
        finished = subprocess.run(
            [sys.executable, "-m", "benchmarks.hot_swap", *options],
            cwd=CHECKOUT,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=1800,
        )
    measured: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    ratio = measured["swapping_images_per_s"] / measured["steady_images_per_s"]
    holds = measured["failed"] == 0 and measured["swaps"] > 0
    return [{"name": "hot_swap", "ratio": round(ratio, 3), "target": None, "holds": holds, **measured}]


def measure(*, photos: int, rounds: int) -> dict[str, Any]:
    import django

    django.setup()
    with _database(), tempfile.TemporaryDirectory(prefix="podura-bench-") as folder:
        from apps.observations.models import Photo
        from apps.training.models import ModelVersion

        versions = _versions(Path(folder))
        _stored_photos(versions[0], photos)
        steady, swapping, swaps = [], [], 0
        with _worker() as is_alive:
            # Each version once, so that the first loading, which converts, is not what is measured.
            for version in versions:
                _promoted(version)
                _through_pipeline(photos, is_alive)
            for _round in range(rounds):
                steady.append(_through_pipeline(photos, is_alive))
                with _swapping(versions) as done:
                    swapping.append(_through_pipeline(photos, is_alive))
                swaps += len(done)
        return {
            "photos": photos,
            "swaps": swaps,
            "failed": Photo.objects.exclude(status="done").count(),
            "rolled_back": ModelVersion.objects.exclude(unusable_reason="").count(),
            "steady_images_per_s": round(photos / statistics.median(steady), 1),
            "swapping_images_per_s": round(photos / statistics.median(swapping), 1),
        }


def _versions(folder: Path) -> list[Any]:
    """The shipped net three times, in files that differ in their metadata."""
    from apps.training.engine.weights import load_torch_model, save_weights
    from apps.training.models import RegisteredModel
    from apps.training.services import register_model_version

    registered = RegisteredModel.objects.create(name="bench")
    model, metadata = load_torch_model(next((CHECKOUT / "models" / "springtails").glob("weights*")))
    versions = []
    for number in range(3):
        path = folder / f"{number}.podura"
        save_weights(path, model, replace(metadata, metrics={"copy": number}))
        versions.append(register_model_version(registered_model=registered, weights_path=path))
    return versions


def _promoted(version: Any) -> None:
    from apps.training.services import promote

    promote(version=version)


@contextmanager
def _swapping(versions: list[Any]) -> Iterator[list[int]]:
    """Another version every `SWAP_EVERY_S` for as long as the block runs; gives what was promoted."""
    from django.db import connection

    ended, done = threading.Event(), list[int]()

    def swap() -> None:
        try:
            while not ended.wait(SWAP_EVERY_S):
                _promoted(versions[len(done) % len(versions)])
                done.append(len(done))
        finally:
            connection.close()

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield done
    finally:
        ended.set()
        thread.join()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--photos", type=int, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    arguments = parser.parse_args()
    print(json.dumps(measure(photos=arguments.photos, rounds=arguments.rounds)))

"""Real pictures, the shipped detector, and a net small enough to train in seconds."""

from pathlib import Path

import numpy as np
import pytest

from apps.training.engine.detector import Detector, load_detector
from apps.training.engine.labelled import LabelledPictures, read_coco
from apps.training.engine.weights import WeightsMetadata, file_sha256

ROOT = Path(__file__).parents[3]
SHIPPED = ROOT / "models" / "springtails"
WEIGHTS = SHIPPED / "weights.podura"

TINY_ARCHITECTURE = {
    "nc": 2,
    "scales": {"n": [0.33, 0.25, 256]},
    "scale": "n",
    "backbone": [
        [-1, 1, "Conv", [32, 3, 2]],
        [-1, 1, "Conv", [64, 3, 2]],
        [-1, 1, "C2f", [64, True]],
        [-1, 1, "Conv", [128, 3, 2]],
        [-1, 1, "C2f", [128, True]],
        [-1, 1, "Conv", [256, 3, 2]],
        [-1, 1, "SPPF", [256, 5]],
    ],
    "head": [[[4, 6], 1, "Detect", ["nc"]]],
}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Importing torch and Ultralytics takes ten seconds: what makes a net is slow."""
    for item in items:
        if {"tiny_weights", "detector"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("slow")


def tiny_metadata(**changes: object) -> WeightsMetadata:
    values = {
        "architecture": TINY_ARCHITECTURE,
        "labels": ("disc", "bar"),
        "image_size": 64,
        "object_size_px": 20.0,
    }
    return WeightsMetadata(**(values | changes))


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights file of a net with 64 px input and two labels, not trained."""
    from apps.training.engine.environment import import_ultralytics

    import_ultralytics()
    import torch
    from ultralytics.nn.tasks import DetectionModel

    from apps.training.engine.weights import save_weights

    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("tiny") / "tiny.podura"
    save_weights(path, DetectionModel(TINY_ARCHITECTURE, ch=3, nc=2, verbose=False), tiny_metadata())
    return path


@pytest.fixture(scope="session")
def samples() -> LabelledPictures:
    return read_coco(SHIPPED / "samples", SHIPPED / "samples" / "coco.json")


@pytest.fixture(scope="session")
def detector() -> Detector:
    """The shipped model in the runtime that this machine chose; the cache outlives the test run."""
    return load_detector(WEIGHTS, sha256=file_sha256(WEIGHTS), cache_dir=ROOT / ".podura" / "engine-tests")


@pytest.fixture(scope="session")
def full_tile(samples: LabelledPictures) -> np.ndarray:
    """The sample with the most animals, as an array."""
    return max(samples.pictures, key=lambda picture: len(picture.labels)).pixels()

"""Runs of a small dataset, with a stand-in for the training."""

import pytest

from apps.common import leased
from apps.training.services.runs import request_run
from tests.factories import RegisteredModelFactory
from tests.training.frozen import frozen_scenes
from tests.training.runs.helpers import STAND_IN


@pytest.fixture(autouse=True)
def _own_folders(settings, tmp_path):
    settings.TRAINING_DIR = tmp_path / "training"
    settings.MODEL_CACHE_DIR = tmp_path / "models"
    settings.TRAINING_COMMAND = STAND_IN
    yield
    leased._stopping[0] = 0


@pytest.fixture
def model():
    return RegisteredModelFactory()


@pytest.fixture
def dataset(model):
    return frozen_scenes(model, splits={"train": 3, "validation": 2, "test": 2})


@pytest.fixture
def asked(model, dataset):
    """`asked(epochs=3)`: a run that waits."""

    def ask(**parameters):
        chosen = {"epochs": 3, "batch": 8, "image_size": 64} | parameters
        return request_run(registered_model=model, dataset=dataset, parameters=chosen, trigger="curator")

    return ask


@pytest.fixture
def misbehaving(settings):
    """`misbehaving("--how", "crash")`: the training does."""

    def choose(*options):
        settings.TRAINING_COMMAND = [*STAND_IN, *map(str, options)]

    return choose

"""A model, and a machine of the test's own to measure it on."""

import pytest

from apps.training import inference
from tests.factories import RegisteredModelFactory, UserFactory
from tests.training import known_quality


@pytest.fixture
def own_machine(settings, tmp_path):
    """Nothing is loaded, nothing lies in the folders."""
    settings.MODEL_CACHE_DIR = tmp_path / "models"
    settings.TRAINING_DIR = tmp_path / "training"
    inference.forget_detectors()
    yield
    inference.forget_detectors()


@pytest.fixture
def known_detectors(own_machine, settings):
    """Versions are as good as `known_version` says."""
    settings.DETECTOR_LOADER = known_quality.LOADER


@pytest.fixture
def model():
    return RegisteredModelFactory()


@pytest.fixture
def curator():
    return UserFactory(is_staff=True, is_superuser=True)

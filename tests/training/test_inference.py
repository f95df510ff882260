"""The production detector of a process: loaded once, checked, switched when another version is promoted."""

import subprocess
import sys
from pathlib import Path

import pytest

from apps.training import inference
from apps.training.inference import ModelUnavailableError, detector_of, forget_detectors, production_detector
from apps.training.services import promote
from tests.factories import RegisteredModelFactory
from tests.support.processes import CHECKOUT, site_environment
from tests.support.stub_detector import stub_version

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _own_cache(settings, tmp_path):
    settings.MODEL_CACHE_DIR = tmp_path
    forget_detectors()
    yield
    forget_detectors()


@pytest.fixture
def model():
    return RegisteredModelFactory()


def test_a_model_without_production_version_has_no_detector(model):
    assert production_detector(model) is None
    assert production_detector(model.pk) is None


def test_a_version_is_loaded_once_and_kept(model):
    version = stub_version(model, "A", "B")
    found, detector = production_detector(model)
    assert found == version
    assert detector.labels == ("A", "B")
    assert production_detector(model.pk)[1] is detector


def test_a_promotion_takes_effect_at_the_next_call_and_so_does_a_roll_back(model):
    old = stub_version(model, "A")
    first = production_detector(model)[1]
    new = stub_version(model, "A", "B")
    found, second = production_detector(model)
    assert found == new
    assert second is not first
    promote(version=old)
    assert production_detector(model) == (old, first)


def test_few_detectors_stay_in_memory(model):
    for _version in range(4):
        detector_of(stub_version(model, "A"))
    assert len(inference._loaded.detectors) == inference.LOADED_AT_ONCE


def test_altered_weights_in_the_storage_are_not_loaded(model):
    version = stub_version(model, "A")
    Path(version.weights.path).write_bytes(b"A\n# altered")
    with pytest.raises(ModelUnavailableError, match="SHA-256"):
        production_detector(model)


def test_an_altered_local_copy_is_fetched_again(model, settings):
    version = stub_version(model, "A")
    detector_of(version)
    copy = Path(settings.MODEL_CACHE_DIR) / "weights" / version.weights_sha256
    copy.write_bytes(b"B\n# altered")
    forget_detectors()
    assert detector_of(version).labels == ("A",)


def test_missing_weights_give_a_reason_and_are_not_asked_for_again_at_once(model, monkeypatch):
    version = stub_version(model, "A")
    path = Path(version.weights.path)
    content = path.read_bytes()
    path.unlink()
    with pytest.raises(ModelUnavailableError) as first:
        production_detector(model)
    assert str(version) in str(first.value)
    path.write_bytes(content)
    with pytest.raises(ModelUnavailableError):
        production_detector(model)
    monkeypatch.setattr(inference, "RETRY_AFTER_S", 0.0)
    assert production_detector(model)[1].labels == ("A",)


def test_labels_that_are_not_those_of_the_weights_are_a_reason(model):
    version = stub_version(model, "A")
    type(version).objects.filter(pk=version.pk).update(labels=["A", "B"])
    with pytest.raises(ModelUnavailableError, match="labels"):
        production_detector(model)


@pytest.mark.slow
def test_a_web_process_loads_no_runtime():
    code = (
        "import django; django.setup(); import apps.observations.tasks, apps.observations.services.identify, sys;"
        "print([name for name in ('torch', 'openvino', 'cv2', 'ultralytics') if name in sys.modules])"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code], cwd=CHECKOUT, env=site_environment() | {"PATH": "/usr/bin"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert finished.stdout.strip() == "[]"

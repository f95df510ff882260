"""The whole way with the shipped model: real photos through a real worker, boxes as the engine alone finds them."""

import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from django.conf import settings as site
from django.core.management import call_command

from apps.observations.models import Detection, Photo
from apps.observations.services.intake import receive_photo
from apps.training.inference import detector_of, forget_detectors
from apps.training.services import promote, register_model_version
from tests.factories import ObservationFactory, SurveyFactory
from tests.support.processes import CHECKOUT, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.serial, pytest.mark.django_db(transaction=True)]
SHIPPED = CHECKOUT / "models" / "springtails"
LOADER = "apps.training.engine.detector.load_detector"


@pytest.fixture
def version(settings):
    """The shipped weights in production; converted ones are taken from the checkout's own cache."""
    settings.DETECTOR_LOADER = LOADER
    settings.MODEL_CACHE_DIR = site.STATE_DIR / "models"
    forget_detectors()
    survey = SurveyFactory(slug="springtails")
    weights = next(SHIPPED.glob("weights*"))
    yield promote(
        version=register_model_version(registered_model=survey.registered_model, weights_path=weights)
    )
    forget_detectors()


@pytest.fixture
def samples() -> list[Path]:
    return sorted(SHIPPED.rglob("*.jpg"))[:10]


def test_photos_through_a_worker_have_the_boxes_of_the_engine(version, samples, start_worker):
    observation = ObservationFactory(survey=version.registered_model.surveys.get())
    for sample in samples:
        receive_photo(observation=observation, file=BytesIO(sample.read_bytes()), name=sample.name)
    worker = start_worker(
        queues="inference",
        env={
            "PODURA_TEST_DETECTOR": LOADER,
            "MODEL_CACHE_DIR": str(site.STATE_DIR / "models"),
            "JOB_SWEEP_SECONDS": "1",
        },
    )
    from apps.common.tasks import send
    from apps.observations.tasks import detect_waiting

    send(detect_waiting)
    wait_until(
        lambda: not Photo.objects.exclude(status__in=("done", "failed")).exists(),
        seconds=280,
        what=worker.text(),
    )
    expected = dict(zip(samples, detector_of(version).detect_files(samples), strict=True))
    animals = 0
    for sample in samples:
        photo = Photo.objects.get(name=sample.name)
        found = expected[sample]
        assert photo.status == "done"
        assert photo.detection_count == len(found)
        rows = Detection.objects.current().filter(photo=photo)
        boxes = np.array(rows.values_list("x_min", "y_min", "x_max", "y_max")).reshape(-1, 4)
        for box in found.boxes_xyxy_px:
            assert np.abs(boxes - box).max(axis=1).min() < 0.5
        assert sorted(rows.values_list("score", flat=True)) == pytest.approx(sorted(found.scores), abs=1e-3)
        animals += len(found)
    truth = json.loads((SHIPPED / "samples" / "coco.json").read_text())
    names = {image["id"]: Path(image["file_name"]).name for image in truth["images"]}
    known = sum(names[row["image_id"]] in {sample.name for sample in samples} for row in truth["annotations"])
    assert 0.7 * known < animals < 1.5 * known


def test_the_command_finds_the_same_animals(version, samples, tmp_path):
    output = tmp_path / "boxes.json"
    call_command("detect", *map(str, samples[:3]), output=output)
    for photo, found in zip(
        json.loads(output.read_text()), detector_of(version).detect_files(samples[:3]), strict=True
    ):
        assert len(photo["detections"]) == len(found)

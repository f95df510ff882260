"""Versions change under continuous load: every photo is settled, by one version, and none fails."""

import time
from io import BytesIO

import pytest

from apps.common.tasks import send
from apps.observations.models import Detection, Photo
from apps.observations.services.intake import receive_photo
from apps.observations.tasks import detect_waiting
from apps.training.inference import forget_detectors
from apps.training.models import ModelVersion, PromotionEvent
from apps.training.services.promotion import promote, roll_back
from tests.factories import LabelFactory, ObservationFactory, SurveyFactory, UserFactory
from tests.support.pictures import jpeg
from tests.support.processes import wait_until
from tests.training import known_quality
from tests.training.known_quality import known_version

pytestmark = [pytest.mark.slow, pytest.mark.serial, pytest.mark.django_db(transaction=True)]
PHOTOS = 120


def test_no_photo_fails_while_versions_come_and_go_and_one_cannot_be_loaded(start_worker, settings, tmp_path):
    settings.DETECTOR_LOADER = known_quality.LOADER
    forget_detectors()
    survey = SurveyFactory()
    for code in known_quality.LABELS:
        LabelFactory(survey=survey, code=code)
    model, curator = survey.registered_model, UserFactory(is_staff=True, is_superuser=True)
    first = known_version(model, right=1.0)
    promote(version=first)
    worker = start_worker(
        queues="inference",
        env={
            "PODURA_TEST_DETECTOR": known_quality.LOADER,
            "MODEL_CACHE_DIR": str(tmp_path / "models"),
            "JOB_SWEEP_SECONDS": "1",
            "DETECTION_BATCH_PHOTOS": "4",
        },
    )
    observation = ObservationFactory(survey=survey)
    serving = [first]
    for number in range(PHOTOS):
        receive_photo(observation=observation, file=BytesIO(jpeg(seed=number)), name=f"{number}.jpg")
        send(detect_waiting)
        if number % 20 == 10:
            serving.append(known_version(model, right=1.0))
            promote(version=serving[-1])
        if number == 55:
            promote(version=known_version(model, right=1.0, broken=True))
        if number == 95:
            roll_back(model=model, to=first, by=curator, reason="to see that it works")
        time.sleep(0.02)
    wait_until(
        lambda: not Photo.objects.filter(status__in=("pending", "processing")).exists(),
        seconds=120,
        what=worker.text(),
    )
    assert worker.is_alive()
    photos = Photo.objects.all()
    assert photos.filter(status="done").count() == PHOTOS
    assert not photos.exclude(failure_reason="").exists()
    for photo in photos:
        rows = Detection.objects.current().filter(photo=photo)
        assert rows.count() == photo.detection_count
        assert set(rows.values_list("model_version", flat=True)) <= {photo.model_version_id}
    used = set(photos.values_list("model_version", flat=True))
    assert used <= {version.pk for version in serving}
    assert len(used) >= 4, "the swaps took effect meanwhile"
    broken = ModelVersion.objects.exclude(unusable_reason="").get()
    assert broken.stage == ModelVersion.Stage.ARCHIVED
    assert PromotionEvent.objects.filter(kind="rolled_back_fail", from_version=broken).count() == 1

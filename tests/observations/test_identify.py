"""Identify at once: through Redis to an inference worker and back, nothing kept."""

import threading
import time
from io import BytesIO

import pytest
from django.conf import settings as site
from django.db import connection

from apps.common import heartbeat, tasks
from apps.common.heartbeat import broker, record_sign
from apps.observations.models import Observation, Photo
from apps.observations.services import identify as service
from apps.observations.services.identify import IdentifyBusyError, identify, serve_identifications
from apps.observations.services.intake import RefusedPictureError, receive_photo
from apps.training.inference import forget_detectors
from tests.factories import LabelFactory, ObservationFactory, SurveyFactory
from tests.support.pictures import jpeg, refused_pictures
from tests.support.processes import ThrowawayRedis, wait_until
from tests.support.stub_detector import expected_boxes, stub_version

pytestmark = pytest.mark.django_db


@pytest.fixture
def survey():
    forget_detectors()
    survey = SurveyFactory()
    LabelFactory(survey=survey, code="CER", scientific_name="Ceratophysella")
    stub_version(survey.registered_model, "CER", "ISO_MIN")
    yield survey
    forget_detectors()


@pytest.fixture
def living_worker():
    """A sign of life; nobody answers yet."""
    record_sign(name="tests@identify", queues=["inference"])
    yield
    broker().delete(f"{site.CELERY_BROKER_TRANSPORT_OPTIONS['global_keyprefix']}workers")
    for key in broker().keys(service._name("*")):
        broker().delete(key)


@pytest.fixture
def answering(living_worker, monkeypatch):
    """Being woken is to answer, in this process."""
    monkeypatch.setattr(service, "send", lambda _task: serve_identifications())


def keys() -> set[bytes]:
    return set(broker().keys(service._name("*")))


def test_boxes_come_back_as_the_api_lists_them_and_nothing_is_kept(survey, answering):
    content = jpeg(width=200, height=100)
    found = identify(content, survey=survey)
    assert (found["width"], found["height"]) == (200, 100)
    assert found["model_version"] == str(survey.registered_model.production_version)
    assert [row["number"] for row in found["detections"]] == list(range(1, expected_boxes(content) + 1))
    for row in found["detections"]:
        assert set(row["scores"]) == {"CER", "ISO_MIN"}
        assert row["confidence"] == max(row["scores"].values())
        assert row["scores"][row["label"]["code"]] == row["confidence"]
        assert 0 <= row["box"]["x"] <= row["box"]["x"] + row["box"]["width"] <= 200
    assert not Photo.objects.exists()
    assert not Observation.objects.exists()
    assert keys() == set()


@pytest.mark.parametrize("name", ["empty.jpg", "truncated.jpg", "pixel-bomb.png", "drawing.svg"])
def test_hostile_bytes_never_reach_a_worker(survey, answering, name):
    with pytest.raises(RefusedPictureError):
        identify(refused_pictures()[name], survey=survey)
    assert keys() == set()


def test_too_many_at_once_are_told_to_come_back(survey, answering, settings):
    settings.IDENTIFY_MAX_WAITING = 2
    with service._place(), service._place():
        with pytest.raises(IdentifyBusyError) as busy:
            identify(jpeg(), survey=survey)
        assert busy.value.retry_after_s >= 1
    assert identify(jpeg(), survey=survey)


def test_a_place_left_by_a_dead_process_is_free_again(survey, answering, settings):
    settings.IDENTIFY_MAX_WAITING = 1
    broker().zadd(service._name("in-flight"), {"dead": time.time() - 1})
    assert identify(jpeg(), survey=survey)


def test_no_answer_in_time_is_an_answer(survey, living_worker, monkeypatch, settings):
    settings.IDENTIFY_TIMEOUT_SECONDS = 1
    monkeypatch.setattr(service, "send", lambda _task: None)
    with pytest.raises(IdentifyBusyError):
        identify(jpeg(), survey=survey)
    assert serve_identifications() == 0, "who gave up is not served"


def test_without_a_worker_nobody_waits(survey):
    began = time.monotonic()
    with pytest.raises(IdentifyBusyError):
        identify(jpeg(), survey=survey)
    assert time.monotonic() - began < 3


def test_without_a_model_the_caller_comes_back_later(answering):
    with pytest.raises(IdentifyBusyError):
        identify(jpeg(), survey=SurveyFactory())
    with pytest.raises(IdentifyBusyError):
        identify(jpeg(), survey=SurveyFactory(registered_model=None))


def test_with_redis_away_the_caller_comes_back_later_and_a_worker_goes_on(survey, monkeypatch):
    gone = ThrowawayRedis()
    gone.start()
    client = __import__("redis").Redis.from_url(gone.url)
    gone.kill()
    for module in (service, heartbeat, tasks):
        monkeypatch.setattr(module, "broker", lambda: client)
    with pytest.raises(IdentifyBusyError):
        identify(jpeg(), survey=survey)
    assert serve_identifications() == 0
    gone.end()


@pytest.mark.slow
@pytest.mark.serial
@pytest.mark.django_db(transaction=True)
def test_a_full_queue_delays_an_answer_by_a_batch_only(
    start_worker, throwaway_redis, survey, monkeypatch, settings
):
    """A real worker busy with a hundred photos answers a person in between."""
    observation = ObservationFactory(survey=survey)
    for seed in range(100):
        receive_photo(observation=observation, file=BytesIO(jpeg(seed=seed)), name="x.jpg")
    client = __import__("redis").Redis.from_url(throwaway_redis.url)
    for module in (service, heartbeat, tasks):
        monkeypatch.setattr(module, "broker", lambda: client)
    settings.REDIS_URL = throwaway_redis.url
    start_worker(queues="inference,default", env={"STUB_SECONDS_A_PICTURE": "0.1"})
    wait_until(lambda: Photo.objects.filter(status="done").exists())
    answers = []

    def ask():
        began = time.monotonic()
        answers.append((identify(jpeg(seed=500), survey=survey), time.monotonic() - began))
        connection.close()

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join(20)
    assert answers
    assert answers[0][1] < 5
    assert Photo.objects.filter(status__in=("pending", "processing")).exists(), "the queue was still full"

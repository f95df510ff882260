"""POST identify/: a photo in, boxes out, nothing stored."""

import pytest
from django.conf import settings
from django.core.files.uploadedfile import SimpleUploadedFile

from apps.common.heartbeat import broker, record_sign
from apps.observations.models import IdempotencyKey, Observation, Photo
from apps.observations.services import identify as service
from apps.training.models import ModelVersion
from tests.api.conftest import assert_problem
from tests.support.pictures import jpeg, refused_pictures, taken_pictures
from tests.support.stub_detector import StubDetector, expected_boxes

PATH = "/api/v1/identify/"


@pytest.fixture
def worker(survey, monkeypatch):
    """A worker in this process: it answers as soon as it is woken."""
    version = survey.registered_model.production_version
    detector = StubDetector(labels=("CER", "ISO_MIN"))
    monkeypatch.setattr(service, "production_detector", lambda _model: (version, detector))
    monkeypatch.setattr(service, "send", lambda _task: service.serve_identifications())
    record_sign(name="tests@here", queues=["inference"])
    yield detector
    broker().delete(f"{settings.CELERY_BROKER_TRANSPORT_OPTIONS['global_keyprefix']}workers")


def ask(caller, content: bytes, **fields):
    photo = SimpleUploadedFile("plate.jpg", content)
    return caller.post(PATH, {"survey": "springtails", "photo": photo, **fields})


def test_the_animals_are_found_at_once_and_nothing_is_stored(caller, worker, survey):
    plate = jpeg(width=200, height=100)
    expected = expected_boxes(plate)
    response = ask(caller, plate)
    assert response.status_code == 200, response.content
    body = response.json()
    assert (body["survey"], body["width"], body["height"]) == ("springtails", 200, 100)
    assert [box["number"] for box in body["detections"]] == list(range(1, expected + 1))
    first = body["detections"][0]
    assert first["label"]["name"] in ("Ceratophysella sp.", "Isotomiella minor")
    assert set(first["scores"]) == {"CER", "ISO_MIN"}
    assert set(first["box"]) == {"x", "y", "width", "height"}
    assert first["model_version"] == str(survey.registered_model.production_version)
    assert not any(model.objects.exists() for model in (Observation, Photo, IdempotencyKey))


def test_asking_twice_gives_the_same_answer(caller, worker):
    assert ask(caller, jpeg()).json() == ask(caller, jpeg()).json()


def test_a_stranger_without_token_cannot_ask(anonymous, worker):
    assert_problem(ask(anonymous, jpeg()), 401)
    assert worker.seen == []


@pytest.mark.parametrize("name", ["phone.heic", "cmyk.jpg", "turned.jpg", "plain.tif"])
def test_every_kind_of_photo_is_looked_at(caller, worker, name):
    assert ask(caller, taken_pictures()[name]).status_code == 200


@pytest.mark.parametrize("name", sorted(refused_pictures()))
def test_a_hostile_file_is_refused_with_its_reason_before_any_worker_sees_it(caller, worker, name):
    body = assert_problem(ask(caller, refused_pictures()[name]), 400, "photo_refused")
    assert body["errors"][0]["field"] == "photo"
    assert worker.seen == []


@pytest.mark.parametrize(
    "fields",
    [
        {"survey": "nothing"},
        {"surprise": "1"},
        {"photo": "text"},
        {"photo": [SimpleUploadedFile("a.jpg", jpeg()), SimpleUploadedFile("b.jpg", jpeg())]},
    ],
    ids=str,
)
def test_bad_fields_are_named(caller, worker, fields):
    sent = {"survey": "springtails", "photo": SimpleUploadedFile("a.jpg", jpeg()), **fields}
    assert assert_problem(caller.post(PATH, sent), 400, "invalid")["errors"]


def test_when_no_worker_lives_the_caller_is_told_when_to_come_back(caller, survey):
    response = ask(caller, jpeg())
    assert_problem(response, 503, "busy")
    assert int(response["Retry-After"]) >= 1


def test_when_too_many_ask_the_caller_is_told_when_to_come_back(caller, worker, settings):
    settings.IDENTIFY_MAX_WAITING = 0
    response = ask(caller, jpeg())
    assert_problem(response, 503, "busy")
    assert int(response["Retry-After"]) >= 1


@pytest.mark.slow
def test_when_the_answer_does_not_come_in_time_nobody_waits_forever(caller, worker, settings, monkeypatch):
    settings.IDENTIFY_TIMEOUT_SECONDS = 1
    monkeypatch.setattr(service, "send", lambda _task: None)
    assert_problem(ask(caller, jpeg()), 503, "busy")


def test_a_survey_without_model_says_so(caller, worker):
    ModelVersion.objects.update(stage=ModelVersion.Stage.ARCHIVED)
    assert_problem(ask(caller, jpeg()), 503, "no_model")

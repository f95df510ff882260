"""Waiting photos get their boxes: claimed in batches, written once, whatever breaks in between."""

from datetime import timedelta
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from django.contrib.gis.geos import Point
from django.core.files.base import ContentFile
from django.db.models import F
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext
from django.utils import translation

from apps.common import leased
from apps.common.leased import WorkStatus
from apps.observations.models import Comment, Detection, DiscardedFile, Label, Photo
from apps.observations.numbering import reading_order
from apps.observations.services import detection
from apps.observations.services.detection import (
    detect_batch,
    detect_photos,
    failure_message,
    request_detection,
)
from apps.observations.services.detection_results import save_outcomes
from apps.observations.services.intake import receive_photo
from apps.observations.signals import photos_detected
from apps.observations.tasks import detect_waiting, sweep
from apps.training.inference import detector_of, forget_detectors
from apps.training.services import promote
from tests.factories import LabelFactory, ObservationFactory, SurveyFactory, UserFactory
from tests.support.pictures import jpeg
from tests.support.stub_detector import StubDetector, boxes_of, expected_boxes, stub_version

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _nothing_loaded():
    forget_detectors()
    yield
    forget_detectors()


@pytest.fixture
def survey():
    survey = SurveyFactory()
    LabelFactory(survey=survey, code="CER")
    LabelFactory(survey=survey, code="ISO_MIN")
    stub_version(survey.registered_model, "CER", "ISO_MIN")
    return survey


def send(survey, count, *, first=0, observation=None, trailer=b"") -> list[Photo]:
    observation = observation or ObservationFactory(survey=survey)
    return [
        receive_photo(
            observation=observation, file=BytesIO(jpeg(seed=seed) + trailer), name=f"{seed}.jpg"
        ).photo
        for seed in range(first, first + count)
    ]


def stub_of(survey) -> StubDetector:
    return detector_of(survey.registered_model.production_version)


def test_every_waiting_photo_gets_its_boxes_and_a_finished_row(survey, settings):
    settings.DETECTION_BATCH_PHOTOS = 2
    photos = send(survey, 5)
    assert detect_photos() == 5
    for photo in Photo.objects.all():
        content = photo.original.read()
        assert photo.status == WorkStatus.DONE
        assert photo.detection_count == expected_boxes(content)
        assert photo.attempts == 1
        assert photo.lease_token is None
        assert photo.lease_until is None
        assert photo.finished_at is not None
        assert photo.model_version == survey.registered_model.production_version
        boxes = list(Detection.objects.current().filter(photo=photo))
        assert [box.number for box in boxes] == list(range(1, photo.detection_count + 1))
        assert photo.best_score == max(box.score for box in boxes)
        assert all(box.score == max(box.class_scores) for box in boxes)
        assert all(box.label.code == ("CER", "ISO_MIN")[np.argmax(box.class_scores)] for box in boxes)
    assert len(stub_of(survey).seen) == len(set(stub_of(survey).seen)) == len(photos)
    assert detect_photos() == 0


def test_boxes_lie_inside_the_photo_and_have_their_polygon(survey):
    send(survey, 3)
    detect_photos()
    outside = Detection.objects.filter(x_max__gt=F("photo__width_px")) | Detection.objects.filter(
        y_max__gt=F("photo__height_px")
    )
    assert not outside.exists()
    box = Detection.objects.first()
    assert box.box.extent == pytest.approx((box.x_min, box.y_min, box.x_max, box.y_max))


def test_the_task_run_twice_changes_nothing(survey):
    send(survey, 3)
    detect_waiting()
    before = list(Detection.objects.order_by("pk").values()), list(Photo.objects.order_by("pk").values())
    detect_waiting()
    sweep()
    detect_waiting()
    assert (
        list(Detection.objects.order_by("pk").values()),
        list(Photo.objects.order_by("pk").values()),
    ) == before


def test_urgent_photos_come_before_those_of_a_batch(survey, settings):
    settings.DETECTION_BATCH_PHOTOS = 1
    photos = send(survey, 3)
    Photo.objects.exclude(pk=photos[2].pk).update(priority=Photo.Priority.BATCH)
    detect_batch()
    assert Photo.objects.get(status=WorkStatus.DONE) == photos[2]


def test_a_batch_costs_the_same_number_of_queries_whatever_its_size(
    survey, settings, django_assert_max_num_queries
):
    from django.db import connection

    settings.DETECTION_BATCH_PHOTOS = 12
    send(survey, 1)
    detect_batch()
    send(survey, 1, first=1)
    with CaptureQueriesContext(connection) as one:
        detect_batch()
    send(survey, 12, first=2)
    with CaptureQueriesContext(connection) as twelve:
        assert detect_batch() == 12
    assert len(twelve) <= len(one)
    assert len(one) <= 24


def test_detecting_again_keeps_rows_and_the_remarks_on_them(survey):
    photo = next(p for p in send(survey, 8) if expected_boxes(p.original.read()) >= 2)
    detect_photos()
    before = list(photo.detections.values_list("pk", flat=True))
    box = photo.detections.get(number=2)
    Comment.objects.create(
        observation=photo.observation,
        photo=photo,
        detection=box,
        box_number=2,
        author=UserFactory(),
        body="a mite",
    )
    assert request_detection(Photo.objects.filter(pk=photo.pk)) == 1
    assert Photo.objects.get(pk=photo.pk).detection_count == len(before)
    assert detect_photos() == 1
    assert list(photo.detections.values_list("pk", flat=True)) == before
    assert Comment.objects.get().detection == box


def test_fewer_boxes_than_before_leave_none_over_and_the_remark_keeps_its_number(survey):
    photo = next(p for p in send(survey, 8) if expected_boxes(p.original.read()) >= 2)
    detect_photos()
    version = survey.registered_model.production_version
    Comment.objects.create(
        observation=photo.observation, photo=photo, detection=photo.detections.get(number=2), box_number=2,
        author=UserFactory(), body="a mite",
    )  # fmt: skip
    request_detection(Photo.objects.filter(pk=photo.pk))
    (claimed,) = Photo.objects.claim(limit=1)
    found = boxes_of(b"", 96, 64, 2)
    one = type(found)(
        found.boxes_xyxy_px[:1], found.scores[:1], found.labels[:1], found.class_scores[:1], 96, 64, 1.0
    )
    save_outcomes(token=claimed.lease_token, survey=survey, version=version, outcomes={photo.pk: one})
    assert photo.detections.count() == 1
    remark = Comment.objects.get()
    assert remark.detection is None
    assert remark.box_number == 2


def test_after_a_promotion_the_next_detection_uses_the_new_version_and_keeps_the_old_boxes(survey):
    (photo,) = send(survey, 1)
    detect_photos()
    old = survey.registered_model.production_version
    new = stub_version(survey.registered_model, "CER", "ISO_MIN")
    request_detection(Photo.objects.all())
    detect_photos()
    photo.refresh_from_db()
    assert photo.model_version == new
    assert Detection.objects.current().filter(photo=photo).count() == photo.detection_count
    assert Detection.objects.filter(photo=photo, model_version=old).count() == photo.detection_count
    promote(version=old)
    request_detection(Photo.objects.all())
    detect_photos()
    assert set(Detection.objects.current().values_list("model_version", flat=True)) == {old.pk}
    assert Detection.objects.count() == 2 * photo.detection_count


def test_a_photo_without_animals_is_done_with_none(survey):
    (photo,) = send(survey, 1)
    (claimed,) = Photo.objects.claim(limit=1)
    version = survey.registered_model.production_version
    none = boxes_of(b"", 96, 64, 2).none_found(labels=2, width_px=96, height_px=64, duration_ms=1)
    save_outcomes(token=claimed.lease_token, survey=survey, version=version, outcomes={photo.pk: none})
    photo.refresh_from_db()
    assert (photo.status, photo.detection_count, photo.best_score) == (WorkStatus.DONE, 0, None)


def test_boxes_that_no_table_can_hold_are_left_out(survey):
    (photo,) = send(survey, 1)
    (claimed,) = Photo.objects.claim(limit=1)
    version = survey.registered_model.production_version
    nan, inf = float("nan"), float("inf")
    boxes = np.array(
        [[1, 1, 20, 20], [5, 5, 5, 20], [nan, 0, 9, 9], [90, 60, 200, 300], [0, 0, inf, 10], [97, 1, 99, 9]],
        np.float32,
    )
    scores = np.full((6, 2), 0.5, np.float32)
    scores[0] = [1.0000001, 0.1]
    found = type(boxes_of(b"", 96, 64, 2))(boxes, scores.max(1), scores.argmax(1), scores, 96, 64, nan)
    save_outcomes(token=claimed.lease_token, survey=survey, version=version, outcomes={photo.pk: found})
    corners = [
        tuple(row)
        for row in photo.detections.order_by("number").values_list("x_min", "y_min", "x_max", "y_max")
    ]
    assert sorted(corners) == [(0, 0, 96, 10), (1, 1, 20, 20), (90, 60, 96, 64)]
    photo.refresh_from_db()
    assert photo.status == WorkStatus.DONE
    assert photo.detection_ms is None


def test_a_result_that_comes_after_the_lease_was_lost_is_dropped(survey):
    (photo,) = send(survey, 1)
    (stale,) = Photo.objects.claim(limit=1)
    Photo.objects.update(lease_until=Now() - timedelta(seconds=1))
    (current,) = Photo.objects.claim(limit=1)
    version = survey.registered_model.production_version
    none = boxes_of(b"", 96, 64, 2).none_found(labels=2, width_px=96, height_px=64, duration_ms=1)
    written = save_outcomes(
        token=stale.lease_token,
        survey=survey,
        version=version,
        outcomes={photo.pk: boxes_of(b"x", 96, 64, 2)},
    )
    assert written == []
    assert not Detection.objects.exists()
    assert save_outcomes(
        token=current.lease_token, survey=survey, version=version, outcomes={photo.pk: none}
    ) == [photo.pk]
    assert Photo.objects.get().detection_count == 0


def test_a_result_for_a_photo_deleted_meanwhile_is_dropped(survey):
    (photo,) = send(survey, 1)
    (claimed,) = Photo.objects.claim(limit=1)
    version = survey.registered_model.production_version
    pk = photo.pk
    photo.delete()
    assert not save_outcomes(
        token=claimed.lease_token, survey=survey, version=version, outcomes={pk: boxes_of(b"x", 96, 64, 2)}
    )


def test_a_damaged_original_fails_alone_with_its_reason(survey):
    photos = send(survey, 3)
    Path(photos[1].original.path).write_bytes(b"not a picture any more")
    assert detect_photos() == 3
    broken = Photo.objects.get(status=WorkStatus.FAILED)
    assert (broken.pk, broken.failure_reason) == (photos[1].pk, "not_a_picture")
    assert "JPEG, PNG" in failure_message(broken)
    with translation.override("fr"):
        assert failure_message(broken)


def test_a_missing_original_fails_alone_with_its_reason(survey):
    photos = send(survey, 3)
    Path(photos[2].original.path).unlink()
    assert detect_photos() == 3
    broken = Photo.objects.get(status=WorkStatus.FAILED)
    assert (broken.pk, broken.failure_reason) == (photos[2].pk, "original_missing")
    assert failure_message(broken)


def test_a_storage_that_does_not_answer_costs_no_attempt(survey, monkeypatch):
    send(survey, 3)

    def away(_photo):
        raise detection.StorageUnavailableError("no route")

    with monkeypatch.context() as patched:
        patched.setattr(detection, "_read_original", away)
        assert detect_photos() == 0
    assert set(Photo.objects.values_list("status", "attempts")) == {(WorkStatus.PENDING, 0)}
    assert detect_photos() == 3


def test_an_error_of_the_detector_ends_only_the_photo_at_fault(survey, monkeypatch):
    photos = send(survey, 4)
    guilty = photos[2].original.read()
    detect = StubDetector.detect_encoded

    def breaking(self, contents, **options):
        def checked():
            for content in contents:
                if content == guilty:
                    raise RuntimeError("out of memory")
                yield content

        return detect(self, checked(), **options)

    monkeypatch.setattr(StubDetector, "detect_encoded", breaking)
    for _sweep in range(12):
        detect_photos()
    failed = Photo.objects.get(status=WorkStatus.FAILED)
    assert (failed.pk, failed.attempts) == (photos[2].pk, 3)
    assert failed.failure_reason.startswith("detector_failed")
    assert "several times" in failure_message(failed)
    assert Photo.objects.filter(status=WorkStatus.DONE).count() == 3


def test_photos_wait_while_their_survey_has_no_production_version(survey):
    other = SurveyFactory()
    without_model = SurveyFactory(registered_model=None)
    send(other, 1)
    send(without_model, 1)
    mine = send(survey, 1)
    assert detect_photos() == 1
    assert Photo.objects.get(status=WorkStatus.DONE) == mine[0]
    assert set(Photo.objects.exclude(pk=mine[0].pk).values_list("status", "attempts")) == {("pending", 0)}


@pytest.mark.parametrize("damage", ["missing", "altered"])
def test_weights_that_cannot_be_loaded_leave_photos_waiting_with_the_reason(survey, damage):
    other = SurveyFactory()
    stub_version(other.registered_model, "CER")
    version = survey.registered_model.production_version
    path = Path(version.weights.path)
    path.unlink() if damage == "missing" else path.write_bytes(b"something else")
    (photo,) = send(survey, 1)
    send(other, 1)
    assert detect_photos() == 1, "the other survey's photo is not held up"
    photo.refresh_from_db()
    assert (photo.status, photo.attempts) == (WorkStatus.PENDING, 0)
    assert photo.failure_reason.startswith("model_unavailable")
    assert "waits" in failure_message(photo)
    stub_version(survey.registered_model, "CER", "ISO_MIN")
    assert detect_photos() == 1, "a sound version is used at once"
    photo.refresh_from_db()
    assert photo.failure_reason == ""


def test_a_label_of_the_model_that_the_survey_lacks_is_made(survey):
    stub_version(survey.registered_model, "CER", "Sminthurus_viridis", "Ünknown")
    send(survey, 6)
    detect_photos()
    codes = set(Label.objects.filter(survey=survey).values_list("code", flat=True))
    assert codes == {"CER", "ISO_MIN", "Sminthurus_viridis", "UNKNOWN"}
    assert Label.objects.get(code="UNKNOWN").scientific_name == "Ünknown"


def test_a_requested_repetition_leaves_photos_that_are_being_worked_on(survey):
    send(survey, 3)
    Photo.objects.claim(limit=1)
    assert request_detection(Photo.objects.all()) == 2


def test_a_worker_told_to_stop_gives_back_what_it_has_not_begun(survey, settings, monkeypatch):
    settings.DETECTION_BATCH_PHOTOS = 4
    send(survey, 4)
    detect = StubDetector.detect_encoded

    def stopping(self, contents, **options):
        for index, result in enumerate(detect(self, contents, **options)):
            if index == 1:
                leased.ask_to_stop()
            yield result

    monkeypatch.setattr(StubDetector, "detect_encoded", stopping)
    try:
        assert detect_photos() == 2
    finally:
        leased._stopping[0] = 0
    rows = sorted(Photo.objects.values_list("status", "attempts"))
    assert rows == [("done", 1), ("done", 1), ("pending", 0), ("pending", 0)]


def test_a_soft_time_limit_gives_the_claim_back(survey, monkeypatch):
    from billiard.exceptions import SoftTimeLimitExceeded

    send(survey, 2)

    def slow(self, contents, **options):
        next(iter(contents))
        raise SoftTimeLimitExceeded
        yield

    monkeypatch.setattr(StubDetector, "detect_encoded", slow)
    detect_photos()
    assert set(Photo.objects.values_list("status", "attempts", "lease_token")) == {("pending", 1, None)}


def test_those_who_listen_hear_of_detected_photos_once_they_are_stored(
    survey, django_capture_on_commit_callbacks
):
    photos = send(survey, 2)
    heard = []

    def listen(photo_ids, model_version, **_kwargs):
        heard.append((sorted(photo_ids), model_version))

    def broken(**_kwargs):
        raise RuntimeError("a listener's own fault")

    photos_detected.connect(broken)
    photos_detected.connect(listen)
    try:
        with django_capture_on_commit_callbacks(execute=True):
            detect_photos()
    finally:
        photos_detected.disconnect(listen)
        photos_detected.disconnect(broken)
    assert heard == [([photo.pk for photo in photos], survey.registered_model.production_version)]


def test_a_sensitive_animal_blurs_its_place_in_the_same_moment(survey):
    Label.objects.filter(survey=survey).update(is_sensitive=True)
    observation = ObservationFactory(
        survey=survey, location=Point(2.3, 48.8, srid=4326), public_location=Point(2.3, 48.8, srid=4326)
    )
    send(survey, 1, observation=observation)
    detect_photos()
    observation.refresh_from_db()
    assert observation.is_obscured
    assert observation.public_location != observation.location


def test_numbers_follow_the_order_of_reading():
    rows = [(10, 10), (100, 14), (200, 8), (5, 60), (90, 57)]
    boxes = np.array([(x, y, x + 20, y + 20) for x, y in rows], np.float32)
    for shuffled in ([3, 0, 4, 2, 1], [4, 3, 2, 1, 0], [0, 1, 2, 3, 4]):
        order = reading_order(boxes[shuffled])
        assert [rows[shuffled[index]] for index in order] == rows
    assert len(reading_order(np.zeros((0, 4), np.float32))) == 0


def test_an_unneeded_file_is_removed_also_when_another_cannot_be(survey, monkeypatch):
    from django.core.files.storage import storages

    from apps.observations.services.deletion import purge_discarded_files

    kept = storages["default"].save("originals/kept", ContentFile(b"x"))
    gone = storages["default"].save("originals/gone", ContentFile(b"x"))
    DiscardedFile.objects.create(storage="default", name=kept)
    DiscardedFile.objects.create(storage="default", name=gone)
    delete = type(storages["default"]).delete

    def refuse(self, name):
        if name == kept:
            raise PermissionError
        delete(self, name)

    monkeypatch.setattr(type(storages["default"]), "delete", refuse)
    assert purge_discarded_files() == 1
    assert [row.name for row in DiscardedFile.objects.all()] == [kept]
    assert not storages["default"].exists(gone)

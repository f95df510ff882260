"""Boxes below a survey's threshold are kept for experts; whoever else looks never meets them."""

import io
import json
import re
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from django.contrib.gis.geos import Point
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from apps.observations.models import Comment, Detection, Photo, Survey
from apps.observations.numbering import kept_numbers
from apps.observations.results import label_counts, named_boxes
from apps.observations.services import data_export, detection_results, exports, identify
from apps.observations.services.comments import CommentRefusedError, add_comment
from apps.observations.services.detection import detect_photos, request_detection
from apps.observations.services.detection_results import save_outcomes
from apps.observations.services.geoprivacy import review_public_location
from apps.observations.services.surveys import DATA_DIR, create_survey_from_file
from apps.observations.views.home import numbers
from apps.training.engine.types import DetectedBoxes
from apps.training.inference import forget_detectors
from tests.factories import (
    DetectionFactory,
    LabelFactory,
    ModelVersionFactory,
    ObservationFactory,
    PhotoFactory,
    SurveyFactory,
    UserFactory,
)
from tests.support.stub_detector import StubDetector, stub_version

pytestmark = pytest.mark.django_db


def found(*rows: tuple[float, float, float], width_px: int = 640, height_px: int = 640) -> DetectedBoxes:
    """Boxes of 10 px at (x, y) with a score."""
    boxes = np.array([[x, y, x + 10, y + 10] for x, y, _score in rows], np.float32).reshape(-1, 4)
    scores = np.array([[score] for _x, _y, score in rows], np.float32).reshape(-1, 1)
    return DetectedBoxes(boxes, scores.max(1), scores.argmax(1), scores, width_px, height_px, 1.0)


def detect(photo: Photo, result: DetectedBoxes) -> Photo:
    """Write a result as a worker does."""
    version = photo.survey.registered_model.production_version or ModelVersionFactory(
        registered_model=photo.survey.registered_model
    )
    Photo.objects.filter(pk=photo.pk).requeue()
    (claimed,) = Photo.objects.filter(pk=photo.pk).claim(limit=1)
    save_outcomes(
        token=claimed.lease_token, survey=photo.survey, version=version, outcomes={photo.pk: result}
    )
    photo.refresh_from_db()
    return photo


def rows_of(photo: Photo) -> list[tuple[int, float, bool]]:
    return [
        (box.number, round(box.score, 2), box.is_weak)
        for box in Detection.objects.with_weak().filter(photo=photo)
    ]


class TestKeeping:
    def test_shown_boxes_are_numbered_first_and_weak_ones_after_them_each_in_reading_order(self):
        photo = PhotoFactory()
        detect(photo, found((10, 10, 0.1), (200, 10, 0.9), (10, 300, 0.3), (300, 10, 0.06), (400, 400, 0.24)))
        assert rows_of(photo) == [
            (1, 0.9, False), (2, 0.3, False), (3, 0.1, True), (4, 0.06, True), (5, 0.24, True),
        ]  # fmt: skip
        assert photo.detection_count == 2
        assert photo.best_score == pytest.approx(0.9)
        assert [box.number for box in Detection.objects.current()] == [1, 2]
        assert [box.number for box in Detection.objects.weak()] == [3, 4, 5]

    def test_a_score_at_the_threshold_is_shown(self):
        photo = detect(PhotoFactory(), found((10, 10, 0.25)))
        assert photo.detection_count == 1

    def test_a_photo_with_weak_boxes_only_is_one_without_animals(self):
        photo = detect(PhotoFactory(), found((10, 10, 0.2), (50, 50, 0.1)))
        assert (photo.detection_count, photo.best_score) == (0, None)
        assert Detection.objects.weak().count() == 2

    def test_a_picture_of_noise_keeps_the_best_of_its_weak_boxes_only(self, monkeypatch):
        monkeypatch.setattr(detection_results, "_MAX_WEAK_BOXES", 3)
        weak = [(10 + 20 * n, 10, 0.06 + 0.01 * n) for n in range(10)]
        photo = detect(PhotoFactory(), found((10, 300, 0.8), *weak))
        assert [round(box.score, 2) for box in Detection.objects.weak()] == [0.13, 0.14, 0.15]
        assert photo.detection_count == 1

    def test_detecting_again_with_fewer_boxes_leaves_none_over(self):
        photo = detect(PhotoFactory(), found((10, 10, 0.9), (50, 10, 0.8), (90, 10, 0.1), (130, 10, 0.1)))
        detect(photo, found((10, 10, 0.9), (50, 10, 0.2)))
        assert rows_of(photo) == [(1, 0.9, False), (2, 0.2, True)]
        assert photo.detection_count == 1

    def test_a_box_that_was_weak_becomes_a_shown_one_when_the_threshold_falls(self):
        photo = detect(PhotoFactory(), found((10, 10, 0.9), (50, 10, 0.2)))
        photo.survey.confidence_threshold = 0.15
        photo.survey.save()
        assert rows_of(photo)[1] == (2, 0.2, True)  # a new threshold counts from the next detection on
        detect(photo, found((10, 10, 0.9), (50, 10, 0.2)))
        assert rows_of(photo)[1] == (2, 0.2, False)
        assert photo.detection_count == 2

    def test_the_detector_is_asked_for_what_the_survey_keeps(self, monkeypatch):
        forget_detectors()
        asked: list[float] = []
        original = StubDetector.detect_encoded

        def spying(self, contents, *, confidence, **options):
            asked.append(confidence)
            return original(self, contents, confidence=confidence, **options)

        monkeypatch.setattr(StubDetector, "detect_encoded", spying)
        photo = PhotoFactory(observation__survey__kept_threshold=0.07)
        stub_version(photo.survey.registered_model)
        request_detection(Photo.objects.all())
        detect_photos()
        assert asked == [0.07]
        forget_detectors()


class TestThresholds:
    def test_the_database_refuses_to_keep_less_than_is_shown(self):
        with pytest.raises(IntegrityError), transaction.atomic():
            SurveyFactory(confidence_threshold=0.1, kept_threshold=0.2)

    @pytest.mark.parametrize("kept", [0.0, 0.009, 1.0, float("nan")])
    def test_a_value_outside_its_range_is_refused(self, kept):
        survey = SurveyFactory()
        survey.kept_threshold = kept
        with pytest.raises(ValidationError):
            survey.full_clean()

    def test_the_console_says_what_is_wrong(self, settings):
        settings.STAFF_TWO_FACTOR = False
        survey = SurveyFactory()
        client = signed_in(UserFactory(is_staff=True, is_superuser=True))
        address = reverse("admin:observations_survey_change", args=[survey.pk])
        values = {
            "position": 0, "name_en": "A", "name_fr": "A", "is_open": "on", "geoprivacy": "open",
            "registered_model": survey.registered_model_id, "confidence_threshold": "0.2", "kept_threshold": "0.3",
            "minimum_photos": 20,
        }  # fmt: skip
        answer = client.post(address, values)
        assert answer.status_code == 200
        assert "boxes that are shown must be kept" in answer.content.decode()
        assert client.post(address, values | {"kept_threshold": "0.1"}).status_code == 302
        assert Survey.objects.get().kept_threshold == 0.1

    def test_the_survey_that_comes_with_podura_keeps_weak_boxes(self):
        survey = create_survey_from_file(path=DATA_DIR / "springtails.json")
        assert survey.kept_threshold == 0.05 < survey.confidence_threshold


@pytest.fixture
def scene() -> SimpleNamespace:
    """A public photo on which an animal is shown, and another one of another label is only suspected."""
    survey = SurveyFactory()
    common = LabelFactory(survey=survey, code="COMMON", scientific_name="Podura communis")
    rare = LabelFactory(survey=survey, code="RARE", scientific_name="Podura rarissima")
    version = ModelVersionFactory(registered_model=survey.registered_model, labels=["COMMON", "RARE"])
    observation = ObservationFactory(
        survey=survey,
        location=Point(2.35, 48.85, srid=4326),
        public_location=Point(2.35, 48.85, srid=4326),
        place_name="Paris",
    )
    photo = PhotoFactory(
        observation=observation,
        status="done",
        model_version=version,
        detection_count=1,
        best_score=0.9,
    )
    DetectionFactory(
        photo=photo, model_version=version, number=1, label=common, score=0.9, class_scores=[0.9, 0]
    )
    weak = DetectionFactory(
        photo=photo, model_version=version, number=2, label=rare, score=0.111, class_scores=[0, 0.111],
        x_min=300, x_max=345.5,
    )  # fmt: skip
    assert weak.is_weak
    return SimpleNamespace(
        survey=survey, common=common, rare=rare, version=version, observation=observation, photo=photo
    )


def signed_in(user) -> Client:
    client = Client()
    client.force_login(user)
    return client


def everyone(scene) -> list[Client]:
    """A visitor, the photo's owner, an expert and a curator."""
    return [
        Client(),
        signed_in(scene.observation.contributor),
        signed_in(UserFactory(is_expert=True)),
        signed_in(UserFactory(is_staff=True, is_superuser=True)),
    ]


def content_of(response) -> str:
    assert response.status_code == 200
    return (response.getvalue() if response.streaming else response.content).decode("utf-8", "replace")


SIGNS = ("345.5", "0.111", "11 %", "11%")  # the label itself stands among the shown box's class scores


class TestReaders:
    @pytest.mark.parametrize(
        ("name", "of"),
        [
            ("photo", "photo"),
            ("photo_json", "photo"),
            ("photo_csv", "photo"),
            ("observation", "observation"),
            ("observation_json", "observation"),
            ("observation_csv", "observation"),
        ],
    )
    def test_results_and_downloads_show_and_count_only_the_shown(self, scene, name, of):
        PhotoFactory(observation=scene.observation)  # an observation of one photo has no page of its own
        address = reverse(f"observations:{name}", args=[getattr(scene, of).public_id])
        for client in everyone(scene):
            text = content_of(client.get(address))
            assert "COMMON" in text or "communis" in text
            assert not [sign for sign in SIGNS if sign in text]

    def test_the_gallery_lists_and_finds_by_shown_boxes_only(self, scene):
        gallery = reverse("observations:gallery")
        slug = scene.survey.slug
        listed = content_of(Client().get(gallery))
        names = re.findall(r'gallery__names">(.*?)</p>', listed, re.DOTALL)
        assert ["communis" in text and "rarissima" not in text for text in names] == [True]
        found = content_of(Client().get(gallery, {"label": f"{slug}/COMMON"}))
        assert str(scene.photo.public_id) in found
        for asked in ({"label": f"{slug}/RARE"}, {"label": f"{slug}/RARE", "confidence": "5"}):
            assert str(scene.photo.public_id) not in content_of(Client().get(gallery, asked))

    def test_a_photo_with_weak_boxes_only_is_not_one_with_animals(self, scene):
        Detection.objects.current().delete()
        Photo.objects.update(detection_count=0, best_score=None)
        gallery = reverse("observations:gallery")
        for asked in ({"animals": "on"}, {"confidence": "5"}):
            assert str(scene.photo.public_id) not in content_of(Client().get(gallery, asked))
        assert str(scene.photo.public_id) in content_of(Client().get(gallery))

    def test_the_map_finds_by_shown_boxes_only(self, scene):
        data = reverse("observations:map_data")

        def total(code: str) -> int:
            return int(
                Client().get(data, {"zoom": 3, "label": f"{scene.survey.slug}/{code}"}).json()["total"]
            )

        assert (total("COMMON"), total("RARE")) == (1, 0)

    def test_the_home_page_counts_the_shown(self, scene):
        assert numbers()["animals"] == 1

    def test_the_api_shows_and_finds_the_shown_only(self, scene):
        for client in everyone(scene)[1:]:
            single = client.get(reverse("v1:observation", args=[scene.observation.public_id]))
            text = content_of(single)
            assert [len(photo["detections"]) for photo in single.json()["photos"]] == [1]
            assert "RARE" not in {d["label"]["code"] for d in single.json()["photos"][0]["detections"]}
            assert "345" not in text
            photos = client.get(reverse("v1:observation-photos", args=[scene.observation.public_id])).json()
            assert [box["number"] for photo in photos["results"] for box in photo["detections"]] == [1]
            listed = reverse("v1:observations")
            assert len(client.get(listed, {"label": "COMMON"}).json()["results"]) == 1
            assert client.get(listed, {"label": "RARE"}).json()["results"] == []

    def test_named_boxes_counts_exports_and_the_annotated_picture_know_the_shown_only(self, scene):
        assert [box.number for box in named_boxes(scene.photo)] == [1]
        assert [(row.label, row.animals) for row in label_counts(scene.observation)] == [(scene.common, 1)]
        (body,) = exports.photo_bodies(
            scene.observation, [scene.photo], user=scene.observation.contributor, confidence=0.0
        )
        assert [box["number"] for box in body["detections"]] == [1]
        lines = "".join(
            exports.csv_lines(scene.observation, [[scene.photo]], user=scene.observation.contributor)
        )
        assert lines.count("\r\n") == 2

    def test_a_person_s_own_data_hold_the_shown_only(self, scene):
        data_export.request_export(user=scene.observation.contributor)
        assert data_export.pack_next_export()
        export = data_export.DataExport.objects.get()
        with zipfile.ZipFile(io.BytesIO(export.file.read())) as archive:
            data = json.loads(archive.read("data.json"))
            table = archive.read("detections.csv").decode()
        assert [len(photo["detections"]) for photo in data["observations"][0]["photos"]] == [1]
        assert "RARE" not in table

    def test_nobody_comments_on_a_weak_box(self, scene):
        author = UserFactory()
        with pytest.raises(CommentRefusedError):
            add_comment(
                observation=scene.observation, photo=scene.photo, box_number=2, author=author, body="a mite"
            )
        add_comment(
            observation=scene.observation, photo=scene.photo, box_number=1, author=author, body="a mite"
        )
        assert Comment.objects.get().detection.number == 1

    def test_the_console_draws_and_lists_the_shown_until_asked_for_the_weak(self, scene, settings):
        settings.STAFF_TWO_FACTOR = False
        client = everyone(scene)[-1]
        text = content_of(client.get(reverse("admin:observations_photo_change", args=[scene.photo.pk])))
        assert "345" not in text
        listing = reverse("admin:observations_detection_changelist")

        def listed(**asked: str) -> set[str]:
            found = content_of(client.get(listing, asked))
            return {number for number in ("#1", "#2") if f">{number}<" in found}

        assert listed() == {"#1"}
        assert listed(strength="weak") == {"#2"}
        assert listed(strength="all") == {"#1", "#2"}
        weak = Detection.objects.weak().get()
        assert "RARE" in content_of(
            client.get(reverse("admin:observations_detection_change", args=[weak.pk]))
        )

    def test_no_reader_costs_more_queries_with_weak_boxes(self, scene):
        with CaptureQueriesContext(connection) as before:
            Client().get(reverse("observations:photo", args=[scene.photo.public_id]))
        for number in range(3, 60):
            DetectionFactory(photo=scene.photo, model_version=scene.version, number=number, label=scene.rare)
        with CaptureQueriesContext(connection) as after:
            Client().get(reverse("observations:photo", args=[scene.photo.public_id]))
        assert len(after) <= len(before)


class TestGeoprivacy:
    def test_a_sensitive_animal_that_is_only_suspected_blurs_no_place(self, scene):
        scene.rare.is_sensitive = True
        scene.rare.save()
        review_public_location([scene.observation.pk])
        scene.observation.refresh_from_db()
        assert not scene.observation.is_obscured

    def test_one_that_is_shown_does(self, scene):
        scene.rare.is_sensitive = True
        scene.rare.save()
        Detection.objects.filter(number=2).update(is_weak=False)
        review_public_location([scene.observation.pk])
        scene.observation.refresh_from_db()
        assert scene.observation.is_obscured

    def test_one_that_an_earlier_version_showed_still_does(self, scene):
        scene.rare.is_sensitive = True
        scene.rare.save()
        older = ModelVersionFactory(registered_model=scene.survey.registered_model, stage="archived")
        # The earlier version's second box was shown, whatever the photo counts now.
        DetectionFactory(photo=scene.photo, model_version=older, number=2, label=scene.rare, is_weak=False)
        review_public_location([scene.observation.pk])
        scene.observation.refresh_from_db()
        assert scene.observation.is_obscured


def test_the_gallery_s_label_index_holds_no_weak_boxes():
    with connection.cursor() as cursor:
        cursor.execute("SELECT indexdef FROM pg_indexes WHERE indexname = 'detection_label_shown'")
        (definition,) = cursor.fetchone()
    assert "WHERE (NOT is_weak)" in definition


def test_the_one_place_that_reads_boxes_without_asking_for_strength_is_deletion():
    """Every other query of boxes behind the public pages says which it means: shown, current, weak or with_weak."""
    apps = Path(detection_results.__file__).resolve().parents[1]
    plain = {
        path.relative_to(apps).as_posix()
        for path in apps.rglob("*.py")
        if re.search(r"Detection\.objects\.(filter|all|order_by|exclude|count)\b", path.read_text())
        and not re.search(
            r"Detection\.objects\.filter\([^()]*(\([^()]*\)[^()]*|\[[^\]]*\][^()]*)*\)\s*\.(current|shown|weak|with_weak)\(",
            path.read_text(),
        )
        and "migrations" not in path.parts
    }
    assert plain <= {"services/deletion.py", "services/detection_results.py"}


def test_identifying_answers_as_the_stored_photo_would():
    """The same detection, of which only the shown boxes are told."""
    photo = PhotoFactory()
    survey, version = photo.survey, ModelVersionFactory(registered_model=photo.survey.registered_model)
    result = found((10, 10, 0.1), (200, 10, 0.9), (10, 300, 0.3))
    told = identify._as_listed(result, survey, version)["detections"]
    detect(photo, result)
    stored = Detection.objects.current().filter(photo=photo)
    assert [(box["number"], box["confidence"]) for box in told] == [(box.number, box.score) for box in stored]
    assert [box["number"] for box in told] == [1, 2]


class TestNumbersStay:
    """What people said of "#3" stays said of the same animal, whatever thresholds a survey gets later."""

    def test_a_lower_threshold_moves_no_number(self):
        photo = detect(PhotoFactory(), found((10, 10, 0.2), (50, 10, 0.9), (90, 10, 0.8)))
        assert rows_of(photo) == [(1, 0.9, False), (2, 0.8, False), (3, 0.2, True)]
        rows = dict(Detection.objects.values_list("number", "pk"))
        comment = add_comment(
            observation=photo.observation, photo=photo, box_number=1, author=UserFactory(), body="a mite"
        )
        photo.survey.confidence_threshold = 0.15
        photo.survey.save()
        detect(photo, found((10, 10, 0.2), (50, 10, 0.9), (90, 10, 0.8), (130, 10, 0.16), (5, 300, 0.07)))
        assert rows_of(photo) == [
            (1, 0.9, False), (2, 0.8, False), (3, 0.2, False), (4, 0.16, False), (5, 0.07, True),
        ]  # fmt: skip
        assert photo.detection_count == 4
        assert {
            number: pk for number, pk in Detection.objects.values_list("number", "pk") if number < 4
        } == rows
        comment.refresh_from_db()
        assert (comment.detection_id, round(comment.detection.score, 1)) == (rows[1], 0.9)

    def test_a_higher_one_moves_none_either_and_the_page_says_what_became_of_a_remark(self, client):
        photo = detect(PhotoFactory(), found((10, 10, 0.3), (50, 10, 0.9)))
        add_comment(
            observation=photo.observation, photo=photo, box_number=1, author=UserFactory(), body="a mite"
        )
        photo.survey.confidence_threshold = 0.5
        photo.survey.save()
        detect(photo, found((10, 10, 0.3), (50, 10, 0.9)))
        assert rows_of(photo) == [(1, 0.3, True), (2, 0.9, False)]
        assert photo.detection_count == 1
        assert [box.number for box in named_boxes(photo)] == [2]
        assert "number of an earlier model version" in content_of(
            client.get(reverse("observations:photo", args=[photo.public_id]))
        )

    def test_a_box_that_is_gone_leaves_its_number_empty_for_this_time(self):
        photo = detect(PhotoFactory(), found((10, 10, 0.9), (50, 10, 0.8), (90, 10, 0.7)))
        detect(photo, found((10, 10, 0.9), (90, 10, 0.7), (200, 200, 0.6)))
        assert rows_of(photo) == [(1, 0.9, False), (3, 0.7, False), (4, 0.6, False)]

    def test_two_names_for_one_place_are_not_mixed_up(self):
        survey = SurveyFactory()
        version = ModelVersionFactory(registered_model=survey.registered_model, labels=["A", "B"])
        photo = PhotoFactory(observation__survey=survey)
        boxes = np.array([[10, 10, 60, 60], [10, 10, 60, 60]], np.float32)
        for order in ([0, 1], [1, 0]):
            scores = np.array([[0.9, 0.1], [0.1, 0.8]], np.float32)[order]
            result = DetectedBoxes(boxes, scores.max(1), scores.argmax(1), scores, 640, 640, 1.0)
            Photo.objects.filter(pk=photo.pk).requeue()
            (claimed,) = Photo.objects.filter(pk=photo.pk).claim(limit=1)
            save_outcomes(
                token=claimed.lease_token, survey=survey, version=version, outcomes={photo.pk: result}
            )
            labels = dict(Detection.objects.values_list("number", "label__code"))
            assert labels in ({1: "A", 2: "B"}, {1: "B", 2: "A"})
            first = labels if order == [0, 1] else first  # noqa: F821
        assert labels == first

    def test_thousands_of_boxes_are_compared_in_no_time(self):
        dice = np.random.default_rng(3)
        low = dice.uniform(0, 10_000, (4_000, 2))
        boxes = np.concatenate([low, low + dice.uniform(20, 120, (4_000, 2))], axis=1)
        labels, numbers = np.zeros(4_000, np.int64), np.arange(1, 4_001)
        order = dice.permutation(4_000)
        began = time.perf_counter()
        kept = kept_numbers(boxes[order] + 0.2, labels, boxes, labels, numbers)
        assert time.perf_counter() - began < 5
        assert kept == numbers[order].tolist()

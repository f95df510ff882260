"""What earlier versions said of a photo, and which photos a new version looks at again."""

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import translation

from apps.common.leased import LeasedWork, WorkStatus
from apps.observations.models import Label, Photo
from apps.observations.services.detection import request_detection, request_later_look
from apps.observations.services.redetection import redetect_recent
from apps.observations.tasks import redetect
from apps.observations.version_history import SAME_ANIMAL_IOU, same_animals, version_history
from apps.training.models import ModelVersion
from apps.training.services import promote
from tests.annotation.factories import AnnotationFactory, AssignmentFactory, TaskFactory
from tests.api.conftest import Caller
from tests.factories import DetectionFactory, LabelFactory, ModelVersionFactory, PhotoFactory, UserFactory

pytestmark = pytest.mark.django_db
STAGES = ModelVersion.Stage


@pytest.fixture
def old() -> ModelVersion:
    return ModelVersionFactory(number=3, stage=STAGES.ARCHIVED)


@pytest.fixture
def new(old: ModelVersion) -> ModelVersion:
    return ModelVersionFactory(number=4, registered_model=old.registered_model)


@pytest.fixture
def photo(new: ModelVersion) -> Photo:
    return PhotoFactory(
        observation__survey__registered_model=new.registered_model,
        model_version=new,
        status=WorkStatus.DONE,
        detection_count=2,
    )


def found(photo: Photo, version: ModelVersion, label: Label, number: int, x: float, **fields: Any) -> None:
    fields = {"is_weak": False} | fields
    DetectionFactory(
        photo=photo, model_version=version, label=label, number=number, x_min=x, x_max=x + 50, **fields
    )


def page(client: Client, photo: Photo) -> str:
    return " ".join(
        client.get(reverse("observations:photo", args=[photo.public_id])).content.decode().split()
    )


def of_survey(photo: Photo, **fields: Any) -> Photo:
    fields = {"status": WorkStatus.DONE, "model_version": photo.model_version, "detection_count": 0} | fields
    return PhotoFactory(observation__survey=photo.survey, **fields)


# --- Which boxes are the same animal ------------------------------------------------------------------------


def test_boxes_that_overlap_by_half_are_the_same_animal() -> None:
    now, before = [(0.0, 0.0, 10.0, 10.0)], [(0.0, 0.0, 10.0, 20.0)]
    assert same_animals(now, before) == {0: 0}
    assert same_animals(now, [(0.0, 0.0, 10.0, 20.1)]) == {}
    assert SAME_ANIMAL_IOU == 0.5


def test_of_several_candidates_the_best_one_is_taken_and_each_once() -> None:
    now = [(0.0, 0.0, 10.0, 10.0), (1.0, 0.0, 11.0, 10.0)]
    assert same_animals(now, [(1.0, 0.0, 11.0, 10.0)]) == {1: 0}
    assert same_animals(now, [(1.0, 0.0, 11.0, 10.0), (0.0, 0.0, 10.0, 10.0)]) == {0: 1, 1: 0}


def test_no_boxes_are_no_animals_and_many_take_no_huge_array() -> None:
    assert same_animals([], [(0.0, 0.0, 1.0, 1.0)]) == same_animals([(0.0, 0.0, 1.0, 1.0)], []) == {}
    row = [(20.0 * n, 0.0, 20.0 * n + 10, 10.0) for n in range(1_000)]
    assert same_animals(row, row[::-1]) == {n: 999 - n for n in range(1_000)}


# --- The photo's page ---------------------------------------------------------------------------------------


def test_the_page_tells_what_the_version_before_said_of_each_animal(
    client: Client, photo: Photo, old: ModelVersion, new: ModelVersion
) -> None:
    a, b = (
        LabelFactory(survey=photo.survey, scientific_name=name)
        for name in ("Folsomia candida", "Isotoma viridis")
    )
    found(photo, old, a, 1, 10, score=0.71)
    found(photo, old, b, 2, 200)
    found(photo, old, b, 3, 400)
    found(photo, new, b, 1, 12, score=0.88)
    found(photo, new, b, 2, 200)
    text = page(client, photo)
    assert "What an earlier version said" in text
    assert (
        'version 3 said <em class="taxon">Folsomia candida</em> (71 %), '
        'version 4 says <strong><em class="taxon">Isotoma viridis</em></strong> (88 %).'
    ) in text
    assert "Of 1 animal all versions say the same." in text
    assert "1 animal that version 3 saw is no longer found:" in text


def test_an_animal_that_is_new_is_told_so_and_weak_boxes_are_nobodys_business(
    photo: Photo, old: ModelVersion, new: ModelVersion
) -> None:
    label = LabelFactory(survey=photo.survey)
    found(photo, old, label, 1, 10)
    found(photo, old, label, 2, 200, is_weak=True)
    found(photo, new, label, 1, 10)
    found(photo, new, label, 2, 200)
    history = version_history(photo)
    assert history is not None
    assert [(animal.number, animal.before[0].label) for animal in history.changed] == [(2, None)]
    assert history.same == 1
    assert history.gone == []


def test_after_a_roll_back_the_newer_version_is_the_one_that_said(
    photo: Photo, old: ModelVersion, new: ModelVersion
) -> None:
    label = LabelFactory(survey=photo.survey)
    found(photo, old, label, 1, 10)
    found(photo, new, label, 1, 300)
    photo.model_version = old
    history = version_history(photo)
    assert history is not None
    assert (history.shown, history.earlier) == (old, [new])


def test_versions_of_another_model_are_told_by_its_name(
    client: Client, photo: Photo, new: ModelVersion
) -> None:
    label = LabelFactory(survey=photo.survey)
    other = ModelVersionFactory(registered_model__name="mites", number=9)
    found(photo, other, label, 1, 10)
    found(photo, new, label, 1, 300)
    assert "mites v9" in page(client, photo)


def test_one_version_has_no_history(client: Client, photo: Photo, new: ModelVersion) -> None:
    found(photo, new, LabelFactory(survey=photo.survey), 1, 10)
    assert version_history(photo) is None
    assert "earlier version" not in page(client, photo)
    assert version_history(PhotoFactory()) is None


def test_the_number_of_queries_does_not_grow_with_versions_and_boxes(
    photo: Photo, new: ModelVersion, django_assert_num_queries: Any
) -> None:
    label = LabelFactory(survey=photo.survey)
    for number in range(10, 18):
        version = ModelVersionFactory(
            number=number, registered_model=new.registered_model, stage=STAGES.ARCHIVED
        )
        for box in range(1, 21):
            found(photo, version, label, box, 60.0 * box)
    found(photo, new, label, 1, 10)
    with django_assert_num_queries(4):
        history = version_history(photo)
    assert history is not None
    assert len(history.earlier) == 5


def test_the_history_is_written_in_the_readers_language(
    photo: Photo, old: ModelVersion, new: ModelVersion
) -> None:
    label = LabelFactory(
        survey=photo.survey, scientific_name="", vernacular_fr="puce de neige", vernacular_en="flea"
    )
    found(photo, old, label, 1, 10)
    found(photo, new, label, 1, 300)
    history = version_history(photo)
    assert history is not None
    with translation.override("fr"):
        assert history.gone[0].labels[0][0].name == "puce de neige"


# --- Looked at again ----------------------------------------------------------------------------------------


def test_recent_photos_are_looked_at_again_by_the_new_version_at_low_priority(
    photo: Photo, old: ModelVersion
) -> None:
    stale = of_survey(photo, model_version=old)
    assert redetect_recent() == 1
    stale.refresh_from_db()
    assert (stale.status, stale.priority) == (WorkStatus.PENDING, LeasedWork.Priority.LOW)
    assert stale.model_version == old  # shown until the new result is there
    photo.refresh_from_db()
    assert photo.status == WorkStatus.DONE
    assert redetect_recent() == 0  # it waits already


def test_somebody_who_waits_for_a_photo_is_not_put_behind_by_a_promotion(
    photo: Photo, old: ModelVersion
) -> None:
    """Asked for as recent and then, a moment before its turn, by a person."""
    urgent = of_survey(photo, model_version=old, status=WorkStatus.PENDING)
    Photo.objects.filter(pk=urgent.pk).update(priority=LeasedWork.Priority.INTERACTIVE)
    seen = of_survey(photo)
    stale = of_survey(photo, model_version=old)
    assert request_later_look([urgent.pk, seen.pk, stale.pk], version_id=photo.model_version_id) == 1
    urgent.refresh_from_db()
    assert urgent.priority == LeasedWork.Priority.INTERACTIVE
    assert Photo.objects.get(status=WorkStatus.PENDING, priority=LeasedWork.Priority.LOW) == stale


@pytest.mark.parametrize("status", [WorkStatus.PENDING, WorkStatus.FAILED])
def test_a_later_look_that_waits_or_failed_is_no_failure_of_the_photo(
    client: Client, photo: Photo, old: ModelVersion, status: str
) -> None:
    stale = of_survey(
        photo,
        model_version=old,
        detection_count=1,
        best_score=0.9,
        status=status,
        failure_reason="worker_lost",
    )
    found(stale, old, LabelFactory(survey=photo.survey, scientific_name="Folsomia candida"), 1, 10)
    text = page(client, stale)
    assert "1 animal</h1>" in text
    assert "delete it" not in text
    assert ("The earlier result stands" in text) == (status == WorkStatus.FAILED)
    for address in (
        reverse("observations:observation", args=[stale.observation.public_id]),
        reverse("observations:gallery"),
    ):
        assert "badge--failed" not in client.get(address).content.decode()


def test_photos_that_experts_decided_on_or_have_open_are_left_alone(photo: Photo, old: ModelVersion) -> None:
    decided = TaskFactory(photo=of_survey(photo, model_version=old))
    AnnotationFactory(task=decided)
    decided.state, decided.accepted_at = "done", "2026-11-01T00:00Z"
    decided.save()
    disagreed = TaskFactory(photo=of_survey(photo, model_version=old))
    disagreed.state = "conflict"
    disagreed.save()
    AssignmentFactory(task=TaskFactory(photo=of_survey(photo, model_version=old)))
    aside = TaskFactory(photo=of_survey(photo, model_version=old))
    aside.state = "set_aside"
    aside.save()
    assert redetect_recent() == 1
    assert Photo.objects.get(status=WorkStatus.PENDING) == aside.photo


def test_failed_and_undetected_photos_are_not_asked_for(photo: Photo, old: ModelVersion) -> None:
    of_survey(photo, model_version=old, status=WorkStatus.FAILED)
    of_survey(photo, model_version=None)
    PhotoFactory(status=WorkStatus.DONE, model_version=old)  # its survey's model has no version in production
    assert redetect_recent() == 0


def test_only_so_many_of_the_newest_are_asked_for(photo: Photo, old: ModelVersion, settings: Any) -> None:
    photos = [of_survey(photo, model_version=old) for _ in range(4)]
    settings.REDETECT_RECENT_PHOTOS = 2
    assert redetect_recent() == 2
    waiting = Photo.objects.filter(status=WorkStatus.PENDING).order_by("pk")
    assert list(waiting) == photos[2:]
    settings.REDETECT_RECENT_PHOTOS = 0
    assert redetect_recent() == 0


def test_the_wake_up_may_run_twice(photo: Photo, old: ModelVersion) -> None:
    of_survey(photo, model_version=old)
    redetect()
    redetect()
    assert Photo.objects.filter(status=WorkStatus.PENDING).count() == 1


def test_a_roll_back_sends_photos_back_to_the_older_version(
    photo: Photo, old: ModelVersion, django_capture_on_commit_callbacks: Any
) -> None:
    label = LabelFactory(survey=photo.survey)
    found(photo, old, label, 1, 10)
    with django_capture_on_commit_callbacks(execute=True):
        promote(version=old)
    assert redetect_recent() == 1
    photo.refresh_from_db()
    assert photo.status == WorkStatus.PENDING


def test_after_a_roll_back_photos_do_not_wait_for_what_they_show_already(
    photo: Photo, old: ModelVersion
) -> None:
    not_yet, by_hand = (of_survey(photo, model_version=old) for _ in range(2))
    assert redetect_recent() == 2
    request_detection(Photo.objects.filter(pk=by_hand.pk))
    promote(version=old)
    for _twice in range(2):
        redetect()
    not_yet.refresh_from_db()
    assert (not_yet.status, not_yet.model_version) == (WorkStatus.DONE, old)
    waiting = Photo.objects.filter(status=WorkStatus.PENDING).order_by("pk")
    assert list(waiting) == [photo, by_hand], (
        "what the version that is gone has seen, and what a person asked for"
    )


def test_while_it_is_looked_at_again_pages_and_downloads_keep_the_earlier_result(
    client: Client, photo: Photo, old: ModelVersion
) -> None:
    stale = of_survey(photo, model_version=old, detection_count=1, best_score=0.9)
    found(stale, old, LabelFactory(survey=photo.survey, scientific_name="Folsomia candida"), 1, 10)
    assert redetect_recent() == 1
    assert str(stale.public_id) in client.get(reverse("observations:gallery")).content.decode()
    assert "Folsomia candida" in page(client, stale)
    body = client.get(reverse("observations:photo_json", args=[stale.public_id])).content.decode()
    assert str(old) in body
    assert "Folsomia candida" in body
    address = f"/api/v1/observations/{stale.observation.public_id}/"
    [told] = Caller(UserFactory()).get(address).json()["photos"]
    assert told["status"] == "pending"
    assert len(told["detections"]) == 1

"""A remark on a box raises its photo in the queue; on an answered photo it stands among the discussed ones."""

from typing import Any

import pytest

from apps.annotation.models import AnnotationTask
from apps.annotation.review_lists import discussed_page
from apps.annotation.services.queue import enqueue_photos
from apps.annotation.tasks import queue as queue_tasks
from apps.observations.models import Photo
from apps.observations.services.comments import add_comment
from tests.annotation.factories import PolicyFactory
from tests.annotation.test_bulk import answered
from tests.factories import (
    DetectionFactory,
    LabelFactory,
    ModelVersionFactory,
    PhotoFactory,
    SurveyFactory,
    UserFactory,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def photos() -> list[Photo]:
    """Two photos of two boxes each, alike to the queue."""
    survey = SurveyFactory.create()
    PolicyFactory.create(survey=survey, comment_weight=2.0)
    version = ModelVersionFactory.create(registered_model=survey.registered_model, labels=["a", "b"])
    label = LabelFactory.create(survey=survey)
    found = []
    for _photo in range(2):
        photo = PhotoFactory.create(
            observation__survey=survey, status="done", model_version=version, detection_count=2
        )
        for number in (1, 2):
            DetectionFactory.create(
                photo=photo, model_version=version, label=label, number=number, class_scores=[0.6, 0.4]
            )
        found.append(photo)
    enqueue_photos([photo.pk for photo in found])
    return found


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a worker would do, done here."""
    monkeypatch.setattr(
        queue_tasks.enqueue_detected, "apply_async", lambda kwargs, **_options: enqueue_photos(**kwargs)
    )


def comment(photo: Photo, number: int | None, capture: Any, body: str = "Is this a mite?") -> None:
    with capture(execute=True):
        add_comment(
            observation=photo.observation,
            author=UserFactory.create(),
            body=body,
            photo=photo,
            box_number=number,
        )


def order(photos: list[Photo]) -> list[int]:
    tasks = AnnotationTask.objects.filter(photo__in=photos).by_uncertainty()  # type: ignore[attr-defined]
    return list(tasks.values_list("photo", flat=True))


def test_each_box_that_people_write_about_raises_its_photo_once(
    photos: list[Photo], django_capture_on_commit_callbacks: Any
) -> None:
    first, second = order(photos)
    last = Photo.objects.get(pk=second)
    before = AnnotationTask.objects.get(photo=last).score
    for number, boxes in ((1, 1), (1, 1), (2, 2)):
        comment(last, number, django_capture_on_commit_callbacks)
        task = AnnotationTask.objects.get(photo=last)
        assert task.commented_boxes == boxes
        assert task.score == pytest.approx(before + 2.0 * boxes)
    assert order(photos) == [second, first]


def test_a_remark_on_the_photo_as_a_whole_raises_nothing(
    photos: list[Photo], django_capture_on_commit_callbacks: Any
) -> None:
    comment(photos[0], None, django_capture_on_commit_callbacks)
    assert not AnnotationTask.objects.filter(commented_boxes__gt=0).exists()


def test_on_an_answered_photo_it_stands_among_the_discussed_ones(
    django_capture_on_commit_callbacks: Any,
) -> None:
    label = LabelFactory.create()
    answer = answered(label.survey, label)
    comment(answer.task.photo, 1, django_capture_on_commit_callbacks)
    page = discussed_page(label.survey, before=None)
    assert [(row.task, row.is_new) for row in page.discussions] == [(answer.task, True)]
    answer.task.refresh_from_db()
    assert answer.task.state == AnnotationTask.State.DONE

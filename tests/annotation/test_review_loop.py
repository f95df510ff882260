"""From an expert's answer to the grid, back to the queue, and to the contributor: the parts together."""

import uuid
from typing import Any

import pytest

from apps.accounts.models import User
from apps.annotation.models import AnnotationTask, Crop
from apps.annotation.review_grid import read_grid
from apps.annotation.services.answers import Answer, submit_answer
from apps.annotation.services.bulk import relabel_boxes, send_back, undo
from apps.annotation.services.leases import LeaseLostError
from apps.annotation.services.news import record_news
from apps.annotation.services.queue import enqueue_photos, next_task
from apps.observations.models import Label, Photo
from tests.annotation.factories import ExpertFactory, PolicyFactory
from tests.factories import DetectionFactory, LabelFactory, ModelVersionFactory, PhotoFactory, SurveyFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def label() -> Label:
    return LabelFactory.create(survey=SurveyFactory.create(minimum_photos=1), code="A")


def photo_of(label: Label, *, experts: int = 1) -> Photo:
    """A detected photo with two boxes, queued."""
    PolicyFactory.create(survey=label.survey, experts_per_photo=experts, control_fraction=0)
    version = ModelVersionFactory.create(registered_model=label.survey.registered_model, labels=["A"])
    photo = PhotoFactory.create(
        observation__survey=label.survey, status="done", model_version=version, detection_count=2
    )
    for number in (1, 2):
        DetectionFactory.create(
            photo=photo, model_version=version, label=label, number=number, x_min=5.0 * number, score=0.6
        )
    enqueue_photos([photo.pk])
    return photo


def boxes_of(photo: Photo, *, code: str = "A") -> list[dict[str, Any]]:
    return [
        {
            "x_min": box.x_min,
            "y_min": box.y_min,
            "x_max": box.x_max,
            "y_max": box.y_max,
            "label": code,
            "proposal": box.number,
        }
        for box in photo.detections.order_by("number")  # type: ignore[attr-defined]
    ]


def answer(photo: Photo, expert: User, *, code: str = "A") -> AnnotationTask:
    given = next_task(expert, photo.survey)
    assert given is not None
    submit_answer(
        task=given.task,
        expert=expert,
        answer=Answer(
            boxes=boxes_of(photo, code=code),
            is_empty=False,
            key=uuid.uuid4(),
            model_version=str(photo.model_version),
        ),
    )
    return AnnotationTask.objects.select_related("accepted").get(photo=photo)


def test_an_answer_comes_into_the_grid_and_to_its_contributor(label: Label) -> None:
    photo = photo_of(label)
    task = answer(photo, ExpertFactory.create())
    assert task.state == AnnotationTask.State.DONE
    tiles = read_grid(label.survey, {}).tiles
    assert [tile.task_id for tile in tiles] == [task.public_id] * 2
    assert record_news() == 1


def test_a_photo_sent_back_is_given_to_the_same_expert_again_and_settles_anew(label: Label) -> None:
    photo, expert = photo_of(label), ExpertFactory.create()
    task = answer(photo, expert)
    assert task.accepted
    assert next_task(expert, label.survey) is None
    send_back(survey=label.survey, by=ExpertFactory.create(), boxes=[(task.accepted.public_id, 1)])
    again = answer(photo, expert)
    assert again.state == AnnotationTask.State.DONE
    assert again.accepted != task.accepted
    assert Crop.objects.filter(box__annotation=again.accepted).count() == 2


def test_a_consensus_sent_back_needs_all_its_experts_again_and_is_whole_after_undoing(label: Label) -> None:
    photo = photo_of(label, experts=2)
    experts = [ExpertFactory.create() for _ in range(2)]
    for expert in experts:
        task = answer(photo, expert)
    assert task.accepted
    assert task.accepted.origin == "consensus"
    before = list(task.annotations.current().order_by("pk"))
    result = send_back(
        survey=label.survey, by=ExpertFactory.create(is_staff=True), boxes=[(task.accepted.public_id, 0)]
    )
    assert not task.annotations.current().exists()
    assert result.batch
    undo(batch=result.batch, by=ExpertFactory.create(is_staff=True))
    task.refresh_from_db()
    assert (task.state, task.answers) == (AnnotationTask.State.DONE, 2)
    assert list(task.annotations.current().order_by("pk")) == before


def test_what_a_review_decided_is_not_undone_by_a_late_correction(label: Label) -> None:
    LabelFactory.create(survey=label.survey, code="B")
    photo, expert = photo_of(label), ExpertFactory.create()
    task = answer(photo, expert)
    assert task.accepted
    relabel_boxes(
        survey=label.survey, by=ExpertFactory.create(), boxes=[(task.accepted.public_id, 1)], code="B"
    )
    with pytest.raises(LeaseLostError):
        submit_answer(
            task=task,
            expert=expert,
            answer=Answer(
                boxes=boxes_of(photo),
                is_empty=False,
                key=uuid.uuid4(),
                model_version=str(photo.model_version),
            ),
        )
    task.refresh_from_db()
    assert task.accepted
    assert task.accepted.origin == "bulk"

"""What tests of several experts share: photos that need several answers, and answers as services take them."""

import uuid
from typing import Any

from apps.accounts.models import User
from apps.annotation.models import Annotation, AnnotationTask
from apps.annotation.services.answers import Answer, submit_answer
from apps.annotation.services.policies import policy_of
from apps.observations.models import Survey
from tests.annotation.drawing import drawing_survey, drawn, queued
from tests.annotation.factories import ExpertFactory


def survey_of_several(experts: int = 2, **fields: Any) -> Survey:
    survey = drawing_survey(**fields)
    policy = policy_of(survey)
    policy.experts_per_photo = experts
    policy.save()
    return survey


def task_for(survey: Survey, **fields: Any) -> AnnotationTask:
    return queued(survey, answers_needed=policy_of(survey).experts_per_photo, **fields)


def at(x: float, label: str = "CER", **changes: Any) -> dict[str, Any]:
    """A drawn box of 20 x 20 pixels with its left edge at x."""
    return drawn(x_min=x, x_max=x + 20, y_min=20.0, y_max=40.0, label=label, **changes)


def say(task: AnnotationTask, *boxes: dict[str, Any], by: User | None = None, **changes: Any) -> Annotation:
    """An expert's answer, given as the page gives it."""
    if any(box["proposal"] for box in boxes):
        changes.setdefault("model_version", str(task.photo.model_version))
    answer = Answer(boxes=list(boxes), is_empty=not boxes, key=uuid.uuid4(), **changes)
    return submit_answer(task=task, expert=by or ExpertFactory(), answer=answer).annotation

"""What tests of drawing share: a survey with a queue, its photos, and answers as the drawing page sends them."""

import uuid
from typing import Any

from apps.annotation.models import AnnotationTask
from apps.observations.models import Survey
from tests.annotation.factories import TaskFactory
from tests.factories import DetectionFactory, LabelFactory, ModelVersionFactory, PhotoFactory, SurveyFactory

API = "/api/v1/annotation/"


def drawing_survey(slug: str = "springtails", **fields: Any) -> Survey:
    survey = SurveyFactory(slug=slug, minimum_photos=1, **fields)
    for code in ("CER", "ISO"):
        LabelFactory(survey=survey, code=code)
    LabelFactory(survey=survey, code="OLD", is_active=False)
    ModelVersionFactory(registered_model=survey.registered_model, labels=["CER", "ISO"])
    return survey


def queued(survey: Survey, *, boxes: int = 2, weak: int = 1, **fields: Any) -> AnnotationTask:
    """A detected photo of 640 x 640 pixels with boxes 8 wide, number n beginning at x = 10 n."""
    version = survey.registered_model.production_version
    photo = PhotoFactory(
        observation__survey=survey,
        status="done",
        model_version=version,
        detection_count=boxes,
        detection_ms=5,
    )
    label = survey.labels.get(code="CER")
    for number in range(1, boxes + weak + 1):
        DetectionFactory(
            photo=photo,
            model_version=version,
            number=number,
            label=label,
            score=0.7,
            class_scores=[0.7, 0.2],
            x_min=10.0 * number,
            x_max=10.0 * number + 8,
        )
    return TaskFactory(photo=photo, **fields)


def box(number: int = 1, **changes: Any) -> dict[str, Any]:
    """As the drawing page sends the model's box back, untouched."""
    x = 10.0 * number
    body = {"x_min": x, "y_min": 20.0, "x_max": x + 8, "y_max": 70.0, "label": "CER", "proposal": number}
    return {**body, "note": "", "is_uncertain": False, "proposed_label": "", **changes}


def drawn(**changes: Any) -> dict[str, Any]:
    """A box that was drawn by hand."""
    return box(**{"proposal": None, **changes})


def answer(boxes: Any, **changes: Any) -> dict[str, Any]:
    is_empty = not boxes
    body = {"key": str(uuid.uuid4()), "boxes": boxes, "is_empty": is_empty, "seconds": 12.5, "next": False}
    return {**body, **changes}


def draft(boxes: Any, **changes: Any) -> dict[str, Any]:
    client = "0b1c8a2e-7a4e-4a53-9d0b-5d3f4f6f2c11"
    body = {"base_version": 0, "boxes": boxes, "is_empty": False, "seconds": 3.0, "client": client}
    return {**body, **changes}


def path(task: AnnotationTask, action: str = "") -> str:
    return f"{API}tasks/{task.public_id}/{action}{'/' if action else ''}"

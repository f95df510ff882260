"""What the experts' loop does when the apps to its left have news. Connected in `apps.py`."""

from collections.abc import Sequence
from typing import Any

from django.db.models import Exists, OuterRef, Q
from django.urls import reverse
from django.utils.translation import gettext as _

from apps.annotation.models import AnnotationTask, Assignment
from apps.annotation.signals import annotation_accepted
from apps.common.tasks import send, send_once
from apps.observations.hooks import (
    box_marks,
    mine_notes,
    personal_data,
    photo_panels,
    settled_photos,
    survey_notes,
)
from apps.observations.models import Comment, Survey
from apps.observations.signals import comment_added, photos_detected
from apps.training.hooks import training_pages
from apps.training.models import ModelVersion, RegisteredModel
from apps.training.signals import model_promoted, run_ended


def connect() -> None:
    """Connect all receivers and register the panels shown on other apps' pages."""
    photos_detected.connect(queue_detected, dispatch_uid="annotation.queue_detected")
    model_promoted.connect(rank_anew, dispatch_uid="annotation.rank_anew")
    comment_added.connect(score_commented, dispatch_uid="annotation.score_commented")
    run_ended.connect(see_what_is_due, dispatch_uid="annotation.see_what_is_due")
    annotation_accepted.connect(tell_of_answer, dispatch_uid="annotation.tell_of_answer")
    from apps.annotation.personal_data import experts_data
    from apps.annotation.views.news import lesson_panel, mine_note, photo_marks, photo_panel

    photo_panels.register(photo_panel)
    photo_panels.register(lesson_panel)
    box_marks.register(photo_marks)
    mine_notes.register(mine_note)
    personal_data.register(experts_data)
    settled_photos.register(settled)
    survey_notes.register(next_training)
    training_pages.register(training_pages_of)


def queue_detected(photo_ids: list[int], **_news: Any) -> None:
    """The worker that detects goes on with its next photos meanwhile."""
    from apps.annotation.tasks.queue import enqueue_detected

    send(enqueue_detected, photo_ids=photo_ids)


def score_commented(comment_id: int, **_news: Any) -> None:
    """A remark on a box raises its photo in the queue."""
    from apps.annotation.tasks.queue import enqueue_detected

    photo = Comment.objects.filter(pk=comment_id, box_number__isnull=False).values_list("photo", flat=True)
    if photo_ids := list(photo):
        send(enqueue_detected, photo_ids=photo_ids)


def next_training(survey: Survey) -> tuple[str, str, str]:
    """For the survey's page in the console."""
    from apps.annotation.services.readiness import ready_to_train

    return (
        _("Next training"),
        ready_to_train(survey).sentence,
        reverse("annotation:model", args=[survey.slug]),
    )


def training_pages_of(registered_model: RegisteredModel) -> list[tuple[str, str]]:
    """For the model's page: where its next training is told of, and started."""
    surveys = Survey.objects.filter(registered_model=registered_model).order_by("pk")
    return [(survey.name, reverse("annotation:model", args=[survey.slug])) for survey in surveys]


def settled(photo_ids: Sequence[int]) -> list[int]:
    """Photos that a new version leaves alone: experts have answered them, or have them open now.

    Those that wait in the queue are looked at again by its update, which knows who has which open.
    """
    tasks = AnnotationTask.objects.filter(photo__in=photo_ids)
    states = AnnotationTask.State
    left = tasks.exclude(state=states.SET_ASIDE).filter(
        Q(state__in=(states.DONE, states.CONFLICT))
        | Q(answers__gt=0)
        | Exists(Assignment.objects.held().filter(task=OuterRef("pk")))
    )
    return list(left.values_list("photo", flat=True))


def rank_anew(model_version: ModelVersion, **_news: Any) -> None:
    """The whole queue follows the new version, and those whose photos taught it are thanked."""
    from apps.annotation.services.ranking import request_updates_for
    from apps.annotation.tasks.news import note_thanks

    request_updates_for(model_version)
    send_once(note_thanks)


def tell_of_answer(**_news: Any) -> None:
    """Its contributor has news, its boxes come into the grid of crops, and a training may be due."""
    from apps.annotation.tasks.crops import describe_crops
    from apps.annotation.tasks.news import note_news

    send_once(note_news)
    send_once(describe_crops)
    see_what_is_due()


def see_what_is_due(**_news: Any) -> None:
    """Answers that came while a run was under way may be enough for the next one."""
    from apps.annotation.tasks.training import start_trainings

    send_once(start_trainings)

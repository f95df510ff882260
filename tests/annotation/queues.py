"""Surveys whose photos have been detected and queued, as tests of the queue need them."""

from collections.abc import Sequence

from django.db.models.functions import Now

from apps.annotation.models import AnnotationPolicy, AnnotationTask
from apps.annotation.services.queue import enqueue_photos
from apps.common.leased import WorkStatus
from apps.observations.models import Detection, Label, Photo, Survey
from apps.training.models import ModelVersion
from tests.factories import LabelFactory, ModelVersionFactory, PhotoFactory, SurveyFactory


def different_hash(n: int) -> int:
    """Perceptual hashes at least 16 bits apart from one another (for n below 16): rows of a Hadamard matrix."""
    bits = sum(((n & column).bit_count() & 1) << column for column in range(64)) ^ 0x0F0F33335555A5A5
    return bits - (1 << 64) if bits >> 63 else bits


def photo_of(
    survey: Survey, *, scores: Sequence[float] = (0.9,), perceptual_hash: int | None = None, **fields: object
) -> Photo:
    """A photo that was detected: one box of one label for each score."""
    version = ModelVersion.objects.filter(
        registered_model=survey.registered_model, stage=ModelVersion.Stage.PRODUCTION
    ).first() or ModelVersionFactory(registered_model=survey.registered_model, number=1)
    photo: Photo = PhotoFactory(**{"observation__survey": survey} | fields, perceptual_hash=perceptual_hash)
    boxes(photo, version, [[score] for score in scores])
    return photo


def boxes(
    photo: Photo, version: ModelVersion, class_scores: Sequence[Sequence[float]], *, weak: int = 0
) -> None:
    """Let the photo show these boxes; the last `weak` of them are weak ones."""
    label = Label.objects.filter(survey=photo.survey).first() or LabelFactory(survey=photo.survey)
    Detection.objects.filter(photo=photo, model_version=version).delete()
    Detection.objects.bulk_create(
        Detection(
            photo=photo,
            model_version=version,
            number=number,
            label=label,
            score=max(values),
            is_weak=number > len(class_scores) - weak,
            class_scores=list(values),
            x_min=10 * number,
            y_min=10,
            x_max=10 * number + 9,
            y_max=20,
        )
        for number, values in enumerate(class_scores, start=1)
    )
    Photo.objects.filter(pk=photo.pk).update(
        status=WorkStatus.DONE,
        model_version=version,
        detection_count=len(class_scores) - weak,
        finished_at=Now(),
        lease_token=None,
        lease_until=None,
    )
    photo.refresh_from_db()


def queued(confidences: Sequence[float], *, hashes: Sequence[int] | None = None, **policy: object) -> Survey:
    """A survey with an open queue: one photo with one box for each confidence, no control arm unless asked for."""
    survey: Survey = SurveyFactory(minimum_photos=1)
    AnnotationPolicy.objects.create(survey=survey, **{"seed": 7, "control_fraction": 0.0} | policy)
    photos = [
        photo_of(
            survey,
            scores=[confidence],
            perceptual_hash=_signed(hashes[n]) if hashes else different_hash(n) if n < 16 else None,
        )
        for n, confidence in enumerate(confidences)
    ]
    enqueue_photos([photo.pk for photo in photos])
    return survey


def detect_as(survey: Survey, version: ModelVersion, confidences: Sequence[float]) -> None:
    """What an inference worker writes for the oldest photos that wait, or else for the oldest ones."""
    waiting = Photo.objects.filter(survey=survey, status=WorkStatus.PENDING).order_by("pk")
    photos = list(waiting if waiting.exists() else Photo.objects.filter(survey=survey).order_by("pk"))
    for photo, confidence in zip(photos, confidences, strict=False):
        boxes(photo, version, [[confidence]])


def scores(survey: Survey) -> list[float]:
    return list(
        AnnotationTask.objects.filter(survey=survey).order_by("photo_id").values_list("score", flat=True)
    )


def ranks(survey: Survey, column: str) -> list[int | None]:
    return list(
        AnnotationTask.objects.filter(survey=survey).order_by("photo_id").values_list(column, flat=True)
    )


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value

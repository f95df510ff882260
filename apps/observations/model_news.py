"""What the gate and the promotion ask of observations: how new a photo is, and whether surveys know a version's labels."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from django.utils.translation import gettext as _

from apps.observations.models import Label, Photo, Survey
from apps.training.hooks import photo_times, serving_warnings
from apps.training.models import ModelVersion


def connect() -> None:
    photo_times.register(sent_at)
    serving_warnings.register(labels_without_name)


def sent_at(photos: Sequence[str]) -> Mapping[str, datetime]:
    rows = Photo.objects.filter(public_id__in=[UUID(photo) for photo in photos])
    return {str(public_id): at for public_id, at in rows.values_list("public_id", "created_at")}


def labels_without_name(version: ModelVersion) -> Iterable[str]:
    """Labels that a survey does not have are added with the first animal, and then shown to people by their codes only."""
    surveys = list(Survey.objects.filter(registered_model=version.registered_model_id).order_by("pk"))
    known: dict[int, set[str]] = {survey.pk: set() for survey in surveys}
    for pk, code in Label.objects.filter(survey__in=surveys).values_list("survey_id", "code"):
        known[pk].add(code)
    for survey in surveys:
        lacking = [code for code in version.labels if code not in known[survey.pk]]
        if lacking:
            yield _(
                "The survey %(survey)s does not have these labels yet; they would be added without a name: %(labels)s."
            ) % {
                "survey": survey,
                "labels": ", ".join(lacking),
            }

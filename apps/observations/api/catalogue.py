"""Surveys and labels: small lists that every partner app reads first."""

from collections.abc import Iterable
from typing import Any

from rest_framework.request import Request

from apps.observations.api.links import Links
from apps.observations.api.representations import label_bodies, survey_body
from apps.observations.models import Label, Survey
from apps.training.models import ModelVersion


def survey_page(request: Request, *, after: int, limit: int) -> tuple[list[dict[str, Any]], int | None]:
    rows = list(Survey.objects.filter(pk__gt=after).order_by("pk")[: limit + 1])
    shown = rows[:limit]
    versions, links = production_versions(shown), Links(request)
    bodies = [
        survey_body(survey, version=versions.get(survey.registered_model_id), links=links) for survey in shown
    ]
    return bodies, shown[-1].pk if len(rows) > limit else None


def production_versions(surveys: Iterable[Survey]) -> dict[int | None, ModelVersion]:
    """The version in production of each survey's registered model, by that model's key; one query."""
    models = {survey.registered_model_id for survey in surveys}
    versions = ModelVersion.objects.filter(registered_model__in=models, stage=ModelVersion.Stage.PRODUCTION)
    return {version.registered_model_id: version for version in versions.select_related("registered_model")}


def label_page(*, survey: Survey | None, after: int, limit: int) -> tuple[list[dict[str, Any]], int | None]:
    rows = Label.objects.filter(pk__gt=after).select_related("survey", "parent").order_by("pk")
    found = list((rows.filter(survey=survey) if survey else rows)[: limit + 1])
    shown = found[:limit]
    return label_bodies(shown), shown[-1].pk if len(found) > limit else None

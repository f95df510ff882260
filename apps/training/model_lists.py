"""The lists of models, of their versions, and of the decisions on them."""

from dataclasses import dataclass, field
from typing import Any, Final

from django.db.models import Count, Prefetch

from apps.common.leased import WorkStatus
from apps.training.models import (
    OPEN_RUNS,
    Evaluation,
    ModelVersion,
    PromotionEvent,
    RegisteredModel,
    Split,
    TrainingRun,
)

VERSIONS_A_PAGE: Final = 30
EVENTS_A_PAGE: Final = 20
RUNS_SHOWN: Final = 10
_NOT_PUBLIC: Final = (
    PromotionEvent.Kind.FROZEN,
    PromotionEvent.Kind.THAWED,
    PromotionEvent.Kind.RULES_CHANGED,
)


@dataclass(slots=True)
class ModelRow:
    model: RegisteredModel
    serving: ModelVersion | None
    versions: int
    is_training: bool


@dataclass(slots=True)
class VersionRow:
    version: ModelVersion
    metrics: dict[str, Any] = field(default_factory=dict)
    is_measured: bool = False


def model_rows() -> list[ModelRow]:
    serving = ModelVersion.objects.filter(stage=ModelVersion.Stage.PRODUCTION)
    models = RegisteredModel.objects.annotate(count=Count("versions")).prefetch_related(
        Prefetch("versions", serving, to_attr="serving")
    )
    training = set(
        TrainingRun.objects.filter(status__in=OPEN_RUNS).values_list("registered_model", flat=True)
    )
    return [
        ModelRow(model, model.serving[0] if model.serving else None, model.count, model.pk in training)
        for model in models
    ]


def version_rows(model: RegisteredModel, *, before: int | None = None) -> tuple[list[VersionRow], int | None]:
    """The newest first, with what was measured on test photos last; and the number to go on before."""
    versions = ModelVersion.objects.filter(registered_model=model).select_related("parent__registered_model")
    if before is not None:
        versions = versions.filter(number__lt=before)
    found = list(versions.order_by("-number")[: VERSIONS_A_PAGE + 1])
    shown = found[:VERSIONS_A_PAGE]
    measured = {
        evaluation.version_id: evaluation
        for evaluation in Evaluation.objects.filter(
            version__in=shown, status=WorkStatus.DONE, split=Split.TEST
        ).order_by("pk")
    }
    rows = []
    for version in shown:
        version.registered_model = model
        evaluation = measured.get(version.pk)
        rows.append(VersionRow(version, evaluation.metrics if evaluation else {}, evaluation is not None))
    return rows, shown[-1].number if len(found) > VERSIONS_A_PAGE else None


def decisions(
    model: RegisteredModel, *, is_insider: bool, before: int | None = None
) -> tuple[list[PromotionEvent], int | None]:
    """What was decided on which version serves; to the public without what is the curators' own business."""
    events = PromotionEvent.objects.filter(registered_model=model).select_related(
        "from_version__registered_model", "to_version__registered_model", "comparison"
    )
    if not is_insider:
        events = events.exclude(kind__in=_NOT_PUBLIC)
    if before is not None:
        events = events.filter(pk__lt=before)
    found = list(events.order_by("-pk")[: EVENTS_A_PAGE + 1])
    shown = found[:EVENTS_A_PAGE]
    return shown, shown[-1].pk if len(found) > EVENTS_A_PAGE else None

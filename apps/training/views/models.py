"""Models, their versions and model cards: for everybody."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from apps.common.leased import WorkStatus
from apps.training.card_markdown import markdown_of
from apps.training.cards import read_card
from apps.training.hooks import training_pages
from apps.training.model_lists import RUNS_SHOWN, decisions, model_rows, version_rows
from apps.training.models import Comparison, Evaluation, ModelVersion, RegisteredModel, TrainingRun
from apps.training.views.access import sees_photos

_DIGITS = 9
_EVALUATIONS_SHOWN = 20


@never_cache
@require_safe
def model_list(request: HttpRequest) -> HttpResponse:
    return render(request, "training/models.html", {"rows": model_rows()})


@never_cache
@require_safe
def versions(request: HttpRequest, name: str) -> HttpResponse:
    """A model: its versions, what was decided on them; for experts and staff also its runs."""
    model = get_object_or_404(RegisteredModel, name=name)
    is_insider = sees_photos(request.user)
    rows, older = version_rows(model, before=_number(request, "before"))
    events, earlier = decisions(model, is_insider=is_insider, before=_number(request, "events"))
    runs = TrainingRun.objects.filter(registered_model=model).select_related(
        "dataset", "version__registered_model"
    )
    context = {
        "model": model,
        "surveys": [page for pages in training_pages.sound_answers(model) for page in pages],
        "rows": rows,
        "older": older,
        "events": events,
        "earlier": earlier,
        "is_insider": is_insider,
        "runs": runs.order_by("-pk")[:RUNS_SHOWN] if is_insider else (),
        "comparisons": _comparisons(model) if is_insider else (),
    }
    return render(request, "training/versions.html", context)


@never_cache
@require_safe
def card(request: HttpRequest, name: str, number: int) -> HttpResponse:
    version = _version(name, number)
    is_insider = sees_photos(request.user)
    evaluations = Evaluation.objects.filter(version=version).select_related("dataset").order_by("-pk")
    context = {
        "card": read_card(version),
        "version": version,
        "model": version.registered_model,
        "is_insider": is_insider,
        "evaluations": evaluations[:_EVALUATIONS_SHOWN] if is_insider else (),
    }
    return render(request, "training/card.html", context)


@never_cache
@require_safe
def card_markdown(_request: HttpRequest, name: str, number: int) -> HttpResponse:
    version = _version(name, number)
    response = HttpResponse(markdown_of(read_card(version)), content_type="text/markdown; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{name}-v{number}.md"'
    return response


def _version(name: str, number: int) -> ModelVersion:
    versions = ModelVersion.objects.select_related("registered_model", "parent")
    return get_object_or_404(versions, registered_model__name=name, number=min(number, 2**31 - 1))


def _comparisons(model: RegisteredModel) -> list[Comparison]:
    done = Comparison.objects.filter(registered_model=model).exclude(status=WorkStatus.FAILED)
    related = ("champion__registered_model", "challenger__registered_model")
    return list(done.select_related(*related).order_by("-pk")[:RUNS_SHOWN])


def _number(request: HttpRequest, name: str) -> int | None:
    text = request.GET.get(name, "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _DIGITS else None

"""An evaluation: its numbers, and every crop behind a cell of the matrix."""

import gzip
import uuid
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from apps.common.leased import WorkStatus
from apps.training.engine.report import Report, ReportDamagedError
from apps.training.evaluation_page import (
    PHOTOS_A_PAGE,
    cell_crops,
    read_evaluation_page,
    scenes_of,
    worst_pictures,
)
from apps.training.evaluation_texts import failure_sentence
from apps.training.hooks import names_of
from apps.training.models import Evaluation
from apps.training.run_page import hardware_rows
from apps.training.services.reports import read_report
from apps.training.views.access import experts_only

_DIGITS = 6


@never_cache
@experts_only
@require_safe
def evaluation(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    row = _evaluation(public_id)
    report = _report(row)
    context = _context(row) | {
        "page": read_evaluation_page(row, report) if report else None,
        "report": report,
        "hardware": hardware_rows(row.hardware),
    }
    return render(request, "training/evaluation.html", context)


@never_cache
@experts_only
@require_safe
def live(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """How far it is; the whole page is fetched anew once it has ended."""
    row = _evaluation(public_id)
    response = render(request, "training/evaluation_state.html", _context(row))
    if row.status in (WorkStatus.DONE, WorkStatus.FAILED):
        response["HX-Refresh"] = "true"
    return response


@never_cache
@experts_only
@require_safe
def cell(request: HttpRequest, public_id: uuid.UUID, row: int, column: int) -> HttpResponse:
    """The crops of one cell of the matrix."""
    evaluation, report = _finished(public_id)
    side = len(report.labels) + 1
    if row >= side or column >= side or row == column == side - 1:
        raise Http404
    crops = cell_crops(evaluation, report, row=row, column=column, start=_start(request))
    context = _context(evaluation) | {"crops": crops}
    return render(request, "training/cell.html", context)


@never_cache
@experts_only
@require_safe
def photos(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """Photos with mistakes, the worst first."""
    evaluation, report = _finished(public_id)
    start = _start(request)
    worst = worst_pictures(report)
    shown = worst[start : start + PHOTOS_A_PAGE]
    context = _context(evaluation) | {
        "scenes": scenes_of(shown, report, names_of(evaluation.version.registered_model)),
        "total": len(worst),
        "first": start + 1,
        "after": start + PHOTOS_A_PAGE if start + PHOTOS_A_PAGE < len(worst) else None,
        "before": max(0, start - PHOTOS_A_PAGE) if start else None,
    }
    return render(request, "training/evaluation_photos.html", context)


@never_cache
@experts_only
@require_safe
def report(_request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """The whole report, for one's own statistics."""
    evaluation, found = _finished(public_id)
    response = HttpResponse(gzip.decompress(found.encoded()), content_type="application/json")
    response["Content-Disposition"] = f'attachment; filename="evaluation-{evaluation.public_id}.json"'
    return response


def _evaluation(public_id: uuid.UUID) -> Evaluation:
    related = ("version__registered_model", "dataset", "comparison_as_champion", "comparison_as_challenger")
    row: Evaluation = get_object_or_404(Evaluation.objects.select_related(*related), public_id=public_id)
    return row


def _finished(public_id: uuid.UUID) -> tuple[Evaluation, Report]:
    row = _evaluation(public_id)
    report = _report(row)
    if report is None:
        raise Http404
    return row, report


def _report(row: Evaluation) -> Report | None:
    if row.status != WorkStatus.DONE:
        return None
    try:
        return read_report(row)
    except ReportDamagedError:
        return None


def _context(row: Evaluation) -> dict[str, Any]:
    comparison = getattr(row, "comparison_as_champion", None) or getattr(
        row, "comparison_as_challenger", None
    )
    return {
        "evaluation": row,
        "model": row.version.registered_model,
        "is_open": row.status in (WorkStatus.PENDING, WorkStatus.PROCESSING),
        "failure": failure_sentence(row),
        "comparison": comparison,
    }


def _start(request: HttpRequest) -> int:
    text = request.GET.get("after", "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _DIGITS else 0

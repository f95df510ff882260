"""Champion and challenger side by side: numbers, the gate's rules, and the photos on which they differ most."""

import uuid
from collections.abc import Mapping
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import NoReverseMatch, reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from apps.common.charts import Axis, Chart, Series
from apps.common.leased import WorkStatus
from apps.common.numbers import number
from apps.training.differences import read_differences
from apps.training.evaluation_page import Tally, tallies_of
from apps.training.evaluation_texts import failure_sentence
from apps.training.hooks import names_of
from apps.training.models import Comparison, Evaluation, ModelVersion
from apps.training.promotion_texts import shown_rules, verdict_sentence
from apps.training.views.access import experts_only

SHOWN = 4
A_PAGE = 12
_DIGITS = 6
_RELATED = (
    "registered_model",
    "run",
    "champion__registered_model",
    "challenger__registered_model",
    "dataset",
    "champion_evaluation",
    "challenger_evaluation",
)


@never_cache
@experts_only
@require_safe
def comparison(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    row = _comparison(public_id)
    old, new = row.champion_evaluation, row.challenger_evaluation
    names = names_of(row.registered_model)
    context = _context(row) | {
        "why": verdict_sentence(row, names),
        "rules": shown_rules(row.rules, names),
        "numbers": _numbers(old, new),
        "chart": _label_chart(row, names),
        "differences": read_differences(row, limit=SHOWN) if row.status == WorkStatus.DONE else None,
        "decide": _decide_address(request, row),
    }
    return render(request, "training/comparison.html", context)


@never_cache
@experts_only
@require_safe
def live(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    row = _comparison(public_id)
    response = render(request, "training/comparison_state.html", _context(row))
    if row.status in (WorkStatus.DONE, WorkStatus.FAILED):
        response["HX-Refresh"] = "true"
    return response


@never_cache
@experts_only
@require_safe
def differences(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    row = _comparison(public_id)
    text = request.GET.get("after", "")
    start = int(text) if text.isascii() and text.isdecimal() and len(text) <= _DIGITS else 0
    found = read_differences(row, start=start, limit=A_PAGE) if row.status == WorkStatus.DONE else None
    if found is None:
        raise Http404
    return render(request, "training/differences.html", _context(row) | {"differences": found})


def _comparison(public_id: uuid.UUID) -> Comparison:
    row: Comparison = get_object_or_404(Comparison.objects.select_related(*_RELATED), public_id=public_id)
    return row


def _context(row: Comparison) -> dict[str, Any]:
    return {
        "comparison": row,
        "model": row.registered_model,
        "is_open": row.status in (WorkStatus.PENDING, WorkStatus.PROCESSING),
        "failure": failure_sentence(row) if row.status == WorkStatus.FAILED else "",
    }


def _numbers(old: Evaluation | None, new: Evaluation | None) -> list[tuple[Tally, Tally, str]]:
    """Each measure of both and their difference."""
    before = tallies_of(old.metrics if old else {})
    after = tallies_of(new.metrics if new else {})
    return [(then, now, _difference(then, now)) for then, now in zip(before, after, strict=True)]


def _difference(then: Tally, now: Tally) -> str:
    if then.value is None or now.value is None:
        return "–"
    return number(now.value - then.value, places=now.digits, signed=True)


def _label_chart(row: Comparison, names: Mapping[str, str]) -> Chart | None:
    old, new = row.champion_evaluation, row.challenger_evaluation
    if not new or not new.by_label:
        return None
    there = [code for code, numbers in new.by_label.items() if numbers.get("boxes")]
    codes = sorted(there, key=(row.dataset.labels + there).index)
    if not codes:
        return None
    before = old.by_label if old else {}
    series = [Series(str(row.challenger), [new.by_label[code].get("map50_95") for code in codes], look="bar")]
    if old:
        values = [before.get(code, {}).get("map50_95") for code in codes]
        series.insert(0, Series(str(row.champion), values, look="bar"))
    return Chart(
        "labels",
        _("mAP50-95 label by label"),
        Axis(_("label")),
        Axis("mAP50-95", low=0, high=1),
        [names.get(code, code) for code in codes],
        series,
        notes=[str(new.by_label[code].get("boxes") or 0) for code in codes],
        notes_name=_("animals"),
    )


def _decide_address(request: HttpRequest, row: Comparison) -> str:
    """Of the console's page for the decision, for those who may take it."""
    if row.challenger.stage == ModelVersion.Stage.PRODUCTION:
        return ""
    if not (request.user.is_staff and request.user.has_perm("training.promote_modelversion")):
        return ""
    try:
        return reverse("admin:training_comparison_change", args=[row.pk])
    except NoReverseMatch:
        return ""

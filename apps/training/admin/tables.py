"""Small tables on the pages of models, versions and comparisons."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.db.models import QuerySet
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format, localize
from django.utils.translation import gettext as _

from apps.common.numbers import number
from apps.training.models import Comparison, PromotionEvent

SHOWN: Final = 20
"""The newest; the lists have all."""


@dataclass(frozen=True, slots=True)
class Cell:
    text: str
    address: str = ""


def cell(value: Any, address: str = "") -> Cell:
    if isinstance(value, datetime):
        value = date_format(timezone.localtime(value), "SHORT_DATETIME_FORMAT")
    elif isinstance(value, float):
        value = localize(value)
    return Cell("–" if value is None or value == "" else str(value), address)


def table(name: str, heads: list[str], rows: list[list[Cell]]) -> str:
    return render_to_string("admin/training/table.html", {"name": name, "heads": heads, "rows": rows})


def comparison_table(rows: QuerySet[Comparison]) -> str:
    found = [
        [
            cell(one.created_at, reverse("admin:training_comparison_change", args=[one.pk])),
            cell(one.challenger),
            cell(one.champion),
            cell(one.get_verdict_display() or one.get_status_display()),
            cell(number(_difference(one), signed=True)),
            cell(one.get_decision_display() if one.verdict else ""),
        ]
        for one in rows.select_related("challenger__registered_model", "champion__registered_model").order_by(
            "-pk"
        )[:SHOWN]
    ]
    heads = [
        _("asked for at"),
        _("challenger"),
        _("champion"),
        _("verdict"),
        _("difference in mAP50-95"),
        _("decision"),
    ]
    return table(_("comparisons"), heads, found)


def event_table(rows: QuerySet[PromotionEvent]) -> str:
    related = ("from_version__registered_model", "to_version__registered_model")
    found = [
        [
            cell(one.at, reverse("admin:training_promotionevent_change", args=[one.pk])),
            cell(one.get_kind_display()),
            cell(one.from_version),
            cell(one.to_version),
            cell(one.by_name or _("by itself")),
            cell(one.reason),
        ]
        for one in rows.select_related(*related).order_by("-pk")[:SHOWN]
    ]
    return table(
        _("decisions"), [_("at"), _("decision"), _("before"), _("after"), _("by"), _("reason")], found
    )


def _difference(comparison: Comparison) -> float | None:
    values = [rule.get("difference") for rule in comparison.rules if rule.get("code") == "map_not_worse"]
    return values[0] if values else None

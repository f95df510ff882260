"""Comparisons: the side-by-side report on which a curator decides."""

from typing import Any, ClassVar

from django.contrib import admin
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.html import format_html
from django.utils.text import capfirst
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from apps.common.admin_base import ReadOnlyAdmin, display
from apps.common.leased import WorkStatus
from apps.common.numbers import number
from apps.training.admin.tables import cell, event_table, table
from apps.training.differences import read_differences
from apps.training.evaluation_texts import failure_sentence
from apps.training.hooks import names_of
from apps.training.models import Comparison, Evaluation
from apps.training.promotion_texts import shown_rules, verdict_sentence

VERDICT_COLOURS = {"passed": "success", "refused": "danger", "undecided": "warning", "": "info"}
DECISION_COLOURS = {
    "open": "warning",
    "promoted": "success",
    "overridden": "warning",
    "refused": "danger",
}
METRICS = ("map50_95", "map50", "precision", "recall", "f1", "ece", "latency_ms", "photos", "boxes")
_PHOTOS_SHOWN = 6


@admin.register(Comparison)
class ComparisonAdmin(ReadOnlyAdmin):
    list_display = (
        "pair",
        "verdict_shown",
        "decision_shown",
        "gain",
        "photo_count",
        "created_at",
        "requested_by",
    )
    list_select_related = ("champion__registered_model", "challenger__registered_model", "requested_by")
    list_filter = ("registered_model", "status", "verdict", "decision")
    ordering = ("-pk",)
    identity_lookups = {"uuid": "public_id", "number": "pk", "email": "requested_by__email__iexact"}
    change_form_before_template = "admin/training/comparison_head.html"
    fields = (
        ("champion", "challenger"),
        ("state", "decided"),
        "failure",
        "rules_shown",
        "numbers_shown",
        "labels_shown",
        "differences_shown",
        "reports_shown",
        "decisions_shown",
        ("dataset", "run"),
        ("photo_count", "photos_done"),
        ("requested_by", "created_at", "finished_at"),
    )

    class Media:
        css: ClassVar[dict[str, list[str]]] = {"all": ["training/scenes.css", "admin_podura/decisions.css"]}

    def get_queryset(self, request: Any) -> Any:
        related = ("champion_evaluation", "challenger_evaluation", "champion", "challenger")
        return super().get_queryset(request).select_related(*related)

    @display(description=_("champion / challenger"))
    def pair(self, comparison: Comparison) -> str:
        return str(comparison)

    @display(description=_("verdict"), label=VERDICT_COLOURS, ordering="verdict")
    def verdict_shown(self, comparison: Comparison) -> tuple[str, str]:
        return comparison.verdict, comparison.get_verdict_display() or comparison.get_status_display()

    @display(description=_("verdict"))
    def state(self, comparison: Comparison) -> str:
        if not comparison.verdict:
            return comparison.get_status_display()
        why = verdict_sentence(comparison, names_of(comparison.registered_model))
        return f"{capfirst(comparison.get_verdict_display())}. {why}"

    @display(description=_("decision"), label=DECISION_COLOURS, ordering="decision")
    def decision_shown(self, comparison: Comparison) -> tuple[str, str]:
        if comparison.status != WorkStatus.DONE:
            return "", "–"
        return comparison.decision, comparison.get_decision_display()

    @display(description=_("decision"))
    def decided(self, comparison: Comparison) -> str:
        return comparison.get_decision_display() if comparison.status == WorkStatus.DONE else "–"

    @display(description=_("difference in mAP50-95"))
    def gain(self, comparison: Comparison) -> str:
        values = [rule.get("difference") for rule in comparison.rules if rule["code"] == "map_not_worse"]
        return number(values[0], signed=True) if values else "–"

    @display(description=_("reason of failure"))
    def failure(self, comparison: Comparison) -> str:
        return failure_sentence(comparison) or "–"

    @display(description=_("rules of the gate"))
    def rules_shown(self, comparison: Comparison) -> str:
        context = {
            "rules": shown_rules(comparison.rules, names_of(comparison.registered_model)),
            "champion": comparison.champion,
            "challenger": comparison.challenger,
        }
        return render_to_string("admin/training/rules.html", context)

    @display(description=_("side by side"))
    def numbers_shown(self, comparison: Comparison) -> str:
        old, new = _metrics(comparison.champion_evaluation), _metrics(comparison.challenger_evaluation)
        names = {
            "map50_95": "mAP50-95",
            "map50": "mAP50",
            "precision": gettext("precision"),
            "recall": gettext("recall"),
            "f1": "F1",
            "ece": gettext("calibration error (ECE)"),
            "latency_ms": gettext("latency a photo (ms)"),
            "photos": gettext("photos"),
            "boxes": gettext("animals"),
        }
        rows = [
            [
                cell(names[name]),
                cell(_value(name, old)),
                cell(_value(name, new)),
                cell(_change(name, old, new)),
            ]
            for name in METRICS
        ]
        heads = [
            gettext("measure"),
            str(comparison.champion or "–"),
            str(comparison.challenger),
            gettext("difference"),
        ]
        return table(gettext("side by side"), heads, rows)

    @display(description=_("label by label"))
    def labels_shown(self, comparison: Comparison) -> str:
        new = comparison.challenger_evaluation.by_label if comparison.challenger_evaluation else {}
        old = comparison.champion_evaluation.by_label if comparison.champion_evaluation else {}
        names = names_of(comparison.registered_model)
        rows = [
            [
                cell(names.get(code, code)),
                cell(values.get("boxes")),
                *(
                    cell(text)
                    for name in ("map50_95", "recall")
                    for text in (
                        number(old.get(code, {}).get(name)),
                        number(values.get(name)),
                        _change(name, old.get(code, {}), values),
                    )
                ),
            ]
            for code, values in new.items()
            if values.get("boxes")
        ]
        measures = [
            ("mAP50-95", str(gettext("difference"))),
            (str(gettext("recall")), str(gettext("difference"))),
        ]
        champion, challenger = comparison.champion or "–", comparison.challenger
        heads = [gettext("label"), gettext("animals")]
        for name, change in measures:
            heads += [f"{name} {champion}", f"{name} {challenger}", change]
        return table(gettext("label by label"), heads, rows)

    @display(description=_("where they differ most"))
    def differences_shown(self, comparison: Comparison) -> str:
        is_done = comparison.status == WorkStatus.DONE
        found = read_differences(comparison, limit=_PHOTOS_SHOWN) if is_done else None
        context = {"differences": found, "comparison": comparison}
        return render_to_string("admin/training/comparison_differences.html", context)

    @display(description=_("full reports"))
    def reports_shown(self, comparison: Comparison) -> str:
        links = [(reverse("training:comparison", args=[comparison.public_id]), gettext("comparison"))]
        links += [
            (reverse("training:evaluation", args=[one.public_id]), str(one.version))
            for one in (comparison.champion_evaluation, comparison.challenger_evaluation)
            if one
        ]
        anchors = [format_html('<a class="podura-link" href="{}">{}</a>', *link) for link in links]
        return format_html(" · ".join("{}" for _anchor in anchors), *anchors)

    @display(description=_("decisions"))
    def decisions_shown(self, comparison: Comparison) -> str:
        return event_table(comparison.events.all())


def _metrics(evaluation: Evaluation | None) -> dict[str, Any]:
    return evaluation.metrics if evaluation else {}


def _value(name: str, metrics: dict[str, Any]) -> str:
    return number(metrics.get(name), places=_places(name))


def _change(name: str, old: dict[str, Any], new: dict[str, Any]) -> str:
    before, after = old.get(name), new.get(name)
    if not isinstance(before, int | float) or not isinstance(after, int | float):
        return "–"
    return number(after - before, places=_places(name), signed=True)


def _places(name: str) -> int:
    return {"latency_ms": 1, "photos": 0, "boxes": 0}.get(name, 3)

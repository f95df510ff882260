"""Model versions: immutable, with all that was measured of them and decided about them."""

import json
from functools import partial
from typing import Any

from django.contrib import admin
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from apps.common.admin_base import ReadOnlyAdmin, display
from apps.common.numbers import number
from apps.training.admin.tables import SHOWN, cell, comparison_table, event_table, table
from apps.training.admin.version_decisions import ACTIONS, decide
from apps.training.models import ModelVersion, PromotionEvent

STAGE_COLOURS = {"candidate": "info", "production": "success", "archived": "default", "refused": "danger"}
_LONGEST_LINE = 20


@admin.register(ModelVersion)
class ModelVersionAdmin(ReadOnlyAdmin):
    list_display = ("version", "stage_shown", "map50", "map50_95", "size_shown", "created_at", "promoted_at")
    list_select_related = ("registered_model",)
    list_filter = ("registered_model", "stage", "origin")
    search_fields = ("registered_model__name", "weights_sha256")
    search_help_text = _("Model name or SHA-256")
    change_form_before_template = "admin/training/version_head.html"
    fields = (
        "version",
        ("stage", "origin"),
        ("run_shown", "lineage"),
        "comparisons_shown",
        "evaluations_shown",
        "decisions_shown",
        "metrics_shown",
        ("image_size_px", "object_size_px"),
        "label_list",
        "weights_sha256",
        "size_shown",
        ("created_at", "promoted_at"),
        "card_shown",
    )

    @display(description=_("version"))
    def version(self, version: ModelVersion) -> str:
        return str(version)

    @display(description=_("stage"), label=STAGE_COLOURS, ordering="stage")
    def stage_shown(self, version: ModelVersion) -> tuple[str, str]:
        return version.stage, version.get_stage_display()

    @display(description="mAP50")
    def map50(self, version: ModelVersion) -> str:
        return number(version.metrics.get("map50"))

    @display(description="mAP50-95")
    def map50_95(self, version: ModelVersion) -> str:
        return number(version.metrics.get("map50_95"))

    @display(description=_("size"))
    def size_shown(self, version: ModelVersion) -> str:
        return f"{version.weights_bytes / 1e6:.2f} MB"

    @display(description=_("labels, in the order of the class scores"))
    def label_list(self, version: ModelVersion) -> str:
        return ", ".join(map(str, version.labels))

    @display(description=_("metrics"))
    def metrics_shown(self, version: ModelVersion) -> str:
        rows = [
            (
                name,
                number(value)
                if isinstance(value, float)
                else value
                if isinstance(value, int | str)
                else json.dumps(value),
            )
            for name, value in version.metrics.items()
        ]
        return render_to_string("admin/training/metrics.html", {"rows": rows})

    @display(description=_("model card"))
    def card_shown(self, version: ModelVersion) -> str:
        """As the text it is: Markdown reads well, and nothing in it can become a page."""
        return render_to_string("admin/training/card.html", {"card": version.card})

    @display(description=_("training run"))
    def run_shown(self, version: ModelVersion) -> str:
        run = getattr(version, "run", None)
        return _link("admin:training_trainingrun_change", run) if run else "–"

    @display(description=_("fine-tuned from"))
    def lineage(self, version: ModelVersion) -> str:
        line: list[ModelVersion] = []
        parent = version.parent
        while parent is not None and len(line) < _LONGEST_LINE:
            line.append(parent)
            parent = parent.parent
        links = [(_link("admin:training_modelversion_change", one),) for one in line]
        return format_html_join(" ← ", "{}", links) if links else "–"

    @display(description=_("comparisons"))
    def comparisons_shown(self, version: ModelVersion) -> str:
        return comparison_table(version.comparisons.select_related("champion__registered_model", "dataset"))

    @display(description=_("evaluations"))
    def evaluations_shown(self, version: ModelVersion) -> str:
        rows = [
            [
                cell(one.created_at, reverse("training:evaluation", args=[one.public_id])),
                cell(one.dataset),
                cell(one.get_split_display()),
                cell(number(one.metrics.get("map50_95"))),
                cell(number(one.metrics.get("recall"))),
                cell(one.get_status_display()),
            ]
            for one in version.evaluations.select_related("dataset").order_by("-pk")[:SHOWN]
        ]
        return table(
            gettext("evaluations"),
            [
                gettext("asked for at"),
                gettext("dataset"),
                gettext("split"),
                "mAP50-95",
                gettext("recall"),
                gettext("status"),
            ],
            rows,
        )

    @display(description=_("decisions"))
    def decisions_shown(self, version: ModelVersion) -> str:
        return event_table(PromotionEvent.objects.filter(Q(to_version=version) | Q(from_version=version)))

    def get_urls(self) -> list[URLPattern]:
        urls = [
            path(
                f"<int:pk>/{action.replace('_', '-')}/",
                self.admin_site.admin_view(partial(self.decide, action=action)),
                name=f"training_modelversion_{action}",
            )
            for action in ACTIONS
        ]
        return [*urls, *super().get_urls()]

    def decide(self, request: HttpRequest, pk: int, action: str) -> HttpResponse:
        return decide(request, self, pk, action)


def _link(name: str, row: Any) -> str:
    return format_html('<a class="podura-link" href="{}">{}</a>', reverse(name, args=[row.pk]), row)

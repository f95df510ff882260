"""Registered models and their versions. Versions are immutable; which one serves production is a person's word."""

import json
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext_lazy as _

from apps.common.admin_base import FastAdmin, ReadOnlyAdmin, display
from apps.training.models import ModelVersion, RegisteredModel
from apps.training.services import promote

STAGE_COLOURS = {"candidate": "info", "production": "success", "archived": "default"}


@admin.register(RegisteredModel)
class RegisteredModelAdmin(FastAdmin):
    list_display = ("name", "production", "description", "created_at")
    search_fields = ("name",)
    search_help_text = _("Name")
    fields = ("name", "description", "production", "created_at")
    readonly_fields = ("production", "created_at")

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).prefetch_related("versions")

    @display(description=_("in production"))
    def production(self, model: RegisteredModel) -> str:
        serving = (
            version for version in model.versions.all() if version.stage == ModelVersion.Stage.PRODUCTION
        )
        return next((f"v{version.number}" for version in serving), "–")


@admin.register(ModelVersion)
class ModelVersionAdmin(ReadOnlyAdmin):
    list_display = ("version", "stage_shown", "map50", "map50_95", "size_shown", "created_at", "promoted_at")
    list_select_related = ("registered_model",)
    list_filter = ("registered_model", "stage")
    search_fields = ("registered_model__name", "weights_sha256")
    search_help_text = _("Model name or SHA-256")
    change_form_before_template = "admin/training/version_promote.html"
    fields = (
        "version",
        "stage",
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
        return _metric(version, "map50")

    @display(description="mAP50-95")
    def map50_95(self, version: ModelVersion) -> str:
        return _metric(version, "map50_95")

    @display(description=_("size"))
    def size_shown(self, version: ModelVersion) -> str:
        return f"{version.weights_bytes / 1e6:.2f} MB"

    @display(description=_("labels, in the order of the class scores"))
    def label_list(self, version: ModelVersion) -> str:
        return ", ".join(map(str, version.labels))

    @display(description=_("metrics"))
    def metrics_shown(self, version: ModelVersion) -> str:
        rows = [
            (name, value if isinstance(value, int | float | str) else json.dumps(value))
            for name, value in version.metrics.items()
        ]
        return render_to_string("admin/training/metrics.html", {"rows": rows})

    @display(description=_("model card"))
    def card_shown(self, version: ModelVersion) -> str:
        """As the text it is: Markdown reads well, and nothing in it can become a page."""
        return render_to_string("admin/training/card.html", {"card": version.card})

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.promote)
        return [path("<int:pk>/promote/", view, name="training_modelversion_promote"), *super().get_urls()]

    def promote(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Asks with both versions' numbers side by side; promotion is one pointer, roll-back the same with the former."""
        if not request.user.has_perm("training.promote_modelversion"):
            raise PermissionDenied
        version = get_object_or_404(ModelVersion.objects.select_related("registered_model"), pk=pk)
        current = version.registered_model.production_version
        back = HttpResponseRedirect(reverse("admin:training_modelversion_change", args=[pk]))
        if current == version:
            messages.warning(request, _("%(version)s is in production already.") % {"version": version})
            return back
        if request.method == "POST":
            promote(version=version)
            self.log_change(request, version, f"promoted; before: {current}")
            messages.success(request, _("%(version)s is in production now.") % {"version": version})
            return back
        names = sorted({*version.metrics, *(current.metrics if current else {})})
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": _("Promote %(version)s") % {"version": version},
            "version": version,
            "current": current,
            "rows": [
                (name, _metric(current, name) if current else "–", _metric(version, name)) for name in names
            ],
        }
        return TemplateResponse(request, "admin/training/promote_confirm.html", context)


def _metric(version: ModelVersion, name: str) -> str:
    value = version.metrics.get(name)
    if isinstance(value, float):
        return f"{value:.4g}"
    return "–" if value is None or isinstance(value, dict | list) else str(value)

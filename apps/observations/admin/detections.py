from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from apps.common.admin_base import ReadOnlyAdmin, display
from apps.observations.models import Detection


class StrengthFilter(admin.SimpleListFilter):
    """The list shows what everyone sees, unless a curator asks for the weak boxes."""

    title = _("confidence")
    parameter_name = "strength"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("weak", _("Weak: kept for experts only")), ("all", _("All"))]

    def choices(self, changelist: Any) -> Any:
        first, *others = super().choices(changelist)
        return [{**first, "display": _("Shown")}, *others]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Detection]) -> QuerySet[Detection]:
        if self.value() == "all":
            return queryset
        return queryset.filter(is_weak=self.value() == "weak")


@admin.register(Detection)
class DetectionAdmin(ReadOnlyAdmin):
    """What the model saw; corrections are annotations, never changes of these rows."""

    list_display = ("number_shown", "label", "confidence", "photo", "model_version", "size")
    list_select_related = ("label", "photo", "model_version__registered_model")
    list_filter = (StrengthFilter, "label__survey", "label")
    ordering = ("-pk",)
    identity_lookups = {"uuid": "photo__public_id", "number": "pk"}
    search_help_text = _("The photo's identifier (UUID)")
    fields = (
        "photo",
        "number",
        "label",
        "confidence",
        "is_weak",
        "size",
        "corner",
        "model_version",
        "scores",
    )

    def view_on_site(self, detection: Detection) -> str:
        return reverse("observations:photo", args=[detection.photo.public_id])

    @display(description=_("box"), ordering="number")
    def number_shown(self, detection: Detection) -> str:
        return f"#{detection.number}"

    @display(description=_("confidence"), ordering="score")
    def confidence(self, detection: Detection) -> str:
        return f"{detection.score:.3f}"

    @display(description=_("size (px)"))
    def size(self, detection: Detection) -> str:
        return f"{detection.width_px:.0f} × {detection.height_px:.0f}"

    @display(description=_("top left (px)"))
    def corner(self, detection: Detection) -> str:
        return f"{detection.x_min:.0f}, {detection.y_min:.0f}"

    @display(description=_("all class scores"))
    def scores(self, detection: Detection) -> str:
        named = zip(detection.model_version.labels, detection.class_scores, strict=False)
        best = sorted(named, key=lambda pair: -pair[1])[:20]
        return ", ".join(f"{code} {score:.3f}" for code, score in best)

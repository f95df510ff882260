"""Starts of trainings: what was asked for, and why nothing came of it."""

from django.contrib import admin
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from apps.annotation.models import TrainingStart
from apps.annotation.services.training import start_failure
from apps.common.admin_base import ReadOnlyAdmin, display

_COLOURS = {"pending": "info", "processing": "info", "done": "success", "failed": "danger"}


@admin.register(TrainingStart)
class TrainingStartAdmin(ReadOnlyAdmin):
    list_display = (
        "queued_at",
        "survey_shown",
        "trigger",
        "requested_by",
        "status_shown",
        "run_shown",
        "why",
    )
    list_display_links = None
    list_select_related = ("survey", "requested_by", "run")
    list_filter = ("survey", "status", "trigger")
    ordering = ("-pk",)
    identity_lookups = {"email": "requested_by__email", "number": "pk", "text": "survey__slug"}
    search_help_text = _("Short name of the survey, or the e-mail address of who asked for it")

    @display(description=_("survey"))
    def survey_shown(self, start: TrainingStart) -> SafeString:
        return format_html(
            '<a href="{}">{}</a>', reverse("annotation:model", args=[start.survey.slug]), start.survey
        )

    @display(description=_("status"), label=_COLOURS)
    def status_shown(self, start: TrainingStart) -> tuple[str, str]:
        return start.status, str(start.get_status_display())

    @display(description=_("training run"))
    def run_shown(self, start: TrainingStart) -> SafeString | str:
        if start.run is None:
            return "–"
        return format_html(
            '<a href="{}">{}</a>', reverse("training:run", args=[start.run.public_id]), start.run
        )

    @display(description=_("reason of failure"))
    def why(self, start: TrainingStart) -> str:
        return start_failure(start) or "–"

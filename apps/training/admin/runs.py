"""Training runs: a machine writes them, a curator looks at them and stops them."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from apps.accounts.models import User
from apps.common.admin_base import ReadOnlyAdmin, display
from apps.common.numbers import number
from apps.training.models import OPEN_RUNS, TrainingRun
from apps.training.run_page import hardware_rows, parameter_rows
from apps.training.run_texts import failure_text
from apps.training.services.runs import cancel_run

STATE_COLOURS = {
    "pending": "info",
    "processing": "warning",
    "done": "success",
    "failed": "danger",
    "cancelled": "default",
}


@admin.register(TrainingRun)
class TrainingRunAdmin(ReadOnlyAdmin):
    list_display = ("run", "state", "dataset", "progress", "minutes", "result", "trigger", "created_at")
    list_select_related = ("registered_model", "dataset", "version__registered_model")
    list_filter = ("registered_model", "status", "trigger")
    ordering = ("-pk",)
    identity_lookups = {"uuid": "public_id", "number": "pk", "email": "requested_by__email__iexact"}
    actions = ("cancel",)
    change_form_before_template = "admin/training/run_head.html"
    fields = (
        ("run", "status"),
        "failure",
        ("progress", "minutes"),
        ("dataset", "base_version"),
        "result",
        ("trigger", "requested_by"),
        ("created_at", "started_at", "finished_at"),
        "cancelled_by",
        "parameters_shown",
        "hardware_shown",
        "code_commit",
    )

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("training.start_trainingrun"))

    def view_on_site(self, run: TrainingRun) -> str:
        return reverse("training:run", args=[run.public_id])

    @admin.action(description=_("Cancel"), permissions=["cancel"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[TrainingRun]) -> None:
        assert isinstance(request.user, User)
        chosen = list(queryset)
        done = sum(cancel_run(run, by=request.user) for run in chosen if run.status in OPEN_RUNS)
        skipped = len(chosen) - done
        self.say(
            request,
            ngettext("%(n)d run is being cancelled.", "%(n)d runs are being cancelled.", done) % {"n": done},
            skipped=ngettext("%(n)d run had ended already.", "%(n)d runs had ended already.", skipped)
            % {"n": skipped}
            if skipped
            else "",
        )

    @display(description=_("run"), ordering="pk")
    def run(self, run: TrainingRun) -> str:
        return str(run)

    @display(description=_("status"), label=STATE_COLOURS, ordering="status")
    def state(self, run: TrainingRun) -> tuple[str, str]:
        return run.status, str(run.get_status_display())

    @display(description=_("epochs"))
    def progress(self, run: TrainingRun) -> str:
        return f"{run.epochs_done} / {run.epochs}"

    @display(description=_("minutes"))
    def minutes(self, run: TrainingRun) -> str:
        return number(run.minutes_spent, places=1)

    @display(description=_("resulting version"))
    def result(self, run: TrainingRun) -> str:
        return str(run.version or "–")

    @display(description=_("reason of failure"))
    def failure(self, run: TrainingRun) -> str:
        return failure_text(run) or "–"

    @display(description=_("parameters"))
    def parameters_shown(self, run: TrainingRun) -> str:
        return _table([(name, value) for name, value, _chosen in parameter_rows(run)])

    @display(description=_("hardware"))
    def hardware_shown(self, run: TrainingRun) -> str:
        return _table(hardware_rows(run.hardware))


def _table(rows: list[tuple[Any, ...]]) -> str:
    return render_to_string("admin/training/metrics.html", {"rows": rows}) if rows else "–"

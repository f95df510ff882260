"""Evaluations: any version on any split of any frozen dataset, asked for here, read on their own pages."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.models import AbstractBaseUser
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.translation import gettext_lazy as _
from unfold.widgets import UnfoldAdminSelectWidget

from apps.common.admin_base import ReadOnlyAdmin, display
from apps.common.leased import WorkStatus
from apps.common.numbers import number
from apps.training.admin.runs import STATE_COLOURS
from apps.training.evaluation_texts import failure_sentence, refusal_sentence
from apps.training.models import Dataset, Evaluation
from apps.training.services.evaluations import EvaluationRefusedError, request_evaluation


class EvaluationForm(forms.ModelForm):  # type: ignore[type-arg]  # not subscriptable at run time
    """What to measure on what."""

    sender: AbstractBaseUser
    row: Evaluation

    # Not called "dataset": unfold takes a field of that name for an action on its own lists.
    measured_on = forms.ModelChoiceField(
        Dataset.objects.order_by("-pk"),
        label=_("Dataset"),
        widget=UnfoldAdminSelectWidget,
    )

    class Meta:
        model = Evaluation
        fields = ("version", "split")

    def clean(self) -> dict[str, Any]:
        """Asked for here, so that a refusal stands on the form. One that is under way is given again."""
        values: dict[str, Any] = super().clean() or self.cleaned_data
        if not self.errors:
            try:
                self.row = request_evaluation(
                    version=values["version"],
                    dataset=values["measured_on"],
                    split=values["split"],
                    by=self.sender,
                )
            except EvaluationRefusedError as error:
                raise ValidationError(refusal_sentence(error)) from error
        return values

    def validate_constraints(self) -> None:
        """The service has asked: its own row must not count as a double."""


@admin.register(Evaluation)
class EvaluationAdmin(ReadOnlyAdmin):
    list_display = ("version", "dataset", "split", "state", "map50_95", "map50", "photo_count", "created_at")
    list_select_related = ("version__registered_model", "dataset")
    list_filter = ("version__registered_model", "status", "split", "is_for_comparison")
    ordering = ("-pk",)
    identity_lookups = {"uuid": "public_id", "number": "pk", "email": "requested_by__email__iexact"}
    autocomplete_fields = ("version",)
    fields = (
        ("version", "status"),
        ("dataset", "split"),
        "failure",
        ("map50_95", "map50"),
        ("photo_count", "photos_done"),
        ("requested_by", "created_at", "finished_at"),
    )

    def has_add_permission(self, request: HttpRequest, *_args: Any) -> bool:
        return bool(request.user.has_perm("training.add_evaluation"))

    def get_fields(self, request: HttpRequest, obj: Evaluation | None = None) -> Any:
        return self.fields if obj else ("version", "measured_on", "split")

    def get_readonly_fields(self, request: HttpRequest, obj: Evaluation | None = None) -> tuple[str, ...]:
        return super().get_readonly_fields(request, obj) if obj else ()

    def get_form(self, request: HttpRequest, obj: Evaluation | None = None, **options: Any) -> Any:
        if obj is not None:
            return super().get_form(request, obj, **options)
        form = super().get_form(request, obj, **options | {"form": EvaluationForm})
        form.sender = request.user
        return form

    def save_model(self, request: HttpRequest, obj: Evaluation, form: Any, change: bool) -> None:
        """Stored by the service (`EvaluationForm.clean`), which also queues it."""
        obj.pk, obj.public_id, obj.dataset = form.row.pk, form.row.public_id, form.row.dataset
        obj._state.adding = False

    def response_add(
        self, request: HttpRequest, obj: Evaluation, post_url_continue: Any = None
    ) -> HttpResponse:
        messages.success(request, _("It is being measured; this page says how far it is."))
        return HttpResponseRedirect(reverse("training:evaluation", args=[obj.public_id]))

    def view_on_site(self, evaluation: Evaluation) -> str:
        return reverse("training:evaluation", args=[evaluation.public_id])

    @display(description=_("status"), label=STATE_COLOURS, ordering="status")
    def state(self, evaluation: Evaluation) -> tuple[str, str]:
        return evaluation.status, str(WorkStatus(evaluation.status).label)

    @display(description="mAP50-95")
    def map50_95(self, evaluation: Evaluation) -> str:
        return _metric(evaluation, "map50_95")

    @display(description="mAP50")
    def map50(self, evaluation: Evaluation) -> str:
        return _metric(evaluation, "map50")

    @display(description=_("reason of failure"))
    def failure(self, evaluation: Evaluation) -> str:
        return failure_sentence(evaluation) or "–"


def _metric(evaluation: Evaluation, name: str) -> str:
    value = evaluation.metrics.get(name)
    return number(value)

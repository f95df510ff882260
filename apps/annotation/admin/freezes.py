"""Freezing a survey's answers into a dataset, asked for here and made by a worker."""

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from apps.accounts.models import User
from apps.annotation.models import DatasetFreeze
from apps.annotation.services.datasets import NOTHING_ACCEPTED, request_freeze
from apps.annotation.tasks.datasets import freeze_waiting
from apps.common.admin_base import display
from apps.common.tasks import wake
from apps.observations.admin.jobs import JobAdmin
from apps.observations.models import Survey


class FreezeForm(forms.ModelForm):  # type: ignore[type-arg]  # not subscriptable at run time
    survey = forms.ModelChoiceField(Survey.objects.all(), label=_("survey"))

    class Meta:
        model = DatasetFreeze
        fields = ()


@admin.register(DatasetFreeze)
class DatasetFreezeAdmin(JobAdmin):
    list_display = ("survey", "status_shown", "result", "requested_by", "queued_at", "finished_at")
    list_display_links = None
    list_select_related = ("survey", "dataset", "requested_by")
    list_filter = ("survey", "status")
    ordering = ("-pk",)
    form = FreezeForm
    fields = ("survey",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("annotation.add_datasetfreeze"))

    def has_delete_permission(self, request: HttpRequest, obj: DatasetFreeze | None = None) -> bool:
        return False

    @display(description=_("dataset"))
    def result(self, freeze: DatasetFreeze) -> SafeString | str:
        if freeze.dataset_id:
            address = reverse("admin:training_dataset_change", args=[freeze.dataset_id])
            return format_html('<a href="{}">{}</a>', address, freeze.dataset)
        if freeze.failure_reason == NOTHING_ACCEPTED:
            return gettext("No photo of this survey has an answer that counts yet.")
        return freeze.failure_reason or "–"

    def save_model(self, request: HttpRequest, obj: DatasetFreeze, form: Any, change: bool) -> None:
        """The service's row, which may be one that waits already."""
        by = request.user
        assert isinstance(by, User)
        row = request_freeze(survey=form.cleaned_data["survey"], by=by)
        obj.pk, obj.survey = row.pk, row.survey
        obj._state.adding = False

    def wake(self) -> None:
        wake(freeze_waiting)

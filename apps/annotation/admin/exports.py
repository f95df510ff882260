"""Frozen datasets in other tools' formats: asked for here, made by a worker, downloaded here."""

import tempfile
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import FileResponse, Http404, HttpRequest, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect
from django.template.defaultfilters import filesizeformat
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.widgets import UnfoldAdminSelectWidget

from apps.annotation.services.imports import problem_message
from apps.annotation.services.occurrences import write_occurrences
from apps.annotation.services.predictions import predicted_set
from apps.common.admin_base import display
from apps.common.leased import WorkStatus
from apps.common.tasks import wake
from apps.observations.admin.jobs import JobAdmin
from apps.observations.models import Survey
from apps.training.formats import FormatError, coco
from apps.training.models import Dataset, DatasetExport
from apps.training.services.exports import NOTHING_LEFT, holds_withdrawn, request_dataset_export
from apps.training.tasks.exports import pack_dataset_exports


class DatasetExportForm(forms.ModelForm):  # type: ignore[type-arg]  # not subscriptable at run time
    # Not called "dataset": the theme takes a posted field of that name for its own lists within a form.
    frozen = forms.ModelChoiceField(
        Dataset.objects.all(), label=_("dataset"), widget=UnfoldAdminSelectWidget()
    )

    class Meta:
        model = DatasetExport
        fields = ("format", "leaves_out_noncommercial")


@admin.register(DatasetExport)
class DatasetExportAdmin(JobAdmin):
    list_display = (
        "dataset",
        "format",
        "leaves_out_noncommercial",
        "status_shown",
        "progress",
        "result",
        "requested_by",
        "queued_at",
        "expires_at",
    )
    list_display_links = None
    list_select_related = ("dataset", "requested_by")
    list_filter = ("dataset", "format", "status")
    ordering = ("-pk",)
    form = DatasetExportForm
    list_before_template = "admin/training/occurrence_downloads.html"
    fields = ("frozen", "format", "leaves_out_noncommercial")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("training.add_datasetexport"))

    def has_delete_permission(self, request: HttpRequest, obj: DatasetExport | None = None) -> bool:
        return False  # it goes by itself

    @display(description=_("photos packed"))
    def progress(self, export: DatasetExport) -> str:
        return f"{export.photos_done} / {export.dataset.photo_count}"

    @display(description=_("file"))
    def result(self, export: DatasetExport) -> SafeString | str:
        if export.status == WorkStatus.DONE:
            address = reverse("admin:training_datasetexport_download", args=[export.pk])
            size = filesizeformat(export.size_bytes or 0)
            return format_html('<a href="{}">{}</a> ({})', address, gettext("Download"), size)
        if export.failure_reason == NOTHING_LEFT:
            return gettext("No photo is left with these choices.")
        return export.failure_reason or "–"

    def save_model(self, request: HttpRequest, obj: DatasetExport, form: Any, change: bool) -> None:
        """The service's row, which may be one that is there already."""
        row = request_dataset_export(
            dataset=form.cleaned_data["frozen"],
            kind=form.cleaned_data["format"],
            leaves_out_noncommercial=form.cleaned_data["leaves_out_noncommercial"],
            by=request.user,  # type: ignore[arg-type]  # admin_view lets nobody else in
        )
        obj.pk, obj.dataset = row.pk, row.dataset
        obj._state.adding = False

    def wake(self) -> None:
        wake(pack_dataset_exports)

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        return [
            path("<int:pk>/file/", wrap(self.download), name="training_datasetexport_download"),
            path("occurrences/", wrap(self.occurrences), name="training_occurrences"),
            *super().get_urls(),
        ]

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> Any:
        surveys = {"surveys": Survey.objects.all()}
        return super().changelist_view(request, surveys | (extra_context or {}))

    def occurrences(self, request: HttpRequest) -> HttpResponseBase:
        """A survey's finds as they are now: public ones only, so small enough to be written while one waits."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        survey = get_object_or_404(Survey, slug=request.GET.get("survey", "").replace("\0", ""))
        kind = request.GET.get("kind", "answers")
        target = tempfile.TemporaryFile()  # noqa: SIM115  (closed by the response)
        try:
            if kind == "coco":
                coco.write(predicted_set(survey), target, None)
            else:
                write_occurrences(survey, target, with_predictions=kind == "all")
        except FormatError as error:  # a survey without labels
            target.close()
            messages.error(request, problem_message(error.problems[0].as_json()))
            return redirect("admin:training_datasetexport_changelist")
        target.seek(0)
        name = f"{survey.slug}-{'predictions-coco' if kind == 'coco' else 'darwin-core'}.zip"
        return FileResponse(target, as_attachment=True, filename=name, content_type="application/zip")

    def download(self, request: HttpRequest, pk: int) -> HttpResponseBase:
        if not self.has_view_permission(request):
            raise PermissionDenied
        export = get_object_or_404(
            DatasetExport.objects.select_related("dataset"), pk=pk, status=WorkStatus.DONE
        )
        if holds_withdrawn(export):  # the next sweep removes it
            raise Http404
        try:
            content = export.file.open("rb")
        except FileNotFoundError as error:
            raise Http404 from error
        name = f"{export.dataset.name}-{export.dataset.number}-{export.format}.zip"
        return FileResponse(content, as_attachment=True, filename=name, content_type="application/zip")

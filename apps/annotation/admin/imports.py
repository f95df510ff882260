"""Labelled photos from elsewhere: sent here as a zip, checked and taken in by a worker."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import UploadedFile
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from apps.accounts.models import User
from apps.annotation.models import DatasetImport
from apps.annotation.services.imports import HAS_PROBLEMS, problem_message, request_import
from apps.annotation.tasks.datasets import import_waiting
from apps.common.admin_base import display
from apps.common.tasks import wake
from apps.observations.admin.jobs import JobAdmin
from apps.observations.services.archives import is_archive
from apps.observations.services.intake import refusal_message


class DatasetImportForm(forms.ModelForm):  # type: ignore[type-arg]  # not subscriptable at run time
    class Meta:
        model = DatasetImport
        fields = ("file", "format", "survey", "licence", "visibility", "makes_labels")
        help_texts = {
            "file": _("With the pictures in it."),
            "licence": _("Of pictures for which the archive states none."),
        }

    def clean_file(self) -> UploadedFile[Any]:
        file: UploadedFile[Any] = self.cleaned_data["file"]
        if not is_archive(file):
            raise ValidationError(refusal_message("archive_not_a_zip", {}))
        return file


@admin.register(DatasetImport)
class DatasetImportAdmin(JobAdmin):
    list_display = (
        "name",
        "survey",
        "format",
        "status_shown",
        "progress",
        "result",
        "requested_by",
        "queued_at",
    )
    list_select_related = ("survey", "requested_by")
    list_filter = ("survey", "format", "status")
    ordering = ("-pk",)
    actions = ("release",)  # what failed has lost its zip: it is sent again
    identity_lookups = {"uuid": "public_id", "email": "requested_by__email__iexact", "number": "pk"}
    _shown = (
        ("name", "status"),
        ("survey", "format"),
        ("licence", "visibility", "makes_labels"),
        ("progress", "duplicates"),
        "photos",
        "problems_shown",
        ("requested_by", "queued_at", "finished_at"),
    )

    def get_fields(self, request: HttpRequest, obj: DatasetImport | None = None) -> Any:
        return self._shown if obj else DatasetImportForm.Meta.fields

    def get_readonly_fields(self, request: HttpRequest, obj: DatasetImport | None = None) -> tuple[str, ...]:
        names = (name if isinstance(name, tuple) else (name,) for name in self._shown)
        return tuple(each for name in names for each in name) if obj else ()

    def get_form(self, request: HttpRequest, obj: DatasetImport | None = None, **options: Any) -> Any:
        if obj is None:
            options["form"] = DatasetImportForm
        return super().get_form(request, obj, **options)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("annotation.add_datasetimport"))

    def has_delete_permission(self, request: HttpRequest, obj: DatasetImport | None = None) -> bool:
        return False

    @display(description=_("pictures read"))
    def progress(self, row: DatasetImport) -> str:
        step = gettext("taken in") if row.is_checked else gettext("checked")
        return f"{row.next_picture} / {row.total or '?'} ({step})"

    @display(description=_("result"))
    def result(self, row: DatasetImport) -> str:
        if row.failure_reason == HAS_PROBLEMS:
            count = len(row.problems)
            return ngettext("%(count)d problem", "%(count)d problems", count) % {"count": count}
        if row.failure_reason:
            return row.failure_reason
        if row.duplicates:
            text = ngettext("%(count)d was there already", "%(count)d were there already", row.duplicates)
            return text % {"count": row.duplicates}
        return "–"

    @display(description=_("photos"))
    def photos(self, row: DatasetImport) -> SafeString | str:
        if row.observation_id is None:
            return "–"
        address = reverse("admin:observations_observation_change", args=[row.observation_id])
        return format_html('<a href="{}">{}</a>', address, row.observation)

    @display(description=_("problems"))
    def problems_shown(self, row: DatasetImport) -> str:
        rows = [problem | {"message": problem_message(problem)} for problem in row.problems]
        return render_to_string("admin/annotation/import_problems.html", {"rows": rows})

    def save_model(self, request: HttpRequest, obj: DatasetImport, form: Any, change: bool) -> None:
        """Stored by the service, which also queues it."""
        by, values = request.user, form.cleaned_data
        assert isinstance(by, User)
        row = request_import(
            survey=values["survey"],
            by=by,
            file=values["file"],
            name=values["file"].name,
            kind=values["format"],
            licence=values["licence"],
            visibility=values["visibility"],
            makes_labels=values["makes_labels"],
        )
        obj.pk, obj.name = row.pk, row.name
        obj._state.adding = False

    def wake(self) -> None:
        wake(import_waiting)

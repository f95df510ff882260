"""Weights from outside: sent here, examined by a worker, accepted or refused by a curator who saw what they are."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.humanize.templatetags.humanize import intcomma
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.defaultfilters import filesizeformat
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.formats import localize
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _
from unfold.widgets import UnfoldAdminDecimalFieldWidget, UnfoldAdminTextInputWidget

from apps.accounts.models import User
from apps.common.admin_base import FastAdmin, display
from apps.common.leased import WorkStatus
from apps.common.tasks import wake_once
from apps.training.engine.refusals import RefusedWeightsError
from apps.training.import_texts import note_text, problem_text
from apps.training.models import ModelImport
from apps.training.models.versions import sha256_validator
from apps.training.services.model_imports import (
    DecidedError,
    accept_import,
    import_notes,
    refuse_import,
    request_model_import,
)
from apps.training.tasks.imports import examine_imports

STATE_COLOURS = {
    "waiting": "warning",
    "examined": "info",
    "to_decide": "warning",
    "accepted": "success",
    "refused": "danger",
    "failed": "danger",
}


class ModelImportForm(forms.ModelForm):  # type: ignore[type-arg]  # not subscriptable at run time
    expected_sha256 = forms.CharField(
        label=_("expected SHA-256"),
        required=False,
        strip=True,
        max_length=64,
        widget=UnfoldAdminTextInputWidget,
        help_text=_("If whoever made the file states one. Another file is then refused."),
    )
    object_size_px = forms.FloatField(
        label=_("typical animal size in training (px)"),
        required=False,
        min_value=1,
        max_value=100_000,
        widget=UnfoldAdminDecimalFieldWidget,
        help_text=_(
            "Median long side of the boxes it was trained on. Needed for checkpoints, which do not say it: it decides which "
            "photos are looked at in parts."
        ),
    )

    class Meta:
        model = ModelImport
        fields = ("registered_model", "file", "licence", "note")
        help_texts = {
            "file": _(
                "A checkpoint of Ultralytics (.pt), a Podura weights file (.podura), or safetensors with Podura's metadata. "
                "Nothing in it is run."
            ),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["file"].required = True  # the column is empty later, when the file has left
        for field in self.fields.values():
            field.label = capfirst(str(field.label))

    def clean_expected_sha256(self) -> str:
        value: str = self.cleaned_data["expected_sha256"].lower()
        if value:
            sha256_validator(value)
        return value

    def clean(self) -> dict[str, Any]:
        """Sent to quarantine here, so that a refusal stands beside the field."""
        values: dict[str, Any] = super().clean() or self.cleaned_data
        if self.errors:
            return values
        try:
            self.row = request_model_import(
                registered_model=values["registered_model"],
                file=values["file"],
                name=values["file"].name,
                expected_sha256=values["expected_sha256"],
                licence=values["licence"],
                note=values["note"],
                object_size_px=values["object_size_px"],
                by=self.sender,
            )
        except RefusedWeightsError as error:
            raise ValidationError({"file": problem_text(error.code, error.details)}) from error
        return values

    sender: User
    row: ModelImport


@admin.register(ModelImport)
class ModelImportAdmin(FastAdmin):
    list_display = ("name", "registered_model", "state", "labels_count", "size", "requested_by", "created_at")
    list_select_related = ("registered_model", "requested_by")
    list_filter = ("registered_model", "decision", "status")
    ordering = ("-pk",)
    warn_unsaved_form = False
    actions = ("examine_again",)
    identity_lookups = {"uuid": "public_id", "sha256": "sha256", "email": "requested_by__email__iexact"}
    search_help_text = _("SHA-256, identifier (UUID) or e-mail address")
    change_form_before_template = "admin/training/import_decide.html"
    _shown = (
        ("registered_model", "state_text"),
        ("name", "size"),
        "problem_shown",
        "notes_shown",
        "findings_shown",
        "labels_shown",
        ("licence", "note"),
        "sha256",
        ("requested_by", "created_at"),
        ("decided_by", "decided_at"),
        "version_shown",
    )

    def get_fields(self, request: HttpRequest, obj: ModelImport | None = None) -> Any:
        own = ("registered_model", "file", "expected_sha256", "licence", "note", "object_size_px")
        return self._shown if obj else own

    def get_readonly_fields(self, request: HttpRequest, obj: ModelImport | None = None) -> tuple[str, ...]:
        names = (name if isinstance(name, tuple) else (name,) for name in self._shown)
        return tuple(each for name in names for each in name) if obj else ()

    def get_form(self, request: HttpRequest, obj: ModelImport | None = None, **options: Any) -> Any:
        if obj is None:
            options["form"] = ModelImportForm
            form = super().get_form(request, obj, **options)
            form.sender = request.user
            return form
        return super().get_form(request, obj, **options)

    def has_change_permission(self, request: HttpRequest, obj: ModelImport | None = None) -> bool:
        """The row has nothing to save; deciding has pages of its own."""
        return False

    def has_decide_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("training.change_modelimport"))

    def has_delete_permission(self, request: HttpRequest, obj: ModelImport | None = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: ModelImport, form: Any, change: bool) -> None:
        """Stored by the service (`ModelImportForm.clean`), which also queues it."""
        obj.pk, obj.name = form.row.pk, form.row.name
        obj._state.adding = False

    def response_add(
        self, request: HttpRequest, obj: ModelImport, post_url_continue: Any = None
    ) -> HttpResponse:
        messages.success(
            request, _("“%(name)s” is being examined. This page says what it is.") % {"name": obj.name}
        )
        return _page_of(obj.pk)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """Looks again by itself until the examination is over."""
        response: HttpResponse = super().change_view(request, object_id, form_url, extra_context)
        waiting = ModelImport.objects.filter(status__in=(WorkStatus.PENDING, WorkStatus.PROCESSING))
        if object_id.isdecimal() and waiting.filter(pk=object_id).exists():
            response["Refresh"] = "5"
        return response

    @admin.action(description=_("Examine again (failed ones)"), permissions=["decide"])
    def examine_again(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        chosen = queryset.count()
        failed = queryset.filter(status=WorkStatus.FAILED, decision=ModelImport.Decision.OPEN).exclude(
            file=""
        )
        done = failed.requeue()  # type: ignore[attr-defined]
        wake_once(examine_imports)
        text = ngettext("%(count)d is examined again.", "%(count)d are examined again.", done)
        skipped = ngettext(
            "%(count)d was left alone: its examination did not fail.",
            "%(count)d were left alone: their examination did not fail.",
            chosen - done,
        )
        given = {"count": chosen - done}
        self.say(request, text % {"count": done}, skipped=skipped % given if chosen > done else "")

    @display(description=_("state"), label=STATE_COLOURS)
    def state(self, row: ModelImport) -> tuple[str, str]:
        if row.decision == ModelImport.Decision.ACCEPTED:
            return "accepted", row.get_decision_display()
        if row.decision == ModelImport.Decision.REFUSED:
            return "refused", row.get_decision_display()
        if row.status == WorkStatus.DONE:
            return "to_decide", row.get_decision_display()
        if row.status == WorkStatus.FAILED:
            return "failed", row.get_status_display()
        return "waiting", gettext("is being examined")

    @display(description=_("state"))
    def state_text(self, row: ModelImport) -> str:
        return self.state(row)[1]

    @display(description=_("labels"))
    def labels_count(self, row: ModelImport) -> str:
        return str(len(row.findings.get("labels", ())) or "–")

    @display(description=_("size"), ordering="size_bytes")
    def size(self, row: ModelImport) -> str:
        return filesizeformat(row.size_bytes)

    @display(description=_("why it was refused"))
    def problem_shown(self, row: ModelImport) -> str:
        if row.problem:
            return problem_text(row.problem, row.problem_details)
        return row.failure_reason or "–"

    @display(description=_("to consider"))
    def notes_shown(self, row: ModelImport) -> str:
        if "labels" not in row.findings:
            return "–"
        texts = [note_text(code, details) for code, details in import_notes(row)]
        return render_to_string("admin/training/dataset_warnings.html", {"texts": texts}) if texts else "–"

    @display(description=_("what it is"))
    def findings_shown(self, row: ModelImport) -> str:
        return render_to_string("admin/training/metrics.html", {"rows": _facts(row)}) if _facts(row) else "–"

    @display(description=_("labels, in the order of the class scores"))
    def labels_shown(self, row: ModelImport) -> str:
        return render_to_string(
            "admin/training/import_labels.html", {"labels": row.findings.get("labels", ())}
        )

    @display(description=_("resulting version"))
    def version_shown(self, row: ModelImport) -> SafeString | str:
        if row.version_id is None:
            return "–"
        address = reverse("admin:training_modelversion_change", args=[row.version_id])
        return format_html('<a href="{}">{}</a>', address, row.version)

    def get_urls(self) -> list[URLPattern]:
        decide = self.admin_site.admin_view(self.decide)
        return [
            path("<int:pk>/accept/", decide, {"accepts": True}, name="training_modelimport_accept"),
            path("<int:pk>/refuse/", decide, {"accepts": False}, name="training_modelimport_refuse"),
            *super().get_urls(),
        ]

    def decide(self, request: HttpRequest, pk: int, *, accepts: bool) -> HttpResponse:
        if not request.user.has_perm("training.change_modelimport"):
            raise PermissionDenied
        row = get_object_or_404(ModelImport.objects.select_related("registered_model"), pk=pk)
        if request.method == "POST":
            self._decided(request, row, accepts=accepts)
            return _page_of(pk)
        title = _("Accept “%(name)s”") if accepts else _("Refuse “%(name)s”")
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": title % {"name": row.name},
            "row": row,
            "accepts": accepts,
            "is_open": row.decision == ModelImport.Decision.OPEN and row.status == WorkStatus.DONE,
            "facts": [*_facts(row), (gettext("SHA-256 as it was sent"), row.sha256)],
            "labels": row.findings.get("labels", ()),
            "notes": [note_text(code, details) for code, details in import_notes(row)] if accepts else [],
        }
        return TemplateResponse(request, "admin/training/import_confirm.html", context)

    def _decided(self, request: HttpRequest, row: ModelImport, *, accepts: bool) -> None:
        by = request.user
        assert isinstance(by, User)
        try:
            if accepts:
                version = accept_import(model_import=row, by=by)
                self.log_change(request, row, f"accepted as {version}")
                messages.success(request, _("%(version)s is a candidate now.") % {"version": version})
            else:
                refuse_import(model_import=row, by=by)
                self.log_change(request, row, "refused")
                messages.success(request, _("Refused; the file is gone."))
        except DecidedError:
            messages.error(request, _("There is nothing to decide on any more, or not yet."))
        except RefusedWeightsError as error:
            messages.error(request, problem_text(error.code, error.details))


def _page_of(pk: int) -> HttpResponse:
    return HttpResponseRedirect(reverse("admin:training_modelimport_change", args=[pk]))


def _facts(row: ModelImport) -> list[tuple[str, str]]:
    found = row.findings
    if "kind" not in found:
        return []
    kinds = {
        "checkpoint": gettext("checkpoint of Ultralytics"),
        "podura": gettext("Podura weights file"),
        "safetensors": "safetensors",
    }
    layers = ngettext("%(n)s layer", "%(n)s layers", found["layers"]) % {"n": found["layers"]}
    return [
        (gettext("kind of file"), kinds.get(found["kind"], str(found["kind"]))),
        (gettext("labels"), str(len(found["labels"]))),
        (gettext("net"), f"{found['head']}, {layers}, {found['scale'] or '–'}"),
        (gettext("parameters"), intcomma(found["parameters"])),
        (gettext("image size (px)"), str(found["image_size_px"])),
        (gettext("typical animal size in training (px)"), localize(found["object_size_px"])),
        (gettext("licence"), "; ".join(found["licences"]) or "–"),
        (gettext("time for a picture on this machine (ms)"), localize(found["milliseconds"])),
        (gettext("size as kept here"), filesizeformat(found["bytes"])),
        (gettext("SHA-256 as kept here"), str(found["sha256"])),
    ]

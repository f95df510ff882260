"""Labels that experts proposed: looked at with the boxes that carry them, accepted or refused on a page that asks."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.text import slugify
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from apps.accounts.models import User
from apps.annotation.models import AnnotatedBox, LabelProposal
from apps.annotation.services.labels import (
    Accepted,
    CodeTakenError,
    ProposalDecidedError,
    accept_proposal,
    refuse_proposal,
)
from apps.common.admin_base import ReadOnlyAdmin, display
from apps.observations.models import Label

STATUS_COLOURS = {"pending": "warning", "accepted": "success", "refused": "danger"}
_BOXES_SHOWN = 50


class AcceptForm(forms.ModelForm):  # type: ignore[type-arg]  # not subscriptable at run time
    """Either a label that is there already, or the fields of a new one."""

    existing = forms.ModelChoiceField(
        Label.objects.none(),
        required=False,
        label=_("It is this label of the survey"),
        help_text=_("Empty: a new label is made of the fields below."),
    )

    class Meta:
        model = Label
        fields = ("code", "scientific_name", "vernacular_en", "vernacular_fr", "rank", "parent", "colour")

    def __init__(self, *args: Any, proposal: LabelProposal, **kwargs: Any) -> None:
        kwargs["initial"] = {"code": _code(proposal.name), "scientific_name": proposal.name}
        super().__init__(*args, **kwargs)
        labels = Label.objects.filter(survey=proposal.survey, is_active=True).order_by("position", "code")
        self.fields["existing"].queryset = labels  # type: ignore[attr-defined]
        self.fields["parent"].queryset = labels  # type: ignore[attr-defined]
        self.fields["code"].required = False
        self.order_fields(["existing"])
        for field in self.fields.values():
            field.widget.attrs["class"] = "podura-input"

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if not cleaned.get("existing") and not cleaned.get("code") and "code" not in self.errors:
            self.add_error("code", _("Give a code, or choose a label that is there already."))
        return cleaned


@admin.register(LabelProposal)
class LabelProposalAdmin(ReadOnlyAdmin):
    list_display = ("name", "survey", "status_shown", "boxes", "proposed_by", "created_at", "decided_by")
    list_select_related = ("survey", "proposed_by", "decided_by")
    list_filter = ("status", "survey")
    search_fields = ("name",)
    search_help_text = _("Name")
    ordering = ("-pk",)
    change_form_before_template = "admin/annotation/proposal_ways.html"
    fields = (
        ("name", "survey"),
        ("status", "label"),
        ("proposed_by", "created_at"),
        ("decided_by", "decided_at"),
        "examples",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[LabelProposal]:
        rows: QuerySet[LabelProposal] = super().get_queryset(request)
        return rows.annotate(box_count=Count("boxes"))

    @display(description=_("status"), label=STATUS_COLOURS, ordering="status")
    def status_shown(self, proposal: LabelProposal) -> tuple[str, str]:
        return proposal.status, proposal.get_status_display()

    @display(description=_("boxes"), ordering="box_count")
    def boxes(self, proposal: LabelProposal) -> int:
        return int(getattr(proposal, "box_count", 0))

    @display(description=_("boxes that carry it"))
    def examples(self, proposal: LabelProposal) -> str:
        boxes = AnnotatedBox.objects.filter(label_proposal=proposal).defer("box")
        related = boxes.select_related("label", "annotation__author", "annotation__task__photo")
        context = {"boxes": related.order_by("-pk")[:_BOXES_SHOWN]}
        return render_to_string("admin/annotation/proposal_boxes.html", context)

    def get_urls(self) -> list[URLPattern]:
        accept, refuse = self.admin_site.admin_view(self.accept), self.admin_site.admin_view(self.refuse)
        return [
            path("<int:pk>/accept/", accept, name="annotation_labelproposal_accept"),
            path("<int:pk>/refuse/", refuse, name="annotation_labelproposal_refuse"),
            *super().get_urls(),
        ]

    def accept(self, request: HttpRequest, pk: int) -> HttpResponse:
        proposal = self._asked(request, pk)
        form = AcceptForm(request.POST if request.method == "POST" else None, proposal=proposal)
        if request.method == "POST" and form.is_valid():
            fields = form.cleaned_data
            existing = fields.pop("existing")
            try:
                accepted = accept_proposal(
                    proposal=proposal, by=_curator(request), existing=existing, **fields
                )
            except CodeTakenError:
                form.add_error("code", _("The survey has a label of this code already: choose it above."))
            except ProposalDecidedError:
                return self._decided(request, pk)
            else:
                self.log_change(request, proposal, f"accepted as {accepted.label.code}")
                self._tell(request, proposal, accepted)
                return _back(pk)
        context = {"form": form, "title": _("Accept “%(name)s”") % {"name": proposal.name}}
        return self._page(request, "admin/annotation/proposal_accept.html", proposal, context, form.errors)

    def refuse(self, request: HttpRequest, pk: int) -> HttpResponse:
        proposal = self._asked(request, pk)
        if request.method == "POST":
            try:
                refuse_proposal(proposal=proposal, by=_curator(request))
            except ProposalDecidedError:
                return self._decided(request, pk)
            self.log_change(request, proposal, "refused")
            messages.success(
                request, _("“%(name)s” is refused; its boxes keep their labels.") % {"name": proposal}
            )
            return _back(pk)
        context = {"title": _("Refuse “%(name)s”") % {"name": proposal.name}}
        return self._page(request, "admin/annotation/proposal_refuse.html", proposal, context)

    def _asked(self, request: HttpRequest, pk: int) -> LabelProposal:
        if not request.user.has_perm("annotation.change_labelproposal"):
            raise PermissionDenied
        proposals = LabelProposal.objects.select_related("survey", "proposed_by")
        return get_object_or_404(proposals.annotate(box_count=Count("boxes")), pk=pk)

    def _decided(self, request: HttpRequest, pk: int) -> HttpResponse:
        messages.warning(request, _("Somebody has decided about this proposal before."))
        return _back(pk)

    def _tell(self, request: HttpRequest, proposal: LabelProposal, accepted: Accepted) -> None:
        said = ngettext(
            "“%(name)s” is the label %(code)s now; %(n)s box carries it.",
            "“%(name)s” is the label %(code)s now; %(n)s boxes carry it.",
            accepted.boxes,
        )
        names = {"name": proposal.name, "code": accepted.label.code, "n": accepted.boxes}
        left = ngettext(
            "%(n)s box of a photo that is not public was left alone.",
            "%(n)s boxes of photos that are not public were left alone.",
            accepted.left_alone,
        )
        skipped = left % {"n": accepted.left_alone} if accepted.left_alone else ""
        self.say(request, said % names, skipped=skipped)

    def _page(
        self,
        request: HttpRequest,
        template: str,
        proposal: LabelProposal,
        context: dict[str, Any],
        errors: Any = None,
    ) -> HttpResponse:
        whole = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "proposal": proposal,
            **context,
        }
        if proposal.status != LabelProposal.Status.PENDING:
            return self._decided(request, proposal.pk)
        return TemplateResponse(request, template, whole, status=422 if errors else 200)


def _back(pk: int) -> HttpResponse:
    return HttpResponseRedirect(reverse("admin:annotation_labelproposal_change", args=[pk]))


def _curator(request: HttpRequest) -> User:
    assert isinstance(request.user, User)
    return request.user


def _code(name: str) -> str:
    """A code to begin with, as laboratories write them: ISO_MIN for "Isotomiella minor"."""
    words = slugify(name).split("-")
    return "_".join(word[:3] for word in words[:3]).upper()[:40]

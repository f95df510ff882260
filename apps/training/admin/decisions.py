"""Pages on which a curator decides: what it is about, what to know before, why, one button. Then the service, and its answer."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils.translation import gettext_lazy as _
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextareaWidget

from apps.accounts.models import User
from apps.common.admin_base import FastAdmin
from apps.training.models import Dataset, ModelVersion, PromotionPolicy, RegisteredModel
from apps.training.promotion_texts import PromotionError
from apps.training.services.promotion import POLICY_FIELDS, REASON_LIMIT


class ReasonForm(forms.Form):
    """Why, for the record; and what stood on the page, so that nobody decides on numbers that are no longer so."""

    is_reason_required = False
    reason = forms.CharField(
        label=_("Reason"),
        required=False,
        max_length=REASON_LIMIT,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}),
        help_text=_("Kept with the decision for ever."),
    )
    expected = forms.CharField(required=False, widget=forms.HiddenInput)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["reason"].required = self.is_reason_required

    def expectation(self, model: RegisteredModel) -> dict[str, Any]:
        """For the service: which version served when the page was made."""
        text = self.cleaned_data["expected"]
        if not text:
            return {}
        if text == "none":
            return {"expected": None}
        known = text.isascii() and text.isdecimal() and len(text) < 19
        return {"expected": model.versions.filter(pk=int(text)).first() if known else None}


class RequiredReasonForm(ReasonForm):
    is_reason_required = True


class CompareForm(forms.Form):
    dataset = forms.ModelChoiceField(
        label=_("dataset"),
        queryset=Dataset.objects.none(),
        widget=UnfoldAdminSelectWidget,
        help_text=_(
            "Its test photos, and those of the version in production, without any that either side learned from."
        ),
    )


class PolicyForm(forms.ModelForm):  # type: ignore[type-arg]  # not subscriptable at run time
    reason = forms.CharField(
        label=_("Reason"),
        required=False,
        max_length=REASON_LIMIT,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}),
    )

    class Meta:
        model = PromotionPolicy
        fields = POLICY_FIELDS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["max_map_loss"].label = _(
            "mAP50-95 may be lower by"
        )  # not MAP50-95, as Django would begin it
        for name in POLICY_FIELDS:
            self.fields[name].widget.attrs["class"] = "podura-input"


@dataclass(slots=True)
class Confirmation:
    """What a page asks before `act` is called with the form."""

    title: str
    submit: str
    back: str
    act: Callable[[Any], str]
    """Gives the sentence that tells it was done. May raise `PromotionError`."""
    form: Callable[..., forms.BaseForm] = ReasonForm
    permission: str = "training.promote_modelversion"
    text: str = ""
    warnings: list[str] = field(default_factory=list)
    rows: list[tuple[str, str, str]] = field(default_factory=list)
    """Numbers of the version in production and of the other."""
    heads: tuple[str, str] = ("", "")
    rules: list[Any] = field(default_factory=list)
    initial: dict[str, Any] = field(default_factory=dict)


def confirmed(request: HttpRequest, model_admin: FastAdmin, page: Confirmation) -> HttpResponse:
    """Show the page, or do it."""
    if not request.user.has_perm(page.permission):
        raise PermissionDenied
    form = page.form(request.POST if request.method == "POST" else None, initial=page.initial)
    if form.is_valid():
        try:
            done = page.act(form)
        except PromotionError as error:
            form.add_error(None, error.sentence)
        except ValidationError as error:
            form.add_error(None, error)
        else:
            messages.success(request, done)
            return HttpResponseRedirect(page.back)
    context = {
        **model_admin.admin_site.each_context(request),
        "opts": model_admin.opts,
        "title": page.title,
        "page": page,
        "form": form,
    }
    # A refused decision is no page that was found and is fine.
    status = 422 if form.is_bound and form.errors else 200
    return TemplateResponse(request, "admin/training/decision.html", context, status=status)


def serving_key(version: ModelVersion | None) -> str:
    return str(version.pk) if version else "none"


def curator_of(request: HttpRequest) -> User:
    assert isinstance(request.user, User)
    return request.user

"""The rules of a survey's queue."""

from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from apps.accounts.models import User
from apps.annotation.models import AnnotationPolicy, QueueUpdate
from apps.annotation.services.ranking import request_update
from apps.annotation.services.readiness import ready_to_train
from apps.common.admin_base import FastAdmin, display

#: Changes of these make other scores, or another number of answers, of photos that wait already.
RANKING_FIELDS = frozenset(
    {
        "strategy",
        "top_k",
        "doubtful_below",
        "doubtful_more_than",
        "empty_photos",
        "comment_weight",
        "experts_per_photo",
    }
)


class PolicyForm(forms.ModelForm):  # type: ignore[type-arg]  # not subscriptable at run time
    class Meta:
        model = AnnotationPolicy
        exclude: tuple[str, ...] = ()

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        control, validation = cleaned.get("control_fraction"), cleaned.get("validation_share")
        if control is not None and validation is not None and control + validation >= 1:
            raise ValidationError(
                {"validation_share": _("Control arm and validation together leave nothing for training.")}
            )
        return cleaned


@admin.register(AnnotationPolicy)
class PolicyAdmin(FastAdmin):
    form = PolicyForm
    list_display = ("survey", "strategy", "experts_per_photo", "control_shown", "golden_rate", "train_after")
    list_select_related = ("survey",)
    ordering = ("survey__position", "survey__slug")
    search_fields = ("survey__slug", "survey__name_en", "survey__name_fr")
    search_help_text = _("Name or short name of the survey")
    readonly_fields = ("survey", "given", "seed", "next_training")
    fieldsets = (
        (None, {"fields": ("survey",)}),
        (
            _("Order"),
            {
                "fields": (
                    "strategy",
                    ("top_k", "doubtful_below", "doubtful_more_than"),
                    ("empty_photos", "comment_weight"),
                    "duplicate_distance",
                ),
                "description": _(
                    "The uncertainty of a box is 1 - (P1 - P2), from the scores of its two best labels. Photos with the "
                    "highest score come first. After a change the whole queue is ranked anew in the background."
                ),
            },
        ),
        (
            _("Experts"),
            {
                "fields": (
                    ("experts_per_photo", "consensus_iou"),
                    ("lease_minutes", "golden_rate"),
                ),
                "description": _(
                    "Experts do not see one another's answers. A photo is one expert's for so many minutes from the "
                    "last action."
                ),
            },
        ),
        (
            _("Test and training"),
            {
                "fields": (
                    ("control_fraction", "validation_share"),
                    ("train_after", "trains_by_itself"),
                    "next_training",
                    ("given", "seed"),
                ),
                "description": _(
                    "Arm and split of a photo are drawn when it is queued and never change; new shares count for "
                    "photos queued from now on."
                ),
            },
        ),
    )

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False  # each survey has its rules from its first photo on

    def has_delete_permission(self, request: HttpRequest, obj: AnnotationPolicy | None = None) -> bool:
        return False

    @display(description=_("control arm"))
    def control_shown(self, policy: AnnotationPolicy) -> str:
        return f"{policy.control_fraction:.0%}"

    @display(description=_("next training"))
    def next_training(self, policy: AnnotationPolicy) -> SafeString:
        address = reverse("annotation:model", args=[policy.survey.slug])
        sentence = ready_to_train(policy.survey).sentence
        return format_html('{} <a href="{}">{}</a>', sentence, address, gettext("The model"))

    @display(description=_("given so far"))
    def given(self, policy: AnnotationPolicy) -> str:
        return gettext("%(active)d by uncertainty, %(control)d from the control arm") % {
            "active": policy.active_given,
            "control": policy.control_given,
        }

    def save_model(self, request: HttpRequest, obj: AnnotationPolicy, form: Any, change: bool) -> None:
        # Only what was edited: the counters go on while somebody has the form open.
        obj.save(update_fields=form.changed_data)
        if RANKING_FIELDS & set(form.changed_data):
            by = request.user
            assert isinstance(by, User)
            request_update(survey=obj.survey, reason=QueueUpdate.Reason.RULES, by=by)
            self.say(request, gettext("The queue is being ranked anew."))

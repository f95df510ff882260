"""Registered models with the rules of their promotion, and the record of every decision."""

import json
from copy import copy
from functools import partial
from typing import Any, ClassVar

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template.loader import render_to_string
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from apps.common.admin_base import FastAdmin, ReadOnlyAdmin, display
from apps.training.admin.decisions import (
    Confirmation,
    PolicyForm,
    ReasonForm,
    RequiredReasonForm,
    confirmed,
    curator_of,
)
from apps.training.admin.tables import SHOWN, cell, comparison_table, event_table, table
from apps.training.hooks import names_of
from apps.training.models import Comparison, ModelVersion, PromotionEvent, PromotionPolicy, RegisteredModel
from apps.training.promotion_texts import shown_rules
from apps.training.services.promotion import (
    POLICY_FIELDS,
    change_policy,
    freeze_promotion,
    thaw_promotion,
)

KIND_COLOURS = {
    "promoted": "success",
    "promoted_gate": "success",
    "overridden": "warning",
    "refused": "danger",
    "refused_gate": "danger",
    "rolled_back": "warning",
    "rolled_back_fail": "danger",
    "frozen": "info",
    "thawed": "info",
    "rules_changed": "info",
}


@admin.register(RegisteredModel)
class RegisteredModelAdmin(FastAdmin):
    list_display = ("name", "production", "promotion", "description", "created_at")
    search_fields = ("name",)
    search_help_text = _("Name")
    change_form_before_template = "admin/training/model_head.html"

    def get_fields(self, request: HttpRequest, obj: Any = None) -> tuple[Any, ...]:
        if obj is None:
            return ("name", "description")
        shown = ("rules_shown", "versions_shown", "comparisons_shown", "decisions_shown")
        return ("name", "description", ("production", "promotion_state"), *shown, "created_at")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        shown = ("rules_shown", "versions_shown", "comparisons_shown", "decisions_shown")
        return ("production", "promotion_state", *shown, "created_at")

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).select_related("promotion_policy").prefetch_related("versions")

    @display(description=_("in production"))
    def production(self, model: RegisteredModel) -> str:
        serving = (
            version for version in model.versions.all() if version.stage == ModelVersion.Stage.PRODUCTION
        )
        return next((f"v{version.number}" for version in serving), "–")

    @display(
        description=_("promotion"), label={"automatic": "success", "manual": "info", "frozen": "warning"}
    )
    def promotion(self, model: RegisteredModel) -> tuple[str, str]:
        policy = _policy_shown(model)
        if policy.is_frozen:
            return "frozen", gettext("frozen")
        is_automatic = policy.promotion == PromotionPolicy.Promotion.AUTOMATIC
        return policy.promotion, gettext("automatic") if is_automatic else gettext("manual")

    @display(description=_("promotion"))
    def promotion_state(self, model: RegisteredModel) -> str:
        return self.promotion(model)[1]

    @display(description=_("rules of promotion"))
    def rules_shown(self, model: RegisteredModel) -> str:
        policy = _policy_shown(model)
        rows = [[cell(_rule_name(name)), cell(_policy_value(policy, name))] for name in POLICY_FIELDS]
        return table(gettext("rules of promotion"), [gettext("rule"), gettext("value")], rows)

    @display(description=_("versions"))
    def versions_shown(self, model: RegisteredModel) -> str:
        rows = [
            [
                cell(one, reverse("admin:training_modelversion_change", args=[one.pk])),
                cell(one.get_stage_display()),
                cell(one.promoted_at),
                cell(gettext("roll back …"), reverse("admin:training_modelversion_roll_back", args=[one.pk]))
                if _can_go_back(one)
                else cell(gettext("cannot be loaded") if one.unusable_reason else ""),
            ]
            for one in model.versions.select_related("registered_model").order_by("-number")[:SHOWN]
        ]
        heads = [gettext("version"), gettext("stage"), gettext("last promoted"), gettext("go back")]
        return table(gettext("versions"), heads, rows)

    @display(description=_("comparisons"))
    def comparisons_shown(self, model: RegisteredModel) -> str:
        return comparison_table(Comparison.objects.filter(registered_model=model))

    @display(description=_("decisions"))
    def decisions_shown(self, model: RegisteredModel) -> str:
        return event_table(PromotionEvent.objects.filter(registered_model=model))

    def get_urls(self) -> list[URLPattern]:
        urls = [
            path(
                f"<int:pk>/{action}/",
                self.admin_site.admin_view(partial(self.decide, action=action)),
                name=f"training_registeredmodel_{action}",
            )
            for action in ("rules", "freeze", "thaw")
        ]
        return [*urls, *super().get_urls()]

    def decide(self, request: HttpRequest, pk: int, action: str) -> HttpResponse:
        model = get_object_or_404(RegisteredModel, pk=pk)
        page = {"rules": _rules, "freeze": _freeze, "thaw": _thaw}[action]
        return confirmed(request, self, page(request, model))


@admin.register(PromotionEvent)
class PromotionEventAdmin(ReadOnlyAdmin):
    """To be read. Nobody adds, changes or deletes a row, and the database refuses it as well."""

    list_display = (
        "at",
        "kind_shown",
        "registered_model",
        "from_version",
        "to_version",
        "by_shown",
        "reason_cut",
    )
    list_select_related = (
        "registered_model",
        "from_version__registered_model",
        "to_version__registered_model",
    )
    list_filter = ("registered_model", "kind")
    ordering = ("-pk",)
    identity_lookups = {"number": "pk", "email": "by__email__iexact"}
    fields = (
        ("kind", "registered_model"),
        ("at", "by_shown"),
        ("from_version", "to_version"),
        "reason",
        "comparison",
        "evidence_shown",
    )

    class Media:
        css: ClassVar[dict[str, list[str]]] = {"all": ["admin_podura/decisions.css"]}

    @display(description=_("decision"), label=KIND_COLOURS, ordering="kind")
    def kind_shown(self, event: PromotionEvent) -> tuple[str, str]:
        return event.kind, event.get_kind_display()

    @display(description=_("by"))
    def by_shown(self, event: PromotionEvent) -> str:
        return event.by_name or gettext("by itself")

    @display(description=_("reason"))
    def reason_cut(self, event: PromotionEvent) -> str:
        return event.reason if len(event.reason) <= 80 else event.reason[:79] + "…"

    @display(description=_("evidence"))
    def evidence_shown(self, event: PromotionEvent) -> str:
        if rules := event.evidence.get("rules"):
            context = {
                "rules": shown_rules(rules, names_of(event.registered_model)),
                "champion": event.from_version,
                "challenger": event.to_version,
            }
            return render_to_string("admin/training/rules.html", context)
        rows = [
            [
                cell(_rule_name(name)),
                cell(before),
                cell(after),
            ]
            for name, (before, after) in event.evidence.get("changes", {}).items()
        ]
        if rows:
            return table(gettext("evidence"), [gettext("rule"), gettext("before"), gettext("after")], rows)
        return json.dumps(event.evidence) if event.evidence else "–"


def _can_go_back(version: ModelVersion) -> bool:
    is_serving = version.stage == ModelVersion.Stage.PRODUCTION
    return bool(version.promoted_at) and not version.unusable_reason and not is_serving


def _policy_shown(model: RegisteredModel) -> PromotionPolicy:
    """To be read: the defaults are written down by the first decision, not by whoever looks."""
    return getattr(model, "promotion_policy", None) or PromotionPolicy(registered_model=model)


def _rule_name(name: str) -> Any:
    field: Any = PromotionPolicy._meta.get_field(name)
    return field.verbose_name


def _policy_value(policy: PromotionPolicy, name: str) -> Any:
    return policy.get_promotion_display() if name == "promotion" else getattr(policy, name)


def _back(model: RegisteredModel) -> str:
    return reverse("admin:training_registeredmodel_change", args=[model.pk])


def _rules(request: HttpRequest, model: RegisteredModel) -> Confirmation:
    def form(data: Any, *, initial: dict[str, Any]) -> PolicyForm:
        # A copy, so that what is typed does not stand in the row that the page shows.
        return PolicyForm(data, instance=copy(_policy_shown(model)), initial=initial)

    def act(bound: PolicyForm) -> str:
        values = {name: bound.cleaned_data[name] for name in POLICY_FIELDS}
        reason = bound.cleaned_data["reason"]
        change_policy(model=model, changes=values, by=curator_of(request), reason=reason)
        return gettext("The rules hold from the next comparison on.")

    return Confirmation(
        title=gettext("Rules of promotion of %(model)s") % {"model": model},
        submit=gettext("Save"),
        back=_back(model),
        act=act,
        form=form,
        permission="training.change_promotionpolicy",
        text=gettext("What is changed is kept in the record, with what stood before."),
    )


def _freeze(request: HttpRequest, model: RegisteredModel) -> Confirmation:
    def act(form: ReasonForm) -> str:
        freeze_promotion(model=model, by=curator_of(request), reason=form.cleaned_data["reason"])
        return gettext("Promotion of %(model)s is frozen.") % {"model": model}

    return Confirmation(
        title=gettext("Freeze promotion of %(model)s") % {"model": model},
        submit=gettext("Freeze"),
        back=_back(model),
        act=act,
        form=RequiredReasonForm,
        text=gettext(
            "No version goes live until it is released, neither by the gate nor by a curator. Going back to an earlier version "
            "stays possible."
        ),
    )


def _thaw(request: HttpRequest, model: RegisteredModel) -> Confirmation:
    def act(form: ReasonForm) -> str:
        thaw_promotion(model=model, by=curator_of(request), reason=form.cleaned_data["reason"])
        return gettext("Promotion of %(model)s is released.") % {"model": model}

    return Confirmation(
        title=gettext("Release promotion of %(model)s") % {"model": model},
        submit=gettext("Release"),
        back=_back(model),
        act=act,
        form=ReasonForm,
        text=gettext(
            "What passed the gate meanwhile does not go live by itself: promote it, or compare it again."
        ),
    )

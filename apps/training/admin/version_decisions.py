"""What a curator can decide about one version: promote, promote against the gate, refuse, go back to it, compare it."""

from typing import Any

from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils.translation import gettext as _

from apps.common.admin_base import FastAdmin
from apps.common.leased import WorkStatus
from apps.common.numbers import number
from apps.training.admin.decisions import (
    CompareForm,
    Confirmation,
    ReasonForm,
    RequiredReasonForm,
    confirmed,
    curator_of,
    serving_key,
)
from apps.training.evaluation_page import tallies_of
from apps.training.hooks import names_of, serving_warnings
from apps.training.models import Comparison, Dataset, ModelVersion, PromotionEvent
from apps.training.promotion_texts import PromotionError, shown_rules
from apps.training.services.comparisons import request_comparison
from apps.training.services.gate_photos import dataset_for
from apps.training.services.promotion import promote, refuse, roll_back

ACTIONS = ("promote", "override", "refuse", "roll_back", "compare")


def decide(request: HttpRequest, model_admin: FastAdmin, pk: int, action: str) -> HttpResponse:
    version = get_object_or_404(ModelVersion.objects.select_related("registered_model"), pk=pk)
    page = {
        "promote": _promote,
        "override": _override,
        "refuse": _refuse,
        "roll_back": _roll_back,
        "compare": _compare,
    }[action]
    return confirmed(request, model_admin, page(request, version))


def _promote(request: HttpRequest, version: ModelVersion, *, kind: str = "") -> Confirmation:
    current = version.registered_model.production_version
    comparison = _comparison(request, version)
    overridden = kind == PromotionEvent.Kind.OVERRIDDEN

    def act(form: ReasonForm) -> str:
        promote(
            version=version,
            by=curator_of(request),
            reason=form.cleaned_data["reason"],
            comparison=comparison,
            kind=kind or None,
            **form.expectation(version.registered_model),
        )
        return _("%(version)s is in production now.") % {"version": version}

    title = _("Promote %(version)s against the gate") if overridden else _("Promote %(version)s")
    return Confirmation(
        title=title % {"version": version},
        submit=_("Put into production"),
        back=_back(version, comparison),
        act=act,
        form=RequiredReasonForm if overridden else ReasonForm,
        text=_(
            "New photos are detected with this version from now on. Results that stand are kept until they are detected "
            "again. Going back is the same step with the former version."
        ),
        warnings=_warnings(version, current, comparison),
        rows=_numbers(current, version),
        heads=_heads(current, version),
        rules=shown_rules(comparison.rules, names_of(version.registered_model)) if comparison else [],
        initial={"expected": serving_key(current)},
    )


def _override(request: HttpRequest, version: ModelVersion) -> Confirmation:
    return _promote(request, version, kind=PromotionEvent.Kind.OVERRIDDEN)


def _refuse(request: HttpRequest, version: ModelVersion) -> Confirmation:
    comparison = _comparison(request, version)

    def act(form: ReasonForm) -> str:
        reason = form.cleaned_data["reason"]
        refuse(version=version, by=curator_of(request), reason=reason, comparison=comparison)
        return _("%(version)s is refused.") % {"version": version}

    return Confirmation(
        title=_("Refuse %(version)s") % {"version": version},
        submit=_("Refuse"),
        back=_back(version, comparison),
        act=act,
        form=RequiredReasonForm,
        text=_(
            "It does not go live. Its weights and reports stay; it can be promoted against this decision."
        ),
    )


def _roll_back(request: HttpRequest, version: ModelVersion) -> Confirmation:
    model = version.registered_model
    current = model.production_version

    def act(form: ReasonForm) -> str:
        reason = form.cleaned_data["reason"]
        roll_back(model=model, to=version, by=curator_of(request), reason=reason, **form.expectation(model))
        return _("%(version)s serves again.") % {"version": version}

    return Confirmation(
        title=_("Roll back to %(version)s") % {"version": version},
        submit=_("Roll back"),
        back=reverse("admin:training_registeredmodel_change", args=[model.pk]),
        act=act,
        form=RequiredReasonForm,
        text=_(
            "Workers take it between two batches; no photo is lost. Recent photos and those that nobody decided on are "
            "detected again."
        ),
        warnings=_warnings(version, current, None),
        rows=_numbers(current, version),
        heads=_heads(current, version),
        initial={"expected": serving_key(current)},
    )


def _compare(request: HttpRequest, version: ModelVersion) -> Confirmation:
    datasets = Dataset.objects.filter(registered_model=version.registered_model_id).order_by("-pk")

    def form(*args: Any, **kwargs: Any) -> CompareForm:
        made = CompareForm(*args, **kwargs)
        made.fields["dataset"].queryset = datasets  # type: ignore[attr-defined]
        return made

    def act(bound: CompareForm) -> str:
        wanted = bound.cleaned_data["dataset"]
        comparison = request_comparison(challenger=version, dataset=wanted, by=curator_of(request))
        if comparison.dataset_id != wanted.pk:
            raise PromotionError("under_way", dataset=str(comparison.dataset))
        return _("The comparison is queued. What it finds stands below.")

    return Confirmation(
        title=_("Compare %(version)s with the version in production") % {"version": version},
        submit=_("Compare"),
        back=reverse("admin:training_modelversion_change", args=[version.pk]),
        act=act,
        form=form,
        permission="training.add_comparison",
        text=_(
            "Both are measured in one go. With automatic promotion, a version that passes the gate goes live by itself."
        ),
        initial={"dataset": dataset_for(version)},
    )


def _comparison(request: HttpRequest, version: ModelVersion) -> Comparison | None:
    """The one whose page the curator comes from."""
    text = request.GET.get("comparison", "")
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        return None
    rows = Comparison.objects.filter(challenger=version, status=WorkStatus.DONE)
    found: Comparison | None = rows.filter(pk=int(text)).first()
    return found


def _back(version: ModelVersion, comparison: Comparison | None) -> str:
    if comparison:
        return reverse("admin:training_comparison_change", args=[comparison.pk])
    return reverse("admin:training_modelversion_change", args=[version.pk])


def _warnings(
    version: ModelVersion, current: ModelVersion | None, comparison: Comparison | None
) -> list[str]:
    found = [sentence for answer in serving_warnings.sound_answers(version) for sentence in answer]
    if current == version:
        found.insert(0, _("%(version)s is in production already.") % {"version": version})
    lost = [code for code in (current.labels if current else []) if code not in version.labels]
    if lost:
        names = names_of(version.registered_model)
        said = ", ".join(names.get(code, code) for code in lost)
        found.append(_("It does not know these labels: %(labels)s.") % {"labels": said})
    if comparison is not None and comparison.champion != current:
        found.append(
            _("Production has changed since this comparison: %(current)s serves now. Compare again.")
            % {"current": current or "–"}
        )
    return found


def _heads(current: ModelVersion | None, version: ModelVersion) -> tuple[str, str]:
    return ("", "") if current == version else (str(current or "–"), str(version))


def _numbers(current: ModelVersion | None, version: ModelVersion) -> list[tuple[str, str, str]]:
    """Of the last comparison of the two: what either brought along was measured on other photos and says nothing here."""
    pairs = Q(champion=current, challenger=version) | Q(champion=version, challenger=current)
    related = ("champion_evaluation", "challenger_evaluation")
    last = (
        Comparison.objects.filter(pairs, status=WorkStatus.DONE)
        .select_related(*related)
        .order_by("-pk")
        .first()
    )
    if current is None or last is None or not (last.champion_evaluation and last.challenger_evaluation):
        return []
    before, after = last.champion_evaluation, last.challenger_evaluation
    if last.challenger_id != version.pk:
        before, after = after, before
    return [
        (then.title, number(then.value, places=then.digits), number(now.value, places=now.digits))
        for then, now in zip(tallies_of(before.metrics), tallies_of(after.metrics), strict=True)
    ]

"""Which version serves: every decision is one pointer and one row of the record, in one transaction.

Decisions on a model wait for each other at the row of the registered model, so that each sees what the one before left.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import structlog
from django.db import transaction
from django.utils import timezone

from apps.accounts.models import User
from apps.common.leased import WorkStatus
from apps.training.gate import Gate
from apps.training.models import Comparison, ModelVersion, PromotionEvent, PromotionPolicy, RegisteredModel
from apps.training.promotion_texts import NotPromotableError, OvertakenError, PromotionError
from apps.training.signals import model_promoted

logger = structlog.get_logger(__name__)

Kind = PromotionEvent.Kind
Stage = ModelVersion.Stage
REASON_LIMIT: Final = 2_000
POLICY_FIELDS: Final = ("promotion", *Gate.__slots__)
_WHICHEVER: Final = object()


def policy_of(model: RegisteredModel | int) -> PromotionPolicy:
    """The gate of a model; made with its defaults at the first look."""
    pk = model if isinstance(model, int) else model.pk
    policy, _made = PromotionPolicy.objects.get_or_create(registered_model_id=pk)
    return policy


def promote(
    *,
    version: ModelVersion,
    by: User | None = None,
    reason: str = "",
    comparison: Comparison | None = None,
    kind: str | None = None,
    expected: ModelVersion | object | None = _WHICHEVER,
) -> ModelVersion:
    """Put a version into production; the former one is archived in the same moment. One that serves already stays.

    `expected` is what the decision was taken against: raises `OvertakenError` where another version serves by now. So it is
    for the champion of a `comparison`. A refused version goes live by `kind` overridden only, with a reason. Raises
    `NotPromotableError`.
    """
    kind = kind or Kind.PROMOTED
    with transaction.atomic():
        policy = _locked(version.registered_model_id)
        current = ModelVersion.objects.select_for_update(no_key=True).get(pk=version.pk)
        serving = _serving(current.registered_model_id)
        if comparison is not None:
            comparison = _checked(comparison, current)
            if expected is _WHICHEVER:
                expected = comparison.champion
        if current.stage == Stage.PRODUCTION:
            version.stage, version.promoted_at = current.stage, current.promoted_at
            return version
        reason = _reason(reason, needed=kind == Kind.OVERRIDDEN)
        _check_promotable(current, kind=kind, policy=policy, comparison=comparison)
        if expected is not _WHICHEVER and expected != serving:
            raise OvertakenError("overtaken", current=str(serving or "–"))
        _swap(current, serving, kind=kind, by=by, reason=reason, comparison=comparison)
        overridden = kind == Kind.OVERRIDDEN
        decision = Comparison.Decision.OVERRIDDEN if overridden else Comparison.Decision.PROMOTED
        _settle(current, decision, comparison)
    version.stage, version.promoted_at = current.stage, current.promoted_at
    return version


def refuse(
    *,
    version: ModelVersion,
    by: User | None = None,
    reason: str = "",
    comparison: Comparison | None = None,
    kind: str | None = None,
) -> ModelVersion:
    """Take a candidate out of the race; its reports stay. A curator says why. Raises `PromotionError`."""
    kind = kind or Kind.REFUSED
    with transaction.atomic():
        _locked(version.registered_model_id)
        current = ModelVersion.objects.select_for_update(no_key=True).get(pk=version.pk)
        if comparison is not None:
            comparison = _checked(comparison, current)
        if current.stage == Stage.PRODUCTION:
            raise PromotionError("serves", version=str(current))
        reason = _reason(reason, needed=kind == Kind.REFUSED)
        if current.stage == Stage.CANDIDATE:
            ModelVersion.objects.filter(pk=current.pk).update(stage=Stage.REFUSED)
            current.stage = Stage.REFUSED
        _write(
            current.registered_model_id,
            kind,
            by=by,
            reason=reason,
            from_version=_serving(current.registered_model_id),
            to_version=current,
            comparison=comparison,
        )
        _settle(current, Comparison.Decision.REFUSED, comparison)
    version.stage = current.stage
    return version


def readmit(version: ModelVersion) -> bool:
    """A version that passes the gate is a candidate again if the gate alone had refused it: by another champion, on other
    photos, or on a machine that was busy. What a curator refused waits for a curator. Gives whether it was so.
    """
    with transaction.atomic():
        _locked(version.registered_model_id)
        if PromotionEvent.objects.filter(to_version=version, kind=Kind.REFUSED).exists():
            return False
        refused = ModelVersion.objects.filter(pk=version.pk, stage=Stage.REFUSED)
        is_readmitted = bool(refused.update(stage=Stage.CANDIDATE))
    if is_readmitted:
        version.stage = Stage.CANDIDATE
    return is_readmitted


def roll_back(
    *,
    model: RegisteredModel,
    to: ModelVersion,
    by: User | None = None,
    reason: str = "",
    expected: ModelVersion | object | None = _WHICHEVER,
) -> ModelVersion:
    """Go back to a version that has served before, also while promotion is frozen. Raises `NotPromotableError`."""
    with transaction.atomic():
        _locked(model.pk)
        current = ModelVersion.objects.select_for_update(no_key=True).get(pk=to.pk)
        if current.registered_model_id != model.pk:
            raise NotPromotableError("other_model", version=str(current), model=str(model))
        if current.stage == Stage.PRODUCTION:
            raise NotPromotableError("already_serving", version=str(current))
        if current.promoted_at is None:
            raise NotPromotableError("never_served", version=str(current))
        if current.unusable_reason:
            raise NotPromotableError("unusable", version=str(current), reason=current.unusable_reason)
        serving = _serving(model.pk)
        if expected is not _WHICHEVER and expected != serving:
            raise OvertakenError("overtaken", current=str(serving or "–"))
        _swap(current, serving, kind=Kind.ROLLED_BACK, by=by, reason=_reason(reason, needed=True))
    to.stage, to.promoted_at = current.stage, current.promoted_at
    return to


def freeze_promotion(*, model: RegisteredModel, by: User | None = None, reason: str = "") -> PromotionPolicy:
    """Nothing goes live until it is released; going back stays possible. Raises `PromotionError`."""
    with transaction.atomic():
        policy = _locked(model.pk)
        if policy.is_frozen:
            raise PromotionError("already_frozen", model=str(model))
        reason = _reason(reason, needed=True, limit=500)
        policy.is_frozen, policy.frozen_reason = True, reason
        policy.save(update_fields=["is_frozen", "frozen_reason"])
        _write(model.pk, Kind.FROZEN, by=by, reason=reason, from_version=_serving(model.pk))
    return policy


def thaw_promotion(*, model: RegisteredModel, by: User | None = None, reason: str = "") -> PromotionPolicy:
    """Release the promotion. What passed the gate meanwhile waits for a curator. Raises `PromotionError`."""
    with transaction.atomic():
        policy = _locked(model.pk)
        if not policy.is_frozen:
            raise PromotionError("not_frozen", model=str(model))
        reason = _reason(reason, needed=False, limit=500)
        policy.is_frozen, policy.frozen_reason = False, ""
        policy.save(update_fields=["is_frozen", "frozen_reason"])
        _write(model.pk, Kind.THAWED, by=by, reason=reason, from_version=_serving(model.pk))
    return policy


def change_policy(
    *, model: RegisteredModel, changes: Mapping[str, Any], by: User | None = None, reason: str = ""
) -> PromotionPolicy:
    """Set rules of the gate; the record says what stood before. Raises `ValidationError` by field."""
    unknown = sorted(set(changes) - set(POLICY_FIELDS))
    if unknown:
        raise ValueError(f"no rules of the gate: {', '.join(unknown)}")
    with transaction.atomic():
        policy = _locked(model.pk)
        before = {name: getattr(policy, name) for name in changes}
        for name, value in changes.items():
            setattr(policy, name, value)
        policy.full_clean()
        changed = {
            name: [before[name], getattr(policy, name)]
            for name in changes
            if before[name] != getattr(policy, name)
        }
        if changed:
            policy.save(update_fields=list(changed))
            evidence = {"changes": changed}
            _write(
                model.pk,
                Kind.RULES_CHANGED,
                by=by,
                reason=_reason(reason, needed=False),
                evidence=evidence,
            )
    return policy


def report_unloadable(version: ModelVersion, reason: str) -> ModelVersion | None:
    """A worker could not load the version that serves: go back to the last one that it can load, and tell the curators.

    Gives the version that serves from now on; None where nothing was changed. Several workers may report the same: one goes
    back, the others find it done. A version that another one replaced meanwhile is marked and nothing else.
    """
    from apps.training.inference import is_loadable_here
    from apps.training.services.promotion_mails import tell_failure

    reason = reason[:500]
    back_to = next((former for former in _former(version) if is_loadable_here(former)), None)
    if back_to is None:
        with transaction.atomic():
            tell_failure(version, None, reason)
        return None
    with transaction.atomic():
        _locked(version.registered_model_id)
        serving = _serving(version.registered_model_id)
        ModelVersion.objects.filter(pk=version.pk, unusable_reason="").update(unusable_reason=reason)
        if serving != version:
            return None
        current = ModelVersion.objects.select_for_update(no_key=True).get(pk=back_to.pk)
        _swap(current, serving, kind=Kind.ROLLED_BACK_BY_FAILURE, by=None, reason=reason)
        tell_failure(version, current, reason)
    logger.error("rolled_back_by_failure", version=str(version), to=str(current), reason=reason)
    return current


def mark_unusable(version: ModelVersion, reason: str) -> None:
    """A version that does not serve could not be loaded: it is not promoted."""
    ModelVersion.objects.filter(pk=version.pk, unusable_reason="").update(unusable_reason=reason[:500])


def _former(version: ModelVersion) -> list[ModelVersion]:
    """Versions that served before, the latest first."""
    served = ModelVersion.objects.filter(
        registered_model=version.registered_model_id, promoted_at__isnull=False, unusable_reason=""
    )
    return list(served.exclude(pk=version.pk).exclude(stage=Stage.REFUSED).order_by("-promoted_at")[:5])


def _locked(model_id: int) -> PromotionPolicy:
    """The model's gate, with the model's row locked to the end of the transaction."""
    RegisteredModel.objects.select_for_update(no_key=True).get(pk=model_id)
    return policy_of(model_id)


def _serving(model_id: int) -> ModelVersion | None:
    return ModelVersion.objects.filter(registered_model=model_id, stage=Stage.PRODUCTION).first()


def _checked(comparison: Comparison, version: ModelVersion) -> Comparison:
    current: Comparison = Comparison.objects.select_for_update(no_key=True).get(pk=comparison.pk)
    if current.challenger_id != version.pk:
        raise NotPromotableError("other_comparison", version=str(version))
    if current.status != WorkStatus.DONE:
        raise NotPromotableError("not_compared_yet")
    return current


def _check_promotable(
    version: ModelVersion, *, kind: str, policy: PromotionPolicy, comparison: Comparison | None
) -> None:
    if version.unusable_reason:
        raise NotPromotableError("unusable", version=str(version), reason=version.unusable_reason)
    if policy.is_frozen:
        raise NotPromotableError(
            "frozen", model=str(version.registered_model), reason=policy.frozen_reason or "–"
        )
    # One that served once stays in the archive when it is refused.
    judged = comparison or version.comparisons.filter(status=WorkStatus.DONE).order_by("-finished_at").first()
    is_refused = version.stage == Stage.REFUSED or (
        judged is not None and judged.verdict == Comparison.Verdict.REFUSED
    )
    if is_refused and kind != Kind.OVERRIDDEN:
        raise NotPromotableError("refused_by_gate", version=str(version))


def _reason(reason: str, *, needed: bool, limit: int = REASON_LIMIT) -> str:
    reason = reason.replace("\0", "").strip()
    if needed and not reason:
        raise NotPromotableError("reason_needed")
    if len(reason) > limit:
        raise NotPromotableError("reason_too_long", limit=limit)
    return reason


def _swap(
    version: ModelVersion,
    serving: ModelVersion | None,
    *,
    kind: str,
    by: User | None,
    reason: str,
    comparison: Comparison | None = None,
) -> None:
    if serving is not None:
        ModelVersion.objects.filter(pk=serving.pk).update(stage=Stage.ARCHIVED)
    version.stage, version.promoted_at = Stage.PRODUCTION, timezone.now()
    version.save(update_fields=["stage", "promoted_at"])
    _write(
        version.registered_model_id,
        kind,
        by=by,
        reason=reason,
        from_version=serving,
        to_version=version,
        comparison=comparison,
    )
    transaction.on_commit(partial(_tell, version, serving, kind))


def _write(
    model_id: int,
    kind: str,
    *,
    by: User | None,
    reason: str,
    from_version: ModelVersion | None = None,
    to_version: ModelVersion | None = None,
    comparison: Comparison | None = None,
    evidence: Mapping[str, Any] | None = None,
) -> PromotionEvent:
    return PromotionEvent.objects.create(
        registered_model_id=model_id,
        kind=kind,
        by=by,
        # The name stays when the account goes; an address would be more than a record needs.
        by_name=(by.display_name or f"#{by.pk}") if by else "",
        reason=reason,
        from_version=from_version,
        to_version=to_version,
        comparison=comparison,
        evidence=dict(evidence) if evidence is not None else _evidence(comparison),
    )


def _evidence(comparison: Comparison | None) -> dict[str, Any]:
    """What stands in the comparison, copied: its row could be deleted by hand one day, the record not."""
    if comparison is None:
        return {}
    return {
        "verdict": comparison.verdict,
        "photos": comparison.photo_count,
        "rules": comparison.rules,
        "policy": comparison.policy,
    }


def _settle(version: ModelVersion, decision: str, comparison: Comparison | None) -> None:
    """What was open about this version is decided."""
    rows = Comparison.objects.filter(challenger=version, status=WorkStatus.DONE)
    rows.filter(decision=Comparison.Decision.OPEN).update(decision=decision)
    if comparison is not None:
        rows.filter(pk=comparison.pk).update(decision=decision)


def _tell(version: ModelVersion, previous: ModelVersion | None, kind: str) -> None:
    answers = model_promoted.send_robust(
        sender=ModelVersion, model_version=version, previous=previous, kind=kind
    )
    for receiver, answer in answers:
        if isinstance(answer, Exception):
            logger.error("signal_receiver_failed", receiver=str(receiver), exc_info=answer)


__all__ = [
    "NotPromotableError",
    "OvertakenError",
    "PromotionError",
    "change_policy",
    "freeze_promotion",
    "mark_unusable",
    "policy_of",
    "promote",
    "refuse",
    "report_unloadable",
    "roll_back",
    "thaw_promotion",
]

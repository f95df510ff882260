"""Mails to those who decide which version serves: written with the decision, once, in each one's language."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django.conf import settings
from django.db.models import Model, Q
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import translation

from apps.accounts.mails import queue_mail
from apps.accounts.models import User
from apps.training.evaluation_texts import failure_sentence
from apps.training.hooks import names_of
from apps.training.models import Comparison, ModelVersion
from apps.training.promotion_texts import rule_sentence, shown_rules


def deciders() -> Iterable[User]:
    """Staff who may promote."""
    allowed = Q(is_superuser=True)
    for holder in ("user_permissions", "groups__permissions"):
        allowed |= Q(
            **{
                f"{holder}__content_type__app_label": "training",
                f"{holder}__codename": "promote_modelversion",
            }
        )
    return User.objects.filter(allowed, is_active=True, is_staff=True).distinct().order_by("pk")


def tell_comparison(comparison: Comparison, *, promoted: bool, frozen: bool = False) -> None:
    """What came out, and whether a person must decide."""

    def said() -> dict[str, Any]:
        rules = shown_rules(comparison.rules, names_of(comparison.registered_model))
        return {
            "comparison": comparison,
            "promoted": promoted,
            "frozen": frozen,
            "rules": [rule_sentence(rule) for rule in rules],
        }

    _tell("comparison", f"comparison-{comparison.pk}", comparison, said)


def tell_failed_comparison(comparison: Comparison) -> None:
    """A version could not be compared: unless somebody asks again, it stays a candidate."""

    def said() -> dict[str, Any]:
        return {"comparison": comparison, "reason": failure_sentence(comparison)}

    _tell("comparison_failed", f"comparison-failed-{comparison.pk}", comparison, said)


def tell_failure(version: ModelVersion, back_to: ModelVersion | None, reason: str) -> None:
    """A version could not be loaded; `back_to` serves instead, or nothing does."""
    # A version that fails again after somebody made it serve again is news again.
    times = version.promotion_events.count()
    key = f"unloadable-{version.pk}-{times}-{back_to.pk if back_to else 0}"
    said = {"version": version, "back_to": back_to, "reason": reason}
    _tell("failure", key, version.registered_model, lambda: said)


def _tell(template: str, key: str, about: Model, said: Callable[[], Mapping[str, Any]]) -> None:
    """One mail for each who decides, with the way to the console's page of `about`; `said` is asked in each one's language."""
    page = reverse(f"admin:training_{about._meta.model_name}_change", args=[about.pk])
    for user in deciders():
        with translation.override(user.language or settings.LANGUAGE_CODE):
            site = {"SITE_NAME": settings.SITE_NAME, "SITE_URL": settings.SITE_URL}
            values = {"user": user, "page": settings.SITE_URL + page, **site, **said()}
            queue_mail(
                recipient=user.email,
                subject=render_to_string(f"training/mail/{template}_subject.txt", values),
                body=render_to_string(f"training/mail/{template}_message.txt", values),
                key=f"{key}-{user.pk}",
            )

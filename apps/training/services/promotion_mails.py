"""Mails to those who decide which version serves: written with the decision, once, in each one's language."""

from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.db.models import Q
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
    page = reverse("admin:training_comparison_change", args=[comparison.pk])
    for user in deciders():
        with translation.override(user.language or settings.LANGUAGE_CODE):
            rules = shown_rules(comparison.rules, names_of(comparison.registered_model))
            _send(
                user,
                "comparison",
                f"comparison-{comparison.pk}",
                comparison=comparison,
                promoted=promoted,
                frozen=frozen,
                rules=[rule_sentence(rule) for rule in rules],
                page=settings.SITE_URL + page,
            )


def tell_failed_comparison(comparison: Comparison) -> None:
    """A version could not be compared: unless somebody asks again, it stays a candidate."""
    page = reverse("admin:training_comparison_change", args=[comparison.pk])
    for user in deciders():
        with translation.override(user.language or settings.LANGUAGE_CODE):
            _send(
                user,
                "comparison_failed",
                f"comparison-failed-{comparison.pk}",
                comparison=comparison,
                reason=failure_sentence(comparison),
                page=settings.SITE_URL + page,
            )


def tell_failure(version: ModelVersion, back_to: ModelVersion | None, reason: str) -> None:
    """A version could not be loaded; `back_to` serves instead, or nothing does."""
    page = reverse("admin:training_registeredmodel_change", args=[version.registered_model_id])
    # A version that fails again after somebody made it serve again is news again.
    times = version.promotion_events.count()
    for user in deciders():
        with translation.override(user.language or settings.LANGUAGE_CODE):
            _send(
                user,
                "failure",
                f"unloadable-{version.pk}-{times}-{back_to.pk if back_to else 0}",
                version=version,
                back_to=back_to,
                reason=reason,
                page=settings.SITE_URL + page,
            )


def _send(user: User, template: str, key: str, **context: Any) -> None:
    values = {"user": user, "SITE_NAME": settings.SITE_NAME, "SITE_URL": settings.SITE_URL, **context}
    queue_mail(
        recipient=user.email,
        subject=render_to_string(f"training/mail/{template}_subject.txt", values),
        body=render_to_string(f"training/mail/{template}_message.txt", values),
        key=f"{key}-{user.pk}",
    )

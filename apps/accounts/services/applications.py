"""Applications to become an expert: sent by people, decided by curators."""

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models.functions import Now
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import translation

from apps.accounts.models import ExpertApplication, User
from apps.accounts.services.mails import queue_mail


class PendingApplicationError(Exception):
    """This person already waits for a decision, or is an expert."""


class AlreadyDecidedError(Exception):
    """Somebody decided this application before."""


def apply_as_expert(
    *, user: User, motivation: str, affiliation: str = "", orcid: str = ""
) -> ExpertApplication:
    """Hand in an application. Raises `PendingApplicationError`; one pending application each is kept by the database."""
    if user.is_expert:
        raise PendingApplicationError
    try:
        with transaction.atomic():
            return ExpertApplication.objects.create(
                user=user, motivation=motivation, affiliation=affiliation, orcid=orcid
            )
    except IntegrityError as error:
        raise PendingApplicationError from error


@transaction.atomic
def decide_application(
    *, application: ExpertApplication, by: User, approve: bool, note: str = ""
) -> ExpertApplication:
    """Approve or refuse, once, and tell the applicant by mail in their language. Raises `AlreadyDecidedError`."""
    decided = (
        ExpertApplication.objects.select_for_update(of=("self",))
        .select_related("user")
        .get(pk=application.pk)
    )
    if decided.status != ExpertApplication.Status.PENDING:
        raise AlreadyDecidedError
    decided.status = ExpertApplication.Status.APPROVED if approve else ExpertApplication.Status.REFUSED
    decided.decided_by = by
    decided.decision_note = note.strip()[:2000]
    decided.decided_at = Now()  # type: ignore[assignment]
    decided.save(update_fields=["status", "decided_by", "decision_note", "decided_at"])
    decided.refresh_from_db(fields=["decided_at"])
    if approve:
        User.objects.filter(pk=decided.user_id).update(is_expert=True)
    _tell_applicant(decided)
    return decided


def _tell_applicant(application: ExpertApplication) -> None:
    user = application.user
    context = {
        "application": application,
        "site_name": settings.SITE_NAME,
        "name": user.display_name,
        "url": settings.SITE_URL + reverse("accounts:apply_expert"),
    }
    template = f"accounts/email/application_{application.status}"
    with translation.override(user.language or settings.LANGUAGE_CODE):
        queue_mail(
            key=f"expert-application:{application.pk}:{application.status}",
            recipient=user.email,
            subject=render_to_string(f"{template}_subject.txt", context),
            body=render_to_string(f"{template}_message.txt", context),
        )

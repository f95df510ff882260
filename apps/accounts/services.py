"""What changes accounts: expert applications, API clients, and leaving."""

from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now
from django.template.loader import render_to_string
from django.utils import translation

from apps.accounts.mails import queue_mail
from apps.accounts.models import ApiClient, ExpertApplication, OutgoingMail, User


class ApplicationDecidedError(Exception):
    """This application was approved or refused before."""


class ApplicationPendingError(Exception):
    """The person waits for a decision already."""


class OwnApplicationError(Exception):
    """Nobody decides on their own application."""


@transaction.atomic
def apply_as_expert(
    *, user: User, motivation: str, affiliation: str = "", orcid: str = ""
) -> ExpertApplication:
    """Ask to become an expert; one open application each. Raises `ApplicationPendingError`."""
    User.objects.select_for_update().get(pk=user.pk)
    if user.expert_applications.filter(status=ExpertApplication.Status.PENDING).exists():
        raise ApplicationPendingError
    return ExpertApplication.objects.create(
        user=user, motivation=motivation, affiliation=affiliation, orcid=orcid
    )


@transaction.atomic
def decide_application(
    *, application: ExpertApplication, by: User, approve: bool, note: str = ""
) -> ExpertApplication:
    """Approve or refuse once, and write to the applicant in their language.

    Raises `ApplicationDecidedError` or `OwnApplicationError`. Whether `by` may decide is asked by the caller.
    """
    current = ExpertApplication.objects.select_for_update().select_related("user").get(pk=application.pk)
    if current.status != ExpertApplication.Status.PENDING:
        raise ApplicationDecidedError
    if current.user_id == by.pk:
        raise OwnApplicationError
    statuses = ExpertApplication.Status
    current.status = statuses.APPROVED if approve else statuses.REFUSED
    current.decided_at = Now()
    current.decided_by = by
    current.decision_note = note
    current.save(update_fields=["status", "decided_at", "decided_by", "decision_note"])
    current.refresh_from_db(fields=["decided_at"])
    if approve:
        User.objects.filter(pk=current.user_id).update(is_expert=True)
        current.user.is_expert = True
    write_to(
        user=current.user,
        template="application_approved" if approve else "application_refused",
        context={"note": note},
        key=f"application-{current.pk}-{current.status}",
    )
    return current


def write_to(
    *,
    user: User,
    template: str,
    context: dict[str, Any],
    key: str | None = None,
    unsubscribe_address: str = "",
) -> None:
    """Queue one of our own mails (`templates/accounts/mail/`) in the recipient's language."""
    with translation.override(user.language or settings.LANGUAGE_CODE):
        values = {"user": user, "SITE_NAME": settings.SITE_NAME, "SITE_URL": settings.SITE_URL, **context}
        subject = render_to_string(f"accounts/mail/{template}_subject.txt", values)
        body = render_to_string(f"accounts/mail/{template}_message.txt", values)
    queue_mail(
        recipient=user.email, subject=subject, body=body, key=key, unsubscribe_address=unsubscribe_address
    )


def revoke_api_client(*, client: ApiClient) -> None:
    """Its tokens end with the next request."""
    ApiClient.objects.filter(pk=client.pk).update(is_active=False)


@transaction.atomic
def close_account(*, user: User) -> None:
    """Nobody can sign in to it from now on, its tokens end, its address is free; the row stays for those who tidy up.

    Who calls this removes what belongs to the person in the apps to the right, then the row.
    """
    from allauth.account.models import EmailAddress
    from allauth.mfa.models import Authenticator

    current = User.objects.select_for_update().get(pk=user.pk)
    addresses = EmailAddress.objects.filter(user=current)
    OutgoingMail.objects.filter(
        recipient__in=[current.email, *addresses.values_list("email", flat=True)]
    ).delete()
    addresses.delete()
    Authenticator.objects.filter(user=current).delete()
    ApiClient.objects.filter(owner=current).delete()
    current.groups.clear()
    current.user_permissions.clear()
    current.email = f"{current.public_id}@closed.invalid"
    current.display_name = ""
    current.is_active = current.is_expert = current.is_staff = current.is_superuser = False
    current.set_unusable_password()
    current.save()

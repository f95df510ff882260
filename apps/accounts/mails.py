"""The outbox: mails are rows first, and sent by a worker that tries again for a day."""

import smtplib
from datetime import timedelta

import structlog
from django.core.mail import EmailMessage
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now
from django.utils import timezone

from apps.accounts.models import OutgoingMail
from apps.common.tasks import wake

logger = structlog.get_logger(__name__)
TRY_FOR = timedelta(hours=24)
KEEP_SENT_FOR = timedelta(days=30)
_FIRST_PAUSE_S = 60
_LONGEST_PAUSE_S = 3_600
_AT_ONCE = 50


def queue_mail(
    *, recipient: str, subject: str, body: str, key: str | None = None, unsubscribe_address: str = ""
) -> None:
    """Write a mail to the outbox. A second one with the same `key` is dropped.

    Mail programs offer `unsubscribe_address` beside the mail (RFC 8058): it ends such mails by one POST, without sign-in.
    """
    from apps.accounts.tasks import send_mails  # tasks call services

    one_line = " ".join(subject.split())[:200]
    mail = OutgoingMail(
        key=key,
        recipient=recipient,
        subject=one_line,
        body=body.strip() + "\n",
        unsubscribe_address=unsubscribe_address,
    )
    OutgoingMail.objects.bulk_create([mail], ignore_conflicts=True)
    wake(send_mails)


def send_due_mails() -> int:
    """Send what is due; gives how many went out. A mail that cannot be sent does not hold up the others."""
    sent = 0
    for mail in _claim():
        try:
            headers = _unsubscribe_headers(mail.unsubscribe_address)
            EmailMessage(subject=mail.subject, body=mail.body, to=[mail.recipient], headers=headers).send()
        except (OSError, smtplib.SMTPException, ValueError) as error:
            _note_failure(mail, error)
            continue
        OutgoingMail.objects.filter(pk=mail.pk).update(
            sent_at=Now(), subject="", body="", unsubscribe_address="", failure_reason=""
        )
        sent += 1
    OutgoingMail.objects.filter(created_at__lt=timezone.now() - KEEP_SENT_FOR).delete()
    return sent


def _unsubscribe_headers(address: str) -> dict[str, str]:
    if not address:
        return {}
    return {"List-Unsubscribe": f"<{address}>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"}


@transaction.atomic
def _claim() -> list[OutgoingMail]:
    """Due mails, put off in the same moment: the pause before the next try keeps other workers away meanwhile."""
    mails = list(
        OutgoingMail.objects.due().select_for_update(skip_locked=True).order_by("next_try_at")[:_AT_ONCE]
    )
    for mail in mails:
        pause_s = min(_FIRST_PAUSE_S * 2**mail.attempts, _LONGEST_PAUSE_S)
        OutgoingMail.objects.filter(pk=mail.pk).update(
            attempts=F("attempts") + 1, next_try_at=Now() + timedelta(seconds=pause_s)
        )
    return mails


def _note_failure(mail: OutgoingMail, error: Exception) -> None:
    is_final = mail.created_at < timezone.now() - TRY_FOR or isinstance(error, ValueError)
    logger.warning("mail_not_sent", mail_id=mail.pk, error=type(error).__name__, is_final=is_final)
    changes = {"failed_at": Now(), "body": ""} if is_final else {}
    OutgoingMail.objects.filter(pk=mail.pk).update(failure_reason=type(error).__name__, **changes)

"""The outbox: mails are rows, written in the transaction of what they tell of, sent by a worker, once.

A mail server that is away delays a mail: it is tried again every five minutes for a day. An address that the server
refuses is given up after the usual three attempts.
"""

import smtplib
from datetime import timedelta
from typing import Final

import structlog
from django.core.mail import EmailMessage
from django.db.models import F
from django.db.models.functions import Now
from django.utils import timezone

from apps.accounts.models import OutgoingMail
from apps.common.leased import LeaseLostError, WorkStatus
from apps.common.tasks import wake

logger = structlog.get_logger(__name__)

RETRY_AFTER: Final = timedelta(minutes=5)
GIVEN_UP_AFTER: Final = timedelta(hours=24)


def queue_mail(*, key: str, recipient: str, subject: str, body: str) -> None:
    """Have a mail sent once the current transaction is committed; the same key is sent once only."""
    from apps.accounts.tasks import send_mails  # tasks call services

    OutgoingMail.objects.bulk_create(
        [
            OutgoingMail(
                key=key, recipient=recipient, subject=" ".join(subject.split())[:200], body=body.strip()
            )
        ],
        ignore_conflicts=True,
    )
    wake(send_mails)


def send_waiting_mails() -> int:
    """Send what waits, until nothing does or the server is away; gives how many went out."""
    sent = 0
    while claimed := OutgoingMail.objects.filter(queued_at__lte=Now()).claim(limit=1):
        mail: OutgoingMail = claimed[0]
        try:
            if not _send(mail):
                break
            sent += 1
        except LeaseLostError:
            logger.warning("mail_lease_lost", mail=mail.pk)
    return sent


def _send(mail: OutgoingMail) -> bool:
    """Whether to go on with the next one; False when the server does not answer."""
    assert mail.lease_token is not None
    try:
        EmailMessage(mail.subject, mail.body, to=[mail.recipient]).send()
    except smtplib.SMTPRecipientsRefused:
        OutgoingMail.objects.give_back_after_error(mail.lease_token, reason="recipient_refused")
        return True
    except (smtplib.SMTPException, OSError) as error:
        logger.warning("mail_not_sent", mail=mail.pk, error=type(error).__name__)
        _put_off(mail)
        return False
    mail.finish(body="")
    return True


def _put_off(mail: OutgoingMail) -> None:
    """Give the mail back for later; the attempt does not count, as the mail is not at fault."""
    assert mail.lease_token is not None
    if timezone.now() - mail.created_at > GIVEN_UP_AFTER:
        mail.finish(status=WorkStatus.FAILED, reason="mail_server_away", body="")
        return
    OutgoingMail.objects.held(mail.lease_token).update(
        status=WorkStatus.PENDING,
        lease_token=None,
        lease_until=None,
        attempts=F("attempts") - 1,
        queued_at=Now() + RETRY_AFTER,
    )

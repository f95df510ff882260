"""The outbox: each mail goes out once, whatever happens around it."""

import smtplib
from datetime import timedelta

import pytest
from django.core import mail
from django.core.mail.backends.locmem import EmailBackend
from django.db import transaction
from django.utils import timezone

from apps.accounts.mails import queue_mail, send_due_mails
from apps.accounts.models import OutgoingMail
from apps.accounts.tasks import send_mails

pytestmark = pytest.mark.django_db


class AwayBackend(EmailBackend):
    """A mail server that cannot be reached."""

    def send_messages(self, messages):
        raise ConnectionRefusedError


class RefusingBackend(EmailBackend):
    """A server that refuses one recipient and takes the others."""

    def send_messages(self, messages):
        if messages[0].to == ["refused@podura.example"]:
            raise smtplib.SMTPRecipientsRefused({"refused@podura.example": (550, b"no")})
        return super().send_messages(messages)


def queue(recipient="a@podura.example", **more):
    queue_mail(recipient=recipient, subject="Hello", body="Text", **more)


def test_running_the_task_twice_sends_once():
    queue()
    send_mails()
    send_mails()
    assert len(mail.outbox) == 1


def test_the_same_event_is_told_once():
    queue(key="application-1-approved")
    queue(key="application-1-approved")
    assert send_due_mails() == 1


def test_a_mail_is_taken_back_with_the_transaction_that_caused_it():
    with transaction.atomic():
        queue()
        transaction.set_rollback(True)
    assert send_due_mails() == 0


def test_a_server_that_is_away_delays_a_mail_and_loses_none(settings):
    settings.EMAIL_BACKEND = "tests.accounts.test_mails.AwayBackend"
    queue()
    assert send_due_mails() == 0
    row = OutgoingMail.objects.get()
    assert (row.attempts, row.failure_reason, row.failed_at) == (1, "ConnectionRefusedError", None)
    assert row.next_try_at > timezone.now()
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    assert send_due_mails() == 0, "the pause is kept"
    OutgoingMail.objects.update(next_try_at=timezone.now())
    assert send_due_mails() == 1


def test_after_a_day_a_mail_is_given_up_and_its_text_removed(settings):
    settings.EMAIL_BACKEND = "tests.accounts.test_mails.AwayBackend"
    queue()
    OutgoingMail.objects.update(created_at=timezone.now() - timedelta(hours=25))
    send_due_mails()
    row = OutgoingMail.objects.get()
    assert row.failed_at
    assert row.body == ""


def test_one_refused_recipient_does_not_hold_up_the_others(settings):
    settings.EMAIL_BACKEND = "tests.accounts.test_mails.RefusingBackend"
    queue("refused@podura.example")
    queue("taken@podura.example")
    assert send_due_mails() == 1
    assert mail.outbox[0].to == ["taken@podura.example"]


def test_a_subject_cannot_smuggle_in_a_header():
    queue_mail(recipient="a@podura.example", subject="Hello\r\nBcc: all@podura.example", body="Text")
    send_due_mails()
    assert mail.outbox[0].subject == "Hello Bcc: all@podura.example"


def test_rows_of_mails_are_removed_after_a_month():
    queue()
    send_due_mails()
    OutgoingMail.objects.update(created_at=timezone.now() - timedelta(days=31))
    send_due_mails()
    assert not OutgoingMail.objects.exists()

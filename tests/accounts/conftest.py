"""People who can sign in, and the mails they get."""

import re

import pytest
from allauth.account.models import EmailAddress
from django.core import mail
from django.test import Client

from apps.accounts.mails import send_due_mails
from apps.accounts.models import User
from tests.factories import UserFactory


@pytest.fixture
def person(db):
    return verified(UserFactory.create(language="en"))


@pytest.fixture
def signed_in(person):
    client = Client()
    client.force_login(person)
    return client


@pytest.fixture
def curator(db):
    return verified(UserFactory.create(is_staff=True))


def verified(user: User) -> User:
    EmailAddress.objects.create(user=user, email=user.email, verified=True, primary=True)
    return user


def delivered_mails():
    """Everything that the outbox holds, sent now."""
    send_due_mails()
    return mail.outbox


def link_in(text: str) -> str:
    """The path of the first link of a mail."""
    found = re.search(r"https?://testserver(/\S+)", text)
    assert found, text
    return found[1]

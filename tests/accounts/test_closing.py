"""A closed account: nobody gets in, and nothing that names the person stays."""

import pytest
from allauth.account.models import EmailAddress
from django.test import Client

from apps.accounts.api.tokens import give_tokens, renew
from apps.accounts.mails import queue_mail
from apps.accounts.models import ApiClient, OutgoingMail, User
from apps.accounts.services import close_account
from tests.factories import PASSWORD, ApiClientFactory, UserFactory

pytestmark = pytest.mark.django_db


def test_sessions_passwords_tokens_and_apps_end_at_once(signed_in, person):
    tokens = give_tokens(user=person)
    ApiClientFactory(owner=person, name="Field app")
    email = person.email
    close_account(user=person)
    assert signed_in.get("/account/").status_code == 302
    client = Client()
    client.post("/accounts/login/", {"login": email, "password": PASSWORD})
    assert "_auth_user_id" not in client.session
    assert renew(tokens.refresh) is None
    answer = Client().get("/api/v1/observations/", headers={"authorization": f"Bearer {tokens.access}"})
    assert answer.status_code == 401
    assert not ApiClient.objects.exists()


def test_the_name_and_all_addresses_are_gone_and_free_again(person):
    EmailAddress.objects.create(user=person, email="second@podura.example", verified=True)
    queue_mail(recipient="second@podura.example", subject="Hello", body="Text")
    email = person.email
    close_account(user=person)
    person.refresh_from_db()
    assert (person.display_name, person.is_active) == ("", False)
    assert not User.objects.filter(email=email).exists()
    assert not EmailAddress.objects.filter(user=person).exists()
    assert not OutgoingMail.objects.exists()
    UserFactory.create(email=email)


def test_closing_twice_does_no_harm(person):
    close_account(user=person)
    close_account(user=person)
    person.refresh_from_db()
    assert not person.is_active


def test_other_accounts_are_untouched(person):
    other = UserFactory.create()
    close_account(user=person)
    other.refresh_from_db()
    assert other.is_active
    assert other.has_usable_password()

"""From "make an account" to being signed in, and what a stranger can learn on the way."""

import pytest
from django.core import mail
from django.test import Client

from apps.accounts.models import OutgoingMail, User
from tests.accounts.conftest import delivered_mails, link_in, verified
from tests.factories import PASSWORD, UserFactory

pytestmark = pytest.mark.django_db
NEW_PASSWORD = "under the bark it is damp"


def sign_up(client, email="new@podura.example", **fields):
    data = {
        "email": email,
        "password1": NEW_PASSWORD,
        "password2": NEW_PASSWORD,
        "display_name": "  Lena  K. ",
    }
    return client.post("/accounts/signup/", data | fields)


def test_sign_up_confirms_the_address_and_comes_back_to_where_one_was():
    client = Client(headers={"accept-language": "fr"})
    sent = sign_up(client, next="/send/?survey=springtails")
    assert sent["Location"] == "/accounts/confirm-email/"
    assert client.get(sent["Location"]).status_code == 200
    user = User.objects.get(email="new@podura.example")
    assert (user.display_name, user.language) == ("Lena K.", "fr")
    (confirmation,) = delivered_mails()
    assert confirmation.to == ["new@podura.example"]
    link = link_in(confirmation.body)
    assert client.get(link).status_code == 200
    arrived = client.post(link)
    assert arrived.status_code == 302
    assert arrived["Location"] == "/send/?survey=springtails"
    assert client.get("/account/").status_code == 200


def test_before_the_address_is_confirmed_nobody_is_signed_in():
    client = Client()
    sign_up(client)
    assert client.get("/account/").status_code == 302
    answer = client.post("/accounts/login/", {"login": "new@podura.example", "password": NEW_PASSWORD})
    assert answer["Location"] == "/accounts/confirm-email/"
    assert client.get("/account/").status_code == 302


def test_sign_up_with_a_known_address_looks_the_same_and_only_tells_its_owner():
    known = verified(UserFactory.create())
    answers = [sign_up(Client(), email=email) for email in (known.email, "unknown@podura.example")]
    assert [(answer.status_code, answer["Location"]) for answer in answers] == [
        (302, "/accounts/confirm-email/")
    ] * 2
    assert User.objects.filter(email=known.email).count() == 1
    assert {message.to[0] for message in delivered_mails()} == {known.email, "unknown@podura.example"}


def test_password_reset_answers_alike_for_known_and_unknown_addresses():
    known = verified(UserFactory.create())
    answers = [
        Client().post("/accounts/password/reset/", {"email": email})
        for email in (known.email, "unknown@podura.example")
    ]
    assert len({(answer.status_code, answer["Location"]) for answer in answers}) == 1


def test_a_password_is_reset_by_the_link_in_the_mail():
    known = verified(UserFactory.create())
    client = Client()
    client.post("/accounts/password/reset/", {"email": known.email})
    (message,) = delivered_mails()
    form = client.get(link_in(message.body), follow=True)
    client.post(form.redirect_chain[-1][0], {"password1": NEW_PASSWORD, "password2": NEW_PASSWORD})
    known.refresh_from_db()
    assert known.check_password(NEW_PASSWORD)


def test_the_text_of_a_mail_with_a_secret_link_is_gone_once_it_is_sent():
    sign_up(Client())
    assert "confirm-email" in OutgoingMail.objects.get().body
    delivered_mails()
    row = OutgoingMail.objects.get()
    assert (row.subject, row.body) == ("", "")
    assert row.sent_at


def test_sign_in_returns_only_to_pages_of_this_site():
    person = verified(UserFactory.create())
    for target, expected in (
        ("/map/", "/map/"),
        ("https://evil.example/", "/mine/"),
        ("//evil.example/", "/mine/"),
        ("javascript:alert(1)", "/mine/"),
    ):
        answer = Client().post(
            "/accounts/login/", {"login": person.email, "password": PASSWORD, "next": target}
        )
        assert answer.status_code == 302
        assert answer["Location"] == expected


def test_five_wrong_passwords_lock_the_account_for_a_while_even_for_the_right_one():
    person = verified(UserFactory.create())
    client = Client()
    for _attempt in range(5):
        client.post("/accounts/login/", {"login": person.email, "password": "wrong"})
    answer = client.post("/accounts/login/", {"login": person.email, "password": PASSWORD})
    assert answer.status_code == 200
    assert "_auth_user_id" not in client.session


@pytest.mark.parametrize(
    "fields",
    [
        {"email": "not an address"},
        {"email": "a\x00b@podura.example"},
        {"email": f"{'a' * 400}@podura.example"},
        {"password1": "short", "password2": "short"},
        {"password2": "another one than the first"},
        {"display_name": "n" * 81},
        {"display_name": "a\x00b"},
    ],
)
def test_bad_input_is_named_beside_its_field(fields):
    email = fields.pop("email", "new@podura.example")
    answer = sign_up(Client(), email=email, **fields)
    assert answer.status_code == 200
    assert b"field__error" in answer.content
    assert not User.objects.exists()
    assert not mail.outbox


def test_a_public_name_cannot_turn_the_text_around_it():
    sign_up(Client(), display_name="A\u202enna\u2066")
    assert User.objects.get().display_name == "Anna"


@pytest.mark.parametrize("path", ["/accounts/login/", "/accounts/signup/", "/accounts/password/reset/"])
def test_the_ways_in_need_the_csrf_token(path):
    strict = Client(enforce_csrf_checks=True)
    assert strict.get(path).status_code == 200
    assert strict.post(path, {}).status_code == 403


def test_a_public_name_that_grows_in_its_normal_form_is_cut_to_what_fits():
    assert sign_up(Client(), display_name="\u0958" * 80).status_code == 302
    assert User.objects.get(email="new@podura.example").display_name == "\u0915\u093c" * 40

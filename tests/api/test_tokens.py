"""token/ and token/refresh/: who gets tokens, and what ends them."""

import json
import uuid
from datetime import timedelta

import pytest
import time_machine
from allauth.account.models import EmailAddress
from allauth.mfa.totp.internal.auth import TOTP, format_hotp_value, generate_totp_secret, hotp_value
from django.conf import settings
from django.utils import timezone
from rest_framework_simplejwt.token_blacklist.models import OutstandingToken

from apps.accounts.api.tokens import give_tokens
from apps.accounts.models import ApiClient, User
from tests.api.conftest import Caller, assert_problem, verified_user
from tests.factories import PASSWORD, UserFactory

TOKEN, REFRESH, PROTECTED = "/api/v1/token/", "/api/v1/token/refresh/", "/api/v1/protected/"
pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.api.urls_protected")]


def credentials(user: User, **changes):
    return {"email": user.email, "password": PASSWORD, **changes}


def status_with(access: str) -> int:
    return Caller().get(PROTECTED, HTTP_AUTHORIZATION=f"Bearer {access}").status_code


def test_a_person_gets_tokens_that_open_the_api(anonymous, person):
    response = anonymous.post_json(TOKEN, credentials(person))
    assert response.status_code == 200
    body = response.json()
    assert set(body) == {"access", "refresh", "token_type", "expires_in"}
    assert body["expires_in"] == 900
    assert response["Cache-Control"] == "no-store"
    assert status_with(body["access"]) == 200


def test_a_form_is_taken_as_well_as_json(anonymous, person):
    form = f"email={person.email}&password={PASSWORD}".replace(" ", "+")
    response = anonymous.post(TOKEN, form, content_type="application/x-www-form-urlencoded")
    assert response.status_code == 200


def test_the_case_of_an_email_address_does_not_matter(anonymous, person):
    assert anonymous.post_json(TOKEN, credentials(person, email=person.email.upper())).status_code == 200


def test_a_partner_app_gets_tokens_for_its_owner(anonymous, partner, person):
    client, secret = partner
    response = anonymous.post_json(TOKEN, {"client_id": str(client.client_id), "client_secret": secret})
    assert response.status_code == 200
    assert status_with(response.json()["access"]) == 200
    client.refresh_from_db()
    assert client.last_used_at is not None


def test_without_a_token_the_api_stays_closed(anonymous):
    response = anonymous.get(PROTECTED)
    assert_problem(response, 401, "not_authenticated")
    assert response["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    "header",
    [
        "Bearer",
        "Bearer x",
        "Bearer a.b.c",
        "Bearer a b",
        "Bearer é.é.é",
        "Bearer " + "A" * 7000,
        "bearer x y z",
    ],
)
def test_a_broken_token_is_refused(anonymous, header):
    response = anonymous.get(PROTECTED, HTTP_AUTHORIZATION=header)
    assert response.status_code == 401
    assert_problem(response, 401)


def test_a_token_of_another_algorithm_or_key_or_audience_is_refused(person):
    import jwt

    claims = jwt.decode(give_tokens(user=person).access, options={"verify_signature": False})
    forged = [
        jwt.encode(claims, "", algorithm="none"),
        jwt.encode(claims, "another key that is long enough, I hope", algorithm="HS256"),
        jwt.encode({**claims, "aud": "elsewhere"}, settings.SECRET_KEY, algorithm="HS256"),
        jwt.encode({**claims, "iss": "elsewhere"}, settings.SECRET_KEY, algorithm="HS256"),
        jwt.encode({**claims, "token_type": "refresh"}, settings.SECRET_KEY, algorithm="HS256"),
        jwt.encode({**claims, "user_id": "1 OR 1=1"}, settings.SECRET_KEY, algorithm="HS256"),
        jwt.encode({**claims, "family": "x"}, settings.SECRET_KEY, algorithm="HS256"),
    ]
    assert [status_with(token) for token in forged] == [401] * len(forged)


def test_a_refresh_token_does_not_open_the_api(person):
    assert status_with(give_tokens(user=person).refresh) == 401


def test_every_refusal_reads_the_same(anonymous, person, partner):
    unverified, closed = UserFactory(), verified_user(is_active=False)
    client, secret = partner
    client.is_active = False
    client.save()
    attempts = [
        credentials(person, password="wrong"),
        credentials(person, email="nobody@podura.example"),
        credentials(unverified),
        credentials(closed),
        {"client_id": str(uuid.uuid4()), "client_secret": secret},
        {"client_id": str(client.client_id), "client_secret": secret},
        {"client_id": str(client.client_id), "client_secret": "wrong"},
    ]
    answers = []
    for attempt in attempts:
        body = assert_problem(anonymous.post_json(TOKEN, attempt), 401, "invalid_credentials")
        answers.append({name: value for name, value in body.items() if name != "request_id"})
    assert all(answer == answers[0] for answer in answers)


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        None,
        "text",
        {"email": "a@b.example"},
        {"password": "x"},
        {"email": "a@b.example", "password": "x", "client_id": str(uuid.uuid4()), "client_secret": "y"},
        {"client_id": "not-a-uuid", "client_secret": "x"},
        {"email": ["a"], "password": {}},
        {"email": "a\0b@c.example", "password": "x"},
        {"email": "a@b.example", "password": "x\0"},
        {"email": "a" * 300, "password": "x"},
        {"email": "a@b.example", "password": "x", "is_staff": True},
        {"email": True, "password": False},
    ],
)
def test_bad_credentials_input_is_explained(anonymous, body):
    assert_problem(anonymous.post_json(TOKEN, json.dumps(body)), 400)


def test_five_failures_lock_an_account_for_a_while_even_for_the_right_password(anonymous, person):
    for _attempt in range(5):
        anonymous.post_json(TOKEN, credentials(person, password="wrong"))
    response = anonymous.post_json(TOKEN, credentials(person))
    assert_problem(response, 429, "too_many_attempts")
    assert int(response["Retry-After"]) > 0
    assert anonymous.post_json(TOKEN, credentials(verified_user())).status_code == 200


def test_five_failures_lock_a_client_for_a_while(anonymous, partner):
    client, secret = partner
    sent = {"client_id": str(client.client_id), "client_secret": secret}
    for _attempt in range(5):
        anonymous.post_json(TOKEN, {**sent, "client_secret": "wrong"})
    assert_problem(anonymous.post_json(TOKEN, sent), 429, "too_many_attempts")


def test_token_requests_are_limited_for_each_address(anonymous, person):
    answers = [anonymous.post_json(TOKEN, {}).status_code for _ in range(21)]
    assert answers[:20] == [400] * 20
    assert answers[20] == 429


def test_a_made_up_forwarding_header_does_not_give_more_attempts(anonymous):
    answers = [
        anonymous.post_json(TOKEN, {}, HTTP_X_FORWARDED_FOR=f"203.0.113.{number}").status_code
        for number in range(21)
    ]
    assert answers[-1] == 429


def test_behind_a_trusted_proxy_each_address_is_counted_for_itself(anonymous, settings):
    settings.REST_FRAMEWORK = {**settings.REST_FRAMEWORK, "NUM_PROXIES": 1}
    answers = [
        anonymous.post_json(
            TOKEN, {}, HTTP_X_FORWARDED_FOR=f"198.51.100.9, 203.0.113.{number % 2}"
        ).status_code
        for number in range(42)
    ]
    assert answers[:40] == [400] * 40
    assert answers[40:] == [429, 429]


def test_two_factor_accounts_need_their_code(anonymous, person):
    secret = generate_totp_secret()
    TOTP.activate(person, secret)
    assert_problem(anonymous.post_json(TOKEN, credentials(person)), 401, "two_factor_required")
    assert_problem(anonymous.post_json(TOKEN, credentials(person, code="000000")), 401, "invalid_credentials")
    code = format_hotp_value(hotp_value(secret, int(timezone.now().timestamp()) // 30))
    assert anonymous.post_json(TOKEN, credentials(person, code=code)).status_code == 200
    assert_problem(anonymous.post_json(TOKEN, credentials(person, code=code)), 401, "invalid_credentials")


def test_refreshing_gives_a_new_pair_that_works(anonymous, person):
    first = give_tokens(user=person)
    response = anonymous.post_json(REFRESH, {"refresh": first.refresh})
    assert response.status_code == 200
    body = response.json()
    assert body["refresh"] != first.refresh
    assert status_with(body["access"]) == 200
    assert anonymous.post_json(REFRESH, {"refresh": body["refresh"]}).status_code == 200


def test_using_a_refresh_token_twice_ends_its_family(anonymous, person):
    first, other = give_tokens(user=person), give_tokens(user=person)
    second = anonymous.post_json(REFRESH, {"refresh": first.refresh}).json()
    assert_problem(anonymous.post_json(REFRESH, {"refresh": first.refresh}), 401)
    assert_problem(anonymous.post_json(REFRESH, {"refresh": second["refresh"]}), 401)
    assert status_with(second["access"]) == 401
    assert status_with(other.access) == 200
    assert anonymous.post_json(REFRESH, {"refresh": other.refresh}).status_code == 200


def test_changing_the_password_ends_all_tokens(anonymous, person, partner):
    pairs = [give_tokens(user=person), give_tokens(user=person, client=partner[0])]
    person.set_password("another springtail")
    person.save()
    assert [status_with(pair.access) for pair in pairs] == [401, 401]
    assert [anonymous.post_json(REFRESH, {"refresh": pair.refresh}).status_code for pair in pairs] == [
        401,
        401,
    ]


@pytest.mark.parametrize("ending", ["deactivate", "delete"])
def test_an_ended_account_ends_its_tokens(anonymous, person, ending):
    pair = give_tokens(user=person)
    if ending == "delete":
        person.delete()
    else:
        User.objects.update(is_active=False)
    assert status_with(pair.access) == 401
    assert_problem(anonymous.post_json(REFRESH, {"refresh": pair.refresh}), 401)


@pytest.mark.parametrize("ending", ["revoke", "new secret", "delete", "other owner"])
def test_an_ended_client_ends_its_tokens_and_no_others(anonymous, person, partner, ending):
    client, _secret = partner
    pair, own = give_tokens(user=person, client=client), give_tokens(user=person)
    assert status_with(pair.access) == 200
    if ending == "revoke":
        ApiClient.objects.update(is_active=False)
    elif ending == "delete":
        client.delete()
    elif ending == "other owner":
        ApiClient.objects.update(owner=verified_user())
    else:
        client.new_secret()
        client.save()
    assert status_with(pair.access) == 401
    assert_problem(anonymous.post_json(REFRESH, {"refresh": pair.refresh}), 401)
    assert status_with(own.access) == 200


def test_an_address_that_is_no_longer_verified_cannot_be_renewed(anonymous, person):
    pair = give_tokens(user=person)
    EmailAddress.objects.update(verified=False)
    assert_problem(anonymous.post_json(REFRESH, {"refresh": pair.refresh}), 401)


def test_tokens_expire(person):
    pair = give_tokens(user=person)
    with time_machine.travel(timezone.now() + timedelta(minutes=16)):
        assert status_with(pair.access) == 401
        assert Caller().post_json(REFRESH, {"refresh": pair.refresh}).status_code == 200
    pair = give_tokens(user=person)
    with time_machine.travel(timezone.now() + timedelta(days=15)):
        assert_problem(Caller().post_json(REFRESH, {"refresh": pair.refresh}), 401)


@pytest.mark.parametrize("refresh", ["", "x", "a.b.c", "\0", "é", None, 5, ["x"], "A" * 5000])
def test_a_broken_refresh_token_is_refused(anonymous, refresh):
    assert anonymous.post_json(REFRESH, json.dumps({"refresh": refresh})).status_code in (400, 401)


def test_an_access_token_cannot_refresh(anonymous, person):
    assert_problem(anonymous.post_json(REFRESH, {"refresh": give_tokens(user=person).access}), 401)


def test_the_database_keeps_no_token(person):
    give_tokens(user=person)
    assert set(OutstandingToken.objects.values_list("token", flat=True)) == {""}


def test_checking_a_token_takes_one_query(person, partner, django_assert_num_queries):
    callers = [Caller(person), Caller(person, client=partner[0])]
    for caller in callers:
        with django_assert_num_queries(1):
            assert caller.get(PROTECTED).status_code == 200


def test_each_client_has_a_limit_of_its_own(person, partner):
    client, _secret = partner
    ApiClient.objects.update(requests_per_minute=3)
    caller = Caller(person, client=client)
    answers = [caller.get(PROTECTED) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert_problem(answers[3], 429, "too_many_requests")
    assert 0 < int(answers[3]["Retry-After"]) <= 60
    assert Caller(person).get(PROTECTED).status_code == 200


def test_a_browser_session_needs_the_csrf_token(person):
    browser = Caller(enforce_csrf_checks=True)
    browser.force_login(person)
    assert browser.get(PROTECTED).status_code == 200
    assert_problem(browser.post_json(PROTECTED, {}), 403, "csrf_failed")
    browser.cookies["csrftoken"] = "a" * 32
    assert browser.post_json(PROTECTED, {}, HTTP_X_CSRFTOKEN="a" * 32).status_code == 200

"""People and partner apps that call the API."""

from collections.abc import Callable
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from django.test import Client

from apps.accounts.api.tokens import give_tokens
from apps.accounts.models import ApiClient, User
from apps.observations.models import Survey
from tests.factories import LabelFactory, ModelVersionFactory, SurveyFactory, UserFactory


def verified_user(**fields: Any) -> User:
    user = UserFactory(**fields)
    EmailAddress.objects.create(user=user, email=user.email, primary=True, verified=True)
    return user


class Caller(Client):
    """A test client that carries an access token and sends JSON unless told otherwise."""

    def __init__(self, user: User | None = None, *, client: ApiClient | None = None, **defaults: Any) -> None:
        super().__init__(raise_request_exception=False, **defaults)
        self.user = user
        if user:
            self.defaults["HTTP_AUTHORIZATION"] = f"Bearer {give_tokens(user=user, client=client).access}"

    def post_json(self, path: str, data: Any, **extra: Any) -> Any:
        return self.post(path, data, content_type="application/json", **extra)


@pytest.fixture
def person(db: None) -> User:
    return verified_user()


@pytest.fixture
def anonymous(db: None) -> Caller:
    return Caller()


@pytest.fixture
def caller(person: User) -> Caller:
    return Caller(person)


@pytest.fixture
def stranger(db: None) -> Caller:
    return Caller(verified_user())


@pytest.fixture
def staff(db: None) -> Caller:
    return Caller(verified_user(is_staff=True))


@pytest.fixture
def partner(person: User) -> tuple[ApiClient, str]:
    """A partner app acting for `person`, and its secret."""
    client = ApiClient(owner=person, name="Field app")
    secret = client.new_secret()
    client.save()
    return client, secret


@pytest.fixture
def survey(db: None) -> Survey:
    """An open survey with two labels and a model in production that knows both."""
    survey = SurveyFactory(slug="springtails")
    LabelFactory(survey=survey, code="CER", scientific_name="Ceratophysella sp.")
    LabelFactory(survey=survey, code="ISO_MIN", scientific_name="Isotomiella minor")
    ModelVersionFactory(registered_model=survey.registered_model, labels=["CER", "ISO_MIN"])
    return survey


def assert_problem(response: Any, status: int, code: str | None = None) -> dict[str, Any]:
    """The answer is a problem (RFC 9457) with all its parts; gives its body."""
    assert response.status_code == status, (response.status_code, response.content[:500])
    assert response["Content-Type"] == "application/problem+json"
    body = response.json()
    assert set(body) >= {"type", "title", "status", "code", "detail", "errors", "request_id"}
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    assert body["request_id"] == response["X-Request-ID"]
    for error in body["errors"]:
        assert set(error) == {"field", "code", "detail"}
        assert error["detail"]
    if code:
        assert body["code"] == code
    return body


Ask = Callable[..., Any]

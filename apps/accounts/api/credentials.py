"""Checking what somebody shows to get tokens, as slowly and as rarely as a sign-in page would."""

from typing import Any

import structlog
from allauth.account.adapter import get_adapter
from allauth.core import ratelimit
from allauth.mfa.models import Authenticator
from allauth.mfa.utils import is_mfa_enabled
from django.contrib.auth.hashers import make_password
from django.core.exceptions import ValidationError
from django.db.models.functions import Now
from django.http import HttpRequest
from django.utils.translation import gettext as _

from apps.accounts.api.tokens import has_verified_email
from apps.accounts.models import ApiClient, User
from apps.common.problems import Problem

logger = structlog.get_logger(__name__)
_LOCKED_S = 15 * 60


def check_person(*, request: HttpRequest, email: str, password: str, code: str) -> User:
    """The account with this e-mail address and password, and two-factor code where it has that; else 401 or 429.

    The failures of the API and of the sign-in page are counted together (allauth's `login_failed`: per account
    and per address), so neither gives a guesser more tries.
    """
    try:
        user = get_adapter(request).authenticate(request, email=email, password=password)
    except ValidationError as error:
        raise _too_many_attempts() from error
    if user is None or not user.is_active or not has_verified_email(user):
        raise refused()
    if is_mfa_enabled(user):
        _check_second_factor(request=request, user=user, code=code)
    return user  # type: ignore[no-any-return]


def _check_second_factor(*, request: HttpRequest, user: User, code: str) -> None:
    if not code:
        raise Problem(
            status=401,
            code="two_factor_required",
            detail=_(
                "This account has two-factor authentication: send the code of your app in the field code."
            ),
            headers={"WWW-Authenticate": 'Bearer realm="api"'},
        )
    key = f"mfa-auth-user-{user.pk}"
    if not ratelimit.consume(request, action="login_failed", key=key):
        raise _too_many_attempts()
    kinds = [Authenticator.Type.TOTP, Authenticator.Type.RECOVERY_CODES]
    for authenticator in Authenticator.objects.filter(user=user, type__in=kinds):
        if authenticator.wrap().validate_code(code):
            authenticator.record_usage()
            ratelimit.clear(request, action="login_failed", key=key)
            return
    raise refused()


def check_client(*, request: HttpRequest, client_id: Any, client_secret: str) -> ApiClient:
    """The active partner app with these credentials; else 401 or 429."""
    key = f"api-client-{client_id}"
    if not ratelimit.consume(request, action="login_failed", key=key, dry_run=True):
        raise _too_many_attempts()
    client = (
        ApiClient.objects.select_related("owner")
        .filter(client_id=client_id, is_active=True, owner__is_active=True)
        .first()
    )
    if client is None:
        make_password(client_secret)  # takes as long as checking one, so time does not tell who exists
    elif client.has_secret(client_secret):
        ApiClient.objects.filter(pk=client.pk).update(last_used_at=Now())
        return client
    ratelimit.consume(request, action="login_failed", key=key)
    raise refused()


def refused() -> Problem:
    """One answer for every reason, so that it tells a stranger nothing."""
    logger.info("token_refused")
    return Problem(
        status=401,
        code="invalid_credentials",
        detail=_(
            "These credentials are wrong, or the account is closed or its e-mail address not yet confirmed."
        ),
        headers={"WWW-Authenticate": 'Bearer realm="api"'},
    )


def _too_many_attempts() -> Problem:
    return Problem(
        status=429,
        code="too_many_attempts",
        detail=_("Too many failed attempts. Try again in a quarter of an hour."),
        headers={"Retry-After": str(_LOCKED_S)},
    )

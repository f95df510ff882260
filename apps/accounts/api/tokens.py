"""JSON Web Tokens in families: a sign-in starts one, each renewal adds a member, a stolen member ends it.

A refresh token works once. If it comes back, either its owner or a thief holds a copy, and nobody can tell which:
the whole family ends (RFC 9700, section 4.14.2). The family stands in the token id ("<family>.<member>"), so that
the blacklist's own tables are enough. The stored rows hold no token, only ids.
"""

import uuid
from dataclasses import dataclass
from typing import Any

import structlog
from allauth.account.models import EmailAddress
from django.db import transaction
from django.db.models import Exists
from django.db.models.functions import Now
from django.utils.crypto import constant_time_compare, salted_hmac
from rest_framework_simplejwt.exceptions import TokenError
from rest_framework_simplejwt.settings import api_settings
from rest_framework_simplejwt.token_blacklist.models import BlacklistedToken, OutstandingToken
from rest_framework_simplejwt.tokens import RefreshToken, Token
from rest_framework_simplejwt.utils import datetime_from_epoch, get_md5_hash_password

from apps.accounts.models import ApiClient, User

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class TokenPair:
    access: str
    refresh: str
    expires_in_s: int


class FamilyRefreshToken(RefreshToken):
    """A refresh token whose use is judged by `renew`, under a lock, not while it is being read."""

    def check_blacklist(self) -> None:
        pass


def give_tokens(*, user: User, client: ApiClient | None = None, family: str | None = None) -> TokenPair:
    """A new pair, the first of a new family unless one is named."""
    refresh = RefreshToken()
    refresh["family"] = family or uuid.uuid4().hex
    refresh["jti"] = f"{refresh['family']}.{uuid.uuid4().hex}"
    refresh[api_settings.USER_ID_CLAIM] = str(user.pk)
    refresh[api_settings.REVOKE_TOKEN_CLAIM] = get_md5_hash_password(user.password)
    if client:
        refresh["client"] = str(client.client_id)
        refresh["secret"] = _fingerprint(client)
    OutstandingToken.objects.filter(user=user, expires_at__lt=Now()).delete()
    OutstandingToken.objects.create(
        user=user, jti=refresh["jti"], token="", created_at=refresh.current_time, expires_at=_expiry(refresh)
    )
    lifetime_s = int(api_settings.ACCESS_TOKEN_LIFETIME.total_seconds())
    return TokenPair(access=str(refresh.access_token), refresh=str(refresh), expires_in_s=lifetime_s)


def renew(raw: str) -> TokenPair | None:
    """A new pair for a refresh token that is good and was not used before; else None, and its family may end."""
    try:
        token = FamilyRefreshToken(raw)  # type: ignore[arg-type]
    except TokenError:
        return None
    with transaction.atomic():
        row = OutstandingToken.objects.select_for_update().filter(jti=token["jti"]).first()
        if row is None:
            return None
        if BlacklistedToken.objects.filter(token=row).exists():
            end_family(str(token.get("family")))
            logger.warning("refresh_token_reused", user_id=row.user_id)
            return None
        holder = token_holder(token)
        if holder is None or (holder.client is None and not has_verified_email(holder.user)):
            return None
        BlacklistedToken.objects.create(token=row)
        return give_tokens(user=holder.user, client=holder.client, family=str(token.get("family")))


def end_family(family: str) -> None:
    living = OutstandingToken.objects.filter(jti__startswith=f"{family}.", blacklistedtoken__isnull=True)
    BlacklistedToken.objects.bulk_create(
        [BlacklistedToken(token=token) for token in living], ignore_conflicts=True
    )


@dataclass(frozen=True, slots=True)
class TokenHolder:
    user: User
    client: ApiClient | None


def token_holder(token: Token) -> TokenHolder | None:
    """Whose token it is, if it still counts; one query.

    It ends with the account, the password, the client or the client's secret, and with its family.
    """
    family_lives = Exists(
        OutstandingToken.objects.filter(
            jti__startswith=f"{_text(token, 'family')}.", blacklistedtoken__isnull=True
        )
    )
    client_id = token.get("client")
    user_id = _text(token, api_settings.USER_ID_CLAIM)
    if not user_id.isdecimal():
        return None
    client: ApiClient | None = None
    user: User | None
    if client_id:
        client = (
            ApiClient.objects.select_related("owner")
            .filter(family_lives, client_id=client_id, is_active=True, owner_id=int(user_id))
            .first()
        )
        user = client.owner if client else None
    else:
        user = User.objects.filter(family_lives, pk=int(user_id)).first()
    if user is None or not user.is_active:
        return None
    password = get_md5_hash_password(user.password)
    if not constant_time_compare(_text(token, api_settings.REVOKE_TOKEN_CLAIM), password):
        return None
    if client and not constant_time_compare(_text(token, "secret"), _fingerprint(client)):
        return None
    return TokenHolder(user=user, client=client)


def has_verified_email(user: User) -> bool:
    return bool(EmailAddress.objects.filter(user=user, verified=True).exists())


def _fingerprint(client: ApiClient) -> str:
    """Changes with the client's secret; tells nothing about it."""
    return salted_hmac("podura.api.client", client.secret_hash).hexdigest()[:32]


def _text(token: Token, claim: str) -> str:
    value = token.get(claim)
    return value if isinstance(value, str) else ""


def _expiry(token: Token) -> Any:
    return datetime_from_epoch(token["exp"])

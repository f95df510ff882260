"""The link at the foot of a mail that ends such mails, without signing in (RFC 8058 for mail programs)."""

import uuid

from django.conf import settings
from django.core import signing
from django.urls import reverse

from apps.accounts.models import User

_signer = signing.Signer(salt="podura.news")


def unsubscribe_address(user: User) -> str:
    """It lasts as long as the site's key: who unsubscribes from an old mail means it."""
    token = _signer.sign(str(user.public_id))
    path = reverse("accounts:news", args=[token])
    return f"{settings.SITE_URL}{path}"


def unsubscribing_user(token: str) -> User | None:
    try:
        public_id = uuid.UUID(_signer.unsign(token))
    except (signing.BadSignature, ValueError):
        return None
    return User.objects.filter(public_id=public_id, is_active=True).first()

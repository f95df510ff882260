"""The link at the foot of a mail that ends such mails, without signing in (RFC 8058 for mail programs)."""

from django.conf import settings
from django.core import signing
from django.urls import reverse

from apps.accounts.models import User

_SALT = "podura.news"


def unsubscribe_address(user: User) -> str:
    """It lasts as long as the site's key: who unsubscribes from an old mail means it."""
    token = signing.dumps(str(user.public_id), salt=_SALT)
    path = reverse("accounts:news", args=[token])
    return f"{settings.SITE_URL}{path}"


def unsubscribing_user(token: str) -> User | None:
    try:
        public_id = signing.loads(token, salt=_SALT)
    except signing.BadSignature:
        return None
    return User.objects.filter(public_id=public_id, is_active=True).first()

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.core import context as allauth_context
from django.conf import settings
from django.contrib.sites.shortcuts import get_current_site
from django.utils import translation

from apps.accounts.mails import queue_mail
from apps.accounts.models import User


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]
    """Podura's answers to allauth's questions."""

    def send_mail(self, template_prefix: str, email: str, context: dict[str, Any]) -> None:
        """Into the outbox: a mail server that is slow or away neither breaks nor delays the page.

        It also takes the same time whether the address is known or not.
        """
        request = allauth_context.request
        user = context.get("user")
        language = user.language if isinstance(user, User) else ""
        with translation.override(language or translation.get_language()):
            values = {
                "request": request,
                "email": email,
                "current_site": get_current_site(request),
                "SITE_NAME": settings.SITE_NAME,
                **context,
            }
            message = self.render_mail(template_prefix, email, values)
        queue_mail(recipient=email, subject=message.subject, body=str(message.body))

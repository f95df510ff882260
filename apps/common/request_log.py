"""One log line a request, with its id and without what is nobody's business: queries, one-time keys, addresses."""

import re
from typing import Any

import structlog
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django_structlog.middlewares import RequestMiddleware

# A link that signs in or resets a password carries its key in the path.
_KEYS = re.compile(r"(/(?:reset/key|confirm-email|unsubscribe)/)[^/]+")
_MAX_PATH = 300
_PROBES = frozenset({"/healthz", "/readyz", "/metrics"})


def loggable_path(path: str) -> str:
    """The path without one-time keys, control characters and excess length; the query is left out altogether,
    because map pages put coordinates there.
    """
    shown = _KEYS.sub(r"\1-", path)[:_MAX_PATH]
    return "".join(character if character.isprintable() else "?" for character in shown)


class RequestLogMiddleware(RequestMiddleware):
    """django-structlog's middleware. `ApiGuardMiddleware` has given the request its id before."""

    @staticmethod
    def format_request(request: HttpRequest) -> str:
        return f"{request.method} {loggable_path(request.path)}"

    def __call__(self, request: HttpRequest) -> Any:
        # Probes ask every few seconds; a check that fails logs its own line.
        if request.path in _PROBES:
            return self.get_response(request)
        return super().__call__(request)

    def handle_response(self, request: HttpRequest, response: HttpResponse) -> None:
        response.setdefault("X-Request-ID", str(getattr(request, "id", "")))
        super().handle_response(request, response)

    @classmethod
    def bind_ip(cls, request: HttpRequest) -> None:
        """The address of the person, counted from the right: what stands further left anybody can write."""
        hops = [
            part.strip() for part in request.META.get("HTTP_X_FORWARDED_FOR", "").split(",") if part.strip()
        ]
        trusted = settings.TRUSTED_PROXIES
        address: Any = request.META.get("REMOTE_ADDR")
        if trusted and len(hops) >= trusted:
            address = hops[-trusted]
        structlog.contextvars.bind_contextvars(ip=str(address)[:45])

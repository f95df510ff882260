"""How many requests a partner app and a person may make."""

from typing import Any, Protocol

from rest_framework.request import Request
from rest_framework.throttling import SimpleRateThrottle, UserRateThrottle


class RateLimitedClient(Protocol):
    """Credentials that carry a limit of their own."""

    client_id: Any
    requests_per_minute: int


def api_client(request: Request) -> RateLimitedClient | None:
    """The partner app whose credentials this request carries; its token holds it once authenticated."""
    return getattr(request.auth, "api_client", None)


class ClientRateThrottle(SimpleRateThrottle):
    """Each partner app has its own bucket, as wide as a curator made it."""

    scope = "client"

    def get_rate(self) -> str:
        return "600/min"  # replaced by the client's own below

    def get_cache_key(self, request: Request, view: Any) -> str | None:  # noqa: ARG002 (the framework calls it so)
        client = api_client(request)
        if client is None:
            return None
        self.num_requests = client.requests_per_minute
        return self.cache_format % {"scope": self.scope, "ident": client.client_id}


class PersonRateThrottle(UserRateThrottle):
    """People and, by address, strangers; partner apps have a bucket of their own."""

    def get_cache_key(self, request: Request, view: Any) -> str | None:
        return None if api_client(request) else super().get_cache_key(request, view)

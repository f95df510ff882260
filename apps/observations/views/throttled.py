"""Rate limits for pages, with the rates and the buckets of the API's settings."""

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec

from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import render
from rest_framework.throttling import UserRateThrottle

P = ParamSpec("P")
View = Callable[Concatenate[HttpRequest, P], HttpResponseBase]


def throttled(scope: str, *, rate: str = "") -> Callable[[View[P]], View[P]]:
    """429 with Retry-After beyond the rate of this scope, per person or, for strangers, per address."""

    class Throttle(UserRateThrottle):
        def get_rate(self) -> str:
            return rate or str(self.THROTTLE_RATES[scope])

    Throttle.scope = scope

    def decorate(view: View[P]) -> View[P]:
        @wraps(view)
        def limited(request: HttpRequest, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
            throttle: Any = Throttle()
            if throttle.allow_request(request, view):
                return view(request, *args, **kwargs)
            response = render(request, "429.html", status=429)
            response["Retry-After"] = str(int(throttle.wait() or 1))
            return response

        return limited  # type: ignore[return-value]

    return decorate

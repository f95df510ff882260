"""Small rules that hold for every answer."""

from collections.abc import Callable
from zoneinfo import ZoneInfo, available_timezones

from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.utils import timezone

GetResponse = Callable[[HttpRequest], HttpResponse]
_METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
_TIME_ZONES = available_timezones()


class KnownMethodsMiddleware:
    """405 for TRACE and for methods nobody defined."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.method not in _METHODS:
            return HttpResponseNotAllowed(_METHODS)
        return self.get_response(request)


class SecurityHeadersMiddleware:
    """Browser features that no page of ours uses are off; the admin's theme needs a wider CSP than the site."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        response.setdefault(
            "Permissions-Policy", "camera=(self), geolocation=(self), microphone=(), payment=()"
        )
        if request.path.startswith("/admin/"):
            # Unfold runs on Alpine.js, which evaluates expressions of its own templates; no script is inline.
            response._csp_update = {  # type: ignore[attr-defined]
                "script-src": ["'unsafe-eval'"],
                "style-src": ["'unsafe-inline'"],
            }
        return response


class TimeZoneMiddleware:
    """Times are shown in the viewer's zone, which `static/common/page.js` keeps in a cookie."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        name = request.COOKIES.get("timezone", "")
        if name in _TIME_ZONES:
            with timezone.override(ZoneInfo(name)):
                return self.get_response(request)
        return self.get_response(request)

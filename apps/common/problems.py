"""The API's one error shape: problem details (RFC 9457), `application/problem+json`.

Whatever answers with 400 or more under /api/ has this shape: what views raise goes through
`exception_handler`, what Django itself answers (unknown addresses, methods, hosts, crashes) through
`ApiGuardMiddleware`.
"""

import json
import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from http import HTTPStatus
from typing import Any

import structlog
from django.conf import settings
from django.core.exceptions import (
    PermissionDenied,
    RequestDataTooBig,
    SuspiciousOperation,
    TooManyFieldsSent,
    TooManyFilesSent,
)
from django.db import DataError, InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, UnreadablePostError
from django.utils import translation
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from rest_framework import exceptions

logger = structlog.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"
TITLES = {
    400: gettext_lazy("The request cannot be understood"),
    401: gettext_lazy("You are not signed in"),
    403: gettext_lazy("You may not do this"),
    404: gettext_lazy("Nothing is here"),
    405: gettext_lazy("This address does not take that method"),
    406: gettext_lazy("No answer in the format you accept"),
    409: gettext_lazy("Something else came in between"),
    411: gettext_lazy("The length of the request is missing"),
    413: gettext_lazy("The request is too large"),
    415: gettext_lazy("The request is in a format that is not understood"),
    422: gettext_lazy("The key was used for another request"),
    429: gettext_lazy("Too many requests"),
    500: gettext_lazy("Something went wrong on our side"),
    503: gettext_lazy("Busy at the moment"),
}


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """What is wrong with one part of the request; `field` is None where it concerns the whole.

    `row` counts the items of a list from 0, for callers that show each problem beside its item.
    """

    field: str | None
    code: str
    detail: str
    row: int | None = None

    @property
    def body(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if name != "row" or value is not None}


class Problem(exceptions.APIException):
    """A refusal with everything that the answer says: raise it from a view."""

    def __init__(
        self,
        *,
        status: int,
        code: str,
        detail: Any = None,
        errors: Iterable[FieldProblem] = (),
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail=detail or TITLES.get(status) or HTTPStatus(status).phrase, code=code)
        self.status_code = status
        self.code = code
        self.errors = list(errors)
        self.headers = dict(headers or {})
        self.extra = dict(extra or {})


def exception_handler(error: Exception, context: dict[str, Any]) -> HttpResponse | None:
    """The answer to an exception in an API view; None (a crash) goes on to Django, which logs it."""
    problem = as_problem(error)
    if problem is None:
        return None
    view, request = context.get("view"), context.get("request")
    response = problem_response(problem, request_id=request_id(getattr(request, "_request", request)))
    if problem.status_code == HTTPStatus.UNAUTHORIZED and view is not None and request is not None:
        response["WWW-Authenticate"] = view.get_authenticate_header(request) or 'Bearer realm="api"'
    return response


def problem_response(problem: Problem, *, request_id: str) -> HttpResponse:
    """`{"type", "title", "status", "code", "detail", "errors": [{"field", "code", "detail"}], "request_id"}`."""
    status = problem.status_code
    body = {
        "type": f"urn:podura:problem:{problem.code}",
        "title": str(TITLES.get(status) or HTTPStatus(status).phrase),
        "status": status,
        "code": problem.code,
        "detail": str(problem.detail),
        "errors": [error.body for error in problem.errors],
        "request_id": request_id,
        **problem.extra,
    }
    content = json.dumps(body, ensure_ascii=False).encode(errors="replace")
    return HttpResponse(content, status=status, content_type=MEDIA_TYPE, headers=problem.headers)


def request_id(request: HttpRequest | None) -> str:
    """The id under which the logs tell of this request."""
    return str(getattr(request, "id", ""))


def as_problem(error: Exception) -> Problem | None:
    """What to answer to `error`, or None where it is a fault of ours."""
    match error:
        case Problem():
            return error
        case exceptions.APIException():
            return _from_api_exception(error)
        case Http404():
            return _not_found()
        case PermissionDenied():
            return Problem(status=403, code="permission_denied")
        case _:
            return _from_django(error)


def _not_found() -> Problem:
    return Problem(
        status=404,
        code="not_found",
        detail=_(
            "There is nothing at this address, or it is not yours. Addresses of the API end with a slash."
        ),
    )


def _from_api_exception(error: exceptions.APIException) -> Problem:  # noqa: PLR0911 (a table of cases)
    match error:
        case exceptions.ValidationError():
            errors = field_problems(error.get_full_details())
            detail = _("Some of what you sent cannot be taken: see the errors.")
            return Problem(status=400, code="invalid", detail=detail, errors=errors)
        case exceptions.NotAuthenticated():
            detail = _("Sign in, or send an access token: Authorization: Bearer …")
            return Problem(status=401, code="not_authenticated", detail=detail)
        case exceptions.AuthenticationFailed():
            # One text for every reason: an answer must not tell a stranger which part of a token was right.
            detail = _("The access token is wrong, has expired or was revoked. Ask for a new one.")
            return Problem(status=401, code="invalid_token", detail=detail)
        case exceptions.Throttled():
            wait_s = max(1, int(getattr(error, "wait", None) or 1))
            detail = _("You have sent too many requests. Try again in %(seconds)s seconds.") % {
                "seconds": wait_s
            }
            headers = {"Retry-After": str(wait_s)}
            return Problem(status=429, code="too_many_requests", detail=detail, headers=headers)
        case exceptions.PermissionDenied() if str(error.detail).startswith("CSRF"):
            detail = _("Send the CSRF token of your session in the X-CSRFToken header.")
            return Problem(status=403, code="csrf_failed", detail=detail)
        case exceptions.NotFound():
            return _not_found()
        case exceptions.MethodNotAllowed():
            return Problem(status=405, code="method_not_allowed")
        case exceptions.NotAcceptable():
            detail = _("The API answers in JSON: accept application/json.")
            return Problem(status=406, code="not_acceptable", detail=detail)
        case exceptions.UnsupportedMediaType():
            detail = _("Send the content type that the documentation of this address names.")
            return Problem(status=415, code="unsupported_media_type", detail=detail)
    code = error.get_codes()
    return Problem(
        status=error.status_code,
        code=code if isinstance(code, str) else error.default_code,
        detail=str(error.detail) if isinstance(error.detail, str) else error.default_detail,
    )


def _from_django(error: Exception) -> Problem | None:  # noqa: PLR0911 (a table of cases)
    match error:
        case RequestDataTooBig():
            return Problem(status=413, code="too_large", detail=_("The request is too large."))
        case TooManyFilesSent():
            return Problem(status=413, code="too_many_files", detail=_("Too many files in one request."))
        case TooManyFieldsSent():
            return Problem(status=413, code="too_many_fields", detail=_("Too many fields in one request."))
        case SuspiciousOperation():
            return Problem(status=400, code="bad_request")
        case UnreadablePostError():
            return Problem(status=400, code="cut", detail=_("The request ended too early. Send it again."))
        case DataError():
            # The validators should have refused it: a value that the database cannot hold is still bad input.
            logger.error("value_refused_by_database", exc_info=error)
            return Problem(status=400, code="invalid_value", detail=_("A value cannot be stored."))
        case OperationalError() | InterfaceError():
            logger.error("database_unreachable", exc_info=error)
            return Problem(
                status=503,
                code="unavailable",
                detail=_("The service cannot answer at the moment. Try again in a few seconds."),
                headers={"Retry-After": "5"},
            )
    return None


def field_problems(details: Any, field: str | None = None) -> list[FieldProblem]:
    """Flatten Django REST framework's nested error details; `photos.0` names the first photo."""
    if isinstance(details, Mapping):
        if set(details) == {"message", "code"} and not isinstance(details["message"], (Mapping, list)):
            return [FieldProblem(field, str(details["code"]), str(details["message"]))]
        return [
            problem
            for name, part in details.items()
            for problem in field_problems(part, _joined(field, str(name)))
        ]
    return [
        problem
        for index, part in enumerate(details)
        for problem in field_problems(part, field if _is_leaf(part) else _joined(field, str(index)))
    ]


def _is_leaf(details: Any) -> bool:
    return isinstance(details, Mapping) and set(details) == {"message", "code"}


def _joined(field: str | None, name: str) -> str | None:
    if name == "non_field_errors":
        return field
    return f"{field}.{name}" if field else name


class ApiGuardMiddleware:
    """First of all: gives each request its id, and makes what Django itself refuses under /api/ a problem.

    It also judges the announced length of an API request before anything is read of it.
    """

    _REQUEST_ID = re.compile(r"[0-9A-Za-z-]{8,64}")

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        sent = request.META.get("HTTP_X_REQUEST_ID", "")
        request_id = sent if self._REQUEST_ID.fullmatch(sent) else str(uuid.uuid4())
        # The logs take the id from the header: one that could forge a log line is replaced.
        request.META["HTTP_X_REQUEST_ID"] = request_id
        request.id = request_id  # type: ignore[attr-defined]
        if not (request.path_info + "/").startswith("/api/"):
            return self.get_response(request)
        if not request.META.get("HTTP_ACCEPT", "*/*").strip():
            del request.META["HTTP_ACCEPT"]
        problem = self._length_problem(request)
        response = HttpResponse(status=problem.status_code) if problem else self.get_response(request)
        if response.status_code >= HTTPStatus.BAD_REQUEST and not self._is_problem(response):
            with translation.override(translation.get_language_from_request(request)):
                self._make_problem(response, problem or _of_status(response.status_code), request_id)
        response["X-Request-ID"] = request_id
        response.setdefault("Cache-Control", "private, no-store")
        return response

    @staticmethod
    def _length_problem(request: HttpRequest) -> Problem | None:
        length = request.META.get("CONTENT_LENGTH") or ""
        if not length:
            if request.META.get("HTTP_TRANSFER_ENCODING"):
                # Without a length Django reads nothing, and the sender would be told that everything is missing.
                return Problem(
                    status=411, code="length_required", detail=gettext_lazy("Send a Content-Length.")
                )
            return None
        if not re.fullmatch(r"[0-9]{1,18}", str(length)):
            request.META["CONTENT_LENGTH"] = ""
            return Problem(
                status=400, code="bad_content_length", detail=gettext_lazy("The Content-Length is wrong.")
            )
        if int(length) > settings.ARCHIVE_MAX_BYTES:
            return Problem(
                status=413,
                code="too_large",
                detail=gettext_lazy("The request is too large. Send fewer photos at once."),
            )
        return None

    @staticmethod
    def _is_problem(response: HttpResponse) -> bool:
        return str(response.get("Content-Type", "")).startswith(MEDIA_TYPE)

    @staticmethod
    def _make_problem(response: HttpResponse, problem: Problem, request_id: str) -> None:
        """Replace the body, keep the headers (Allow, Retry-After, security)."""
        rendered = problem_response(problem, request_id=request_id)
        if response.streaming:
            response.streaming_content = [rendered.content]  # type: ignore[attr-defined]
        else:
            response.content = rendered.content
        response["Content-Type"] = MEDIA_TYPE
        if response.has_header("Content-Length"):
            response["Content-Length"] = str(len(rendered.content))


def _of_status(status: int) -> Problem:
    if status == HTTPStatus.NOT_FOUND:
        return _not_found()
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        detail = _("It is recorded under the request id below. Try again, and tell us the id if it stays.")
        return Problem(status=status, code="server_error", detail=detail)
    codes = {400: "bad_request", 403: "permission_denied", 405: "method_not_allowed", 413: "too_large"}
    return Problem(status=status, code=codes.get(status, HTTPStatus(status).phrase.lower().replace(" ", "_")))

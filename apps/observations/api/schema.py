"""The OpenAPI document and the pages that show it, without another host and without inline code."""

import json
from functools import cache
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils import translation
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiJsonRenderer, OpenApiYamlRenderer
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularSwaggerSplitView
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.common.problems import MEDIA_TYPE

_RETRY_AFTER = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds to wait."}}
_PROBLEMS = {
    "400": "Something in the request cannot be taken: see errors.",
    "401": "No access token, or one that ended.",
    "403": "Only for experts.",
    "404": "Nothing is here, or it is not yours.",
    "409": "Something else came in between: the code says what.",
    "413": "Too large, too many files or too many fields.",
    "415": "Not the content type of this address.",
    "422": "The Idempotency-Key was used for another request.",
    "429": "Too many requests.",
    "503": "Busy: ask again later.",
    "default": "A problem (RFC 9457).",
}


def describe_problems(result: dict[str, Any], generator: Any, request: Any, public: bool) -> dict[str, Any]:  # noqa: ARG001, FBT001 (the framework calls it so)
    """Every operation may answer with problems: say so once for all (drf-spectacular postprocessing hook)."""
    schemas = result["components"].setdefault("schemas", {})
    schemas["Problem"] = _problem_schema()
    for name, schema in schemas.items():
        if name.endswith("Request"):
            schema["additionalProperties"] = False
    for path, operations in result["paths"].items():
        for method, operation in operations.items():
            problems = _problems_of(path, method, operation)
            operation["responses"] |= {status: _problem_response(status) for status in problems}
    return _with_short_names(result)


def _problems_of(path: str, method: str, operation: dict[str, Any]) -> list[str]:
    statuses = ["400", "401", "429", "503", "default"]
    if "{" in path:
        statuses.append("404")
    if "/annotation/" in path:
        statuses += ["403", "409"]
    if method in ("post", "put"):
        statuses += ["413", "415"]
    if any(parameter["name"] == "Idempotency-Key" for parameter in operation.get("parameters", [])):
        statuses += ["409", "422"]
    return statuses


def _problem_response(status: str) -> dict[str, Any]:
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    headers = {"headers": _RETRY_AFTER} if status in ("409", "429", "503") else {}
    return {"description": _PROBLEMS[status], **headers, "content": content}


def _with_short_names(result: dict[str, Any]) -> dict[str, Any]:
    """`Observation` for readers of the schema where the code says `ObservationOutput`."""
    text = json.dumps(result, default=str)  # descriptions are translated when written
    for name in result["components"]["schemas"]:
        short = name.replace("InputRequest", "Request").removesuffix("Output")
        text = text.replace(f'"{name}":', f'"{short}":').replace(f'schemas/{name}"', f'schemas/{short}"')
    return dict(json.loads(text))


def _problem_schema() -> dict[str, Any]:
    text = {"type": "string"}
    error = {
        "type": "object",
        "required": ["field", "code", "detail"],
        "properties": {
            "field": {"type": "string", "nullable": True},
            "code": text,
            "detail": text,
            "row": {"type": "integer", "minimum": 0, "description": "Which item of a list, from 0."},
        },
    }
    return {
        "type": "object",
        "description": "Problem details (RFC 9457).",
        "required": ["type", "title", "status", "code", "detail", "errors", "request_id"],
        "properties": {
            "type": {"type": "string", "format": "uri"},
            "title": text,
            "status": {"type": "integer", "minimum": 400, "maximum": 599},
            "code": {"type": "string", "description": "For programs; it does not change."},
            "detail": {"type": "string", "description": "For people, in their language."},
            "errors": {"type": "array", "items": error},
            "request_id": {"type": "string", "description": "Under this id the logs tell of the request."},
        },
    }


@cache
def openapi_document(language: str) -> dict[str, Any]:
    """The document does not change while a process lives, and building it takes as long as a page view may."""
    with translation.override(language):
        return SchemaGenerator(api_version="v1").get_schema(request=None, public=True)  # type: ignore[no-untyped-call,no-any-return]


class SchemaView(APIView):
    authentication_classes = ()
    permission_classes = (AllowAny,)
    renderer_classes = (OpenApiYamlRenderer, OpenApiJsonRenderer)

    @extend_schema(exclude=True)
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:  # noqa: ARG002 (the framework calls it so)
        """OpenAPI 3 in YAML, or in JSON by the Accept header."""
        disposition = {"Content-Disposition": 'inline; filename="podura-api.yaml"'}
        return Response(openapi_document(translation.get_language() or "en"), headers=disposition)


class DocumentationView(SpectacularSwaggerSplitView):
    """Swagger UI from our own static files; its start script comes from an address of its own (see the CSP)."""

    authentication_classes = ()
    title = "Podura API"


def nothing_here(request: HttpRequest) -> HttpResponse:  # noqa: ARG001 (the framework calls it so)
    """Any other address under /api/; ApiGuardMiddleware makes a problem of it."""
    return HttpResponse(status=404)


nothing_here.csrf_exempt = True  # type: ignore[attr-defined]

"""The OpenAPI document and the pages that show it, without another host and without inline code."""

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

PROBLEM = {"$ref": "#/components/schemas/Problem"}
_RETRY_AFTER = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds to wait."}}


def describe_problems(result: dict[str, Any], generator: Any, request: Any, public: bool) -> dict[str, Any]:  # noqa: ARG001, FBT001 (the framework calls it so)
    """Every operation may answer with a problem: say so once for all (drf-spectacular postprocessing hook)."""
    result["components"]["schemas"]["Problem"] = _problem_schema()
    for operations in result["paths"].values():
        for operation in operations.values():
            operation["responses"] = {
                **operation["responses"],
                "429": {"description": "Too many requests.", "headers": _RETRY_AFTER, "content": _content()},
                "503": {
                    "description": "Busy: ask again later.",
                    "headers": _RETRY_AFTER,
                    "content": _content(),
                },
                "default": {"description": "A problem (RFC 9457).", "content": _content()},
            }
    return result


def _content() -> dict[str, Any]:
    return {MEDIA_TYPE: {"schema": PROBLEM}}


def _problem_schema() -> dict[str, Any]:
    text = {"type": "string"}
    error = {
        "type": "object",
        "required": ["field", "code", "detail"],
        "properties": {"field": {"type": "string", "nullable": True}, "code": text, "detail": text},
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
        return SchemaGenerator(api_version="v1").get_schema(request=None, public=True)  # type: ignore[no-any-return]


class SchemaView(APIView):
    authentication_classes = ()
    permission_classes = (AllowAny,)
    renderer_classes = (OpenApiYamlRenderer, OpenApiJsonRenderer)

    @extend_schema(exclude=True)
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:  # noqa: ARG002 (the framework calls it so)
        """OpenAPI 3 in YAML, or in JSON by the Accept header."""
        disposition = {"Content-Disposition": 'inline; filename="podura-api.yaml"'}
        return Response(openapi_document(translation.get_language() or "en"), headers=disposition)


class DocumentationView(SpectacularSwaggerSplitView):  # type: ignore[misc]
    """Swagger UI from our own static files; its start script comes from an address of its own (see the CSP)."""

    authentication_classes = ()
    title = "Podura API"


def nothing_here(request: HttpRequest) -> HttpResponse:  # noqa: ARG001 (the framework calls it so)
    """Any other address under /api/; ApiGuardMiddleware makes a problem of it."""
    return HttpResponse(status=404)


nothing_here.csrf_exempt = True  # type: ignore[attr-defined]

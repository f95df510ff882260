"""The project's addresses, and one that only needs a caller: for the tests of tokens and of the error shape."""

from typing import Any

from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.db import connection
from django.urls import path
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.common.parsers import StrictFormParser, StrictJSONParser, StrictMultiPartParser
from project.urls import urlpatterns as project_urlpatterns


class ProtectedView(APIView):
    parser_classes = (StrictJSONParser, StrictFormParser, StrictMultiPartParser)

    def get(self, request: Request) -> Response:
        return Response({"user": request.user.pk})

    def post(self, request: Request) -> Response:
        names = sorted(request.data) if isinstance(request.data, dict) else []
        sizes = [
            file.size for files in dict(getattr(request.FILES, "lists", list)()).values() for file in files
        ]
        return Response({"names": names, "sizes": sizes})


class FailingView(APIView):
    def get(self, request: Request, how: str) -> Response:
        match how:
            case "crash":
                raise RuntimeError("secret detail")
            case "denied":
                raise PermissionDenied
            case "suspicious":
                raise SuspiciousOperation
            case "data":
                with connection.cursor() as cursor:
                    cursor.execute("SELECT 'x'::integer")
        return Response()


def crash(request: Any) -> None:
    raise RuntimeError("secret detail")


urlpatterns = [
    path("api/v1/protected/", ProtectedView.as_view()),
    path("api/v1/failing/<str:how>/", FailingView.as_view()),
    path("api/v1/crash/", crash),
    *project_urlpatterns,
]

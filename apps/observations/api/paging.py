"""Pages by key: as fast on the last page as on the first, and stable while rows are added."""

import base64
import binascii
from typing import Any

from django.utils.translation import gettext_lazy as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.utils.urls import replace_query_param

from apps.common.inputs import StrictSerializer

MAX_PAGE = 200


@extend_schema_field(OpenApiTypes.STR)
class CursorField(serializers.Field[Any, Any, Any, Any]):
    """The last key of the page before, opaque to callers: take it from `next`."""

    default_error_messages = {"invalid": _("This is no cursor of this list: take it from the field next.")}

    def to_internal_value(self, data: Any) -> int:
        try:
            digits = base64.urlsafe_b64decode(str(data).encode("ascii"))
        except (ValueError, binascii.Error):
            self.fail("invalid")
        if not digits.isdigit() or len(digits) > 18:
            self.fail("invalid")
        return int(digits)

    def to_representation(self, value: int) -> str:
        return encode_cursor(value)


def encode_cursor(key: int) -> str:
    return base64.urlsafe_b64encode(str(key).encode()).decode()


class PageInput(StrictSerializer):
    """The parameters that every list takes."""

    refuses_blank = True

    cursor = CursorField(
        required=False, help_text=_("Where the page begins: from `next` of the page before.")
    )
    limit = serializers.IntegerField(
        min_value=1, max_value=MAX_PAGE, default=50, help_text=_("How many at most; a page may hold fewer.")
    )


def page(request: Request, results: list[Any], *, next_key: int | None) -> dict[str, Any]:
    """`{"next", "results"}`; `next` is the address of the next page, null on the last."""
    return {"next": next_address(request, next_key), "results": results}


def next_address(request: Request, next_key: int | None, *, path: str | None = None) -> str | None:
    if next_key is None:
        return None
    address = request.build_absolute_uri(path)
    return str(replace_query_param(address, "cursor", encode_cursor(next_key)))

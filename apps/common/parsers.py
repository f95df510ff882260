"""JSON as strict as RFC 8259, and refusals instead of crashes for JSON made to hurt."""

import json
from typing import IO, Any

from django.utils.translation import gettext as _
from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser


class StrictJSONParser(BaseParser):
    media_type = "application/json"

    def parse(
        self, stream: IO[bytes], media_type: str | None = None, parser_context: dict[str, Any] | None = None
    ) -> Any:
        """Parse UTF-8 JSON; NaN, Infinity, NUL, endless nesting and endless integers are refused (400)."""
        try:
            text = stream.read().decode()
            if "\\u0000" in text:
                raise ParseError(_("The text contains a NUL character."))
            return json.loads(text, parse_constant=_refuse_constant)
        except RecursionError as error:
            raise ParseError(_("The JSON is nested too deeply.")) from error
        except ValueError as error:
            raise ParseError(_("This is not valid JSON.")) from error


def _refuse_constant(name: str) -> None:
    raise ValueError(name)

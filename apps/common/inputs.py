"""What comes in through the API: serializers that take exactly the fields they name, and texts fit to keep."""

import unicodedata
from collections.abc import Mapping
from typing import Any

from django.http import QueryDict
from django.utils.translation import gettext_lazy as _
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, ValidationError

from apps.common.texts import BIDI_CONTROLS

_KEPT_CONTROLS = "\n\t"
_WITHOUT_BIDI = dict.fromkeys(BIDI_CONTROLS)


class StrictSerializer(serializers.Serializer[Any]):
    """Unknown and repeated fields are refused: a misspelt filter must not silently give everything."""

    many_valued: tuple[str, ...] = ()
    refuses_blank = False
    """A field left blank in a form counts as not filled in; a blank filter in an address is a mistake."""

    @classmethod
    def validated(cls, data: Any, **context: Any) -> dict[str, Any]:
        """The validated fields, or `ValidationError`."""
        serializer = cls(data=data, context=context)
        serializer.is_valid(raise_exception=True)
        return dict(serializer.validated_data)

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping):
            names: list[str] = list(self.fields.keys())
            unknown = ErrorDetail(str(_("There is no such field.")), code="unknown_field")
            errors = {_printable(name): [unknown] for name in data if name not in names}
            if isinstance(data, QueryDict):
                repeated = ErrorDetail(str(_("Send this field once.")), code="repeated_field")
                single = [name for name in names if name not in self.many_valued]
                errors |= {name: [repeated] for name in single if len(data.getlist(name)) > 1}
                if self.refuses_blank:
                    blank = ErrorDetail(str(_("Give a value, or leave it out.")), code="blank")
                    errors |= {name: [blank] for name in names if data.get(name) == ""}
            if errors:
                raise ValidationError(errors)
        return super().to_internal_value(data)


def _printable(name: Any) -> str:
    """A sender's field name as an answer may repeat it."""
    text = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in str(name))
    return text[:60]


class TextField(serializers.CharField):
    """Text as it is kept: NFC, without control characters; what was not UTF-8 is refused, not patched.

    A number is no text: the framework would take 5 for "5".
    """

    default_error_messages = {
        "not_utf8": _("The text is not valid UTF-8."),
        "control": _("The text contains control characters."),
    }

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        text = super().to_internal_value(data).replace("\r\n", "\n").replace("\r", "\n")
        text = unicodedata.normalize("NFC", text.translate(_WITHOUT_BIDI))
        if "\N{REPLACEMENT CHARACTER}" in text:
            self.fail("not_utf8")
        if any(unicodedata.category(letter) == "Cc" and letter not in _KEPT_CONTROLS for letter in text):
            self.fail("control")
        return text

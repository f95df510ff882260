"""Numbers as people read them."""

from typing import Any

from django.utils.formats import number_format


def number(value: Any, *, places: int = 3, signed: bool = False) -> str:
    """A metric in the reader's language, or a dash."""
    if not isinstance(value, int | float):
        return "–"
    text = number_format(round(abs(value), places), decimal_pos=places)  # which cuts off what is too long
    sign = "−" if round(value, places) < 0 else "+" if signed and round(value, places) > 0 else ""
    return sign + text

"""CSV that neither a spreadsheet nor a parser misreads, and that can be read back exactly."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Final

FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""A text that begins so is run as a formula by some spreadsheet; the last four are the full-width forms."""

Cell = str | int | float | None


def safe_cell(value: Cell) -> Cell:
    """A text that a spreadsheet would run gets an apostrophe in front; numbers stay numbers.

    So does a text that looks like one which has got its apostrophe already: only then `plain_cell` gives it back.
    """
    if isinstance(value, str) and value.lstrip("'").startswith(FORMULA_STARTS):
        return f"'{value}"
    return value


def plain_cell(text: str) -> str:
    """The text that `safe_cell` was given."""
    return text[1:] if text.startswith("'") and text.lstrip("'").startswith(FORMULA_STARTS) else text


def table(columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """RFC 4180 text with a header."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(columns)
    for row in rows:
        writer.writerow(["" if cell is None else safe_cell(cell) for cell in row])
    return buffer.getvalue()


def read_table(text: str) -> list[dict[str, str]]:
    """Rows by column name; missing cells are empty. Raises `csv.Error`."""
    rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    if not rows:
        return []
    header = rows[0]
    return [
        dict.fromkeys(header, "") | dict(zip(header, map(plain_cell, row), strict=False)) for row in rows[1:]
    ]

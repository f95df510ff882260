"""Charts as data: what is drawn in the browser, and the table that stands behind it for everybody else.

A view builds a `Chart`, the template says `{% load charts %}{% chart chart %}`, and the page's head includes
`charts/head.html`. Without JavaScript the table is shown.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from django.utils.formats import localize
from django.utils.translation import gettext as _

Look = Literal["line", "dashed", "dots", "bar", "ideal"]
_NAME: Final = re.compile(r"[a-z][a-z0-9-]*")


@dataclass(frozen=True, slots=True)
class Axis:
    """What is measured along an axis. `low` and `high` fix its ends; without them it fits the data."""

    name: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    is_log: bool = False
    digits: int = 3
    """After the decimal point, in the table and where the pointer is; exports have the whole number."""


@dataclass(frozen=True, slots=True)
class Series:
    """One line or row of bars: a value for each of the chart's `xs`, None where there is none.

    `low` and `high`, of the same length, are an interval drawn as a band. `look="ideal"` is a thin line for what would
    be perfect; it counts as explanation, not as data.
    """

    name: str
    values: Sequence[float | None]
    low: Sequence[float | None] = ()
    high: Sequence[float | None] = ()
    look: Look = "line"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table."""

    name: str
    digits: int
    values: Sequence[float | str | None]


@dataclass(frozen=True, slots=True)
class Chart:
    """`name` is unique in the page and becomes the name of downloaded files.

    `xs` are numbers, or texts for bars. `notes` says something of each x (such as the version measured there). The
    chart grows by being given again with the same name: an open page is updated without being drawn anew.
    """

    name: str
    title: str
    x: Axis
    y: Axis
    xs: Sequence[float | str]
    series: Sequence[Series]
    notes: Sequence[str] = ()
    notes_name: str = ""
    interval_name: str = field(default="95 %")
    explanation: str = ""
    """A sentence below the title: how it is read."""
    is_square: bool = False

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"{self.name!r} cannot be part of an element's id")
        for series in self.series:
            for values in (series.values, series.low, series.high):
                if values and len(values) != len(self.xs):
                    raise ValueError(
                        f"{self.name}: {series.name!r} has {len(values)} values for {len(self.xs)}"
                    )
        if self.notes and len(self.notes) != len(self.xs):
            raise ValueError(f"{self.name}: {len(self.notes)} notes for {len(self.xs)}")

    @property
    def is_empty(self) -> bool:
        return not any(value is not None for series in self.series for value in series.values)

    @property
    def columns(self) -> list[Column]:
        """Of the table: x, its note, then each series with its interval."""
        columns = [Column(_with_unit(self.x), self.x.digits, self.xs)]
        if self.notes:
            columns.append(Column(self.notes_name, 0, self.notes))
        for series in self.series:
            columns.append(Column(series.name, self.y.digits, series.values))
            if series.low:
                columns.append(Column(f"{series.name}, {self.interval_name} ≥", self.y.digits, series.low))
                columns.append(Column(f"{series.name}, {self.interval_name} ≤", self.y.digits, series.high))
        return columns

    @property
    def rows(self) -> list[list[str]]:
        """The table's cells in the reader's language."""
        shown = [[_shown(value, column.digits) for value in column.values] for column in self.columns]
        return [list(row) for row in zip(*shown, strict=True)]

    @property
    def heads(self) -> list[str]:
        return [column.name for column in self.columns]

    @property
    def data(self) -> dict[str, Any]:
        """For `static/charts/chart.js`."""
        return {
            "name": self.name,
            "title": self.title,
            "x": _axis(self.x),
            "y": _axis(self.y),
            "xs": list(self.xs),
            "notes": list(self.notes),
            "notesName": self.notes_name,
            "empty": _("No values yet."),
            "series": [
                {
                    "name": series.name,
                    "look": series.look,
                    "values": list(series.values),
                    "low": list(series.low),
                    "high": list(series.high),
                }
                for series in self.series
            ],
            "columns": [{"name": column.name, "values": list(column.values)} for column in self.columns],
        }


def _axis(axis: Axis) -> dict[str, Any]:
    return {
        "name": _with_unit(axis),
        "low": axis.low,
        "high": axis.high,
        "log": axis.is_log,
        "digits": axis.digits,
    }


def _with_unit(axis: Axis) -> str:
    return f"{axis.name} ({axis.unit})" if axis.unit else axis.name


def _shown(value: float | str | None, digits: int) -> str:
    if value is None:
        return "–"
    if isinstance(value, str):
        return value
    if value == int(value) and abs(value) < 1e15:
        return str(localize(int(value)))
    if 0 < abs(value) < 0.5 * 10**-digits:  # a learning rate of 0.00002 is not nought
        return f"{value:.2e}"
    return str(localize(round(float(value), digits)))

"""What an evaluation leaves for people: curves, matrix, bins, and every picture's boxes. A file of its own.

Gzipped JSON. Reading it needs neither a runtime nor numpy: web processes do it.
"""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

FORMAT: Final = "podura-evaluation"
FORMAT_VERSION: Final = 1
MAX_BYTES: Final = 512 << 20
BACKGROUND: Final = "background"

TruthBox = tuple[float, float, float, float, int]
FoundBox = tuple[float, float, float, float, int, float]
Cell = tuple[int, int | None, int | None]


class ReportDamagedError(Exception):
    """A stored report that is not one."""


@dataclass(frozen=True, slots=True)
class PictureReport:
    """One picture. Boxes are pixels of the upright picture; labels are indices into the report's list."""

    photo: str
    """Public identifier."""
    width_px: int
    height_px: int
    truth: tuple[TruthBox, ...]
    found: tuple[FoundBox, ...]
    """By descending score, 0.05 or more, duplicates suppressed as in production."""
    pairs: tuple[tuple[int, int], ...]
    """(row of `truth`, row of `found`) at the report's confidence, right names and wrong ones."""
    tp: int
    fp: int
    fn: int
    latency_ms: float | None
    """Known for the pictures that it was measured on."""


@dataclass(frozen=True, slots=True)
class Curve:
    """Of one label, or of all. `recall` and `precision` are the reference's at IoU 0.5, mean over labels for all;
    the others hold at each of `confidence`, with the boxes that people see, all labels counted together.
    """

    recall: tuple[float, ...]
    precision: tuple[float | None, ...]
    confidence: tuple[float, ...]
    f1: tuple[float | None, ...]
    precision_at: tuple[float | None, ...]
    recall_at: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class Bin:
    """Boxes whose score lies in `low <= score < high` (the last bin holds 1): how sure, and how often right."""

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True, slots=True)
class Calibration:
    ece: float | None
    bins: tuple[Bin, ...]


@dataclass(frozen=True, slots=True)
class SizeBucket:
    """Animals with `from_px <= square root of the box's area < to_px`, pixels of the photo as it was taken."""

    from_px: float
    to_px: float | None
    boxes: int
    map50_95: float | None
    recall: float | None


@dataclass(frozen=True, slots=True)
class Report:
    labels: tuple[str, ...]
    confidence: float
    match_iou: float
    evaluator: str
    pictures: tuple[PictureReport, ...]
    curves: Mapping[str, Curve]
    """By label code, and "all"."""
    confusion: tuple[tuple[int, ...], ...]
    """Rows: the animal's label, last the background; columns: the found label, last missed."""
    cells: Mapping[str, tuple[Cell, ...]]
    """By "row,column": what is in that cell, as (picture, row of truth, row of found)."""
    calibration: Calibration
    sizes: Mapping[str, SizeBucket]
    """small, medium, large: thirds of the animals of this split."""

    def encoded(self) -> bytes:
        """The same report gives the same bytes."""
        document = {"format": FORMAT, "version": FORMAT_VERSION, **_shallow(self)}
        text = json.dumps(
            document,
            ensure_ascii=False,
            separators=(",", ":"),
            sort_keys=True,
            allow_nan=False,
            default=_shallow,
        )
        return gzip.compress(text.encode(), compresslevel=6, mtime=0)

    @classmethod
    def decoded(cls, content: bytes) -> Report:
        """Raises `ReportDamagedError`."""
        try:
            document = json.loads(gzip.decompress(content), parse_constant=_no_constant)
            if document["format"] != FORMAT or document["version"] != FORMAT_VERSION:
                raise ReportDamagedError("not a report that this version of Podura can read")
            report = cls(
                labels=tuple(str(label) for label in document["labels"]),
                confidence=float(document["confidence"]),
                match_iou=float(document["match_iou"]),
                evaluator=str(document["evaluator"]),
                pictures=tuple(_picture(row) for row in document["pictures"]),
                curves={str(name): _curve(row) for name, row in document["curves"].items()},
                confusion=tuple(tuple(int(n) for n in row) for row in document["confusion"]),
                cells={
                    str(name): tuple((int(p), _row(t), _row(f)) for p, t, f in rows)
                    for name, rows in document["cells"].items()
                },
                calibration=Calibration(
                    _number(document["calibration"]["ece"]),
                    tuple(Bin(**row) for row in document["calibration"]["bins"]),
                ),
                sizes={str(name): SizeBucket(**row) for name, row in document["sizes"].items()},
            )
        except (OSError, EOFError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise ReportDamagedError(f"the report cannot be read: {error}") from error
        report.check()
        return report

    def check(self) -> None:
        """Raise `ReportDamagedError` where one part does not fit another."""
        side = len(self.labels) + 1
        if len(self.confusion) != side or any(len(row) != side for row in self.confusion):
            raise ReportDamagedError("the confusion matrix does not have a row and a column for each label")
        for number, picture in enumerate(self.pictures):
            labels = [box[4] for box in picture.truth] + [box[4] for box in picture.found]
            if any(not 0 <= label < len(self.labels) for label in labels):
                raise ReportDamagedError(f"picture {number}: a label that is not in the list")
            rows = [(0 <= t < len(picture.truth), 0 <= f < len(picture.found)) for t, f in picture.pairs]
            if not all(truth and found for truth, found in rows):
                raise ReportDamagedError(f"picture {number}: a pair of boxes that are not there")
        for name, cells in self.cells.items():
            for place, truth, found in cells:
                if not 0 <= place < len(self.pictures):
                    raise ReportDamagedError(f"cell {name}: a picture that is not there")
                picture = self.pictures[place]
                if (truth is not None and not 0 <= truth < len(picture.truth)) or (
                    found is not None and not 0 <= found < len(picture.found)
                ):
                    raise ReportDamagedError(f"cell {name}: a box that is not there")


def _picture(row: Mapping[str, Any]) -> PictureReport:
    return PictureReport(
        photo=str(row["photo"]),
        width_px=int(row["width_px"]),
        height_px=int(row["height_px"]),
        truth=tuple((float(a), float(b), float(c), float(d), int(n)) for a, b, c, d, n in row["truth"]),
        found=tuple(
            (float(a), float(b), float(c), float(d), int(n), float(score))
            for a, b, c, d, n, score in row["found"]
        ),
        pairs=tuple((int(truth), int(found)) for truth, found in row["pairs"]),
        tp=int(row["tp"]),
        fp=int(row["fp"]),
        fn=int(row["fn"]),
        latency_ms=_number(row["latency_ms"]),
    )


def _curve(row: Mapping[str, Any]) -> Curve:
    def numbers(name: str) -> tuple[float, ...]:
        return tuple(float(value) for value in row[name])

    def perhaps(name: str) -> tuple[float | None, ...]:
        return tuple(_number(value) for value in row[name])

    return Curve(
        recall=numbers("recall"),
        precision=perhaps("precision"),
        confidence=numbers("confidence"),
        f1=perhaps("f1"),
        precision_at=perhaps("precision_at"),
        recall_at=perhaps("recall_at"),
    )


def _row(value: Any) -> int | None:
    return None if value is None else int(value)


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def finite(value: float) -> float | None:
    """For JSON: a number that there is none of is null, never NaN."""
    return float(value) if math.isfinite(value) else None


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number")


def _shallow(record: Any) -> dict[str, Any]:
    """Of a dataclass; `asdict` would copy every number of a large report first."""
    return {one.name: getattr(record, one.name) for one in fields(record)}

"""The numbers of an evaluation: from what was found on each picture to averages, curves, matrix and calibration.

Average precision comes from the reference (reference.py) and counts every box down to a score of 0.001. Precision, recall,
F1, matrix and calibration count what people see: duplicates suppressed as in production (matching.py, `Shown`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from apps.training.engine.detector import DEFAULT_CONFIDENCE
from apps.training.engine.matches import MatchTable
from apps.training.engine.matching import (
    MATCH_IOU,
    REPORTED_CONFIDENCE,
    Found,
    Shown,
    TableBuilder,
    Truth,
    shown_of,
)
from apps.training.engine.reference import EVALUATOR, Precisions, SizeRange, coco_precisions
from apps.training.engine.report import (
    Bin,
    Calibration,
    Cell,
    Curve,
    PictureReport,
    Report,
    SizeBucket,
    finite,
)
from apps.training.engine.resampling import bootstrap_intervals

RECALLS: Final[NDArray[np.float64]] = np.linspace(0, 1, 101)
CONFIDENCES: Final[NDArray[np.float64]] = np.linspace(REPORTED_CONFIDENCE, 1, 96)
"""Every hundredth from the weakest box that is reported."""
INTERVAL_DRAWS: Final = 500
"""Of pictures, for the intervals. Twice as many move its ends by less than a tenth of its width."""
CALIBRATION_BINS: Final = 10
"""Of one width, as Guo et al. 2017, who take 15: test splits here hold hundreds of boxes, not ten thousand."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One version on P pictures."""

    table: MatchTable
    report: Report
    metrics: dict[str, Any]
    """As `Evaluation.metrics`; null where there is no such number."""
    by_label: dict[str, dict[str, Any]]
    latency_ms: NDArray[np.float64]
    """(P,) NaN for pictures that it was not measured on."""
    runtime: str = ""
    """Library and precision that it ran in."""


@dataclass(slots=True)
class Measurement:
    """Collects what one version found, picture by picture, while the next pictures are in the net."""

    labels: tuple[str, ...]
    confidence: float = DEFAULT_CONFIDENCE
    _builder: TableBuilder = field(init=False)
    _truths: list[Truth] = field(default_factory=list)
    _found: list[Found] = field(default_factory=list)
    _shown: list[Shown] = field(default_factory=list)
    _about: list[tuple[str, int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._builder = TableBuilder(self.labels)

    def add(self, *, photo: str, width_px: int, height_px: int, truth: Truth, found: Found) -> None:
        """The next picture."""
        self._about.append((photo, width_px, height_px))
        self._truths.append(truth)
        self._found.append(found)
        self._shown.append(shown_of(truth, found, confidence=self.confidence))
        self._builder.add(truth, found)

    def measured(self, *, latency_ms: NDArray[np.float64], runtime: str = "") -> Measured:
        sizes = size_ranges(self._truths)
        precisions = coco_precisions(self._truths, self._found, labels=self.labels, sizes=sizes)
        seen = _Seen.of(self._truths, self._shown, labels=len(self.labels))
        matrix, cells = confusion(self._truths, self._shown, labels=len(self.labels))
        calibration = calibration_of(seen.score, seen.is_match)
        report = Report(
            labels=self.labels,
            confidence=self.confidence,
            match_iou=MATCH_IOU,
            evaluator=EVALUATOR,
            pictures=tuple(self._picture(place, latency_ms[place]) for place in range(len(self._truths))),
            curves=_curves(self.labels, precisions, seen),
            confusion=tuple(tuple(row) for row in matrix.tolist()),
            cells=cells,
            calibration=calibration,
            sizes=_buckets(self._truths, sizes, precisions),
        )
        known = latency_ms[~np.isnan(latency_ms)]
        table = self._builder.table()
        metrics = {
            "map50": finite(precisions.map50),
            "map50_95": finite(precisions.map50_95),
            **_rates(seen, self.confidence),
            **_intervals(table, report.pictures),
            **_best(report.curves["all"]),
            "ece": calibration.ece,
            "latency_ms": float(np.median(known)) if len(known) else None,
            "photos": len(self._truths),
            "boxes": int(seen.animals.sum()),
            "evaluator": EVALUATOR,
            "confidence": self.confidence,
        }
        by_label = {
            code: self._of_label(code, label, precisions, seen, report)
            for label, code in enumerate(self.labels)
        }
        return Measured(table, report, metrics, by_label, latency_ms, runtime)

    def _of_label(
        self, code: str, label: int, precisions: Precisions, seen: _Seen, report: Report
    ) -> dict[str, Any]:
        map50_95, map50 = precisions.of_label(label)
        own = seen.of_label(label)
        return {
            "map50": finite(map50),
            "map50_95": finite(map50_95),
            **_rates(own, self.confidence),
            **_best(report.curves[code]),
            "ece": calibration_of(own.score, own.is_match).ece,
            "boxes": int(own.animals.sum()),
            "found": int((own.score >= self.confidence).sum()),
        }

    def _picture(self, place: int, latency_ms: float) -> PictureReport:
        photo, width_px, height_px = self._about[place]
        truth, shown = self._truths[place], self._shown[place]
        strong = shown.strong
        right = int((strong & shown.is_match).sum())
        boxes = np.round(truth.boxes_xyxy_px.astype(np.float64), 2).tolist()
        found = np.round(shown.found.boxes_xyxy_px.astype(np.float64), 2).tolist()
        scores = np.round(shown.found.scores.astype(np.float64), 4).tolist()
        return PictureReport(
            photo=photo,
            width_px=width_px,
            height_px=height_px,
            truth=tuple((*box, label) for box, label in zip(boxes, truth.labels.tolist(), strict=True)),
            found=tuple(
                (*box, label, score)
                for box, label, score in zip(found, shown.found.labels.tolist(), scores, strict=True)
            ),
            pairs=shown.pairs,
            tp=right,
            fp=int(strong.sum()) - right,
            fn=len(truth) - right,
            latency_ms=None if np.isnan(latency_ms) else round(float(latency_ms), 2),
        )


@dataclass(frozen=True, slots=True)
class _Seen:
    """The boxes that people see, of all pictures."""

    label: NDArray[np.int64]
    score: NDArray[np.float64]
    is_match: NDArray[np.bool_]
    animals: NDArray[np.int64]
    """(L,) in the truth."""

    @classmethod
    def of(cls, truths: Sequence[Truth], shown: Sequence[Shown], *, labels: int) -> _Seen:
        every = [truth.labels for truth in truths]
        return cls(
            np.concatenate([np.zeros(0, np.int64), *(s.found.labels for s in shown)]),
            np.concatenate([np.zeros(0, np.float64), *(s.found.scores.astype(np.float64) for s in shown)]),
            np.concatenate([np.zeros(0, np.bool_), *(s.is_match for s in shown)]),
            np.bincount(np.concatenate([np.zeros(0, np.int64), *every]), minlength=labels).astype(np.int64),
        )

    def of_label(self, label: int) -> _Seen:
        own = self.label == label
        return _Seen(self.label[own], self.score[own], self.is_match[own], self.animals[label : label + 1])


def average_precision(table: MatchTable) -> NDArray[np.float64]:
    """(10, L) AP at each threshold by COCO's 101 points, NaN for labels without an animal; as the reference's."""
    animals = table.truths.sum(axis=0)
    result = np.full((table.is_match.shape[1], len(table.labels)), np.nan)
    for label in np.flatnonzero(animals):
        own = np.flatnonzero(table.label == label)
        own = own[np.argsort(-table.score[own], kind="stable")]
        for threshold in range(len(result)):
            places = np.flatnonzero(table.is_match[own, threshold])
            right = np.arange(1, len(places) + 1)
            # Only where a box is right can precision be highest, so that the others need no look.
            best = np.maximum.accumulate((right / (places + 1))[::-1])[::-1]
            at = np.searchsorted(right / animals[label], RECALLS, side="left")
            result[threshold, label] = best[at[at < len(best)]].sum() / len(RECALLS)
    return result


def size_ranges(truths: Sequence[Truth]) -> tuple[SizeRange, ...]:
    """Thirds of the animals by the area of their boxes.

    Not COCO's 32² and 96²: those are pixels of holiday photos. A springtail has 20 pixels on one plate and 300 under
    another lens, and a bucket without animals tells nobody anything.
    """
    areas = np.concatenate([np.zeros(0), *(_areas(truth) for truth in truths)])
    if not len(areas):
        return ()
    first, second = (float(np.quantile(areas, share, method="higher")) for share in (1 / 3, 2 / 3))
    # The evaluator takes both ends of a range in, and an animal must be in one bucket.
    return (
        SizeRange("small", 0.0, float(np.nextafter(first, 0))),
        SizeRange("medium", first, float(np.nextafter(second, 0))),
        SizeRange("large", second, 1e12),
    )


def confusion(
    truths: Sequence[Truth], shown: Sequence[Shown], *, labels: int
) -> tuple[NDArray[np.int64], dict[str, tuple[Cell, ...]]]:
    """(L + 1, L + 1) animals by their label (rows) and the one found (columns); last: background, missed.

    And for each cell "row,column" what is in it: (picture, row of truth, row of found).
    """
    matrix = np.zeros((labels + 1, labels + 1), np.int64)
    cells: dict[str, list[Cell]] = {}

    def count(row: int, column: int, cell: Cell) -> None:
        matrix[row, column] += 1
        cells.setdefault(f"{row},{column}", []).append(cell)

    for place, (truth, picture) in enumerate(zip(truths, shown, strict=True)):
        names, found_names = truth.labels.tolist(), picture.found.labels.tolist()
        for animal, box in picture.pairs:
            count(names[animal], found_names[box], (place, animal, box))
        matched = {animal for animal, _ in picture.pairs}, {box for _, box in picture.pairs}
        for animal, name in enumerate(names):
            if animal not in matched[0]:
                count(name, labels, (place, animal, None))
        for box in np.flatnonzero(picture.strong).tolist():
            if box not in matched[1]:
                count(labels, found_names[box], (place, None, box))
    return matrix, {name: tuple(rows) for name, rows in cells.items()}


def calibration_of(score: NDArray[np.float64], is_match: NDArray[np.bool_]) -> Calibration:
    """How far scores are from the share of boxes that are right.

    The expected calibration error of Guo et al. 2017, for detectors as Küppers et al. 2020 (D-ECE, over the score
    alone): "right" is a box that found an animal of its label, so that the accuracy of a bin is its precision. Missed
    animals have no score and do not count.
    """
    edges = np.linspace(0, 1, CALIBRATION_BINS + 1)
    which = np.clip(np.searchsorted(edges, score, side="right") - 1, 0, CALIBRATION_BINS - 1)
    counts = np.bincount(which, minlength=CALIBRATION_BINS)
    sums = np.bincount(which, weights=score, minlength=CALIBRATION_BINS)
    right = np.bincount(which, weights=is_match.astype(np.float64), minlength=CALIBRATION_BINS)
    bins = tuple(
        Bin(
            low=round(float(edges[i]), 6),
            high=round(float(edges[i + 1]), 6),
            count=int(counts[i]),
            confidence=float(sums[i] / counts[i]) if counts[i] else None,
            accuracy=float(right[i] / counts[i]) if counts[i] else None,
        )
        for i in range(CALIBRATION_BINS)
    )
    return Calibration(float(np.abs(sums - right).sum() / len(score)) if len(score) else None, bins)


def _rates(seen: _Seen, confidence: float) -> dict[str, float | None]:
    strong = seen.score >= confidence
    right, boxes, animals = int((strong & seen.is_match).sum()), int(strong.sum()), int(seen.animals.sum())
    return {
        "precision": right / boxes if boxes else None,
        "recall": right / animals if animals else None,
        # The same as the harmonic mean, and known without any box, too.
        "f1": 2 * right / (boxes + animals) if animals else None,
    }


def _intervals(table: MatchTable, pictures: Sequence[PictureReport]) -> dict[str, float | None]:
    counts = np.array([(p.tp, p.fp, p.fn) for p in pictures], np.int64).reshape(-1, 3)
    found = bootstrap_intervals(table, counts, samples=INTERVAL_DRAWS, confidence=0.95)
    ends = ("low", "high")
    return {
        f"{name}_{end}": finite(value)
        for name, interval in found.items()
        for end, value in zip(ends, interval, strict=True)
    }


def _best(curve: Curve) -> dict[str, float | None]:
    """The confidence with the best F1, and what holds there; the lowest of several."""
    known = [(value, -place) for place, value in enumerate(curve.f1) if value is not None]
    if not known:
        names = ("best_confidence", "best_f1", "best_precision", "best_recall")
        return dict.fromkeys(names)
    place = -max(known)[1]
    return {
        "best_confidence": curve.confidence[place],
        "best_f1": curve.f1[place],
        "best_precision": curve.precision_at[place],
        "best_recall": curve.recall_at[place],
    }


def _curves(labels: Sequence[str], precisions: Precisions, seen: _Seen) -> dict[str, Curve]:
    at_half = precisions.precision[0]
    curves = {code: _curve(at_half[:, [n]], seen.of_label(n)) for n, code in enumerate(labels)}
    return curves | {"all": _curve(at_half, seen)}


def _curve(precision: NDArray[np.float64], seen: _Seen) -> Curve:
    """`precision` (101, n): those of n labels, whose mean is drawn."""
    known = precision[:, ~np.isnan(precision).any(axis=0)]
    rates = [_rates(seen, float(confidence)) for confidence in np.round(CONFIDENCES, 6)]
    return Curve(
        recall=tuple(np.round(RECALLS, 2).tolist()),
        precision=tuple(_rounded(value) for value in known.mean(axis=1).tolist())
        if known.shape[1]
        else (None,) * len(RECALLS),
        confidence=tuple(np.round(CONFIDENCES, 2).tolist()),
        f1=tuple(_rounded(rate["f1"]) for rate in rates),
        precision_at=tuple(_rounded(rate["precision"]) for rate in rates),
        recall_at=tuple(_rounded(rate["recall"]) for rate in rates),
    )


def _buckets(
    truths: Sequence[Truth], ranges: Sequence[SizeRange], precisions: Precisions
) -> Mapping[str, SizeBucket]:
    areas = np.concatenate([np.zeros(0), *(_areas(truth) for truth in truths)])
    return {
        size.name: SizeBucket(
            from_px=round(size.from_area_px**0.5, 2),
            to_px=None if size.name == "large" else round(size.to_area_px**0.5, 2),
            boxes=int(((areas >= size.from_area_px) & (areas <= size.to_area_px)).sum()),
            map50_95=finite(precisions.map50_95_by_size[size.name]),
            recall=finite(precisions.recall_by_size[size.name]),
        )
        for size in ranges
    }


def _areas(truth: Truth) -> NDArray[np.float64]:
    boxes = truth.boxes_xyxy_px.astype(np.float64)
    areas: NDArray[np.float64] = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return areas


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)

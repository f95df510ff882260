"""Whether one detector is better than another, or only seemed so on these pictures: the paired bootstrap.

Pictures are drawn with repetition, the same for both detectors (Efron & Tibshirani 1993, ch. 16), and mAP50-95 is computed
anew on each draw. A picture drawn twice counts as two pictures, exactly as the reference evaluator would count them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from apps.training.engine.matches import MatchTable

_RECALLS: Final[NDArray[np.float64]] = np.linspace(0, 1, 101)
_CELLS_AT_ONCE: Final = 2_000_000
"""Draws are worked on in blocks of so many (draw, box) pairs: some 50 MB."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Second detector minus first, in mAP50-95. NaN where no picture has an animal."""

    first: float
    """On the pictures themselves."""
    second: float
    mean: float
    """Of the draws' differences."""
    low: float
    high: float
    first_low: float
    first_high: float
    second_low: float
    second_high: float
    better_share: float
    """Of the draws."""
    pictures: int
    samples: int
    """Draws with an animal."""
    confidence: float

    @property
    def observed(self) -> float:
        return self.second - self.first

    def as_record(self) -> dict[str, Any]:
        """For JSON: what is no number is null."""
        record = asdict(self) | {"observed": self.observed}
        return {
            name: value if isinstance(value, int) or np.isfinite(value) else None
            for name, value in record.items()
        }


def paired_bootstrap(
    first: MatchTable,
    second: MatchTable,
    *,
    samples: int,
    confidence: float,
    seed: int = 0,
    pictures: Sequence[int] | None = None,
) -> Difference:
    """Two detectors on the same pictures (or on those of them that are named by their places).

    Raises ValueError for tables of different pictures.
    """
    if first.labels != second.labels or not np.array_equal(first.truths, second.truths):
        raise ValueError("the two tables are not of the same pictures and labels")
    if pictures is not None:
        first, second = _part(first, pictures), _part(second, pictures)
    draws = drawn(first.pictures, samples=samples, seed=seed)
    once = np.ones((1, first.pictures), np.int64)
    values = np.stack([map_of_draws(first, draws), map_of_draws(second, draws)])
    known = values[:, ~np.isnan(values).any(axis=0)]
    differences = known[1] - known[0]
    low, high = _interval(differences, confidence)
    return Difference(
        first=float(map_of_draws(first, once)[0]),
        second=float(map_of_draws(second, once)[0]),
        mean=float(differences.mean()) if len(differences) else float("nan"),
        low=low,
        high=high,
        **dict(zip(("first_low", "first_high"), _interval(known[0], confidence), strict=True)),
        **dict(zip(("second_low", "second_high"), _interval(known[1], confidence), strict=True)),
        better_share=float((differences > 0).mean()) if len(differences) else float("nan"),
        pictures=first.pictures,
        samples=len(differences),
        confidence=confidence,
    )


def bootstrap_intervals(
    table: MatchTable, counts: NDArray[np.int64], *, samples: int, confidence: float, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """The intervals of one detector's `map50_95, map50, precision, recall, f1`; NaN where there is no such number.

    `counts` is (P, 3): right boxes, wrong boxes and missed animals of each picture. Of fewer than two pictures nothing is
    known: each draw would be the same.
    """
    draws = drawn(table.pictures, samples=samples if table.pictures > 1 else 0, seed=seed)
    right, wrong, missed = (draws @ counts).T
    by_threshold = _maps_of_draws(table, draws)
    found = {
        "map50_95": by_threshold.mean(axis=0),
        "map50": by_threshold[0],
        "precision": _shares(right, right + wrong),
        "recall": _shares(right, right + missed),
        "f1": np.where(right + missed > 0, _shares(2 * right, 2 * right + wrong + missed), np.nan),
    }
    return {name: _interval(values[~np.isnan(values)], confidence) for name, values in found.items()}


def _shares(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    shares: NDArray[np.float64] = np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
    return shares


def drawn(pictures: int, *, samples: int, seed: int) -> NDArray[np.int64]:
    """(S, P) how often each picture is in each draw; the same seed draws the same."""
    if not pictures:
        return np.zeros((samples, 0), np.int64)
    chances = np.full(pictures, 1 / pictures)
    draws: NDArray[np.int64] = np.random.default_rng(seed).multinomial(pictures, chances, size=samples)
    return draws


def map_of_draws(table: MatchTable, draws: NDArray[np.int64]) -> NDArray[np.float64]:
    """(S,) mAP50-95 of each draw, mean over the labels that have an animal in it; NaN for draws without any."""
    means: NDArray[np.float64] = _maps_of_draws(table, draws).mean(axis=0)
    return means


def _maps_of_draws(table: MatchTable, draws: NDArray[np.int64]) -> NDArray[np.float64]:
    """(10, S) the same at each threshold."""
    animals = draws @ table.truths  # (S, L)
    sums = np.zeros((table.is_match.shape[1], len(draws)))
    for label in np.flatnonzero(table.truths.any(axis=0)):
        sums += np.where(
            animals[:, label] > 0, _precision_of_label(table, int(label), draws, animals[:, label]), 0
        )
    counts = (animals > 0).sum(axis=1)
    means: NDArray[np.float64] = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
    return means


def _precision_of_label(
    table: MatchTable, label: int, draws: NDArray[np.int64], animals: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(10, S) one label's average precision at each threshold."""
    own = np.flatnonzero(table.label == label)
    own = own[np.argsort(-table.score[own], kind="stable")]
    # Behind the last right box precision only falls and recall stays: most weak boxes are there.
    right = np.flatnonzero(table.is_match[own].any(axis=1))
    own = own[: right[-1] + 1] if len(right) else own[:0]
    is_match, picture = table.is_match[own], table.picture[own]
    result = np.zeros((is_match.shape[1], len(draws)))
    if not len(own):
        return result
    for block in _blocks(len(draws), len(own)):
        weights = draws[block][:, picture]  # (B, D)
        boxes = np.cumsum(weights, axis=1)
        needed = _needed(animals[block])
        for threshold in range(is_match.shape[1]):
            places = np.flatnonzero(is_match[:, threshold])
            if len(places):
                result[threshold, block] = _average_precision(
                    np.cumsum(weights[:, places], axis=1), boxes[:, places], needed
                )
    return result


def _needed(animals: NDArray[np.int64]) -> NDArray[np.int64]:
    """(B, 101) right boxes that it takes to reach each recall, as the evaluator compares."""
    total = np.maximum(animals, 1)[:, None]
    needed: NDArray[np.int64] = np.ceil(_RECALLS * total).astype(np.int64)
    needed -= (needed > 0) & ((needed - 1) / total >= _RECALLS)
    needed += needed / total < _RECALLS
    return needed


def _average_precision(
    right: NDArray[np.int64], boxes: NDArray[np.int64], needed: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(B,) from the counts of right boxes and of all boxes at each right box, (B, N) by descending score.

    Only where a box is right can precision be highest. A picture that was not drawn adds no count, so that its boxes'
    precision is never above that of the box before.
    """
    precision = right / np.maximum(boxes, 1)
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    # All rows in one search: each row's counts are lifted above those of the rows before.
    rows = np.arange(len(right))[:, None]
    lift = rows * (int(right.max(initial=0)) + int(needed.max(initial=0)) + 2)
    found = np.searchsorted((right + lift).ravel(), (needed + lift).ravel(), side="left")
    column = found.reshape(needed.shape) - rows * right.shape[1]
    reached = column < right.shape[1]
    values = np.take_along_axis(best, np.where(reached, column, 0), axis=1)
    average: NDArray[np.float64] = np.where(reached, values, 0).mean(axis=1)
    return average


def _blocks(draws: int, boxes: int) -> Iterator[slice]:
    size = max(1, _CELLS_AT_ONCE // max(boxes, 1))
    for start in range(0, draws, size):
        yield slice(start, start + size)


def _part(table: MatchTable, pictures: Sequence[int]) -> MatchTable:
    """The table of some pictures only, in the order given."""
    chosen = np.asarray(pictures, np.int64)
    place = np.full(table.pictures, -1, np.int64)
    place[chosen] = np.arange(len(chosen))
    rows = place[table.picture] >= 0
    return MatchTable(
        labels=table.labels,
        picture=place[table.picture[rows]],
        label=table.label[rows],
        score=table.score[rows],
        is_match=table.is_match[rows],
        truths=table.truths[chosen],
    )


def _interval(values: NDArray[np.float64], confidence: float) -> tuple[float, float]:
    """Percentiles, the same share cut off at both ends."""
    if not len(values):
        return float("nan"), float("nan")
    cut = (1 - confidence) / 2
    low, high = np.quantile(values, [cut, 1 - cut])
    return float(low), float(high)

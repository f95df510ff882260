"""Which boxes of two answers mean the same animal.

The Hungarian method (Kuhn 1955, in the form of Crouse 2016 that SciPy has) maximises the sum of the IoU over pairs whose IoU
reaches the threshold. Pairs below it can never be chosen, so boxes fall into small groups of overlapping ones that are
solved each by itself: a thousand animals on a plate are a thousand groups of 1 x 1, not one problem of 1,000 x 1,000.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from apps.annotation.agreement.boxes import LabelledBoxes, iou_rows

_ROWS: Final = 256
"""So many boxes are compared with all others at a time: 2,000 x 2,000 would take some hundred megabytes at once."""
_SAME_LABEL: Final = 1e-6
"""Where two pairings overlap equally well, the one whose labels agree is meant."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Positions in the two sets."""

    first: int
    second: int
    iou: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """`second` is the reference: what it has and `first` lacks is missed, what only `first` has is extra."""

    matched: int
    missed: int
    extra: int
    iou_sum: float
    label_pairs: tuple[tuple[str, str, int], ...]
    """Label of first, label of second, number of matched boxes; sorted."""
    by_label: dict[str, tuple[float, int, int]]
    """Sum of the IoU of matched pairs that either calls so, missed and extra boxes of this label."""

    @property
    def same_label(self) -> int:
        return sum(n for first, second, n in self.label_pairs if first == second)


def match(first: LabelledBoxes, second: LabelledBoxes, *, min_iou: float) -> list[Pair]:
    """Pairs of an IoU of at least `min_iou`, each box in one at most, in the order of `first`.

    The order of the boxes makes no difference, nor which set is the first: both are brought into an order of their own.
    """
    if not len(first) or not len(second):
        return []
    rows, columns = first.canonical_order(), second.canonical_order()
    if _sorted_keys(second, columns) < _sorted_keys(first, rows):
        return sorted(
            (
                Pair(pair.second, pair.first, pair.iou)
                for pair in _match(second, first, columns, rows, min_iou)
            ),
            key=lambda pair: pair.first,
        )
    return sorted(_match(first, second, rows, columns, min_iou), key=lambda pair: pair.first)


def compare(first: LabelledBoxes, second: LabelledBoxes, *, min_iou: float) -> Comparison:
    """Two answers for one photo in numbers."""
    pairs = match(first, second, min_iou=min_iou)
    labels = Counter((first.labels[pair.first], second.labels[pair.second]) for pair in pairs)
    return Comparison(
        matched=len(pairs),
        missed=len(second) - len(pairs),
        extra=len(first) - len(pairs),
        iou_sum=sum(pair.iou for pair in pairs),
        label_pairs=tuple((a, b, n) for (a, b), n in sorted(labels.items())),
        by_label=_by_label(first, second, pairs),
    )


def _by_label(
    first: LabelledBoxes, second: LabelledBoxes, pairs: list[Pair]
) -> dict[str, tuple[float, int, int]]:
    iou_sums: Counter[str] = Counter()
    for pair in pairs:
        for label in {first.labels[pair.first], second.labels[pair.second]}:
            iou_sums[label] += pair.iou  # type: ignore[assignment]  # a Counter of floats adds as well
    extra, missed = Counter(first.labels), Counter(second.labels)
    extra.subtract(first.labels[pair.first] for pair in pairs)
    missed.subtract(second.labels[pair.second] for pair in pairs)
    return {
        label: (float(iou_sums[label]), missed[label], extra[label])
        for label in sorted({*first.labels, *second.labels})
    }


def _sorted_keys(boxes: LabelledBoxes, order: list[int]) -> list[tuple[object, ...]]:
    keys = boxes.keys()
    return [keys[index] for index in order]


def _match(
    first: LabelledBoxes, second: LabelledBoxes, rows: list[int], columns: list[int], min_iou: float
) -> list[Pair]:
    a, b = first.xyxy_px[rows], second.xyxy_px[columns]
    candidates = _overlaps(a, b, min_iou)
    pairs = []
    for group in _groups(candidates):
        pairs += (
            _assign(
                group,
                [first.labels[index] for index in rows],
                [second.labels[index] for index in columns],
            )
            if len(group) > 1
            else group
        )
    return [Pair(rows[i], columns[j], iou) for i, j, iou in pairs]


_Edge = tuple[int, int, float]


def _overlaps(a: NDArray[np.float64], b: NDArray[np.float64], min_iou: float) -> list[_Edge]:
    edges: list[_Edge] = []
    for start in range(0, len(a), _ROWS):
        ious = iou_rows(a[start : start + _ROWS], b)
        i, j = np.nonzero((ious >= min_iou) & (ious > 0))
        edges += zip((i + start).tolist(), j.tolist(), ious[i, j].tolist(), strict=True)
    return edges


def _groups(edges: list[_Edge]) -> list[list[_Edge]]:
    """Edges that share boxes, directly or over others, together."""
    parent: dict[int, int] = {}

    def root(node: int) -> int:
        while parent.setdefault(node, node) != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for i, j, _iou in edges:
        parent[root(i)] = root(~j)  # ~j is negative: the second set's boxes beside the first one's
    groups: dict[int, list[_Edge]] = defaultdict(list)
    for edge in edges:
        groups[root(edge[0])].append(edge)
    return list(groups.values())


def _assign(group: list[_Edge], first_labels: list[str], second_labels: list[str]) -> list[_Edge]:
    """The best pairing within a group. SciPy is loaded for groups of 2 x 2 and more: most photos have none, and loading it
    takes longer than all the rest.
    """
    rows = sorted({i for i, _j, _iou in group})
    columns = sorted({j for _i, j, _iou in group})
    value = np.zeros((len(rows), len(columns)))
    row_of = {i: n for n, i in enumerate(rows)}
    column_of = {j: n for n, j in enumerate(columns)}
    known = {}
    for i, j, iou in group:
        at = row_of[i], column_of[j]
        known[at] = (i, j, iou)
        value[at] = iou + _SAME_LABEL * (first_labels[i] == second_labels[j])
    if len(rows) == 1 or len(columns) == 1:
        best = divmod(int(value.argmax()), len(columns))
        return [known[best]]
    from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]

    chosen = zip(*linear_sum_assignment(value, maximize=True), strict=True)
    return [known[at] for at in ((int(i), int(j)) for i, j in chosen) if at in known]

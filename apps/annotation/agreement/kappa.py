"""Chance-corrected agreement on labels.

Cohen's kappa for two raters (Cohen 1960, Educ. Psychol. Meas. 20, 37-46) with the standard error for large samples of Fleiss,
Cohen & Everitt (1969, Psychol. Bull. 72, 323-327); Fleiss' kappa for several (Fleiss 1971, Psychol. Bull. 76, 378-382).
Both are (observed - expected) / (1 - expected); they differ in what agreement by chance is: Cohen takes each rater's own
habits, Fleiss the habits of all together.

None means undefined: nothing was rated, or everybody gave one and the same label throughout, where chance alone explains
all there is.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

Z_95: Final = 1.959963984540054

Confusion = Mapping[tuple[str, str], int]
"""How often the first rater said one label where the second said the other."""


@dataclass(frozen=True, slots=True)
class Kappa:
    value: float | None
    low: float | None
    """Of the 95 % interval, as is `high`; None where one of the two used one label only, and kappa says nothing.

    It takes boxes as independent; animals on one photo are less so.
    """
    high: float | None
    n: int
    observed: float | None
    """Share of equal labels, without correction for chance."""


UNRATED: Final = Kappa(None, None, None, 0, None)


def cohen_kappa(confusion: Confusion) -> Kappa:
    """Two raters, from counts of label pairs."""
    n = sum(confusion.values())
    if not n:
        return UNRATED
    rows, columns = _margins(confusion, n)
    observed = sum(count for (a, b), count in confusion.items() if a == b) / n
    expected = sum(share * columns.get(label, 0.0) for label, share in rows.items())
    if math.isclose(expected, 1.0):
        return Kappa(None, None, None, n, observed)
    value = (observed - expected) / (1 - expected)
    if (
        min(len(rows), len(columns)) == 1
    ):  # who says one thing only agrees by chance alone, whatever the other says
        return Kappa(value, None, None, n, observed)
    spread = Z_95 * _cohen_error(confusion, n, value, expected)
    return Kappa(value, max(-1.0, value - spread), min(1.0, value + spread), n, observed)


def label_kappas(confusion: Confusion) -> dict[str, Kappa]:
    """For each label: Cohen's kappa of "this label" against "any other", by code."""
    labels = sorted({label for pair in confusion for label in pair})
    return {label: cohen_kappa(one_against_rest(confusion, label)) for label in labels}


def one_against_rest(confusion: Confusion, label: str) -> Counter[tuple[str, str]]:
    counts: Counter[tuple[str, str]] = Counter()
    for (a, b), n in confusion.items():
        counts["this" if a == label else "other", "this" if b == label else "other"] += n
    return counts


def fleiss_kappa(ratings: Sequence[Mapping[str, int]]) -> float | None:
    """Several raters: for each thing rated, the number of raters by label. All have the same number, two or more.

    Raises `ValueError` where they do not.
    """
    if not ratings:
        return None
    raters = {sum(votes.values()) for votes in ratings}
    if len(raters) > 1 or min(raters) < 2:
        message = "each thing needs the same number of raters, two or more"
        raise ValueError(message)
    (k,) = raters
    totals: Counter[str] = Counter()
    observed = 0.0
    for votes in ratings:
        totals.update(votes)
        observed += sum(n * (n - 1) for n in votes.values()) / (k * (k - 1))
    observed /= len(ratings)
    expected = sum((n / (len(ratings) * k)) ** 2 for n in totals.values())
    return None if math.isclose(expected, 1.0) else (observed - expected) / (1 - expected)


def fleiss_kappa_of_pairs(confusion: Confusion) -> float | None:
    """Fleiss' kappa from the label pairs of all pairs of raters pooled, in any direction.

    With the same number of raters for each thing this is `fleiss_kappa` exactly: its observed agreement is the share of
    agreeing pairs, and each rating is in equally many pairs. Where some things have more raters than others they weigh more
    here; Fleiss' own formula cannot take them. For two raters it is Scott's pi.
    """
    n = sum(confusion.values())
    if not n:
        return None
    observed = sum(count for (a, b), count in confusion.items() if a == b) / n
    totals: Counter[str] = Counter()
    for (a, b), count in confusion.items():
        totals[a] += count
        totals[b] += count
    expected = sum((count / (2 * n)) ** 2 for count in totals.values())
    return None if math.isclose(expected, 1.0) else (observed - expected) / (1 - expected)


def wilson_interval(successes: int, n: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927, J. Am. Stat. Assoc. 22, 209-212): honest for few cases and near 0 and 1."""
    if not n:
        return 0.0, 1.0
    share = successes / n
    middle = share + Z_95**2 / (2 * n)
    spread = Z_95 * math.sqrt(share * (1 - share) / n + Z_95**2 / (4 * n * n))
    scale = 1 + Z_95**2 / n
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)


def _margins(confusion: Confusion, n: int) -> tuple[dict[str, float], dict[str, float]]:
    rows: Counter[str] = Counter()
    columns: Counter[str] = Counter()
    for (a, b), count in confusion.items():
        rows[a] += count
        columns[b] += count
    return {k: v / n for k, v in rows.items()}, {k: v / n for k, v in columns.items()}


def _cohen_error(confusion: Confusion, n: int, kappa: float, expected: float) -> float:
    """Formula 13 of Fleiss, Cohen & Everitt (1969) for unweighted kappa, which is not assumed to be zero."""
    rows, columns = _margins(confusion, n)
    same = other = 0.0
    for (a, b), count in confusion.items():
        share = count / n
        if a == b:
            same += share * (1 - (rows.get(a, 0.0) + columns.get(a, 0.0)) * (1 - kappa)) ** 2
        else:
            other += share * (columns.get(a, 0.0) + rows.get(b, 0.0)) ** 2
    variance = same + (1 - kappa) ** 2 * other - (kappa - expected * (1 - kappa)) ** 2
    return math.sqrt(max(0.0, variance) / n) / (1 - expected)

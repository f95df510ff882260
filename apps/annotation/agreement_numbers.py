"""What the agreement page adds up, in four queries however many comparisons there are."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Self

from django.core.cache import cache
from django.db import connection
from django.utils import timezone

from apps.annotation.agreement.kappa import (
    Kappa,
    cohen_kappa,
    fleiss_kappa_of_pairs,
    label_kappas,
)
from apps.annotation.models import AnswerComparison
from apps.observations.models import Survey

_SLOW_S: Final = 0.2
_KEPT_S: Final = 300
Kind = AnswerComparison.Kind
Pair = tuple[int | None, int | None]
"""Keys of first and second expert; with consensus and model there is no second."""


@dataclass(slots=True)
class LabelSums:
    """Of one label: a matched pair counts under both its labels, a box without a partner under its own."""

    iou_sum: float = 0.0
    missed: int = 0
    extra: int = 0


@dataclass(slots=True)
class Numbers:
    """Sums over comparisons. `missed` and `extra` are those of the first against the second."""

    photos: int = 0
    matched: int = 0
    missed: int = 0
    extra: int = 0
    iou_sum: float = 0.0
    confusion: Counter[tuple[str, str]] = field(default_factory=Counter)
    label_sums: defaultdict[str, LabelSums] = field(default_factory=lambda: defaultdict(LabelSums))

    def add(self, other: "Numbers") -> None:
        self.photos += other.photos
        self.matched += other.matched
        self.missed += other.missed
        self.extra += other.extra
        self.iou_sum += other.iou_sum
        self.confusion.update(other.confusion)
        for label, sums in other.label_sums.items():
            self.add_label(label, sums.iou_sum, sums.missed, sums.extra)

    def add_label(self, label: str, iou_sum: float, missed: int, extra: int) -> None:
        sums = self.label_sums[label]
        sums.iou_sum += iou_sum
        sums.missed += missed
        sums.extra += extra

    def turned(self) -> "Numbers":
        """Seen from the second."""
        labels = Counter({(b, a): n for (a, b), n in self.confusion.items()})
        turned = Numbers(self.photos, self.matched, self.extra, self.missed, self.iou_sum, labels)
        for label, sums in self.label_sums.items():
            turned.add_label(label, sums.iou_sum, sums.extra, sums.missed)
        return turned

    @property
    def mean_iou(self) -> float | None:
        return self.iou_sum / self.matched if self.matched else None

    @property
    def found_by_both(self) -> float | None:
        """F1: twice the matched boxes over all boxes of both."""
        boxes = 2 * self.matched + self.missed + self.extra
        return 2 * self.matched / boxes if boxes else None

    @property
    def same_label(self) -> float | None:
        return self.kappa.observed

    @property
    def kappa(self) -> Kappa:
        return cohen_kappa(self.confusion)

    @property
    def fleiss(self) -> float | None:
        return fleiss_kappa_of_pairs(self.confusion)

    @property
    def by_label(self) -> dict[str, Kappa]:
        return label_kappas(self.confusion)

    def boxes_of(self, label: str) -> int:
        """Matched boxes that either called so."""
        return sum(n for pair, n in self.confusion.items() if label in pair)

    def mean_iou_of(self, label: str) -> float | None:
        boxes = self.boxes_of(label)
        return self.label_sums[label].iou_sum / boxes if boxes else None


@dataclass(frozen=True, slots=True)
class Period:
    """From `start` up to and without `end`; None: no limit."""

    start: datetime | None = None
    end: datetime | None = None


@dataclass(frozen=True, slots=True)
class Moment:
    """One month."""

    month: datetime
    numbers: Numbers


@dataclass(slots=True)
class AgreementNumbers:
    """By kind of comparison and pair of people, and by kind and month."""

    pairs: dict[str, dict[Pair, Numbers]]
    months: dict[str, list[Moment]]
    read_at: datetime = field(default_factory=timezone.now)

    @classmethod
    def read(cls, survey: Survey, period: Period) -> Self:
        pairs: dict[str, dict[Pair, Numbers]] = {kind: {} for kind in Kind.values}
        for kind, first, second, *sums in _fetch(_SUMS, survey, period):
            pairs[kind][first, second] = Numbers(*sums)
        for kind, first, second, one, other, n in _fetch(_LABELS, survey, period):
            pairs[kind][first, second].confusion[one, other] += n
        for kind, first, second, label, *sums in _fetch(_BY_LABEL, survey, period):
            pairs[kind][first, second].add_label(label, *sums)
        months: dict[str, list[Moment]] = {kind: [] for kind in Kind.values}
        for kind, month, *sums in _fetch(_MONTHS, survey, period):
            months[kind].append(Moment(month, Numbers(*sums)))
        return cls(pairs, months)

    @property
    def is_empty(self) -> bool:
        return not any(self.pairs.values())

    @property
    def people(self) -> set[int]:
        return {
            person for pairs in self.pairs.values() for pair in pairs for person in pair if person is not None
        }

    def together(self, kind: str, which: Callable[[Pair], bool] = lambda _pair: True) -> Numbers:
        """All pairs of a kind pooled."""
        return pooled(numbers for pair, numbers in self.pairs[kind].items() if which(pair))

    def of_person(self, kind: str, person: int) -> Numbers:
        """One expert against all others, or against consensus or model; always with them as the first."""
        total = Numbers()
        for (first, second), numbers in self.pairs[kind].items():
            if first == person:
                total.add(numbers)
            elif second == person:
                total.add(numbers.turned())
        return total


def numbers_of(survey: Survey, period: Period) -> AgreementNumbers:
    """Read now; what took long to read (100,000 comparisons: some tenths of a second) is kept for some minutes."""
    key = f"agreement:{survey.pk}:{period.start and period.start.date()}:{period.end and period.end.date()}"
    if period.start or period.end:
        key += f":{timezone.get_current_timezone_name()}"
    kept = cache.get(key)
    if isinstance(kept, AgreementNumbers):
        return kept
    began = time.monotonic()
    numbers = AgreementNumbers.read(survey, period)
    if time.monotonic() - began > _SLOW_S:
        cache.set(key, numbers, _KEPT_S)
    return numbers


def pooled(parts: Iterable[Numbers]) -> Numbers:
    total = Numbers()
    for part in parts:
        total.add(part)
    return total


def both_ways(confusion: Counter[tuple[str, str]]) -> Counter[tuple[str, str]]:
    """Of two experts neither is the reference: each pair of labels counts in both directions."""
    counts: Counter[tuple[str, str]] = Counter()
    for (a, b), n in confusion.items():
        counts[a, b] += n
        counts[b, a] += n
    return counts


_FROM: Final = """
FROM annotation_answercomparison c JOIN annotation_annotationtask t ON t.id = c.task_id
{labels}
WHERE t.survey_id = %(survey)s
  AND (%(start)s::timestamptz IS NULL OR c.created_at >= %(start)s)
  AND (%(end)s::timestamptz IS NULL OR c.created_at < %(end)s)
"""
_TOTALS: Final = "count(*), sum(c.matched), sum(c.missed), sum(c.extra), sum(c.iou_sum)"
_SUMS: Final = f"SELECT c.kind, c.first_expert_id, c.second_expert_id, {_TOTALS} {_FROM.format(labels='')} GROUP BY 1, 2, 3"
_LABELS: Final = (
    "SELECT c.kind, c.first_expert_id, c.second_expert_id, pair->>0, pair->>1, sum((pair->>2)::int)"
    + _FROM.format(labels="CROSS JOIN LATERAL jsonb_array_elements(c.label_pairs) pair")
    + "GROUP BY 1, 2, 3, 4, 5"
)
_BY_LABEL: Final = (
    "SELECT c.kind, c.first_expert_id, c.second_expert_id, label.key, "
    "sum((label.value->>0)::float8), sum((label.value->>1)::int), sum((label.value->>2)::int)"
    + _FROM.format(labels="CROSS JOIN LATERAL jsonb_each(c.by_label) label")
    + "GROUP BY 1, 2, 3, 4"
)
_MONTHS: Final = f"SELECT c.kind, date_trunc('month', c.created_at), {_TOTALS} {_FROM.format(labels='')} GROUP BY 1, 2 ORDER BY 2"


def _fetch(statement: str, survey: Survey, period: Period) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, {"survey": survey.pk, "start": period.start, "end": period.end})
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        return rows

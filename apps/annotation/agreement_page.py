"""The agreement page's rows, plots and CSV, for staff with names, for an expert with their own and the team's numbers."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.utils.translation import gettext as _

from apps.accounts.models import User
from apps.annotation.agreement.kappa import (
    UNRATED,
    Confusion,
    Kappa,
    cohen_kappa,
    fleiss_kappa_of_pairs,
    one_against_rest,
)
from apps.annotation.agreement_numbers import AgreementNumbers, Kind, Moment, Numbers, Pair, both_ways
from apps.observations.models import Label, Survey

PAIRS_SHOWN: Final = 100
LABELS_SHOWN: Final = 12
_HEATS: Final = 9
_LOW: Final = -0.2
"""The left end of the kappa scale; what is lower is drawn there."""


@dataclass(frozen=True, slots=True)
class Whisker:
    """A kappa with its interval on a scale of 0 to 1,000 units that begins at -0.2 and ends at 1."""

    at: int | None
    low: int | None
    high: int | None


@dataclass(frozen=True, slots=True)
class Line:
    """One row of a table. `kappa` has an interval where there are two raters; pooled pairs have Fleiss' kappa without."""

    name: str
    other: str
    numbers: Numbers
    kappa: Kappa
    is_pooled: bool = False
    is_own: bool = False

    @property
    def whisker(self) -> Whisker:
        return whisker_of(self.kappa)


@dataclass(frozen=True, slots=True)
class LabelLine:
    label: Label | str
    boxes: int
    iou: float | None
    alone: int
    """Boxes that one of two experts has and the other lacks."""
    among: Kappa
    model_boxes: int
    model_iou: float | None
    only_model: int
    only_expert: int
    model: Kappa

    @property
    def among_whisker(self) -> Whisker:
        return whisker_of(self.among)

    @property
    def model_whisker(self) -> Whisker:
        return whisker_of(self.model)


@dataclass(frozen=True, slots=True)
class HeatCell:
    boxes: int
    share: float
    """Of its row."""
    heat: int
    is_same: bool


@dataclass(frozen=True, slots=True)
class Heat:
    """Rows: what the one said; columns: what the other said of the same boxes."""

    labels: list[Label | str]
    rows: list[tuple[Label | str, list[HeatCell], int]]


@dataclass(frozen=True, slots=True)
class Dot:
    x: float
    y: float
    month: datetime
    value: float
    photos: int


@dataclass(frozen=True, slots=True)
class Curve:
    kind: str
    name: str
    dots: list[Dot]

    @property
    def points(self) -> str:
        return " ".join(f"{dot.x:.1f},{dot.y:.1f}" for dot in self.dots)


@dataclass(frozen=True, slots=True)
class AgreementPage:
    pairs: list[Line]
    left_out: int
    """Pairs of experts that the table does not show; the CSV has them all."""
    with_consensus: list[Line]
    with_model: list[Line]
    labels: list[LabelLine]
    heat_experts: Heat | None
    heat_model: Heat | None
    curves: list[Curve]
    team: Line

    @property
    def first_month(self) -> datetime | None:
        return min((curve.dots[0].month for curve in self.curves), default=None)

    @property
    def last_month(self) -> datetime | None:
        return max((curve.dots[-1].month for curve in self.curves), default=None)


class Names:
    """People and labels as this reader may see them."""

    def __init__(self, survey: Survey, people: Iterable[int]) -> None:
        self.labels = {label.code: label for label in Label.objects.filter(survey=survey)}
        self.people = {pk: str(user) for pk, user in User.objects.in_bulk(list(people)).items()}

    def person(self, pk: int | None) -> str:
        return self.people.get(pk or 0) or _("somebody who closed their account")

    def label(self, code: str) -> Label | str:
        return self.labels.get(code, code)


def agreement_page(numbers: AgreementNumbers, *, survey: Survey, reader: User) -> AgreementPage:
    """For staff every pair by name; an expert sees no name but their own, and all others only together."""
    names = Names(survey, numbers.people if reader.is_staff else ())
    pairs = list(pair_lines(numbers, names, reader))
    among = numbers.together(Kind.EXPERTS)
    return AgreementPage(
        pairs=pairs[:PAIRS_SHOWN],
        left_out=max(0, len(pairs) - PAIRS_SHOWN),
        with_consensus=list(person_lines(numbers, Kind.CONSENSUS, names, reader)),
        with_model=list(person_lines(numbers, Kind.MODEL, names, reader)),
        labels=label_lines(among, numbers.together(Kind.MODEL), names),
        heat_experts=heat_of(both_ways(among.confusion), names, is_mirrored=True),
        heat_model=heat_of(numbers.together(Kind.MODEL).confusion, names),
        curves=curves_of(numbers.months),
        team=_pooled_line(among),
    )


def pair_lines(numbers: AgreementNumbers, names: Names, reader: User) -> Iterator[Line]:
    """Pairs with the most photos first."""
    if not reader.is_staff:
        own = numbers.of_person(Kind.EXPERTS, reader.pk)
        if own.photos:
            # Several others answer for one rater here: pooled like the team, not Cohen's.
            yield Line(_("You"), _("the others"), own, _pooled(own.confusion), is_pooled=True, is_own=True)
        return
    rows = sorted(numbers.pairs[Kind.EXPERTS].items(), key=lambda row: (-row[1].photos, str(row[0])))
    for (first, second), sums in rows:
        yield Line(names.person(first), names.person(second), sums, sums.kappa)


def person_lines(numbers: AgreementNumbers, kind: str, names: Names, reader: User) -> Iterator[Line]:
    """Each expert against the answer that counts, or against the model; then all together."""
    rows: list[tuple[Pair, Numbers]] = sorted(
        numbers.pairs[kind].items(), key=lambda row: (-row[1].photos, str(row[0]))
    )
    other = _("the answer that counts") if kind == Kind.CONSENSUS else _("the model")
    for (person, _second), sums in rows:
        is_own = person == reader.pk
        if reader.is_staff or is_own:
            name = names.person(person) if reader.is_staff else _("You")
            yield Line(name, other, sums, sums.kappa, is_own=is_own)
    if rows:
        together = numbers.together(kind)
        yield Line(_("All experts"), other, together, together.kappa, is_pooled=True)


def label_lines(among: Numbers, model: Numbers, names: Names) -> list[LabelLine]:
    """For each label "this one" against "any other", the commonest first."""
    codes = {code for sums in (among, model) for pair in sums.confusion for code in pair}
    codes |= {code for sums in (among, model) for code in sums.label_sums}
    lines = [
        LabelLine(
            label=names.label(code),
            boxes=among.boxes_of(code),
            iou=among.mean_iou_of(code),
            alone=among.label_sums[code].missed + among.label_sums[code].extra,
            among=_pooled(one_against_rest(among.confusion, code)),
            model_boxes=model.boxes_of(code),
            model_iou=model.mean_iou_of(code),
            only_model=model.label_sums[code].missed,
            only_expert=model.label_sums[code].extra,
            model=cohen_kappa(one_against_rest(model.confusion, code)),
        )
        for code in codes
    ]
    return sorted(lines, key=lambda line: (-line.boxes - line.model_boxes, str(line.label)))


def heat_of(confusion: Counter[tuple[str, str]], names: Names, *, is_mirrored: bool = False) -> Heat | None:
    """The commonest labels; the others share one row and column. In a mirrored table both halves are the same boxes."""
    if not confusion:
        return None
    totals: Counter[str] = Counter()
    for (a, b), n in confusion.items():
        totals[a] += n
        totals[b] += n
    codes = sorted(totals, key=lambda code: (-totals[code], code))
    shown, rest = codes[:LABELS_SHOWN], set(codes[LABELS_SHOWN:])
    counts: Counter[tuple[str, str]] = Counter()
    for (a, b), n in confusion.items():
        counts["" if a in rest else a, "" if b in rest else b] += n
    keys = [*shown, ""] if rest else shown
    rows = []
    for a in keys:
        total = sum(counts[a, b] for b in keys)
        cells = [
            _heat_cell(counts[a, b], total, is_same=a == b, is_halved=is_mirrored and a == b) for b in keys
        ]
        rows.append((_shown_label(a, names), cells, sum(cell.boxes for cell in cells)))
    return Heat([_shown_label(code, names) for code in keys], rows)


def curves_of(months: dict[str, list[Moment]]) -> list[Curve]:
    """Share of boxes found by both, month by month; nothing before there are two months."""
    kinds = ((Kind.MODEL, _("expert and model")), (Kind.EXPERTS, _("two experts")))
    every = sorted({moment.month for kind, _name in kinds for moment in months[kind]})
    if len(every) < 2:
        return []
    place = {month: index / (len(every) - 1) for index, month in enumerate(every)}
    curves = []
    for kind, name in kinds:
        dots = [
            Dot(
                x=CURVE_LEFT + place[moment.month] * (CURVE_RIGHT - CURVE_LEFT),
                y=CURVE_BOTTOM - value * (CURVE_BOTTOM - CURVE_TOP),
                month=moment.month,
                value=value,
                photos=moment.numbers.photos,
            )
            for moment in months[kind]
            if (value := moment.numbers.found_by_both) is not None
        ]
        if dots:
            curves.append(Curve(kind, name, dots))
    return curves


CURVE_LEFT, CURVE_RIGHT, CURVE_TOP, CURVE_BOTTOM = 44, 620, 16, 196


def whisker_of(kappa: Kappa) -> Whisker:
    return Whisker(*(_unit(value) for value in (kappa.value, kappa.low, kappa.high)))


def csv_rows(numbers: AgreementNumbers, *, survey: Survey, reader: User) -> Iterator[list[Any]]:
    """All rows of all tables, one after the other; a number that is undefined is empty."""
    names = Names(survey, numbers.people if reader.is_staff else ())
    yield [
        "comparison", "first", "second", "label", "photos", "matched_boxes", "missed_boxes", "extra_boxes",
        "found_by_both", "mean_iou", "same_label", "kappa", "kappa_low", "kappa_high", "kappa_kind",
    ]  # fmt: skip
    together = numbers.together(Kind.EXPERTS)
    lines = [(Kind.EXPERTS, line) for line in (*pair_lines(numbers, names, reader), _pooled_line(together))]
    for kind in (Kind.CONSENSUS, Kind.MODEL):
        lines += [(kind, line) for line in person_lines(numbers, kind, names, reader)]
    for kind, line in lines:
        sums = line.numbers
        measures = (sums.found_by_both, sums.mean_iou, sums.same_label)
        counts = [sums.photos, sums.matched, sums.missed, sums.extra]
        is_fleiss = line.is_pooled and kind == Kind.EXPERTS
        yield [
            kind.value, line.name, line.other, "", *counts, *map(_rounded, measures), *_kappa_cells(line.kappa),
            "fleiss" if is_fleiss else "cohen",
        ]  # fmt: skip
    model = numbers.together(Kind.MODEL)
    for one in label_lines(together, model, names):
        code = one.label.code if isinstance(one.label, Label) else one.label
        for kind, sums, kappa, how in (
            (Kind.EXPERTS, together, one.among, "fleiss"),
            (Kind.MODEL, model, one.model, "cohen"),
        ):
            boxes, alone = sums.boxes_of(code), sums.label_sums[code]
            if boxes or alone.missed or alone.extra:
                counts = [boxes, alone.missed, alone.extra]
                cells = [_rounded(kappa.observed), *_kappa_cells(kappa), how]
                iou = _rounded(sums.mean_iou_of(code))
                yield [kind.value, _("All experts"), "", code, "", *counts, "", iou, *cells]


def _pooled_line(sums: Numbers) -> Line:
    return Line(_("All experts"), _("each other"), sums, _pooled(sums.confusion), is_pooled=True)


def _pooled(confusion: Confusion) -> Kappa:
    n = sum(confusion.values())
    if not n:
        return UNRATED
    observed = sum(count for (a, b), count in confusion.items() if a == b) / n
    return Kappa(fleiss_kappa_of_pairs(confusion), None, None, n, observed)


def _heat_cell(n: int, total: int, *, is_same: bool, is_halved: bool) -> HeatCell:
    share = n / total if total else 0.0
    return HeatCell(n // 2 if is_halved else n, share, round(share * _HEATS) or int(n > 0), is_same)


def _shown_label(code: str, names: Names) -> Label | str:
    return names.label(code) if code else _("others")


def _unit(value: float | None) -> int | None:
    return None if value is None else round(max(0.0, (value - _LOW) / (1 - _LOW)) * 1000)


def _kappa_cells(kappa: Kappa) -> list[Any]:
    return [_rounded(kappa.value), _rounded(kappa.low), _rounded(kappa.high)]


def _rounded(value: float | None) -> float | str:
    return "" if value is None else round(value, 4)

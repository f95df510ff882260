"""What an evaluation's page shows: numbers with intervals, matrix, curves, and the photos that went worst."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from apps.common.charts import Chart
from apps.training.cuts import Window
from apps.training.engine.report import Cell, PictureReport, Report
from apps.training.evaluation_charts import evaluation_charts
from apps.training.hooks import names_of
from apps.training.models import Evaluation
from apps.training.scenes import Kind, Mark, Scene, Surroundings, corners, marks_of, whole

CROPS_A_PAGE: Final = 24
PHOTOS_A_PAGE: Final = 12
WORST_SHOWN: Final = 4
_HEATS: Final = 9


@dataclass(frozen=True, slots=True)
class Tally:
    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    unit: str = ""
    digits: int = 3

    @property
    def title(self) -> str:
        return f"{self.name} ({self.unit})" if self.unit else self.name


@dataclass(frozen=True, slots=True)
class LabelRow:
    code: str
    name: str
    numbers: Mapping[str, Any]
    is_sparse: bool
    """So few animals that the numbers say little."""


@dataclass(frozen=True, slots=True)
class MatrixCell:
    count: int
    heat: int
    is_right: bool
    address: str
    """Of the crops behind it; empty for a count of nought."""
    said: str
    """For those who do not see the table around it; empty where there can be nothing."""


@dataclass(frozen=True, slots=True)
class Matrix:
    columns: list[str]
    rows: list[tuple[str, list[MatrixCell], int]]
    left_out: list[str]
    """Labels of which there was no animal and no box."""


@dataclass(frozen=True, slots=True)
class Crops:
    title: str
    total: int
    scenes: list[Scene]
    after: int | None
    before: int | None


@dataclass(frozen=True, slots=True)
class EvaluationPage:
    evaluation: Evaluation
    tallies: list[Tally]
    labels: list[LabelRow]
    matrix: Matrix
    charts: list[Chart]
    worst: list[Scene]
    faulty: int
    """Photos with at least one mistake."""


SPARSE_BOXES: Final = 10


def read_evaluation_page(evaluation: Evaluation, report: Report) -> EvaluationPage:
    names = names_of(evaluation.version.registered_model)
    worst = worst_pictures(report)
    return EvaluationPage(
        evaluation,
        tallies_of(evaluation.metrics),
        label_rows(evaluation.by_label, names, list(report.labels)),
        matrix_of(report, names, address=reverse("training:cell", args=[evaluation.public_id, 0, 0])),
        evaluation_charts(report, names),
        scenes_of(worst[:WORST_SHOWN], report, names),
        len(worst),
    )


def tallies_of(metrics: Mapping[str, Any]) -> list[Tally]:
    def one(name: str, key: str, **options: Any) -> Tally:
        return Tally(name, metrics.get(key), metrics.get(f"{key}_low"), metrics.get(f"{key}_high"), **options)

    return [
        one("mAP50-95", "map50_95"),
        one("mAP50", "map50"),
        one(_("precision"), "precision"),
        one(_("recall"), "recall"),
        one("F1", "f1"),
        one(_("calibration error (ECE)"), "ece"),
        one(_("latency a photo"), "latency_ms", unit="ms", digits=0),
    ]


def label_rows(by_label: Mapping[str, Any], names: Mapping[str, str], order: Sequence[str]) -> list[LabelRow]:
    known = [code for code in order if code in by_label] or list(by_label)
    return [
        LabelRow(
            code, names.get(code, code), by_label[code], (by_label[code].get("boxes") or 0) < SPARSE_BOXES
        )
        for code in known
    ]


def matrix_of(report: Report, names: Mapping[str, str], *, address: str) -> Matrix:
    """Each cell the darker the larger its share of the row; the corner "nothing there, nothing found" has no count.

    `address` is that of the cell 0, 0: resolving a thousand of them takes longer than all the rest.
    """
    named = [names.get(code, code) for code in report.labels]
    stem = address.removesuffix("0/0/")
    rows = []
    empty = {
        label
        for label in range(len(named))
        if not any(report.confusion[label]) and not any(counts[label] for counts in report.confusion)
    }
    for row, counts in enumerate(report.confusion):
        if row in empty:
            continue
        total = sum(counts)
        name = named[row] if row < len(named) else _("not an animal")
        cells = [
            MatrixCell(
                count,
                min(_HEATS, -(-count * _HEATS // total)) if total else 0,
                row == column,
                f"{stem}{row}/{column}/" if count else "",
                cell_title(named, row, column),
            )
            for column, count in enumerate(counts)
            if column not in empty
        ]
        rows.append((name, cells, total))
    shown = [name for label, name in enumerate(named) if label not in empty]
    return Matrix([*shown, _("missed")], rows, [named[label] for label in sorted(empty)])


def cell_title(named: Sequence[str], row: int, column: int) -> str:
    """What is in a cell; `named` are the labels' names, behind them the background."""
    background = len(named)
    if row == background:
        return (
            _("Found as %(found)s where nothing is") % {"found": named[column]} if column < background else ""
        )
    if column == background:
        return _("%(truth)s, missed") % {"truth": named[row]}
    if row == column:
        return _("%(truth)s, found as such") % {"truth": named[row]}
    return _("%(truth)s, found as %(found)s") % {"truth": named[row], "found": named[column]}


def cell_crops(evaluation: Evaluation, report: Report, *, row: int, column: int, start: int) -> Crops:
    """A page of what is in one cell of the matrix, the surest mistakes first."""
    names = names_of(evaluation.version.registered_model)
    cells = sorted(report.cells.get(f"{row},{column}", ()), key=lambda cell: -_score(report, cell))
    shown = cells[start : start + CROPS_A_PAGE]
    around = Surroundings.of([report.pictures[cell[0]].photo for cell in shown])
    scenes = [_crop(report, names, cell, around) for cell in shown]
    return Crops(
        cell_title([names.get(code, code) for code in report.labels], row, column),
        len(cells),
        scenes,
        start + CROPS_A_PAGE if start + CROPS_A_PAGE < len(cells) else None,
        max(0, start - CROPS_A_PAGE) if start else None,
    )


def worst_pictures(report: Report) -> list[PictureReport]:
    """Photos with mistakes: the most mistakes first, of as many those with the fewest animals."""
    faulty = [picture for picture in report.pictures if mistakes(picture)]
    return sorted(faulty, key=lambda picture: (-mistakes(picture), len(picture.truth), picture.photo))


def mistakes(picture: PictureReport) -> int:
    return picture.fp + picture.fn


def scenes_of(pictures: Sequence[PictureReport], report: Report, names: Mapping[str, str]) -> list[Scene]:
    around = Surroundings.of([picture.photo for picture in pictures])
    return [
        Scene(
            picture.photo,
            whole(picture),
            is_whole=True,
            marks=marks_of(picture, report, names),
            title=tally_text(picture),
            address=around.addresses.get(picture.photo, ""),
            is_withdrawn=picture.photo in around.withdrawn,
        )
        for picture in pictures
    ]


def tally_text(picture: PictureReport) -> str:
    right = ngettext("%(n)d right", "%(n)d right", picture.tp) % {"n": picture.tp}
    wrong = ngettext("%(n)d wrong", "%(n)d wrong", picture.fp) % {"n": picture.fp}
    missed = ngettext("%(n)d missed", "%(n)d missed", picture.fn) % {"n": picture.fn}
    return f"{right}, {wrong}, {missed}"


def _crop(report: Report, names: Mapping[str, str], cell: Cell, around: Surroundings) -> Scene:
    place, truth, found = cell
    picture = report.pictures[place]
    animal = picture.truth[truth] if truth is not None else None
    box = picture.found[found] if found is not None else None
    is_right = bool(animal and box and animal[4] == box[4])
    marks, boxes, said = [], [], ""
    if animal:
        marks.append(Mark("truth" if box else "missed", corners(animal)))
        boxes.append(corners(animal))
        said = names.get(report.labels[animal[4]], report.labels[animal[4]])
    if box:
        kind: Kind = "right" if is_right else "wrong"
        marks.append(Mark(kind, corners(box)))
        boxes.append(corners(box))
        name = names.get(report.labels[box[4]], report.labels[box[4]])
        sure = f"{box[5]:.0%}".replace("%", "\u202f%")
        said = _("%(name)s, %(sure)s sure") % {"name": name, "sure": sure}
    window = Window.around(boxes, width_px=picture.width_px, height_px=picture.height_px)
    return Scene(
        picture.photo,
        window,
        is_whole=False,
        marks=marks,
        title=said,
        address=around.addresses.get(picture.photo, ""),
        is_withdrawn=picture.photo in around.withdrawn,
    )


def _score(report: Report, cell: Cell) -> float:
    place, _truth, found = cell
    return report.pictures[place].found[found][5] if found is not None else 0.0

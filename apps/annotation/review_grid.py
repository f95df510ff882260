"""What the grid of crops shows: which boxes, in which order, page by page. Reads only."""

import math
import uuid
from dataclasses import dataclass, field
from typing import Any, Final

from django.core.cache import cache
from django.db.models import BooleanField, Count, Exists, F, Func, Model, OuterRef, Q, QuerySet, Value
from django.db.models.functions import Greatest
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.annotation.models import AnnotationTask, Crop, LabelProposal
from apps.observations.models import Detection, Label, Observation, Survey
from apps.observations.templatetags.podura import percent

PAGE_SIZES: Final = (60, 200)
_MAX_ID: Final = 2**63 - 1
_COUNTED_FOR_S: Final = 60
"""Counting 100,000 boxes by label takes longer than finding a page of them."""


@dataclass(frozen=True, slots=True)
class Order:
    name: str
    text: Any
    column: str
    is_descending: bool = False
    is_of_answers_only: bool = False


ORDERS: Final = {
    order.name: order
    for order in (
        Order("unusual", gettext_lazy("Most unusual first"), "outlierness", True, True),
        Order("disagreement", gettext_lazy("Most disagreement first"), "disagreement", True, True),
        Order("unsure", gettext_lazy("Least confidence first"), "confidence"),
        Order("sure", gettext_lazy("Most confidence first"), "confidence", True),
        Order("small", gettext_lazy("Smallest first"), "size_px"),
        Order("large", gettext_lazy("Largest first"), "size_px", True),
        Order("new", gettext_lazy("Newest first"), "id", True),
    )
}
_MODEL_COLUMNS: Final = {"confidence": "score", "size_px": "size_px", "id": "id"}


@dataclass(frozen=True, slots=True)
class Tile:
    """One box in the grid. `ref` names it in the form; empty: a box of the model, which can only be looked at."""

    ref: str
    picture: str
    number: int
    label: Label
    caption: str
    task_id: uuid.UUID
    is_uncertain: bool = False

    @property
    def description(self) -> str:
        return _("#%(number)s, %(label)s, %(caption)s") % {
            "number": self.number,
            "label": self.label,
            "caption": self.caption,
        }


@dataclass(frozen=True, slots=True)
class Drawer:
    """A choice of boxes: a label, or a proposed label."""

    value: str
    name: str
    boxes: int
    is_active: bool = True
    label_id: int = 0


@dataclass(slots=True)
class Grid:
    """The grid's state, read from a query string; what makes no sense there is the default."""

    survey: Survey
    drawers: list[Drawer] = field(default_factory=list)
    drawer: Drawer | None = None
    is_model: bool = False
    order: Order = ORDERS["unusual"]
    size: int = PAGE_SIZES[0]
    tiles: list[Tile] = field(default_factory=list)
    previous: str = ""
    next: str = ""

    @property
    def orders(self) -> list[Order]:
        return [order for order in ORDERS.values() if not (self.is_model and order.is_of_answers_only)]


class RowAfter(Func):
    """`(column, id) > (value, key)`, or `<`: the one comparison that walks an index even where thousands are equal."""

    output_field = BooleanField()

    def __init__(self, column: str, value: float, key: int, *, sign: str) -> None:
        super().__init__(F(column), F("id"), Value(value), Value(key))
        self.sign = sign

    def as_sql(  # type: ignore[override]
        self, compiler: Any, _connection: Any, *_args: Any, **_context: Any
    ) -> tuple[str, tuple[Any, ...]]:
        parts = [compiler.compile(source) for source in self.get_source_expressions()]
        (a, b, c, d), parameters = zip(*parts, strict=True)
        return f"({a}, {b}) {self.sign} ({c}, {d})", tuple(p for group in parameters for p in group)

    def __repr__(self) -> str:
        return f"RowAfter({self.sign})"


def read_grid(survey: Survey, query: dict[str, str]) -> Grid:
    """The page of the grid that a query string asks for; a bounded number of queries."""
    grid = Grid(survey, is_model=query.get("source") == "model")
    grid.order = ORDERS.get(query.get("sort", ""), ORDERS["unusual"])
    if grid.is_model and grid.order.is_of_answers_only:
        grid.order = ORDERS["unsure"]
    if query.get("n") == str(PAGE_SIZES[1]):
        grid.size = PAGE_SIZES[1]
    grid.drawers = _drawers(survey, is_model=grid.is_model)
    wanted = query.get("label", "")
    grid.drawer = next((drawer for drawer in grid.drawers if drawer.value == wanted), None)
    if grid.drawer is None and (label := Label.objects.filter(survey=survey, code=wanted).first()):
        # Emptied by the last step: to show another label's boxes instead would be a trap.
        grid.drawer = Drawer(label.code, label.name, 0, label.is_active, label.pk)
        grid.drawers.append(grid.drawer)
    if grid.drawer is None and grid.drawers:
        grid.drawer = max(grid.drawers, key=lambda drawer: drawer.boxes)
    if grid.drawer is not None:
        rows = _model_rows(grid) if grid.is_model else _answer_rows(grid)
        column = _MODEL_COLUMNS[grid.order.column] if grid.is_model else grid.order.column
        found = _page(grid, rows, column, query.get("after", ""), query.get("before", ""))
        grid.tiles = [_model_tile(row) if isinstance(row, Detection) else _answer_tile(row) for row in found]
    return grid


def _drawers(survey: Survey, *, is_model: bool) -> list[Drawer]:
    """Labels that have boxes, with how many; retired ones among them, to be emptied. Then proposed labels."""
    labels = list(Label.objects.filter(survey=survey))
    counts = cache.get(_counts_key(survey, is_model=is_model))
    if counts is None:
        rows: QuerySet[Any] = _unanswered(survey) if is_model else Crop.objects.public()
        rows = rows.filter(label__in=labels)
        counts = dict(rows.order_by().values_list("label").annotate(n=Count("pk")))
        cache.set(_counts_key(survey, is_model=is_model), counts, _COUNTED_FOR_S)
    drawers = [
        Drawer(label.code, label.name, counts[label.pk], label.is_active, label.pk)
        for label in labels
        if counts.get(label.pk)
    ]
    if not is_model:
        boxes = Count(
            "boxes__crop",
            filter=Q(boxes__crop__task__photo__observation__visibility=Observation.Visibility.PUBLIC),
        )
        proposed = LabelProposal.objects.filter(survey=survey).annotate(n=boxes).filter(n__gt=0)
        drawers += [
            Drawer(f"proposal:{row.pk}", _("proposed: %(name)s") % {"name": row.name}, row.n)
            for row in proposed.order_by("name")[:100]
        ]
    return drawers


def count_anew(survey: Survey) -> None:
    """After a step the numbers beside the labels must be those of now."""
    cache.delete_many([_counts_key(survey, is_model=is_model) for is_model in (False, True)])


def _counts_key(survey: Survey, *, is_model: bool) -> str:
    return f"review-counts:{survey.pk}:{is_model:d}"


def _answer_rows(grid: Grid) -> QuerySet[Crop]:
    assert grid.drawer is not None
    rows = Crop.objects.public().select_related("box__annotation", "task", "label")
    rows = rows.defer("features", "picture", "box__box")
    kind, _separator, key = grid.drawer.value.partition(":")
    if kind == "proposal" and key:
        return rows.filter(box__label_proposal=int(key))
    return rows.filter(label=grid.drawer.label_id)


def _unanswered(survey: Survey) -> QuerySet[Detection]:
    """Boxes that the public sees, on photos in the queue whose answer is still to come."""
    waiting = AnnotationTask.objects.filter(photo=OuterRef("photo"), accepted=None)
    return (
        Detection.objects.current()
        .filter(Exists(waiting))
        .filter(
            label__survey=survey,
            photo__observation__visibility=Observation.Visibility.PUBLIC,
        )
    )


def _model_rows(grid: Grid) -> QuerySet[Detection]:
    assert grid.drawer is not None
    rows = _unanswered(grid.survey).filter(label=grid.drawer.label_id)
    rows = rows.annotate(size_px=Greatest(F("x_max") - F("x_min"), F("y_max") - F("y_min")))
    return rows.select_related("photo__annotation_task", "label").defer("box", "class_scores")


def _page(grid: Grid, rows: QuerySet[Any], column: str, after: str, before: str) -> list[Any]:
    """One page of rows by key, and the keys of the pages around it."""
    key, is_back = _read_key(after), False
    if key is None:
        key = _read_key(before)
        is_back = key is not None
    is_descending = grid.order.is_descending != is_back
    sign = "-" if is_descending else ""
    if key is not None:
        rows = rows.filter(RowAfter(column, *key, sign="<" if is_descending else ">"))
    found: list[Any] = list(rows.order_by(f"{sign}{column}", f"{sign}id")[: grid.size + 1])
    has_more = len(found) > grid.size
    found = found[: grid.size]
    if is_back:
        found.reverse()
    if found:
        first, last = (f"{getattr(row, column)!r},{row.pk}" for row in (found[0], found[-1]))
        grid.next = last if has_more or is_back else ""
        grid.previous = first if (has_more if is_back else key is not None) else ""
    return found


def _read_key(text: str) -> tuple[float, int] | None:
    value, _comma, key = text.partition(",")
    try:
        pair = float(value), int(key) if len(key) < 20 else -1
    except ValueError:
        return None
    return pair if math.isfinite(pair[0]) and 0 <= pair[1] <= _MAX_ID else None


def _answer_tile(crop: Crop) -> Tile:
    answer = crop.box.annotation
    if crop.box.agreement is not None and crop.box.agreement < 1:
        caption = _("%(share)s agree") % {"share": percent(crop.box.agreement)}
    elif crop.box.proposal_number is None and not crop.box.votes:
        caption = _("drawn")
    else:
        caption = percent(crop.confidence)
    return Tile(
        ref=f"{answer.public_id}.{crop.box.number}",
        picture=reverse("annotation:crop", args=[answer.public_id, crop.box.number]),
        number=crop.box.number,
        label=crop.label,
        caption=caption,
        task_id=crop.task.public_id,
        is_uncertain=crop.box.is_uncertain,
    )


def _model_tile(box: Detection) -> Tile:
    task: Model = box.photo.annotation_task
    return Tile(
        ref="",
        picture=reverse(
            "annotation:model_crop", args=[box.photo.public_id, box.model_version_id, box.number]
        ),
        number=box.number,
        label=box.label,
        caption=percent(box.score),
        task_id=task.public_id,  # type: ignore[attr-defined]
    )

"""A disagreement as its page shows it: the experts' versions, and side by side what differs."""

from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_uppercase

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from apps.annotation.agreement.boxes import Corners
from apps.annotation.agreement.consensus import Animal, Member, Verdict
from apps.annotation.answer_rules import ModelBox
from apps.annotation.models import AnnotatedBox, Annotation
from apps.annotation.services.answer_sets import AnswerSet, corners_of
from apps.annotation.services.conflicts import NOT_THERE, rows_to_decide
from apps.observations.models import Label


@dataclass(frozen=True, slots=True)
class DrawnBox:
    """A box of the overlay; `text` is what stands beside it: letter of the version and number of the box."""

    x: float
    y: float
    width: float
    height: float
    text: str
    title: str
    is_agreed: bool
    is_near_top: bool
    """Its text has no room above it."""


@dataclass(frozen=True, slots=True)
class Version:
    letter: str
    answer: Annotation
    boxes: list[DrawnBox]
    disputed: int
    """Its boxes that not all agree about."""


@dataclass(frozen=True, slots=True)
class Cell:
    """What one expert says of an animal; without a box they did not draw it."""

    letter: str
    answer: Annotation
    box: AnnotatedBox | None


@dataclass(frozen=True, slots=True)
class Choice:
    value: str
    text: str
    is_chosen: bool


@dataclass(frozen=True, slots=True)
class Row:
    index: int
    number: int
    box: Corners
    what: str
    cells: list[Cell]
    choices: list[Choice]
    is_undecided: bool


def versions(given: AnswerSet, *, text_px: float) -> list[Version]:
    """`text_px`: height of a line of the overlay's text."""
    animals = given.animal_of()
    found = []
    for position, (answer, boxes) in enumerate(zip(given.answers, given.boxes, strict=True)):
        letter = letter_of(position)
        drawn = []
        for index, box in enumerate(boxes):
            is_agreed = animals[Member(position, index)].verdict == Verdict.AGREED
            title = f"{letter}{box.number} · {answer.author or '–'}: {box.label}"
            drawn.append(
                _drawn(corners_of(box), f"{letter}{box.number}", title, text_px, is_agreed=is_agreed)
            )
        found.append(Version(letter, answer, drawn, sum(not box.is_agreed for box in drawn)))
    return found


def model_version_boxes(proposals: Sequence[ModelBox], names: dict[str, str]) -> list[DrawnBox]:
    """The model's shown boxes, as one more layer."""
    return [
        _drawn(
            box.corners,
            f"#{box.number}",
            f"#{box.number}: {names.get(box.label, box.label)} {box.score:.2f}",
            0,
            is_agreed=True,
        )
        for box in proposals
        if not box.is_weak
    ]


def rows(
    given: AnswerSet, names: dict[str, str], chosen: dict[int, str], undecided: Sequence[int]
) -> list[Row]:
    """One row for each difference, with what can be chosen. `chosen` and `undecided` come from a form sent before."""
    found = []
    for number, (index, animal) in enumerate(rows_to_decide(given.consensus), start=1):
        members = {member.answer: member for member in animal.members}
        cells = [
            Cell(letter_of(position), answer, given.box(members[position]) if position in members else None)
            for position, answer in enumerate(given.answers)
        ]
        now = chosen.get(index, NOT_THERE if animal.verdict == Verdict.DROPPED else "")
        found.append(
            Row(
                index=index,
                number=number,
                box=animal.box,
                what=_what(animal, len(given.answers)),
                cells=cells,
                choices=_choices(given, animal, names, now),
                is_undecided=index in undecided,
            )
        )
    return found


def letter_of(position: int) -> str:
    return ascii_uppercase[position % len(ascii_uppercase)]


def label_names(survey_id: int) -> dict[str, str]:
    return {label.code: str(label) for label in Label.objects.filter(survey=survey_id)}


def _choices(given: AnswerSet, animal: Animal, names: dict[str, str], now: str) -> list[Choice]:
    choices = []
    for code in animal.votes:
        who = [letter_of(member.answer) for member in animal.members if given.box(member).label.code == code]
        choices.append(Choice(code, f"{names.get(code, code)} ({', '.join(who)})", now == code))
    return [*choices, Choice(NOT_THERE, _("No animal"), now == NOT_THERE)]


def _what(animal: Animal, experts: int) -> str:
    if animal.verdict == Verdict.LABEL:
        return _("named differently")
    seen = len(animal.members)
    text = ngettext("drawn by %(n)s of %(experts)s", "drawn by %(n)s of %(experts)s", seen)
    return text % {"n": seen, "experts": experts}


def _drawn(corners: Corners, text: str, title: str, text_px: float, *, is_agreed: bool) -> DrawnBox:
    x_min, y_min, x_max, y_max = corners
    return DrawnBox(x_min, y_min, x_max - x_min, y_max - y_min, text, title, is_agreed, y_min < text_px)

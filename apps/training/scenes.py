"""Photos with what is there and what was found, drawn on them: by line style and words, never by colour alone."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from django.urls import reverse
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _

from apps.training.cuts import Window
from apps.training.engine.report import FoundBox, PictureReport, Report, TruthBox
from apps.training.hooks import addresses_of
from apps.training.models import DatasetItem

Kind = Literal["truth", "right", "wrong", "missed", "old", "new"]
Corners = tuple[float, float, float, float]
_TEXT_SHARE: Final = 0.028
"""Height of the words, of the shorter side of what is shown."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A box: an animal that was found (truth), a box that found it (right), one that is wrong, an animal missed; or one of
    the former version (old) and of the new one where both are drawn.
    """

    kind: Kind
    corners: Corners
    text: str = ""


@dataclass(frozen=True, slots=True)
class Scene:
    """A photo, or a piece of it, with marks; `window` in the photo's pixels."""

    photo: str
    window: Window
    is_whole: bool
    marks: Sequence[Mark]
    title: str = ""
    """What is to be seen, in words: also the picture's alternative text."""
    address: str = ""
    """Of the photo's page; empty where there is none."""
    is_withdrawn: bool = False

    @property
    def src(self) -> str:
        if self.is_whole:
            return reverse("training:picture", args=[self.photo])
        return reverse("training:crop", args=[self.photo, self.window.name])

    @property
    def drawing(self) -> SafeString:
        """The marks as an `<svg>`; made here because a plate may hold a thousand animals."""
        return drawing_of(self.marks, self.window)


def drawing_of(marks: Iterable[Mark], window: Window, *, layer: str = "") -> SafeString:
    size = max(_TEXT_SHARE * min(window.width, window.height), 1.0)
    parts = []
    for mark in marks:
        left, top, right, bottom = mark.corners
        shape = f'x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" height="{bottom - top:.1f}"'
        words = ""
        if mark.text:
            inside = top - window.top < size * 1.4
            y = top + size * 1.2 if inside else top - size * 0.35
            words = (
                f'<text class="mark-text" x="{max(left, window.left):.1f}" y="{y:.1f}" font-size="{size:.1f}">'
                f"{escape(mark.text)}</text>"
            )
        parts.append(
            f'<g class="mark-{mark.kind}"><rect class="mark-casing" {shape}/><rect class="mark-line" {shape}/>{words}</g>'
        )
    view = f"{window.left} {window.top} {window.width} {window.height}"
    return mark_safe(  # noqa: S308 (numbers, and names escaped above)
        f'<svg class="{layer}" viewBox="{view}" preserveAspectRatio="none" aria-hidden="true" focusable="false">'
        f"{''.join(parts)}</svg>"
    )


def corners(box: TruthBox | FoundBox) -> Corners:
    return (box[0], box[1], box[2], box[3])


def marks_of(picture: PictureReport, report: Report, names: Mapping[str, str]) -> list[Mark]:
    """Everything on a picture: what is wrong last, so that it lies on top, and only that with words."""
    named = [names.get(code, code) for code in report.labels]
    matched_truth = dict(picture.pairs)
    marks, wrong = [], []
    for number, animal in enumerate(picture.truth):
        if number not in matched_truth:
            wrong.append(Mark("missed", corners(animal), _("missed: %(name)s") % {"name": named[animal[4]]}))
            continue
        marks.append(Mark("truth", corners(animal)))
        found = picture.found[matched_truth[number]]
        if found[4] == animal[4]:
            marks.append(Mark("right", corners(found)))
        else:
            said = {"found": named[found[4]], "truth": named[animal[4]]}
            wrong.append(Mark("wrong", corners(found), _("%(found)s, is %(truth)s") % said))
    matched = set(matched_truth.values())
    for number, box in enumerate(picture.found):
        if number not in matched and box[5] >= report.confidence:
            wrong.append(Mark("wrong", corners(box), _("not there: %(name)s") % {"name": named[box[4]]}))
    return marks + wrong


def whole(picture: PictureReport) -> Window:
    return Window(0, 0, picture.width_px, picture.height_px)


def withdrawn_among(photos: Iterable[str]) -> set[str]:
    """Those that were deleted since, in one query."""
    gone = DatasetItem.objects.filter(photo__in=set(photos), is_withdrawn=True)
    return {str(photo) for photo in gone.values_list("photo", flat=True)}


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all scenes of a page need to know of their photos: two queries for the page."""

    addresses: Mapping[str, str]
    withdrawn: set[str]

    @classmethod
    def of(cls, photos: Sequence[str]) -> "Surroundings":
        return cls(addresses_of(photos), withdrawn_among(photos)) if photos else cls({}, set())

"""The boxes of a results page as markup.

Built here and not by template tags, because a plate may hold a thousand animals: 0.1 s instead of 0.6 s.
Everything that a person can name passes through `escape`.
"""

from collections.abc import Iterable, Mapping

from django import template
from django.utils.html import conditional_escape, escape
from django.utils.safestring import SafeString, mark_safe

from apps.observations.hooks import BoxMark
from apps.observations.models import Label
from apps.observations.results import NamedBox
from apps.observations.templatetags.podura import icon, percent, swatch, taxon

register = template.Library()
_NO_MARKS: Mapping[int, BoxMark] = {}
_ICONS = {"confirmed": "check", "corrected": "edit", "removed": "close"}


@register.simple_tag
def box_marks(boxes: Iterable[NamedBox], marks: Mapping[int, BoxMark] = _NO_MARKS) -> SafeString:
    """Each animal on the picture: a casing, a line in its label's colour, number and name. Photo pixels, in an <svg>."""
    names: dict[int, tuple[str, str]] = {}
    parts = []
    for box in boxes:
        mark = marks.get(box.number)
        kind = f" mark--{mark.kind}" if mark else ""
        name, colour = names.setdefault(box.label.pk, (escape(box.label.name), escape(box.label.colour)))
        shape = (
            f'x="{box.x_min:.1f}" y="{box.y_min:.1f}" width="{box.width_px:.1f}" height="{box.height_px:.1f}"'
        )
        x = (
            f'text-anchor="end" x="{box.x_max:.1f}" dx="-.1em"'
            if box.is_near_right
            else f'x="{box.x_min:.1f}" dx=".1em"'
        )
        dy = "1.1em" if box.is_near_top else "-.35em"
        parts.append(
            f'<a class="mark{kind}" id="mark-{box.number}" href="#box-{box.number}" tabindex="-1" data-number="{box.number}">'
            f'<rect class="mark__casing" {shape}/><rect class="mark__line" stroke="{colour}" {shape}/>'
            f'<text {x} y="{box.y_min:.1f}" dy="{dy}">{box.number}'
            f'<tspan class="mark__name" dx=".3em">{name}</tspan></text></a>'
        )
    return mark_safe("\n".join(parts))  # noqa: S308 (numbers, and names escaped above)


@register.simple_tag
def box_items(boxes: Iterable[NamedBox], marks: Mapping[int, BoxMark] = _NO_MARKS) -> SafeString:
    """Each animal in the list: number, name, confidence as bar and number, the next best classes, what experts said."""
    names: dict[int, str] = {}

    def named(label: Label | str) -> str:
        if isinstance(label, str):
            return escape(label)
        if label.pk not in names:
            names[label.pk] = str(conditional_escape(taxon(label)))
        return names[label.pk]

    swatches: dict[int, str] = {}
    parts = []
    for box in boxes:
        dot = swatches.get(box.label.pk) or swatches.setdefault(box.label.pk, swatch(box.label))
        others = " · ".join(
            f'{named(label)} <span class="num">{percent(score)}</span>' for label, score in box.others
        )
        parts.append(
            f'<li class="animal" id="box-{box.number}" data-number="{box.number}" data-score="{box.score:.4f}">'
            f'<a class="animal__main" href="#mark-{box.number}">'
            f'<span class="animal__number">{box.number}</span>'
            f'<span class="animal__name">{dot} {named(box.label)}</span>'
            f'<span class="animal__score num">{percent(box.score)}</span>'
            '<svg class="bar" viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true" focusable="false">'
            f'<rect class="bar__value" width="{box.score * 100:.0f}" height="4"/></svg></a>'
            + (f'<p class="animal__others">{others}</p>' if others else "")
            + (_mark_line(marks[box.number]) if box.number in marks else "")
            + "</li>"
        )
    return mark_safe("\n".join(parts))  # noqa: S308 (numbers, and names escaped above)


def _mark_line(mark: BoxMark) -> str:
    return f'<p class="animal__mark animal__mark--{mark.kind}">{icon(_ICONS[mark.kind])}<span>{escape(mark.text)}</span></p>'


@register.simple_tag
def box_options(boxes: Iterable[NamedBox]) -> SafeString:
    """The boxes as choices of the comment form."""
    options = (
        f'<option value="{box.number}">#{box.number} {escape(box.label.name)}</option>' for box in boxes
    )
    return mark_safe("".join(options))  # noqa: S308 (numbers, and names escaped above)

"""What templates say often: icons, names of living things, numbers."""

from urllib.parse import urlencode

from django import template
from django.contrib.gis.geos import Point
from django.templatetags.static import static
from django.utils import formats
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import pgettext

from apps.observations.models import Label

register = template.Library()


@register.simple_tag
def icon(name: str) -> SafeString:
    """A line icon of `static/common/icons.svg`; decorative, so the text beside it names the thing."""
    return format_html(
        '<svg class="icon" aria-hidden="true" focusable="false"><use href="{}#{}"></use></svg>',
        static("common/icons.svg"),
        name,
    )


@register.filter
def taxon(label: Label) -> SafeString | str:
    """The label's name; a scientific one in italics, as the field writes it ("sp." stays upright)."""
    if not label.scientific_name:
        return label.name
    name, separator, rest = label.scientific_name.partition(" sp.")
    return format_html('<em class="taxon">{}</em>{}{}', name, separator, rest)


@register.filter
def percent(share: float | None) -> str:
    """0.873 -> "87 %" with a narrow space that does not break."""
    return "" if share is None else f"{share * 100:.0f}\u202f%"


@register.filter
def duration(milliseconds: float) -> str:
    """A span of time as people read it: "176 ms", from one second on "9.7 s" (a whole plate takes seconds)."""
    if milliseconds < 1000:
        return f"{milliseconds:.0f} ms"
    return f"{formats.localize(round(milliseconds / 1000, 1))} s"


@register.simple_tag(takes_context=True)
def query(context: template.Context, **changes: object) -> str:
    """The current query string with some parameters replaced (None removes), for links that keep filters."""
    parameters = context["request"].GET.copy()
    for name, value in changes.items():
        if value is None:
            parameters.pop(name, None)
        else:
            parameters[name] = str(value)
    return "?" + urlencode(list(parameters.lists()), doseq=True)


@register.simple_tag
def swatch(label: Label) -> SafeString:
    """A dot in the label's colour (an SVG attribute: the CSP refuses inline styles); the name stands beside it."""
    return format_html(
        '<svg class="swatch" viewBox="0 0 10 10" aria-hidden="true"><circle cx="5" cy="5" r="4.5" fill="{}"/></svg>',
        label.colour,
    )


@register.filter
def coordinates(point: Point | None, decimals: int = 5) -> str:
    """48.85661° N 2.35222° E; WGS 84."""
    if point is None:
        return ""
    latitude = f"{abs(point.y):.{decimals}f}° {pgettext('compass', 'N') if point.y >= 0 else pgettext('compass', 'S')}"
    longitude = f"{abs(point.x):.{decimals}f}° {pgettext('compass', 'E') if point.x >= 0 else pgettext('compass', 'W')}"
    return f"{latitude} {longitude}"

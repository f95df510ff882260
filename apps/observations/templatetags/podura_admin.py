"""Numbers inside SVG: never with a decimal comma, whatever the language."""

from django import template

register = template.Library()


@register.filter
def pixels(value: float) -> str:
    return f"{value:.0f}"


@register.filter
def times(value: float, factor: float) -> str:
    return f"{value * factor:.1f}"

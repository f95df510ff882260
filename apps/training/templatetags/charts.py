"""`{% chart chart %}`: a chart with the table behind it. `{% chart_update chart %}`: its new state, in an htmx answer."""

from typing import Any

from django import template

from apps.common.charts import Chart

register = template.Library()


@register.inclusion_tag("charts/chart.html")
def chart(chart: Chart) -> dict[str, Any]:
    return {"chart": chart, "is_update": False}


@register.inclusion_tag("charts/update.html")
def chart_update(chart: Chart) -> dict[str, Any]:
    return {"chart": chart, "is_update": True}

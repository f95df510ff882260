"""The map of public observations: a page with a list, and the data that its script draws."""

from typing import Any
from uuid import UUID

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.formats import date_format
from django.utils.timezone import localtime
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_safe

from apps.observations.browse.filters import BrowseForm, TooBroadError, limited_time
from apps.observations.browse.map import Cluster, MapContent, map_content
from apps.observations.browse.window import WORLD, Window, coordinates

LIST_LIMIT = 40
_ANY = UUID(int=0)


@require_safe
def map_page(request: HttpRequest) -> HttpResponse:
    """The page; its list of places and links works without the script."""
    form = BrowseForm(request.GET)
    content: MapContent | None = None
    try:
        with limited_time():
            content = map_content(form)
    except TooBroadError:
        pass
    window = form.chosen("bbox") or _extent(content)
    context = {
        "form": form,
        "content": content,
        "view": str(window),
        "tile_url": settings.MAP_TILE_URL,
        "tile_attribution": settings.MAP_TILE_ATTRIBUTION,
        **(_list_context(form, content) if content else {}),
    }
    return render(request, "observations/map.html", context)


@require_safe
def map_data(request: HttpRequest) -> HttpResponse:
    """Clusters or points of the window `bbox` at `zoom`, and the list that says the same in words."""
    form = BrowseForm(request.GET)
    if not form.is_valid():
        errors = [
            {"field": name, "detail": str(text)} for name, texts in form.errors.items() for text in texts
        ]
        return _problem(400, _("A filter is not right."), errors=errors)
    zoom = request.GET.get("zoom", "")
    try:
        with limited_time():
            content = map_content(
                form, zoom=int(zoom) if zoom.isascii() and zoom.isdecimal() and len(zoom) < 3 else None
            )
    except TooBroadError:
        return _problem(
            422, _("That is too much to look through. Please choose a smaller window or fewer filters.")
        )
    answer = {
        "total": content.total,
        "said": said(content),
        "clusters": [_drawn(cluster) for cluster in content.clusters],
        "points": [_pointed(point, form) for point in content.points],
        "urls": {
            "observation": reverse("observations:observation", args=[_ANY]).replace(str(_ANY), "{id}"),
            "thumbnail": reverse("observations:thumbnail", args=[_ANY]).replace(str(_ANY), "{id}"),
        },
        "gallery": f"{reverse('observations:gallery')}?{form.query()}",
        "list": render_to_string("observations/map_list.html", _list_context(form, content), request),
    }
    response = JsonResponse(answer)
    response["Cache-Control"] = "private, max-age=15"
    return response


def said(content: MapContent) -> str:
    """How many there are, in words."""
    if content.is_capped and content.points:
        return _("The newest %(count)d observations here; go closer to see all.") % {"count": content.total}
    if content.is_capped:
        return _("More than %(count)d observations; the newest are shown.") % {"count": content.total}
    return ngettext("%(count)s observation", "%(count)s observations", content.total) % {
        "count": f"{content.total:,}".replace(",", "\u202f")
    }


def _list_context(form: BrowseForm, content: MapContent) -> dict[str, Any]:
    clusters = [
        {
            "name": coordinates(cluster.longitude, cluster.latitude),
            "count": cluster.count,
            "window": str(cluster.cell),
            "centre": f"{cluster.latitude:.5f},{cluster.longitude:.5f}",
            "closer": form.query(without="bbox", bbox=str(cluster.cell)),
        }
        for cluster in content.clusters[:LIST_LIMIT]
    ]
    return {
        "said": said(content),
        "clusters": clusters,
        "points": [_pointed(point, form) for point in content.points[:LIST_LIMIT]],
        "left_out": max(len(content.clusters), len(content.points)) - LIST_LIMIT,
        "gallery_query": form.query(),
    }


def _drawn(cluster: Cluster) -> dict[str, Any]:
    cell = cluster.cell
    return {
        "lon": round(cluster.longitude, 5),
        "lat": round(cluster.latitude, 5),
        "count": cluster.count,
        "cell": [cell.west, cell.south, cell.east, cell.north],
    }


def _pointed(point: dict[str, Any], form: BrowseForm) -> dict[str, Any]:
    survey = form.survey_names.get(point["survey"], "")
    return {
        "id": str(point["public_id"]),
        "lon": round(point["lon"], 6),
        "lat": round(point["lat"], 6),
        "blurred": point["is_obscured"],
        "title": point["title"] or survey,
        "survey": survey,
        "date": date_format(localtime(point["observed_at"]), "DATE_FORMAT") if point["observed_at"] else "",
        "where": coordinates(point["lon"], point["lat"], decimals=1 if point["is_obscured"] else 3),
        "cover": str(point["cover"]) if point["cover"] else None,
    }


def _extent(content: MapContent | None) -> Window:
    """Where the content lies, with a margin; the inhabited world when there is none."""
    if content is None or not (content.clusters or content.points):
        return Window(-160, -55, 175, 75)
    windows = [cluster.cell for cluster in content.clusters]
    windows += [
        Window(point["lon"] - 1, point["lat"] - 1, point["lon"] + 1, point["lat"] + 1)
        for point in content.points
    ]
    return Window(
        max(WORLD.west, min(window.west for window in windows)),
        max(-80.0, min(window.south for window in windows)),
        min(WORLD.east, max(window.east for window in windows)),
        min(84.0, max(window.north for window in windows)),
    )


def _problem(status: int, detail: str, **more: Any) -> JsonResponse:
    body = {"type": "about:blank", "title": detail, "status": status, "detail": detail, **more}
    return JsonResponse(body, status=status, content_type="application/problem+json")

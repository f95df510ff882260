"""What the map shows in a window: clusters from afar, single observations from near."""

import math
from dataclasses import dataclass, field
from typing import Any

from django.db.models import FloatField, Func, OuterRef, Q, Subquery, Sum

from apps.observations.browse.filters import BrowseForm
from apps.observations.browse.window import WORLD, Window
from apps.observations.models import MapCell, Observation, Photo

MIN_LEVEL, MAX_LEVEL = 2, 12
CELLS_ACROSS = 32  # no window is cut finer, whatever zoom it claims
CELL_LIMIT = 1_000
FEW_ENOUGH_FOR_POINTS = 250
POINT_LIMIT = 1_000
MATCH_LIMIT = 2_000  # with filters that cells cannot answer, the newest matches are looked at
LONGITUDE = Func("public_location", function="ST_X", output_field=FloatField())
LATITUDE = Func("public_location", function="ST_Y", output_field=FloatField())


@dataclass(frozen=True, slots=True)
class Cluster:
    """So many observations in a cell, at the mean of their places."""

    longitude: float
    latitude: float
    count: int
    cell: Window


@dataclass(frozen=True, slots=True)
class MapContent:
    """Either clusters or points; `total` counts observations in the window (with clusters: in its cells)."""

    total: int
    is_capped: bool
    clusters: list[Cluster] = field(default_factory=list)
    points: list[dict[str, Any]] = field(default_factory=list)


def grid_level(window: Window, zoom: int | None) -> int:
    """The level whose cells are 128 px wide at the map's zoom, coarser where the window would hold too many."""
    width = max(window.width, 1e-6)
    finest = math.floor(math.log2(CELLS_ACROSS * 360 / width))
    wanted = zoom + 1 if zoom is not None else finest - 1
    return max(MIN_LEVEL, min(wanted, finest, MAX_LEVEL))


def map_content(form: BrowseForm, *, zoom: int | None = None) -> MapContent:
    """What to draw in the form's window (else the whole world) at a Web Mercator zoom."""
    window = form.chosen("bbox") or WORLD
    level = grid_level(window, zoom)
    if form.is_by_cells:
        clusters = _counted(form, window, level)
        total = sum(cluster.count for cluster in clusters)
        is_near = level == MAX_LEVEL and zoom is not None and zoom >= MAX_LEVEL
        if not is_near and total > FEW_ENOUGH_FOR_POINTS:
            return MapContent(total, is_capped=len(clusters) == CELL_LIMIT, clusters=clusters)
        points = _points(form.observations())
        return MapContent(
            len(points[:POINT_LIMIT]), is_capped=len(points) > POINT_LIMIT, points=points[:POINT_LIMIT]
        )
    places = list(
        form.observations().order_by("-pk").values_list("pk", LONGITUDE, LATITUDE)[: MATCH_LIMIT + 1]
    )
    is_capped = len(places) > MATCH_LIMIT
    places = places[:MATCH_LIMIT]
    if len(places) <= FEW_ENOUGH_FOR_POINTS:
        points = _points(Observation.objects.filter(pk__in=[pk for pk, _lon, _lat in places]))
        return MapContent(len(points), is_capped=False, points=points)
    return MapContent(len(places), is_capped=is_capped, clusters=_gathered(places, level))


def cell_of(longitude: float, latitude: float, level: int) -> tuple[int, int]:
    """Column and row; as the database's trigger counts them (migration 0021)."""
    columns = 1 << level
    x = math.floor((longitude + 180) * columns / 360)
    y = math.floor((latitude + 90) * columns / 360)
    return min(x, columns - 1), min(y, columns // 2 - 1)


def cell_window(x: int, y: int, level: int) -> Window:
    size = 360 / (1 << level)
    return Window(x * size - 180, y * size - 90, (x + 1) * size - 180, (y + 1) * size - 90)


def _counted(form: BrowseForm, window: Window, level: int) -> list[Cluster]:
    """Clusters from the cells that the database keeps, the largest first."""
    columns = Q()
    for west, east in window.longitudes:
        columns |= Q(x__range=(cell_of(west, 0, level)[0], cell_of(east, 0, level)[0]))
    rows = (cell_of(0, window.south, level)[1], cell_of(0, window.north, level)[1])
    cells = MapCell.objects.filter(columns, level=level, y__range=rows)
    if survey := form.chosen_survey:
        cells = cells.filter(survey=survey)
    counted = (
        cells.values("x", "y")
        .annotate(count=Sum("observations"), lon=Sum("longitude_sum"), lat=Sum("latitude_sum"))
        .filter(count__gt=0)
        .order_by("-count", "x", "y")[:CELL_LIMIT]
    )
    return [
        _cluster((cell["x"], cell["y"], level), (cell["count"], cell["lon"], cell["lat"])) for cell in counted
    ]


def _gathered(places: list[tuple[int, float, float]], level: int) -> list[Cluster]:
    sums: dict[tuple[int, int], list[float]] = {}
    for _pk, longitude, latitude in places:
        total = sums.setdefault(cell_of(longitude, latitude, level), [0, 0, 0])
        total[0] += 1
        total[1] += longitude
        total[2] += latitude
    clusters = [_cluster((x, y, level), (int(n), lon, lat)) for (x, y), (n, lon, lat) in sums.items()]
    return sorted(clusters, key=lambda cluster: -cluster.count)[:CELL_LIMIT]


def _cluster(place: tuple[int, int, int], sums: tuple[int, float, float]) -> Cluster:
    """From a cell's (x, y, level) and its sums (observations, longitudes, latitudes)."""
    cell = cell_window(*place)
    count, longitude_sum, latitude_sum = sums
    # Sums of many changes carry rounding; the mean never leaves its cell.
    longitude = min(max(longitude_sum / count, cell.west), cell.east)
    latitude = min(max(latitude_sum / count, cell.south), cell.north)
    return Cluster(longitude, latitude, count, cell)


def _points(observations: Any) -> list[dict[str, Any]]:
    """The newest observations with what a popup says of them; one query, one more than the limit."""
    cover = Photo.objects.filter(observation=OuterRef("pk")).order_by("pk").values("public_id")[:1]
    return list(
        observations.order_by("-pk")
        .annotate(lon=LONGITUDE, lat=LATITUDE, cover=Subquery(cover))
        .values("public_id", "lon", "lat", "is_obscured", "title", "observed_at", "cover", "survey")[
            : POINT_LIMIT + 1
        ]
    )

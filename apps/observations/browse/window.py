"""A window of the world, as people and their browsers spell it: west,south,east,north in degrees."""

import math
from dataclasses import dataclass
from typing import Self

from django.contrib.gis.geos import Polygon
from django.db.models import Q
from django.utils.translation import gettext as _


@dataclass(frozen=True, slots=True)
class Window:
    """Degrees, WGS 84. A window whose west lies east of its east crosses the 180th meridian."""

    west: float
    south: float
    east: float
    north: float

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `west,south,east,north`; raises `ValueError` with a message for the person who sent it."""
        try:
            west, south, east, north = (float(part) for part in text.split(","))
        except ValueError:
            raise ValueError(_("A window is four numbers: west, south, east, north.")) from None
        if not all(map(math.isfinite, (west, south, east, north))):
            raise ValueError(_("A window is four numbers: west, south, east, north."))
        if abs(west) > 180 or abs(east) > 180 or abs(south) > 90 or abs(north) > 90 or south > north:
            raise ValueError(_("This window does not lie on the Earth."))
        return cls(west, south, east, north)

    @property
    def width(self) -> float:
        return self.east - self.west if self.west <= self.east else self.east - self.west + 360

    @property
    def longitudes(self) -> list[tuple[float, float]]:
        """One or two ranges, each from west to east."""
        if self.west <= self.east:
            return [(self.west, self.east)]
        return [(self.west, 180.0), (-180.0, self.east)]

    def condition(self, field: str) -> Q:
        """Points of the field within the window; by boxes, so that the spatial index answers alone."""
        condition = Q()
        for west, east in self.longitudes:
            box = Polygon.from_bbox((west, self.south, east, self.north))
            box.srid = 4326
            condition |= Q(**{f"{field}__bboverlaps": box})
        return condition

    def __str__(self) -> str:
        return ",".join(f"{value:.6g}" for value in (self.west, self.south, self.east, self.north))


WORLD = Window(-180, -90, 180, 90)


def coordinates(longitude: float, latitude: float, *, decimals: int = 1) -> str:
    """`48.9° N, 2.3° E` in the reader's language."""
    north = _("N") if latitude >= 0 else _("S")
    east = _("E") if longitude >= 0 else _("W")
    return f"{abs(latitude):.{decimals}f}° {north}, {abs(longitude):.{decimals}f}° {east}"

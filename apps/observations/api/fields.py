"""Numbers, moments and windows as the API takes them: finite, in range, and of one meaning only."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from django.contrib.gis.geos import MultiPolygon, Polygon
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext_lazy as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
_DECIMAL = re.compile(r"[+-]?(?:[0-9]{1,20}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})(?:[eE][+-]?[0-9]{1,3})?")


def latest() -> datetime:
    """A day of grace for clocks that run ahead and for zones that are already tomorrow."""
    return timezone.now() + timedelta(days=1)


class DecimalDegreesField(serializers.FloatField):
    """Degrees with a decimal point. Python would also take "nan", "1_0" and Arabic digits."""

    default_error_messages = {"invalid": _("Give decimal degrees with a point, such as 48.8566.")}

    def to_internal_value(self, data: Any) -> float:
        if isinstance(data, bool) or not isinstance(data, (str, int, float)):
            self.fail("invalid")
        if isinstance(data, str) and not _DECIMAL.fullmatch(data.strip()):
            self.fail("invalid")
        return super().to_internal_value(data)


class MomentField(serializers.DateTimeField):
    """ISO 8601; without an offset it is UTC, so that the answer does not depend on who asks."""

    default_error_messages = {
        "invalid": _("Give a date and time in ISO 8601, such as 2026-05-12T14:30:00+02:00."),
        "too_early": _("The date lies before the year 2000."),
        "too_late": _("The date lies in the future."),
    }

    def __init__(self, *, is_bounded: bool = False, **kwargs: Any) -> None:
        super().__init__(default_timezone=UTC, **kwargs)
        self.is_bounded = is_bounded

    def to_internal_value(self, value: Any) -> datetime:
        moment = self._parsed(value)
        if self.is_bounded and moment < EARLIEST:
            self.fail("too_early")
        if self.is_bounded and moment > latest():
            self.fail("too_late")
        return moment

    def _parsed(self, value: Any) -> datetime:
        if not isinstance(value, str) or len(value) > 40 or not (value.isascii() and value.isprintable()):
            self.fail("invalid")
        try:
            # In a query string the plus sign of an offset that was not escaped arrives as a blank.
            moment = parse_datetime(re.sub(r" (?=[0-9]{2}:?[0-9]{2}$)", "+", value.strip()))
            if moment is None:
                self.fail("invalid")
            return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
        except (ValueError, OverflowError):
            self.fail("invalid")


@extend_schema_field(OpenApiTypes.STR)
class WindowField(serializers.Field[Any, Any, Any, Any]):
    """`west,south,east,north` in degrees; a window across the antimeridian has west > east."""

    default_error_messages = {
        "invalid": _("Give west,south,east,north in decimal degrees, such as 2.2,48.8,2.5,48.9."),
    }

    def to_internal_value(self, data: Any) -> Polygon | MultiPolygon:
        parts = str(data).split(",")
        if len(parts) != 4 or not all(_DECIMAL.fullmatch(part.strip()) for part in parts):
            self.fail("invalid")
        west, south, east, north = map(float, parts)
        if not (-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south <= north <= 90):
            self.fail("invalid")
        spans = [(west, east)] if west <= east else [(west, 180.0), (-180.0, east)]
        windows = [Polygon.from_bbox((left, south, right, north)) for left, right in spans]
        return MultiPolygon(windows, srid=4326)

    def to_representation(self, value: Any) -> Any:
        return value

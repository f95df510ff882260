"""The first page: what this is, which pictures work, what others found."""

from django.contrib.auth.models import AnonymousUser
from django.core.cache import cache
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from apps.common.leased import WorkStatus
from apps.observations.models import Detection, Label, Photo

LATEST = 8
LOOKED_THROUGH = 80  # so that one large folder does not fill the page
NUMBERS_KEPT_S = 300
COUNTED_EXACTLY = 50_000


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    return render(request, "observations/home.html", {"latest": latest_photos(), "numbers": numbers()})


def latest_photos() -> list[Photo]:
    """Public photos on which animals were found, newest first, one of each observation."""
    found = (
        Photo.objects.visible_to(AnonymousUser())
        .filter(status=WorkStatus.DONE, detection_count__gt=0)
        .select_related("observation__contributor")
        .order_by("-pk")
    )
    by_observation: dict[int, Photo] = {}
    for photo in found[:LOOKED_THROUGH]:
        by_observation.setdefault(photo.observation_id, photo)
    return list(by_observation.values())[:LATEST]


def numbers() -> dict[str, int]:
    """How much there is, a few minutes old at most; large tables are estimated by the database's own statistics."""
    kept = cache.get("home-numbers")
    if kept is None:
        kept = {
            "photos": _photo_count(),
            "animals": _animal_count(),
            "labels": Label.objects.filter(is_active=True, survey__is_open=True).count(),
        }
        cache.set("home-numbers", kept, NUMBERS_KEPT_S)
    return dict(kept)


def _photo_count() -> int:
    estimate = _estimated_rows(Photo._meta.db_table)
    return estimate if estimate > COUNTED_EXACTLY else Photo.objects.count()


def _animal_count() -> int:
    """Shown boxes; the index that holds these and no weak ones is as long as they are many."""
    estimate = _estimated_rows("detection_label_shown")
    return estimate if estimate > COUNTED_EXACTLY else Detection.objects.shown().count()


def _estimated_rows(relation: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT reltuples::bigint FROM pg_class WHERE oid = %s::regclass", [relation])
        return int(cursor.fetchone()[0])

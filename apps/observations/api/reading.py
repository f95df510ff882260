"""The queries behind the lists: a constant number of them, and a bounded number of boxes in one answer."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from django.db.models import Count, Exists, F, OuterRef, Q, QuerySet, Window
from django.db.models.functions import RowNumber
from rest_framework.request import Request

from apps.common.leased import WorkStatus
from apps.observations.api.links import Links
from apps.observations.api.paging import MAX_PAGE, next_address
from apps.observations.api.representations import BoxRow, observation_body, photo_body
from apps.observations.models import Detection, Label, Observation, Photo

LIST_PHOTOS = 10
"""Photos shown of each observation in a list; `next_photos` leads to the others."""
RARE_PHOTOS = 2_000
"""A label found on fewer photos than this is rare."""
MAX_BOXES = 10_000
"""Boxes in one answer: a page ends early rather than grow beyond (but holds at least one item)."""


def observations_for(user: Any, filters: dict[str, Any]) -> QuerySet[Observation]:
    """What this person may see of what they ask for, newest first."""
    found: QuerySet[Observation] = (
        Observation.objects.visible_to(user).select_related("survey", "contributor").order_by("-id")
    )
    if filters["mine"]:
        found = found.filter(contributor=user)
    if "survey" in filters:
        found = found.filter(survey=filters["survey"])
    if "observed_after" in filters:
        found = found.filter(observed_at__gte=filters["observed_after"])
    if "observed_before" in filters:
        found = found.filter(observed_at__lt=filters["observed_before"])
    if "status" in filters:
        found = found.filter(
            Exists(Photo.objects.filter(observation=OuterRef("pk"), status=filters["status"]))
        )
    if "label" in filters:
        found = _with_label(found, filters["label"])
    if "bbox" in filters:
        found = found.filter(_in_window(user, filters["bbox"]))
    if "cursor" in filters:
        found = found.filter(pk__lt=filters["cursor"])
    return found


def _with_label(found: QuerySet[Observation], code: str) -> QuerySet[Observation]:
    """Those with such an animal. For a frequent label the newest observations soon fill a page; a rare one would
    make PostgreSQL look at all of them (3.3 s at 300,000), so its few photos are looked up first (0.01 s).
    """
    labels = list(Label.objects.filter(code=code).values_list("pk", flat=True))
    boxes = Detection.objects.shown().filter(label__in=labels)
    photos = list(boxes.order_by("-photo").values_list("photo", flat=True).distinct()[: RARE_PHOTOS + 1])
    if len(photos) <= RARE_PHOTOS:
        found = found.filter(pk__in=Photo.objects.filter(pk__in=photos).values("observation"))
    shown = boxes.filter(photo__observation=OuterRef("pk"), model_version=F("photo__model_version"))
    return found.filter(Exists(shown))


def _in_window(user: Any, window: Any) -> Q:
    """By the place that this person may know: else small windows would find a blurred one."""
    exact, public = Q(location__coveredby=window), Q(public_location__coveredby=window)
    if user.is_staff:
        return exact
    return (Q(contributor=user) & exact) | (~Q(contributor=user) & public)


def observation_page(
    request: Request, found: QuerySet[Observation], *, limit: int
) -> tuple[list[dict[str, Any]], int | None]:
    """The bodies of one page, and the key after which the next begins (None on the last); 5 queries at most."""
    rows = list(found[: limit + 1])
    page_rows = rows[:limit]
    photos_by_observation: dict[int, list[Photo]] = defaultdict(list)
    for photo in _first_photos([row.pk for row in page_rows], limit=LIST_PHOTOS + 1):
        photos_by_observation[photo.observation_id].append(photo)
    kept = _within_budget(
        [
            sum(photo.detection_count or 0 for photo in photos_by_observation[row.pk][:LIST_PHOTOS])
            for row in page_rows
        ]
    )
    page_rows = page_rows[:kept]
    bodies = _observation_bodies(request, page_rows, photos_by_observation, shown=LIST_PHOTOS)
    has_more = len(rows) > len(page_rows)
    return bodies, page_rows[-1].pk if has_more else None


def single_observation(request: Request, observation: Observation) -> dict[str, Any]:
    photos = list(_photos_of(observation)[: MAX_PAGE + 1])
    shown = min(MAX_PAGE, _within_budget([photo.detection_count or 0 for photo in photos]))
    return _observation_bodies(request, [observation], {observation.pk: photos}, shown=shown)[0]


def photo_page(
    request: Request, observation: Observation, *, after: int, limit: int
) -> tuple[list[dict[str, Any]], int | None]:
    """Photos of an observation in the order they came."""
    rows = list(_photos_of(observation).filter(pk__gt=after)[: limit + 1])
    shown = rows[: min(limit, _within_budget([photo.detection_count or 0 for photo in rows]))]
    boxes, labels = _boxes(shown)
    links = Links(request)
    bodies = [
        photo_body(
            photo,
            observation=observation,
            boxes=boxes[photo.pk],
            labels=labels,
            user=request.user,
            links=links,
        )
        for photo in shown
    ]
    return bodies, shown[-1].pk if len(rows) > len(shown) else None


def progress_of(observation_ids: Sequence[int]) -> dict[int, dict[str, int]]:
    """How many photos of each observation are in each state."""
    progress: dict[int, dict[str, int]] = {
        pk: {status.value: 0 for status in WorkStatus} for pk in observation_ids
    }
    counts = (
        Photo.objects.filter(observation__in=observation_ids).order_by().values("observation_id", "status")
    )
    for row in counts.annotate(photos=Count("pk")):
        progress[row["observation_id"]][row["status"]] = row["photos"]
    return progress


def _observation_bodies(
    request: Request, observations: Sequence[Observation], photos: dict[int, list[Photo]], *, shown: int
) -> list[dict[str, Any]]:
    """`photos` may hold one more than `shown` of each, the sign that there are more."""
    links = Links(request)
    progress = progress_of([row.pk for row in observations])
    boxes, labels = _boxes([photo for row in observations for photo in photos.get(row.pk, [])[:shown]])
    bodies = []
    for row in observations:
        visible = photos.get(row.pk, [])[:shown]
        has_more = len(photos.get(row.pk, [])) > shown
        bodies.append(
            observation_body(
                row,
                user=request.user,
                progress=progress[row.pk],
                photos=[
                    photo_body(
                        photo,
                        observation=row,
                        boxes=boxes[photo.pk],
                        labels=labels,
                        user=request.user,
                        links=links,
                    )
                    for photo in visible
                ],
                next_photos=_photos_address(request, row, visible[-1].pk, links) if has_more else None,
                links=links,
            )
        )
    return bodies


def _photos_address(request: Request, observation: Observation, key: int, links: Links) -> str | None:
    return next_address(request, key, path=links.to("v1:observation-photos", observation.public_id))


def _within_budget(box_counts: Sequence[int]) -> int:
    """How many items from the start fit into `MAX_BOXES` together; at least one."""
    total = 0
    for index, count in enumerate(box_counts):
        total += count
        if total > MAX_BOXES and index:
            return index
    return len(box_counts)


def _photos_of(observation: Observation) -> QuerySet[Photo]:
    photos = Photo.objects.filter(observation=observation)
    return photos.select_related("model_version__registered_model").order_by("pk")


def _first_photos(observation_ids: Sequence[int], *, limit: int) -> QuerySet[Photo]:
    photos: QuerySet[Photo] = Photo.objects.filter(observation__in=observation_ids)
    return (
        photos.annotate(place_in_observation=Window(RowNumber(), partition_by="observation", order_by="pk"))
        .filter(place_in_observation__lte=limit)
        .select_related("model_version__registered_model")
        .order_by("pk")
    )


def _boxes(photos: Sequence[Photo]) -> tuple[dict[int, list[BoxRow]], dict[int, Label]]:
    """The boxes that each photo shows, by photo, in the order of their numbers, and their labels; 2 queries."""
    boxes: dict[int, list[BoxRow]] = defaultdict(list)
    rows = (
        Detection.objects.filter(photo__in=[photo.pk for photo in photos])
        .current()
        .values_list(
            "photo_id", "number", "label_id", "score", "class_scores", "x_min", "y_min", "x_max", "y_max"
        )
    )
    for row in rows:
        boxes[row[0]].append(BoxRow(*row))
    labels = Label.objects.in_bulk({box.label_id for of_photo in boxes.values() for box in of_photo})
    return boxes, labels

"""Sensitive places: what the public may know of where an animal was found.

The exact place is for the contributor and staff. Everyone else sees `public_location`, which is stored apart and
computed here only, so that pages, map, search and exports cannot disagree. A blurred place is the centre of a cell
of 0.2 degrees (about 22 km of latitude): the same for every observation in the cell, so neither repeating the
question nor averaging many observations brings the exact place closer. iNaturalist blurs to cells of this size.
"""

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from django.contrib.gis.geos import Point
from django.db import transaction

from apps.common.leased import WorkStatus
from apps.observations.models import Detection, Label, Observation, Photo, PlaceReview, Survey

CELL_DEGREES = 0.2
_CELLS_PER_DEGREE = 5  # an exact integer, where dividing by 0.2 would move points that lie on a cell's border
BATCH = 500


@dataclass(frozen=True, slots=True)
class Place:
    """A place as one viewer may know it."""

    location: Point | None
    name: str
    is_exact: bool


def blurred(location: Point) -> Point:
    """The centre of the location's cell; longitude and latitude in degrees, WGS 84."""

    def centre(degrees: float, limit: int) -> float:
        cell = min(math.floor(degrees * _CELLS_PER_DEGREE), limit * _CELLS_PER_DEGREE - 1)
        return round((cell + 0.5) / _CELLS_PER_DEGREE, 1)

    return Point(centre(location.x, 180), centre(location.y, 90), srid=4326)


def sensitive_label_ids(survey_ids: Iterable[int]) -> set[int]:
    """Labels marked sensitive, and everything below them: a species of a sensitive genus is sensitive."""
    children: dict[int | None, list[int]] = {}
    found: set[int] = set()
    labels = Label.objects.filter(survey__in=set(survey_ids))
    for pk, parent_id, is_sensitive in labels.values_list("pk", "parent_id", "is_sensitive"):
        children.setdefault(parent_id, []).append(pk)
        if is_sensitive:
            found.add(pk)
    waiting = list(found)
    while waiting:
        below = [pk for pk in children.get(waiting.pop(), ()) if pk not in found]
        found.update(below)
        waiting.extend(below)
    return found


def set_public_location(observation: Observation) -> None:
    """Set what the public sees on the instance; the caller saves it."""
    _apply(observation, is_hidden=observation.pk in _to_be_blurred([observation]))


def review_public_location(observation_ids: Collection[int]) -> int:
    """Compute the public place of these observations anew; gives how many changed.

    Called after detections were saved (a sensitive animal may have been found) and by the review of a whole survey.
    """
    changed = 0
    ordered = sorted(set(observation_ids))
    for start in range(0, len(ordered), BATCH):
        changed += _review_batch(ordered[start : start + BATCH])
    return changed


def reobscure(changed: Survey | Label) -> PlaceReview:
    """A survey's geoprivacy or a label's sensitivity changed: have all the survey's places reviewed in the background.

    The review is a row, so it survives lost messages and killed workers; asking again starts it over.
    """
    survey = changed if isinstance(changed, Survey) else changed.survey
    with transaction.atomic():
        # Locked, so that a batch of a review in progress is either before the new start or part of it.
        review, _created = PlaceReview.objects.select_for_update().get_or_create(survey=survey)
        PlaceReview.objects.filter(pk=review.pk).update(
            status=WorkStatus.PENDING,
            attempts=0,
            next_observation=0,
            reviewed=0,
            changed=0,
            lease_token=None,
            lease_until=None,
            failure_reason="",
            finished_at=None,
        )
    return PlaceReview.objects.get(pk=review.pk)


def continue_review(review: PlaceReview) -> bool:
    """Review the next batch of a claimed review; gives False when the survey is through.

    The batch and the position after it are written in one transaction, under the claim's token: a worker that died
    or lost its claim repeats or skips nothing.
    """
    if review.lease_token is None:
        return False
    with transaction.atomic():
        held = PlaceReview.objects.held(review.lease_token).select_for_update().filter(pk=review.pk).first()
        if held is None:
            return False
        ids = list(
            Observation.objects.filter(
                survey=held.survey_id, pk__gte=held.next_observation, location__isnull=False
            )
            .order_by("pk")
            .values_list("pk", flat=True)[:BATCH]
        )
        if not ids:
            held.finish()
            return False
        held.next_observation = ids[-1] + 1
        held.reviewed += len(ids)
        held.changed += _review_batch(ids)
        held.save(update_fields=["next_observation", "reviewed", "changed"])
        PlaceReview.objects.heartbeat(review.lease_token)
    return True


def is_exact_for(observation: Observation, user: Any) -> bool:
    """Whether this viewer may know the exact place: its contributor and staff."""
    return bool(user.is_authenticated and (user.is_staff or observation.contributor_id == user.pk))


def place_for(observation: Observation, user: Any) -> Place:
    """The place to show to this viewer. The contributor's words for a blurred place would give it away."""
    if not observation.is_obscured:
        return Place(observation.public_location, observation.place_name, is_exact=True)
    if is_exact_for(observation, user):
        return Place(observation.location, observation.place_name, is_exact=True)
    return Place(observation.public_location, "", is_exact=False)


def _review_batch(ids: list[int]) -> int:
    with transaction.atomic():
        observations = list(
            Observation.objects.select_for_update(of=("self",))
            .select_related("survey")
            .filter(pk__in=ids)
            .order_by("pk")
        )
        hidden = _to_be_blurred(observations)
        changed = [row for row in observations if _apply(row, is_hidden=row.pk in hidden)]
        Observation.objects.bulk_update(changed, ["public_location", "is_obscured"], batch_size=BATCH)
    return len(changed)


def _apply(observation: Observation, *, is_hidden: bool) -> bool:
    """Set the two fields; gives whether that changed anything."""
    location = observation.location
    public = blurred(location) if location and is_hidden else location
    before = (observation.public_location, observation.is_obscured)
    observation.public_location, observation.is_obscured = public, bool(location and is_hidden)
    return before != (observation.public_location, observation.is_obscured)


def _to_be_blurred(observations: Collection[Observation]) -> set[int | None]:
    """Primary keys of those whose place must not be public (None stands for the one not saved yet).

    In a survey with sensitive labels a place is also blurred as long as a photo waits for its detection: what was
    published exactly before the rare animal was found cannot be taken back. Shown boxes of all model versions count, so
    that a new version that misses the animal does not publish its place; weak ones do not, or noise would blur everything.
    """
    hidden: set[int | None] = {
        row.pk for row in observations if row.survey.geoprivacy == Survey.GeoPrivacy.OBSCURED
    }
    others = [row for row in observations if row.pk not in hidden]
    labels = Label.objects.filter(pk__in=sensitive_label_ids({row.survey_id for row in others}))
    sensitive = dict.fromkeys(labels.values_list("survey", flat=True))
    asked = [row for row in others if row.survey_id in sensitive]
    if not asked:
        return hidden
    ids = [row.pk for row in asked]  # a new one's None matches nothing
    found = Detection.objects.shown().filter(photo__observation__in=ids, label__in=labels)
    photos = Photo.objects.filter(observation__in=ids)
    settled = set(photos.values_list("observation", flat=True))
    settled -= set(photos.exclude(status=WorkStatus.DONE).values_list("observation", flat=True))
    settled -= set(found.values_list("photo__observation", flat=True))
    return hidden | {row.pk for row in asked if row.pk not in settled}

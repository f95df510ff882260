"""Observations: made, changed, and what their photos' files propose."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any

from django.contrib.gis.geos import Point
from django.db import transaction
from django.db.models import Count, Q

from apps.accounts.models import User
from apps.common.leased import WorkStatus
from apps.common.texts import clean_line, clean_text
from apps.observations.models import ArchiveUpload, Licence, Observation, Photo, Survey
from apps.observations.services.geoprivacy import set_public_location

_CHANGEABLE = frozenset(
    {
        "title",
        "observed_at",
        "location",
        "location_accuracy_m",
        "place_name",
        "comment",
        "licence",
        "visibility",
        "proposals_settled",
    }
)
_LINES = {"title": 160, "place_name": 160}
_TEXTS = {"comment": 4000}


@dataclass(frozen=True, slots=True)
class Proposals:
    """What the files of an observation state and its contributor did not."""

    observed_at: datetime | None
    location: Point | None

    def __bool__(self) -> bool:
        return self.observed_at is not None or self.location is not None


def clean_name(name: str) -> str:
    """A file's own name as a label: its last part, clean, at most 255 characters. Never used as a path."""
    last = PurePosixPath(name.replace("\\", "/").replace("\0", "")).name
    return clean_line(last)[:255] or "photo"


def _kept(name: str, value: Any) -> Any:
    """A field's value as it is stored: texts clean, and cut after that, because NFC can make them longer."""
    if name in _LINES:
        return clean_line(value)[: _LINES[name]]
    if name in _TEXTS:
        return clean_text(value)[: _TEXTS[name]]
    return value


@transaction.atomic
def create_observation(
    *,
    contributor: User,
    survey: Survey,
    title: str = "",
    observed_at: datetime | None = None,
    location: Point | None = None,
    location_accuracy_m: float | None = None,
    place_name: str = "",
    comment: str = "",
    licence: str = Licence.CC_BY,
    visibility: str = Observation.Visibility.PUBLIC,
    public_id: uuid.UUID | None = None,
) -> Observation:
    """A new observation without photos. `public_id` lets a client name it, so that a repeat can be told."""
    observation = Observation(
        contributor=contributor,
        survey=survey,
        title=_kept("title", title),
        observed_at=observed_at,
        location=location,
        location_accuracy_m=location_accuracy_m,
        place_name=_kept("place_name", place_name),
        comment=_kept("comment", comment),
        licence=licence,
        visibility=visibility,
        **({"public_id": public_id} if public_id else {}),
    )
    set_public_location(observation)
    observation.save(force_insert=True)
    return observation


@transaction.atomic
def update_observation(*, observation: Observation, **changes: Any) -> Observation:
    """Change what its contributor may change; the public place is computed anew."""
    if unknown := set(changes) - _CHANGEABLE:
        raise TypeError(f"not changeable: {', '.join(sorted(unknown))}")
    current = Observation.objects.select_for_update().select_related("survey").get(pk=observation.pk)
    for name, value in changes.items():
        setattr(current, name, _kept(name, value))
    set_public_location(current)
    current.save()
    return current


def proposals(observation: Observation) -> Proposals:
    """Date and place from the files, where the observation has none and nobody decided yet."""
    if observation.proposals_settled:
        return Proposals(None, None)
    observed_at = location = None
    if observation.observed_at is None:
        observed_at = (
            observation.photos.filter(proposed_at__isnull=False)
            .order_by("proposed_at")
            .values_list("proposed_at", flat=True)
            .first()
        )
    if observation.location is None:
        location = (
            observation.photos.filter(proposed_location__isnull=False)
            .order_by("id")
            .values_list("proposed_location", flat=True)
            .first()
        )
    return Proposals(observed_at, location)


def accept_proposals(*, observation: Observation) -> Observation:
    """Take over what the files state."""
    offered = proposals(observation)
    changes: dict[str, Any] = {"proposals_settled": True}
    if offered.observed_at is not None:
        changes["observed_at"] = offered.observed_at
    if offered.location is not None:
        changes["location"] = offered.location
    return update_observation(observation=observation, **changes)


def decline_proposals(*, observation: Observation) -> Observation:
    return update_observation(observation=observation, proposals_settled=True)


def observation_progress(observation: Observation) -> dict[str, int]:
    """How many photos are in which state, in one query each for photos and archives."""
    counts: dict[str, int] = Photo.objects.filter(observation=observation).aggregate(
        total=Count("pk"),
        waiting=Count("pk", filter=Q(status=WorkStatus.PENDING)),
        processing=Count("pk", filter=Q(status=WorkStatus.PROCESSING)),
        done=Count("pk", filter=Q(status=WorkStatus.DONE)),
        failed=Count("pk", filter=Q(status=WorkStatus.FAILED)),
    )
    counts["archives_pending"] = ArchiveUpload.objects.filter(
        observation=observation, status__in=(WorkStatus.PENDING, WorkStatus.PROCESSING)
    ).count()
    return counts

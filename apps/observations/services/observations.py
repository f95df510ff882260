"""Observations: made, changed, and what their photos' files propose."""

import unicodedata
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
_BIDI_CONTROLS = {*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F}


@dataclass(frozen=True, slots=True)
class Proposals:
    """What the files of an observation state and its contributor did not."""

    observed_at: datetime | None
    location: Point | None

    def __bool__(self) -> bool:
        return self.observed_at is not None or self.location is not None


def clean_text(text: str) -> str:
    """NFC, without control characters (line ends and tabs excepted) and without marks that turn text around."""
    normal = unicodedata.normalize("NFC", text.replace("\r\n", "\n"))
    return "".join(
        c
        for c in normal
        if (c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs")) and ord(c) not in _BIDI_CONTROLS
    ).strip()


def clean_name(name: str) -> str:
    """A file's own name as a label: its last part, clean, at most 255 characters. Never used as a path."""
    last = PurePosixPath(name.replace("\\", "/").replace("\0", "")).name
    one_line = " ".join(clean_text(last).split())
    return one_line[:255] or "photo"


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
        title=" ".join(clean_text(title).split())[:160],
        observed_at=observed_at,
        location=location,
        location_accuracy_m=location_accuracy_m,
        place_name=" ".join(clean_text(place_name).split())[:160],
        comment=clean_text(comment)[:4000],
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
        setattr(current, name, clean_text(value) if isinstance(value, str) else value)
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

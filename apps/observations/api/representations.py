"""Rows as the API shows them (the schema is in `outputs`); every coordinate passes through `geoprivacy`."""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from apps.common.leased import WorkStatus
from apps.observations.api.links import Links
from apps.observations.models import Label, Observation, Photo, Survey
from apps.observations.services.detection import failure_message
from apps.observations.services.geoprivacy import is_exact_for, place_for
from apps.training.models import ModelVersion

COORDINATE_DECIMALS = 6  # 0.1 m; more would only look exact


class BoxRow(NamedTuple):
    """One detection as the database gives it; pixels of the upright photo."""

    photo_id: int
    number: int
    label_id: int
    score: float
    class_scores: list[float]
    x_min: float
    y_min: float
    x_max: float
    y_max: float


def moment(value: datetime | None) -> str | None:
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z") if value else None


def observation_body(
    observation: Observation,
    *,
    user: Any,
    progress: Mapping[str, int],
    photos: list[dict[str, Any]],
    next_photos: str | None,
    links: Links,
) -> dict[str, Any]:
    place = place_for(observation, user)
    return {
        "id": str(observation.public_id),
        "survey": observation.survey.slug,
        "status": overall_status(progress),
        "title": observation.title,
        "comment": observation.comment,
        "contributor": str(observation.contributor),
        "is_mine": observation.contributor_id == user.pk,
        "observed_at": moment(observation.observed_at),
        "latitude": round(place.location.y, COORDINATE_DECIMALS) if place.location else None,
        "longitude": round(place.location.x, COORDINATE_DECIMALS) if place.location else None,
        "place_name": place.name,
        "is_place_exact": place.is_exact,
        "licence": observation.licence,
        "visibility": observation.visibility,
        "created_at": moment(observation.created_at),
        "updated_at": moment(observation.updated_at),
        "photo_count": sum(progress.values()),
        "progress": dict(progress),
        "photos": photos,
        "next_photos": next_photos,
        "links": links.observation(observation.public_id),
    }


def overall_status(progress: Mapping[str, int]) -> str:
    """Of photos together: at work, waiting, done, or, where not one came through, failed."""
    if progress[WorkStatus.PROCESSING]:
        return WorkStatus.PROCESSING
    if progress[WorkStatus.PENDING]:
        return WorkStatus.PROCESSING if progress[WorkStatus.DONE] else WorkStatus.PENDING
    return (
        WorkStatus.FAILED
        if progress[WorkStatus.FAILED] and not progress[WorkStatus.DONE]
        else WorkStatus.DONE
    )


def photo_body(
    photo: Photo,
    *,
    observation: Observation,
    boxes: Sequence[BoxRow],
    labels: Mapping[int, Label],
    user: Any,
    links: Links,
) -> dict[str, Any]:
    is_owner = is_exact_for(observation, user)
    version = photo.model_version
    return {
        "id": str(photo.public_id),
        "name": photo.name if is_owner else None,
        "status": photo.status,
        "failure_reason": failure_message(photo) or None,
        "width": photo.width_px,
        "height": photo.height_px,
        "model_version": str(version) if version else None,
        "detection_count": photo.detection_count,
        "detections": [detection_body(box, labels=labels, version=version) for box in boxes]
        if version
        else [],
        "links": links.photo(photo.public_id, observation=observation.public_id, is_owner=is_owner),
    }


def detection_body(box: BoxRow, *, labels: Mapping[int, Label], version: ModelVersion) -> dict[str, Any]:
    label = labels[box.label_id]
    return {
        "number": box.number,
        "label": {"code": label.code, "name": label.name},
        "confidence": box.score,
        "scores": dict(zip(version.labels, box.class_scores, strict=False)),
        "box": {
            "x": box.x_min,
            "y": box.y_min,
            "width": box.x_max - box.x_min,
            "height": box.y_max - box.y_min,
        },
        "model_version": str(version),
    }


def sent_photo_body(
    photo: Photo, *, index: int, name: str, is_duplicate: bool, observation: uuid.UUID, links: Links
) -> dict[str, Any]:
    return {
        "id": str(photo.public_id),
        "index": index,
        "name": name,
        "status": photo.status,
        "is_duplicate": is_duplicate,
        "observation": str(observation),
        "links": links.photo(photo.public_id, observation=observation, is_owner=True),
    }


def survey_body(survey: Survey, *, version: ModelVersion | None, links: Links) -> dict[str, Any]:
    return {
        "slug": survey.slug,
        "name": {"en": survey.name_en, "fr": survey.name_fr},
        "description": {"en": survey.description_en, "fr": survey.description_fr},
        "is_open": survey.is_open,
        "geoprivacy": survey.geoprivacy,
        "confidence_threshold": survey.confidence_threshold,
        "model_version": str(version) if version else None,
        "links": links.survey(survey.slug),
    }


def label_bodies(labels: Iterable[Label]) -> list[dict[str, Any]]:
    return [
        {
            "survey": label.survey.slug,
            "code": label.code,
            "name": label.name,
            "scientific_name": label.scientific_name,
            "vernacular_name": {"en": label.vernacular_en, "fr": label.vernacular_fr},
            "rank": label.rank,
            "parent": label.parent.code if label.parent else None,
            "gbif_key": label.gbif_key,
            "colour": label.colour,
            "is_active": label.is_active,
        }
        for label in labels
    ]

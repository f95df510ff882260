"""A survey's finds as a Darwin Core Archive, with what the public may know of their places and nothing more.

One record stands for one label on one photo; its occurrenceID is made of the two, so it stays when an answer is corrected
and the photo is published anew. The boxes are counted as individuals. Photos without a date, which portals require, private
ones and those hidden by a curator are left out; so is who the expert was.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any, BinaryIO, Final

from django.conf import settings
from django.db.models import Count, F, Max, Q
from django.utils.encoding import force_str

from apps.annotation.models import AnnotatedBox, Annotation, AnnotationTask
from apps.observations.models import Detection, Label, Observation, Photo, Survey
from apps.observations.services.geoprivacy import CELL_DEGREES
from apps.training.formats.credits import LICENCE_URLS
from apps.training.formats.darwin_core import Occurrence, Source, Written, write

_METRES_PER_DEGREE: Final = 111_320
_AT_ONCE: Final = 500
_VERIFIED: Final = {
    Annotation.Origin.EXPERT: "verified by an expert",
    Annotation.Origin.CONSENSUS: "verified by several experts",
    Annotation.Origin.CURATOR: "verified by a curator",
    Annotation.Origin.BULK: "verified by an expert",
    Annotation.Origin.IMPORT: "verified before import",
}
_UNVERIFIED: Final = "unverified (machine prediction)"


@dataclass(frozen=True, slots=True)
class _Find:
    """A label on a photo, by experts or by a model."""

    photo_id: int
    label_id: int
    count: int
    origin: str = ""
    identified_at: datetime | None = None
    model: str = ""
    score: float | None = None


def write_occurrences(survey: Survey, target: BinaryIO, *, with_predictions: bool = False) -> Written:
    """Write the archive; gives what is in it. Predictions are those shown on photos that no accepted answer has."""
    description = survey.description_en or survey.name_en
    source = Source(
        title=f"{survey.name_en}: occurrences from {settings.SITE_NAME}",
        abstract=description,
        organisation=settings.SITE_NAME,
        address=settings.SITE_URL,
        email=settings.DEFAULT_FROM_EMAIL.rpartition("<")[2].rstrip(">"),
        package_id=f"{settings.SITE_URL}/surveys/{survey.slug}",
    )
    return write(_occurrences(survey, with_predictions=with_predictions), source, target)


def _occurrences(survey: Survey, *, with_predictions: bool) -> Iterator[Occurrence]:
    labels = {label.pk: label for label in Label.objects.filter(survey=survey)}
    finds = _answered(survey)
    yield from _in_batches(finds, labels, survey)
    if with_predictions:
        yield from _in_batches(_predicted(survey), labels, survey)


def _public(photo: str) -> Q:
    """Photos that everybody may see, with a date."""
    return Q(
        **{
            f"{photo}observation__visibility": Observation.Visibility.PUBLIC,
            f"{photo}observation__observed_at__isnull": False,
        }
    )


def _answered(survey: Survey) -> Iterator[_Find]:
    task = "annotation__accepted_for__"
    rows = (
        AnnotatedBox.objects.filter(
            _public(f"{task}photo__"),
            **{f"{task}survey": survey, f"{task}state": AnnotationTask.State.DONE},
        )
        .values_list(
            f"{task}photo",
            "label",
            "annotation__origin",
            f"{task}accepted_at",
        )
        .annotate(count=Count("pk"))
        .order_by(f"{task}photo", "label")
    )
    for photo, label, origin, at, count in rows.iterator(chunk_size=2_000):
        yield _Find(photo, label, count, origin=origin, identified_at=at)


def _predicted(survey: Survey) -> Iterator[_Find]:
    rows = (
        Detection.objects.filter(
            _public("photo__"),
            Q(photo__annotation_task=None) | ~Q(photo__annotation_task__state=AnnotationTask.State.DONE),
            photo__survey=survey,
            model_version=F("photo__model_version"),
            is_weak=False,
        )
        .values_list(
            "photo",
            "label",
            "model_version__registered_model__name",
            "model_version__number",
            "photo__finished_at",
        )
        .annotate(count=Count("pk"), score=Max("score"))
        .order_by("photo", "label")
    )
    for photo, label, model, number, at, count, score in rows.iterator(chunk_size=2_000):
        yield _Find(photo, label, count, model=f"{model} v{number}", score=score, identified_at=at)


def _in_batches(finds: Iterator[_Find], labels: dict[int, Label], survey: Survey) -> Iterator[Occurrence]:
    while batch := list(islice(finds, _AT_ONCE)):
        photos = Photo.objects.select_related("observation__contributor").in_bulk(
            {find.photo_id for find in batch}
        )
        for find in batch:
            photo = photos.get(find.photo_id)
            # Hidden or deleted since the query began.
            if photo and photo.observation.visibility == Observation.Visibility.PUBLIC:
                yield _occurrence(find, photo, labels[find.label_id], survey)


def _occurrence(find: _Find, photo: Photo, label: Label, survey: Survey) -> Occurrence:
    observation = photo.observation
    person = force_str(observation.contributor)
    page = f"{settings.SITE_URL}/photos/{photo.public_id}/"
    licence = LICENCE_URLS[observation.licence]
    terms = {
        "occurrenceID": f"urn:podura:{photo.public_id}:{label.code}",
        "type": "StillImage",
        "modified": _moment(find.identified_at),
        "language": "en",
        "license": licence,
        "rightsHolder": person,
        "references": page,
        "institutionCode": settings.SITE_NAME,
        "collectionCode": survey.slug,
        "datasetName": survey.name_en,
        "recordedBy": person,
        "individualCount": find.count,
        "occurrenceStatus": "present",
        "eventID": str(observation.public_id),
        "eventDate": _moment(observation.observed_at),
        "scientificName": label.scientific_name or label.vernacular_en or label.code,
        "verbatimIdentification": label.code,
        "taxonID": f"https://www.gbif.org/species/{label.gbif_key}" if label.gbif_key else None,
        "kingdom": "Animalia" if label.gbif_key else None,
        "taxonRank": None if label.rank == Label.Rank.OTHER else label.rank,
        "vernacularName": label.vernacular_en,
    }
    picture = {
        "type": "StillImage",
        "format": "image/jpeg",
        "identifier": f"{page}display.jpg",
        "references": page,
        "created": _moment(observation.observed_at),
        "creator": person,
        "license": licence,
        "rightsHolder": person,
    }
    return Occurrence(terms | _place(observation) | _identification(find), (picture,), observation.licence)


def _identification(find: _Find) -> dict[str, Any]:
    if not find.model:
        return {
            "basisOfRecord": "HumanObservation",
            "dateIdentified": _moment(find.identified_at),
            "identificationVerificationStatus": _VERIFIED[Annotation.Origin(find.origin)],
        }
    return {
        "basisOfRecord": "MachineObservation",
        "identifiedBy": find.model,
        "dateIdentified": _moment(find.identified_at),
        "identificationVerificationStatus": _UNVERIFIED,
        "identificationRemarks": f"highest confidence {find.score:.2f} (uncalibrated)",
    }


def _place(observation: Observation) -> dict[str, Any]:
    """From the public place only; the exact one is not looked at."""
    point = observation.public_location
    if point is None:
        return {}
    found = {
        "decimalLatitude": round(point.y, 6),
        "decimalLongitude": round(point.x, 6),
        "geodeticDatum": "WGS84",
    }
    if not observation.is_obscured:
        return found | {
            "locality": observation.place_name,
            "coordinateUncertaintyInMeters": observation.location_accuracy_m or None,
        }
    return found | {
        "coordinateUncertaintyInMeters": _cell_radius_m(point.y),
        "dataGeneralizations": f"Place generalised to the centre of a cell of {CELL_DEGREES} degrees",
        "informationWithheld": "The exact place is withheld",
    }


def _cell_radius_m(latitude: float) -> int:
    """From the centre of a cell to its farthest corner, which is one of those nearer to the equator."""
    half = CELL_DEGREES / 2
    nearest = max(0.0, abs(latitude) - half)
    metres = half * _METRES_PER_DEGREE
    return math.ceil(math.hypot(metres, metres * math.cos(math.radians(nearest))))


def _moment(value: datetime | None) -> str | None:
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if value else None

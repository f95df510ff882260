"""What the model found on a batch of photos, written in one transaction."""

import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any
from uuid import UUID

import numpy as np
import structlog
from django.db import connection, transaction

from apps.common.leased import WorkStatus
from apps.observations.models import Detection, Label, Observation, Photo, Survey
from apps.observations.numbering import kept_numbers, reading_order
from apps.observations.services.geoprivacy import review_public_location
from apps.observations.signals import photos_detected, tell_on_commit
from apps.training.engine.label_codes import label_code
from apps.training.engine.types import DetectedBoxes
from apps.training.models import ModelVersion

logger = structlog.get_logger(__name__)

Outcome = DetectedBoxes | str
"""The boxes on a photo, or the code of the reason why there are none."""

_MAX_SIDE_PX = 30_000
_CORNERS = ("x_min", "y_min", "x_max", "y_max")
_MAX_WEAK_BOXES = 3_000
"""The best of so many are kept of a photo: a picture of noise must not fill the table."""

# Written by hand, one statement a batch and table: bulk_create and bulk_update took 5 ms a photo, a fifth of what the
# model itself takes; these take less than one.
_UPSERT_BOXES = """
INSERT INTO observations_detection AS box
    (model_version_id, photo_id, number, label_id, score, is_weak, class_scores, x_min, y_min, x_max, y_max)
SELECT %s, photo_id, number, label_id, score, is_weak, class_scores::float8[], x_min, y_min, x_max, y_max
FROM unnest(%s::bigint[], %s::int[], %s::bigint[], %s::float8[], %s::bool[], %s::text[], %s::float8[], %s::float8[],
    %s::float8[], %s::float8[])
    AS found (photo_id, number, label_id, score, is_weak, class_scores, x_min, y_min, x_max, y_max)
ON CONFLICT (photo_id, model_version_id, number) DO UPDATE SET
    label_id = excluded.label_id, score = excluded.score, is_weak = excluded.is_weak,
    class_scores = excluded.class_scores,
    x_min = excluded.x_min, y_min = excluded.y_min, x_max = excluded.x_max, y_max = excluded.y_max
"""
_EARLIER_BOXES = """
SELECT photo_id, id, number, label_id, x_min, y_min, x_max, y_max FROM observations_detection
WHERE photo_id = ANY(%s) AND model_version_id = %s
"""
_SETTLE = """
UPDATE observations_photo AS photo SET
    status = outcome.status, failure_reason = outcome.reason, finished_at = statement_timestamp(),
    lease_token = NULL, lease_until = NULL,
    model_version_id = coalesce(outcome.version, photo.model_version_id),
    detection_count = CASE WHEN outcome.version IS NULL THEN photo.detection_count ELSE outcome.boxes END,
    best_score = CASE WHEN outcome.version IS NULL THEN photo.best_score ELSE outcome.best END,
    detection_ms = CASE WHEN outcome.version IS NULL THEN photo.detection_ms ELSE outcome.ms END
FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::bigint[], %s::int[], %s::float8[], %s::float8[])
    AS outcome (id, status, reason, version, boxes, best, ms)
WHERE photo.id = outcome.id
"""


def save_outcomes(
    *, token: UUID, survey: Survey, version: ModelVersion, outcomes: Mapping[int, Outcome]
) -> list[int]:
    """Write the outcomes (by photo id) of the claim with this token; gives the ids of the photos written.

    Photos that the claim no longer holds (deleted, or held by another worker since) are left alone. A box keeps its row
    and its number from one run of a version to the next, and with them the remarks on it and what experts said of it.
    """
    with transaction.atomic():
        _lock_places(outcomes)
        held = list(
            Photo.objects.held(token).filter(pk__in=outcomes).select_for_update(of=("self",)).order_by("pk")
        )
        found = {photo: outcome for photo in held if isinstance(outcome := outcomes[photo.pk], DetectedBoxes)}
        labels = _labels(survey, version) if found else []
        boxes = {
            photo: detections(photo, version, labels, result, shown_from=survey.confidence_threshold)
            for photo, result in found.items()
        }
        if boxes:
            _replace_boxes(version, boxes)
        _settle(version, held, outcomes, boxes)
        placed = [photo.observation_id for photo in held]
        review_public_location(
            Observation.objects.filter(pk__in=placed, location__isnull=False).values_list("pk", flat=True)
        )
        if found:
            news = [photo.pk for photo in found]
            tell_on_commit(photos_detected, sender=Photo, photo_ids=news, model_version=version)
    if lost := len(outcomes) - len(held):
        logger.warning("results_dropped", photos=lost, reason="no longer held by this claim")
    return [photo.pk for photo in held]


def detections(
    photo: Photo, version: ModelVersion, labels: list[Label], result: DetectedBoxes, *, shown_from: float
) -> list[Detection]:
    """Unsaved rows: those with at least the score `shown_from` in reading order, then the weak ones in theirs.

    A box without area inside the photo is left out.
    """
    limits = np.array([result.width_px, result.height_px] * 2, np.float64).clip(0, _MAX_SIDE_PX)
    boxes = np.minimum(result.boxes_xyxy_px.astype(np.float64).clip(0), limits)
    scores = result.class_scores.astype(np.float64).clip(0, 1)
    is_sound = (
        np.isfinite(boxes).all(axis=1)
        & np.isfinite(scores).all(axis=1)
        & (boxes[:, 2] > boxes[:, 0])
        & (boxes[:, 3] > boxes[:, 1])
    )
    best = scores.max(axis=1, initial=0.0)
    shown = np.flatnonzero(is_sound & (best >= shown_from))
    weak = np.flatnonzero(is_sound & (best < shown_from))
    weak = weak[np.argsort(-best[weak], kind="stable")[:_MAX_WEAK_BOXES]]
    order = np.concatenate([kept[reading_order(boxes[kept])] for kept in (shown, weak)])
    return [
        Detection(
            photo=photo,
            model_version=version,
            number=number,
            label=labels[int(result.labels[index])],
            score=float(best[index]),
            is_weak=number > len(shown),
            class_scores=scores[index].tolist(),
            **dict(zip(_CORNERS, boxes[index].tolist(), strict=True)),
        )
        for number, index in enumerate(order, start=1)
    ]


def labels_of(survey: Survey, codes: Collection[str]) -> list[Label]:
    """The survey's labels for the model's label list, in its order; one the survey lacks is made."""
    slugs = [label_code(code) for code in codes]
    known = {label.code: label for label in Label.objects.filter(survey=survey, code__in=slugs)}
    for code, slug in zip(codes, slugs, strict=True):
        if slug not in known:
            known[slug] = Label.objects.get_or_create(
                survey=survey,
                code=slug,
                defaults={"scientific_name": "" if slug == code else code[:160], "rank": Label.Rank.OTHER},
            )[0]
    return [known[slug] for slug in slugs]


def _labels(survey: Survey, version: ModelVersion) -> list[Label]:
    return labels_of(survey, version.labels)


def _lock_places(photo_ids: Iterable[int]) -> None:
    """Lock the observations whose public place may change before their photos, in the order deletion locks them."""
    placed = Observation.objects.filter(photos__in=list(photo_ids), location__isnull=False)
    ids = sorted(set(placed.values_list("pk", flat=True)))
    if ids:
        list(Observation.objects.select_for_update().filter(pk__in=ids).order_by("pk").values_list("pk"))


def _replace_boxes(version: ModelVersion, boxes: Mapping[Photo, list[Detection]]) -> None:
    rows = [row for photo_rows in boxes.values() for row in photo_rows]
    with connection.cursor() as cursor:
        cursor.execute(_EARLIER_BOXES, [[photo.pk for photo in boxes], version.pk])
        surplus = _keep_numbers(boxes, cursor.fetchall())
        if rows:
            columns: list[list[Any]] = [
                [row.photo_id for row in rows],
                [row.number for row in rows],
                [row.label_id for row in rows],
                [row.score for row in rows],
                [row.is_weak for row in rows],
                ["{" + ",".join(map(repr, row.class_scores)) + "}" for row in rows],
                *([getattr(row, name) for row in rows] for name in _CORNERS),
            ]
            cursor.execute(_UPSERT_BOXES, [version.pk, *columns])
    if surplus:
        Detection.objects.filter(pk__in=surplus).delete()  # lets go of the remarks on them


def _keep_numbers(boxes: Mapping[Photo, list[Detection]], earlier: list[tuple[Any, ...]]) -> list[int]:
    """Give boxes that were there before their numbers back; gives the rows of those that are no longer there."""
    by_photo: dict[int, list[tuple[Any, ...]]] = {}
    for photo_id, *values in earlier:
        by_photo.setdefault(photo_id, []).append(tuple(values))
    surplus: list[int] = []
    for photo, rows in boxes.items():
        before = by_photo.get(photo.pk)
        if not before:
            continue
        numbers = kept_numbers(
            np.array([[getattr(row, name) for name in _CORNERS] for row in rows], np.float64).reshape(-1, 4),
            np.array([row.label_id for row in rows], np.int64),
            np.array([values[3:] for values in before], np.float64),
            np.array([values[2] for values in before], np.int64),
            np.array([values[1] for values in before], np.int64),
        )
        for row, number in zip(rows, numbers, strict=True):
            row.number = number
        kept = set(numbers)
        surplus += [pk for pk, number, *_rest in before if number not in kept]
    return surplus


def _settle(
    version: ModelVersion,
    held: Iterable[Photo],
    outcomes: Mapping[int, Outcome],
    boxes: Mapping[Photo, list[Detection]],
) -> None:
    """End the attempts; a failed one leaves an earlier result shown."""
    rows: list[tuple[Any, ...]] = []
    for photo in held:
        outcome = outcomes[photo.pk]
        if isinstance(outcome, str):
            rows.append((photo.pk, WorkStatus.FAILED.value, outcome, None, None, None, None))
            continue
        found = [box for box in boxes[photo] if not box.is_weak]
        duration_ms = outcome.duration_ms if math.isfinite(outcome.duration_ms) else None
        best = max((box.score for box in found), default=None)
        rows.append((photo.pk, WorkStatus.DONE.value, "", version.pk, len(found), best, duration_ms))
    if rows:
        with connection.cursor() as cursor:
            cursor.execute(_SETTLE, [list(column) for column in zip(*rows, strict=True)])

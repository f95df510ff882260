"""Identify a photo at once and keep nothing of it.

The web process never runs the model: the bytes wait under a short-lived key in Redis for an inference worker, which
answers into a list that the asking process waits on. Workers look here between two batches of stored photos, so a full
queue delays an answer by one batch.
"""

import io
import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import redis
import structlog
from django.conf import settings

from apps.common.heartbeat import broker, workers
from apps.common.tasks import send
from apps.observations.models import Photo, Survey
from apps.observations.services.detection_results import detections, labels_of
from apps.observations.services.intake import RefusedPictureError, picture_limits, prepare
from apps.training.engine.pictures import PictureError
from apps.training.engine.types import DetectedBoxes
from apps.training.inference import ModelUnavailableError, production_detector
from apps.training.models import ModelVersion

logger = structlog.get_logger(__name__)

RETRY_SOON_S = 2.0
RETRY_LATER_S = 30.0

# KEYS: in flight. ARGV: now, until, most at once, id. One script, so that two askers cannot both take the last place.
_ENTER = """
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[1])
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[3]) then return 0 end
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[4])
return 1
"""


class IdentifyBusyError(Exception):
    """No answer now; worth asking again after `retry_after_s`."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"retry after {retry_after_s:g} s")
        self.retry_after_s = retry_after_s


def identify(data: bytes, *, survey: Survey) -> dict[str, Any]:
    """The animals on an encoded picture: `width`, `height`, `model_version` and `detections` as the API lists them.

    Raises `RefusedPictureError` as intake does, and `IdentifyBusyError` when too many ask, no worker answers in time,
    Redis is away or the survey has no model that can be used.
    """
    prepare(io.BytesIO(data), size_bytes=len(data))
    try:
        if not any(sign.is_alive and "inference" in sign.queues for sign in workers()):
            raise IdentifyBusyError(RETRY_LATER_S)
        with _place() as key:
            answer = _ask(key, data, survey)
    except (redis.RedisError, OSError) as error:
        logger.warning("identify_without_redis", error=type(error).__name__)
        raise IdentifyBusyError(RETRY_LATER_S) from error
    if answer is None:
        raise IdentifyBusyError(RETRY_SOON_S)
    match json.loads(answer):
        case {"refused": code, "params": params}:
            raise RefusedPictureError(code, params)
        case {"unavailable": _}:
            raise IdentifyBusyError(RETRY_LATER_S)
        case found:
            result: dict[str, Any] = found
            return result


def serve_identifications() -> int:
    """Answer what is asked at this moment; gives how many. Called by inference workers."""
    served = 0
    try:
        while key := cast(bytes | None, broker().lpop(_name("waiting"))):
            served += _serve(key.decode())
    except redis.RedisError as error:
        logger.warning("identify_without_redis", error=type(error).__name__)
    return served


def _ask(key: str, data: bytes, survey: Survey) -> bytes | None:
    from apps.observations.tasks import identify_waiting  # tasks call services

    seconds = settings.IDENTIFY_TIMEOUT_SECONDS
    with broker().pipeline() as pipeline:
        pipeline.set(_name(f"{key}:data"), data, ex=seconds)
        pipeline.set(_name(f"{key}:survey"), survey.pk, ex=seconds)
        pipeline.rpush(_name("waiting"), key)
        pipeline.execute()
    send(identify_waiting)
    try:
        with redis.Redis.from_url(
            settings.REDIS_URL, socket_connect_timeout=1, socket_timeout=seconds + 5
        ) as waiting:
            popped: Any = waiting.blpop([_name(f"{key}:answer")], timeout=seconds)
    finally:
        broker().delete(_name(f"{key}:data"), _name(f"{key}:survey"), _name(f"{key}:answer"))
    return popped[1] if popped else None


@contextmanager
def _place() -> Iterator[str]:
    """One of the few places of those in flight; raises `IdentifyBusyError` when all are taken."""
    client, key = broker(), uuid.uuid4().hex
    now = time.time()
    until = now + settings.IDENTIFY_TIMEOUT_SECONDS + 5
    places = _name("in-flight")
    if not client.eval(_ENTER, 1, places, str(now), str(until), str(settings.IDENTIFY_MAX_WAITING), key):
        raise IdentifyBusyError(RETRY_SOON_S)
    try:
        yield key
    finally:
        client.zrem(places, key)


def _serve(key: str) -> int:
    found = broker().mget(_name(f"{key}:data"), _name(f"{key}:survey"))
    data, survey_id = cast(list[bytes | None], found)
    if data is None or survey_id is None:
        return 0  # whoever asked has given up
    try:
        answer = _answer(data, int(survey_id))
    except Exception:
        logger.exception("identify_failed")
        answer = {"unavailable": True}
    with broker().pipeline() as pipeline:
        pipeline.rpush(_name(f"{key}:answer"), json.dumps(answer))
        pipeline.expire(_name(f"{key}:answer"), settings.IDENTIFY_TIMEOUT_SECONDS)
        pipeline.execute()
    return 1


def _answer(data: bytes, survey_id: int) -> dict[str, Any]:
    survey = Survey.objects.get(pk=survey_id)
    try:
        found = production_detector(survey.registered_model_id) if survey.registered_model_id else None
    except ModelUnavailableError:
        found = None
    if found is None:
        return {"unavailable": True}
    version, detector = found
    (result,) = detector.detect_encoded(
        [data],
        confidence=survey.kept_threshold,  # as for stored photos, so that the same photo gets the same answer
        object_size_px=survey.object_size_px,
        limits=picture_limits(),
    )
    if isinstance(result, PictureError):
        return {"refused": result.code, "params": result.params}
    return _as_listed(result, survey, version)


def _as_listed(result: DetectedBoxes, survey: Survey, version: ModelVersion) -> dict[str, Any]:
    rows = detections(
        Photo(), version, labels_of(survey, version.labels), result, shown_from=survey.confidence_threshold
    )
    return {
        "width": result.width_px,
        "height": result.height_px,
        "model_version": str(version),
        "detections": [
            {
                "number": row.number,
                "label": {"code": row.label.code, "name": row.label.name},
                "confidence": row.score,
                "scores": dict(zip(version.labels, row.class_scores, strict=True)),
                "box": {"x": row.x_min, "y": row.y_min, "width": row.width_px, "height": row.height_px},
                "model_version": str(version),
            }
            for row in rows
            if not row.is_weak
        ],
    }


def _name(key: str) -> str:
    return f"{settings.CELERY_BROKER_TRANSPORT_OPTIONS['global_keyprefix']}identify:{key}"

"""Downloads of results, at the confidence the viewer chose (`?confidence=0.5`)."""

import json
import math
import uuid
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.views.decorators.http import require_safe

from apps.common.leased import WorkStatus
from apps.observations.models import Observation, Photo
from apps.observations.results import named_boxes
from apps.observations.services import exports
from apps.observations.views.throttled import throttled
from apps.observations.views.visible import visible_observation, visible_photo

Response = TypeVar("Response", bound=HttpResponseBase)


def chosen_confidence(request: HttpRequest) -> float:
    """`?confidence=` as a share; anything that is not one counts as none."""
    try:
        value = float(request.GET.get("confidence", "0"))
    except ValueError:
        return 0.0
    return min(max(value, 0.0), 1.0) if math.isfinite(value) else 0.0


@require_safe
def photo_picture(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    photo = visible_photo(request, public_id)
    confidence = chosen_confidence(request)
    boxes = [box for box in named_boxes(photo) if box.score >= confidence]
    try:
        content = exports.annotated_picture(photo, boxes)
    except OSError as error:
        raise Http404 from error
    response = HttpResponse(content, content_type="image/jpeg")
    return _attached(response, f"podura-{str(public_id)[:8]}.jpg")


@require_safe
def photo_json(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    photo = visible_photo(request, public_id)
    observation = photo.observation
    bodies = exports.photo_bodies(
        observation, [photo], user=request.user, confidence=chosen_confidence(request)
    )
    body = exports.observation_header(observation, user=request.user) | next(bodies)
    response = HttpResponse(json.dumps(body, ensure_ascii=False, indent=1), content_type="application/json")
    return _attached(response, f"podura-{str(public_id)[:8]}.json")


@require_safe
def photo_csv(request: HttpRequest, public_id: uuid.UUID) -> HttpResponseBase:
    photo = visible_photo(request, public_id)
    lines = exports.csv_lines(
        photo.observation, [[photo]], user=request.user, confidence=chosen_confidence(request)
    )
    return _csv(request, lines, f"podura-{str(public_id)[:8]}.csv")


@require_safe
def observation_json(request: HttpRequest, public_id: uuid.UUID) -> HttpResponseBase:
    observation = visible_observation(request, public_id)
    return _attached(
        StreamingHttpResponse(_json_parts(request, observation), content_type="application/json"),
        f"podura-{str(public_id)[:8]}.json",
    )


@require_safe
def observation_csv(request: HttpRequest, public_id: uuid.UUID) -> HttpResponseBase:
    observation = visible_observation(request, public_id)
    lines = exports.csv_lines(
        observation, _batches(observation), user=request.user, confidence=chosen_confidence(request)
    )
    return _csv(request, lines, f"podura-{str(public_id)[:8]}.csv")


@require_safe
@throttled("export")
def observation_zip(request: HttpRequest, public_id: uuid.UUID) -> HttpResponseBase:
    observation = visible_observation(request, public_id)
    pictures = exports.zip_of_annotated_pictures(
        observation,
        (photo for batch in _batches(observation) for photo in batch if photo.status == WorkStatus.DONE),
        user=request.user,
        confidence=chosen_confidence(request),
    )
    return _attached(
        StreamingHttpResponse(pictures, content_type="application/zip"), f"podura-{str(public_id)[:8]}.zip"
    )


def _batches(observation: Observation) -> Iterator[tuple[Photo, ...]]:
    photos = observation.photos.select_related("model_version__registered_model").order_by("pk")
    rows = photos.iterator(chunk_size=exports.BATCH)
    return iter(lambda: tuple(islice(rows, exports.BATCH)), ())


def _json_parts(request: HttpRequest, observation: Observation) -> Iterator[str]:
    """One JSON object, written photo by photo."""
    header = json.dumps(
        exports.observation_header(observation, user=request.user), ensure_ascii=False, indent=1
    )
    yield header.removesuffix("\n}") + ',\n "photos": ['
    separator = "\n"
    confidence = chosen_confidence(request)
    for batch in _batches(observation):
        for body in exports.photo_bodies(observation, batch, user=request.user, confidence=confidence):
            yield separator + json.dumps(body, ensure_ascii=False)
            separator = ",\n"
    yield "\n]}\n"


def _csv(request: HttpRequest, lines: Iterable[str], name: str) -> HttpResponseBase:
    """UTF-8; with `?bom=1` marked as such, which Excel needs and parsers do not."""

    def parts() -> Iterator[str]:
        if request.GET.get("bom") == "1":
            yield "\N{BYTE ORDER MARK}"
        yield from lines

    return _attached(StreamingHttpResponse(parts(), content_type="text/csv; charset=utf-8"), name)


def _attached(response: Response, name: str) -> Response:
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    response["X-Content-Type-Options"] = "nosniff"
    response["Cache-Control"] = "private, no-store"
    return response

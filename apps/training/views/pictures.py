"""Photos of frozen datasets and pieces of them, for experts and staff."""

import uuid

from django.http import Http404, HttpRequest, HttpResponse
from django.utils.cache import patch_cache_control
from django.views.decorators.http import require_safe

from apps.training.cuts import CutError, Window, cut_jpeg
from apps.training.models import DatasetItem
from apps.training.views.access import experts_only

_MAX_AGE_S = 3_600


@experts_only
@require_safe
def picture(_request: HttpRequest, photo: uuid.UUID) -> HttpResponse:
    return _jpeg(photo, None)


@experts_only
@require_safe
def crop(_request: HttpRequest, photo: uuid.UUID, window: str) -> HttpResponse:
    asked = Window.named(window)
    if asked is None:
        raise Http404
    return _jpeg(photo, asked)


def _jpeg(photo: uuid.UUID, window: Window | None) -> HttpResponse:
    """What was withdrawn is not shown, though the dataset remembers that it was there."""
    item = DatasetItem.objects.filter(photo=photo).order_by("-pk").first()
    if item is None or item.is_withdrawn:
        raise Http404
    if window and (window.right > item.width_px or window.bottom > item.height_px):
        raise Http404
    try:
        content = cut_jpeg(item, window)
    except CutError as error:
        raise Http404 from error
    response = HttpResponse(content, content_type="image/jpeg")
    patch_cache_control(response, private=True, max_age=_MAX_AGE_S)
    return response

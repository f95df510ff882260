"""Pictures by the id of their photo, through the permission check; never by a path that somebody names."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.core.files import File
from django.core.files.storage import Storage, storages
from django.db.models.fields.files import FieldFile
from django.http import (
    FileResponse,
    Http404,
    HttpRequest,
    HttpResponseBase,
    HttpResponseRedirect,
)
from django.utils.cache import patch_cache_control
from django.utils.http import content_disposition_header
from django.views.decorators.http import condition, require_safe

from apps.common.leased import WorkStatus
from apps.observations.models import Photo
from apps.observations.pyramid import levels_of
from apps.observations.services.tiles import tile_name
from apps.observations.views.visible import require_owner_or_staff, visible_photo

RENDITION_MAX_AGE_S = 3600


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file that has no field of a row of its own."""

    storage: Storage
    name: str

    def open(self, mode: str) -> File[Any]:
        return self.storage.open(self.name, mode)


SIGNED_MAX_AGE_S = 240  # less than the signed address lives (300 s)


@require_safe
def thumbnail(request: HttpRequest, public_id: uuid.UUID) -> HttpResponseBase:
    return _rendition(request, visible_photo(request, public_id), "thumbnail")


@require_safe
def display(request: HttpRequest, public_id: uuid.UUID) -> HttpResponseBase:
    return _rendition(request, visible_photo(request, public_id), "display")


@require_safe
def tile(request: HttpRequest, public_id: uuid.UUID, level: int, column: int, row: int) -> HttpResponseBase:
    """One query for each: a viewer asks for dozens at a time."""
    photo = (
        Photo.objects.visible_to(request.user)
        .filter(public_id=public_id, tile_pyramid__status=WorkStatus.DONE)
        .values_list("width_px", "height_px", "tile_pyramid__folder")
        .first()
    )
    if photo is None:
        raise Http404
    width_px, height_px, folder = photo
    levels = levels_of(width_px, height_px)
    if level >= len(levels) or column >= levels[level].columns or row >= levels[level].rows:
        raise Http404
    file = StoredFile(storages["renditions"], tile_name(folder, level, column, row))
    return _unchanging(request, file, etag=f'"{folder}-{level}-{column}-{row}"')


@require_safe
def original(request: HttpRequest, public_id: uuid.UUID) -> HttpResponseBase:
    """The file as it was sent, for its owner and staff: always a download, never a page."""
    photo = visible_photo(request, public_id)
    require_owner_or_staff(request, photo.observation)
    disposition = content_disposition_header(as_attachment=True, filename=photo.name) or "attachment"
    response = store_redirect(photo.original, ResponseContentDisposition=disposition) or _content(
        photo.original, "application/octet-stream"
    )
    response["Content-Disposition"] = disposition
    response["Content-Security-Policy"] = "sandbox; default-src 'none'"
    response["X-Content-Type-Options"] = "nosniff"
    patch_cache_control(response, private=True, no_store=True)
    return response


def _rendition(request: HttpRequest, photo: Photo, kind: str) -> HttpResponseBase:
    """A rendition never changes, but who may see it does: it is kept by the viewer's browser only, for an hour."""
    return _unchanging(request, getattr(photo, kind), etag=f'"{photo.public_id}-{kind}"')


def _unchanging(request: HttpRequest, file: FieldFile | StoredFile, *, etag: str) -> HttpResponseBase:
    redirect = store_redirect(file)
    if redirect:  # without an ETag: a signed address that was kept too long must not be confirmed
        patch_cache_control(redirect, private=True, max_age=SIGNED_MAX_AGE_S)
        return redirect

    @condition(etag_func=lambda _request: etag)
    def answer(_request: HttpRequest) -> HttpResponseBase:
        response = _content(file, "image/jpeg")
        response["X-Content-Type-Options"] = "nosniff"
        patch_cache_control(response, private=True, max_age=RENDITION_MAX_AGE_S)
        return response

    return answer(request)


def store_redirect(file: FieldFile | StoredFile, **parameters: str) -> HttpResponseRedirect | None:
    """To the object store's signed address, where there is a store that browsers reach."""
    if not settings.IS_PUBLIC_STORE:
        return None
    url = file.storage.url(file.name, parameters=parameters) if parameters else file.storage.url(file.name)  # type: ignore[call-arg]
    return HttpResponseRedirect(url)


def _content(file: FieldFile | StoredFile, content_type: str) -> HttpResponseBase:
    try:
        return FileResponse(file.open("rb"), content_type=content_type)
    except FileNotFoundError as error:
        raise Http404 from error

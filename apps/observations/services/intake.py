"""The one door for pictures: form, folder, zip, API and command line all come through `receive_photo`."""

from __future__ import annotations

import contextlib
import hashlib
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, BinaryIO, cast

from django.conf import settings
from django.contrib.gis.geos import Point
from django.core.files import File
from django.core.files.base import ContentFile
from django.core.files.storage import Storage
from django.db import IntegrityError, transaction
from django.template.defaultfilters import filesizeformat
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext_lazy

from apps.common.leased import LeasedWork
from apps.common.tasks import wake_once
from apps.observations.decoding import DecodingPool
from apps.observations.models import ArchiveUpload, Observation, Photo, RefusedFile
from apps.observations.renditions import PreparedPicture
from apps.observations.services.observations import clean_name
from apps.training.engine.pictures import PictureError, PictureLimits

# Each sentence says what is wrong and what to do about it.
_REFUSALS: dict[str, Any] = {
    "empty": gettext_lazy("The file is empty. Send it again from where the original is."),
    "too_many_bytes": gettext_lazy("The file is larger than %(limit_size)s. Send a smaller version."),
    "not_a_picture": gettext_lazy("This is not a picture. Send JPEG, PNG, WebP, TIFF or HEIC files."),
    "unsupported_format": gettext_lazy(
        "This kind of picture is not read. Save it as JPEG, PNG, WebP, TIFF or HEIC and send that."
    ),
    "too_many_pixels": gettext_lazy(
        "The picture has more than %(limit_megapixels)s megapixels. Crop it, or send it in parts."
    ),
    "too_long_side": gettext_lazy(
        "A side of the picture is longer than %(limit)s pixels. Crop it, or send it in parts."
    ),
    "too_small": gettext_lazy("The picture has only %(width)s × %(height)s pixels. Send the original."),
    "animated": gettext_lazy("The file holds several pictures. Send the one you mean as a single picture."),
    "truncated": gettext_lazy(
        "The file is cut off: its end is missing. Copy it again from the camera and send that."
    ),
    "corrupt": gettext_lazy("The file is damaged and cannot be read. Send the original."),
    "decoder_limit": gettext_lazy(
        "The file takes too much memory or time to open. Save it again as JPEG and send that."
    ),
    "archive": gettext_lazy("This is an archive. Send the photos themselves, or the archive on the website."),
    "archive_not_a_zip": gettext_lazy("This is not a zip archive that can be read. Make it again."),
    "archive_too_large": gettext_lazy("The archive holds more than %(limit_size)s. Send it in parts."),
    "archive_too_many_files": gettext_lazy("The archive holds more than %(limit)s files. Send it in parts."),
    "archive_encrypted": gettext_lazy("The archive is protected by a password. Make one without."),
    "archive_method": gettext_lazy("The archive uses a compression that is not read. Make an ordinary zip."),
    "archive_damaged": gettext_lazy("This part of the archive is damaged. Make the archive again."),
    "archive_unsafe_name": gettext_lazy(
        "The file's name in the archive points outside of it, so it was not read."
    ),
    "archive_link": gettext_lazy("This is a link, not a file. Put the picture itself into the archive."),
    "archive_nested": gettext_lazy("An archive inside the archive is not opened. Send it by itself."),
    "observation_deleted": gettext_lazy(
        "The observation was deleted meanwhile. Send the photo as a new one."
    ),
    "duplicate": gettext_lazy("You sent this photo on %(sent_on)s already."),
    "archive_bomb": gettext_lazy("The file unpacks to far more than its size, so it was not read."),
}
_UNKNOWN_REFUSAL = gettext_lazy("The file could not be taken. Send the original.")


class RefusedPictureError(Exception):
    """A file that is not taken. `code` is for programs, `message` for people, in their language."""

    def __init__(self, code: str, params: Mapping[str, Any] | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.params: dict[str, Any] = dict(params or {})

    @property
    def message(self) -> str:
        return refusal_message(self.code, self.params)


@dataclass(frozen=True, slots=True)
class ReceivedPhoto:
    photo: Photo
    is_duplicate: bool


def refusal_message(code: str, params: Mapping[str, Any]) -> str:
    """Why a file was refused and what to do, in the reader's language."""
    values = dict(params)
    limit = values.get("limit")
    if isinstance(limit, int):
        values |= {"limit_size": filesizeformat(limit), "limit_megapixels": limit // 1_000_000}
    if isinstance(sent_at := values.get("sent_at"), str):
        values["sent_on"] = date_format(timezone.localtime(datetime.fromisoformat(sent_at)), "DATE_FORMAT")
    try:
        return str(_REFUSALS[code]) % values
    except KeyError:
        return str(_UNKNOWN_REFUSAL)


def is_refusal_code(code: str) -> bool:
    return code in _REFUSALS


def picture_limits() -> PictureLimits:
    return PictureLimits(
        bytes=settings.PICTURE_MAX_BYTES,
        pixels=settings.PICTURE_MAX_PIXELS,
        side_px=settings.PICTURE_MAX_SIDE_PX,
    )


@cache
def decoding_pool() -> DecodingPool:
    """Made on first use, so after the server's workers were forked."""
    return DecodingPool(
        limits=picture_limits(),
        seconds=settings.PICTURE_DECODE_SECONDS,
        memory_bytes=settings.PICTURE_DECODE_BYTES,
    )


def prepare(file: BinaryIO, *, size_bytes: int) -> PreparedPicture:
    """Decode and derive in the bounded process. Raises `RefusedPictureError`."""
    if size_bytes == 0:
        raise RefusedPictureError("empty")
    if size_bytes > settings.PICTURE_MAX_BYTES:
        raise RefusedPictureError("too_many_bytes", {"limit": settings.PICTURE_MAX_BYTES})
    try:
        return decoding_pool().prepare(file, size_bytes=size_bytes)
    except PictureError as error:
        raise RefusedPictureError(error.code, error.params) from error


def receive_photo(
    *,
    observation: Observation,
    file: BinaryIO | File[Any],
    name: str,
    priority: int = LeasedWork.Priority.INTERACTIVE,
) -> ReceivedPhoto:
    """Check a picture, store it with its renditions and queue it for detection.

    An import of thousands gives a lower `priority`, so that people who wait for a result do not wait for it.

    The same bytes sent before by the same contributor to the same survey give the earlier photo back and store
    nothing. Raises `RefusedPictureError`; then nothing is stored. When this returns, the photo is durable.
    """
    from apps.observations.services.tiles import request_tiles  # which asks this module for the limits
    from apps.observations.tasks import detect_waiting  # tasks call services

    stream = cast(BinaryIO, file)
    sha256, size_bytes = _digest(stream)
    if earlier := _sent_before(observation, sha256):
        return ReceivedPhoto(earlier, is_duplicate=True)
    prepared = prepare(stream, size_bytes=size_bytes)
    photo = _new_photo(observation, prepared, name=name, sha256=sha256, size_bytes=size_bytes)
    photo.priority = priority
    with _files_or_nothing() as stored:
        stream.seek(0)
        key = uuid.uuid4()
        _store(stored, photo, "original", f"{key}.{prepared.extension}", File(stream))
        _store(stored, photo, "display", f"{key}.jpg", ContentFile(prepared.display))
        _store(stored, photo, "thumbnail", f"{key}.jpg", ContentFile(prepared.thumbnail))
        try:
            with transaction.atomic():
                photo.save(force_insert=True)
                request_tiles(photo)
                wake_once(detect_waiting)
        except IntegrityError as error:
            # Its twin arrived in the meantime; or the observation was deleted.
            earlier = _sent_before(observation, sha256)
            if earlier is None:
                raise RefusedPictureError("observation_deleted") from error
        else:
            stored.clear()
            return ReceivedPhoto(photo, is_duplicate=False)
    return ReceivedPhoto(earlier, is_duplicate=True)


def record_refusal(
    *,
    observation: Observation,
    name: str,
    code: str,
    params: Mapping[str, Any] | None = None,
    archive: ArchiveUpload | None = None,
    archive_index: int | None = None,
) -> RefusedFile:
    """Remember that a file was refused, so that its sender can read why later; once per entry of an archive."""
    values = {"name": clean_name(name), "code": code, "params": dict(params or {})}
    if archive is None:
        return RefusedFile.objects.create(observation=observation, **values)
    return RefusedFile.objects.get_or_create(
        archive=archive, archive_index=archive_index, defaults={"observation": observation, **values}
    )[0]


def _digest(stream: BinaryIO) -> tuple[str, int]:
    """SHA-256 and length, reading in pieces and never more than one above the limit."""
    digest, size_bytes = hashlib.sha256(), 0
    stream.seek(0)
    while chunk := stream.read(1 << 20):
        digest.update(chunk)
        size_bytes += len(chunk)
        if size_bytes > settings.PICTURE_MAX_BYTES:
            raise RefusedPictureError("too_many_bytes", {"limit": settings.PICTURE_MAX_BYTES})
    return digest.hexdigest(), size_bytes


def _sent_before(observation: Observation, sha256: str) -> Photo | None:
    return (
        Photo.objects.filter(
            contributor_id=observation.contributor_id, survey_id=observation.survey_id, sha256=sha256
        )
        .select_related("observation")
        .first()
    )


def _new_photo(
    observation: Observation, prepared: PreparedPicture, *, name: str, sha256: str, size_bytes: int
) -> Photo:
    location = None
    if prepared.longitude is not None and prepared.latitude is not None:
        location = Point(prepared.longitude, prepared.latitude, srid=4326)
    return Photo(
        observation=observation,
        contributor_id=observation.contributor_id,
        survey_id=observation.survey_id,
        name=clean_name(name),
        format=prepared.format,
        size_bytes=size_bytes,
        width_px=prepared.width_px,
        height_px=prepared.height_px,
        sha256=sha256,
        perceptual_hash=prepared.perceptual_hash,
        camera=prepared.camera,
        proposed_at=_aware(prepared.taken_at),
        proposed_location=location,
        is_flagged=prepared.is_flagged,
    )


def _aware(taken_at: str) -> datetime | None:
    """A camera without a time zone is taken to be in the site's."""
    if not taken_at:
        return None
    moment = datetime.fromisoformat(taken_at)
    return moment if moment.tzinfo else timezone.make_aware(moment, timezone.get_default_timezone())


def _store(
    stored: list[tuple[Storage, str]], photo: Photo, field: str, name: str, content: File[Any]
) -> None:
    target = getattr(photo, field)
    target.save(name, content, save=False)
    stored.append((target.storage, target.name))


@contextlib.contextmanager
def _files_or_nothing() -> Iterator[list[tuple[Storage, str]]]:
    """Files listed here are removed unless the block clears the list: a file without a row helps nobody."""
    stored: list[tuple[Storage, str]] = []
    try:
        yield stored
    finally:
        for storage, name in stored:
            storage.delete(name)

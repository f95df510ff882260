"""Photos sent through the API: one observation with every file that was accepted, or nothing at all."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any

from django.core.files.uploadedfile import UploadedFile
from django.utils.translation import gettext as _

from apps.accounts.models import User
from apps.common.problems import FieldProblem, Problem
from apps.observations.models import Observation, Photo
from apps.observations.services.archives import is_archive
from apps.observations.services.deletion import delete_observation
from apps.observations.services.intake import (
    RefusedPictureError,
    receive_photo,
    record_refusal,
    refusal_message,
)
from apps.observations.services.observations import clean_name, create_observation


@dataclass(frozen=True, slots=True)
class SentPhoto:
    index: int
    name: str
    photo: Photo
    is_duplicate: bool


@dataclass(frozen=True, slots=True)
class RefusedPhoto:
    index: int
    name: str
    code: str
    params: dict[str, Any]

    @property
    def body(self) -> dict[str, Any]:
        """As the answer lists it; `detail` says why and what to do, in the language of the request."""
        return {"index": self.index, "name": self.name, "code": self.code, "detail": self.message}

    @property
    def message(self) -> str:
        return refusal_message(self.code, self.params)


@dataclass(slots=True)
class Sent:
    observation: Observation
    is_new: bool
    photos: list[SentPhoto] = field(default_factory=list)
    refused: list[RefusedPhoto] = field(default_factory=list)


class NothingAcceptedError(Exception):
    """Not one file became a photo; nothing is stored."""

    def __init__(self, refused: list[RefusedPhoto]) -> None:
        super().__init__(f"{len(refused)} files refused")
        self.refused = refused


def send_photos(*, contributor: User, fields: dict[str, Any], public_id: uuid.UUID | None = None) -> Sent:
    """Create an observation of the accepted files; those sent before are named with the photo they are.

    With `public_id` a second call after a crash goes on where the first stopped: the observation is found again,
    and what the first had stored is recognised by its content.
    """
    files: list[UploadedFile[Any]] = fields["photos"]
    details = {name: value for name, value in fields.items() if name != "photos"}
    observation = _observation_of(contributor, public_id) or create_observation(
        contributor=contributor, public_id=public_id, **details
    )
    sent = Sent(observation=observation, is_new=True)
    try:
        for index, file in enumerate(files):
            _take(sent, index, file)
    except Exception:
        if not sent.photos:
            delete_observation(observation=observation)
        raise
    if not any(item.photo.observation_id == observation.pk for item in sent.photos):
        delete_observation(observation=observation)
        if not sent.photos:
            raise NothingAcceptedError(sent.refused)
        return Sent(sent.photos[0].photo.observation, is_new=False, photos=sent.photos, refused=sent.refused)
    _remember_refusals(sent)
    return sent


def _observation_of(contributor: User, public_id: uuid.UUID | None) -> Observation | None:
    if public_id is None:
        return None
    return Observation.objects.filter(contributor=contributor, public_id=public_id).first()


def _take(sent: Sent, index: int, file: UploadedFile[Any]) -> None:
    name = clean_name(file.name or "")
    try:
        _refuse_archive(file)
        received = receive_photo(observation=sent.observation, file=file, name=name)
    except RefusedPictureError as error:
        sent.refused.append(RefusedPhoto(index, name, error.code, error.params))
        return
    is_ours = received.photo.observation_id == sent.observation.pk
    is_repeated = any(item.photo.pk == received.photo.pk for item in sent.photos)
    sent.photos.append(SentPhoto(index, name, received.photo, is_duplicate=is_repeated or not is_ours))


def _refuse_archive(file: UploadedFile[Any]) -> None:
    """Reading an archive is background work with refusals of its own; the website takes them."""
    if is_archive(file):
        raise RefusedPictureError("archive")


def _remember_refusals(sent: Sent) -> None:
    """The contributor reads them on the observation's page too; once, also when the sending was repeated."""
    known = set(sent.observation.refused_files.values_list("name", "code"))
    for refused in sent.refused:
        if (refused.name, refused.code) not in known:
            record_refusal(
                observation=sent.observation, name=refused.name, code=refused.code, params=refused.params
            )


def nothing_accepted(refused: list[dict[str, Any]]) -> Problem:
    """Each file with its reason, and what to do; `refused` as in `RefusedPhoto.body`."""
    return Problem(
        status=400,
        code="no_photo_accepted",
        detail=_("None of the files could be taken, and nothing was stored: see the errors."),
        errors=[FieldProblem(f"photos.{item['index']}", item["code"], item["detail"]) for item in refused],
        extra={"refused": refused},
    )

"""Everything a person sent and wrote, packed into a zip of their own by a worker.

The zip holds the originals as they were sent, `data.json` (account, observations, photos with their detections,
comments), `detections.csv` (a row per animal, with licence and attribution), what other apps add (`hooks.personal_data`)
and a README that says so.
"""

import csv
import io
import json
import re
import tempfile
import uuid
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import IO, Any, Final

import structlog
from django.core.files import File
from django.core.serializers.json import DjangoJSONEncoder
from django.db import IntegrityError, transaction
from django.db.models.functions import Now
from django.utils import translation
from django.utils.encoding import force_str
from django.utils.translation import gettext as _

from apps.accounts.models import User
from apps.common.leased import LeaseLostError, is_stopping, kept_lease
from apps.common.tasks import wake_once
from apps.observations.api.representations import moment
from apps.observations.hooks import personal_data
from apps.observations.models import Comment, DataExport, Observation, Photo
from apps.observations.services.deletion import discard_files
from apps.observations.services.exports import csv_cell, csv_lines, observation_header, photo_bodies

logger = structlog.get_logger(__name__)

KEPT_FOR: Final = timedelta(days=7)
_AT_ONCE: Final = 100
_SAFE_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,60}\.(json|csv)")


class _StoppedError(Exception):
    """The worker was told to end: the packing starts over elsewhere."""


def request_export(*, user: User) -> DataExport:
    """Have the person's data packed; while that is under way, asking again gives the same."""
    from apps.observations.tasks import pack_exports  # tasks call services

    try:
        with transaction.atomic():
            export: DataExport = DataExport.objects.create(
                user=user, photos_total=Photo.objects.filter(contributor=user).count()
            )
            wake_once(pack_exports)
            return export
    except IntegrityError:
        under_way: DataExport = DataExport.objects.filter(user=user).latest("pk")
        return under_way


def pack_next_export() -> bool:
    """Claim one and pack it; gives False when none waits."""
    for export in DataExport.objects.all().claim(limit=1):
        token = export.lease_token
        try:
            with kept_lease(DataExport.objects.all(), token):
                _pack(export)
        except LeaseLostError:
            logger.warning("export_lease_lost", export=export.pk)
        except _StoppedError:
            DataExport.objects.all().release(token)
        except Exception as error:
            logger.exception("export_failed", export=export.pk)
            DataExport.objects.all().give_back_after_error(token, reason=type(error).__name__)
        return True
    return False


def discard_exports(*, user: User | None = None) -> int:
    """Remove a person's exports, or all whose time is over; gives how many."""
    with transaction.atomic():
        over = DataExport.objects.select_for_update()
        over = over.filter(expires_at__lt=Now()) if user is None else over.filter(user=user)
        rows = list(over.order_by("pk"))
        discard_files([("default", row.file.name or "") for row in rows])
        DataExport.objects.filter(pk__in=[row.pk for row in rows]).delete()
    return len(rows)


def _pack(export: DataExport) -> None:
    with tempfile.TemporaryFile() as target:
        with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
            _write_zip(export, archive)
        size_bytes = target.tell()
        target.seek(0)
        export.file.save(f"{uuid.uuid4()}.zip", File(target), save=False)
    try:
        export.finish(file=export.file.name, size_bytes=size_bytes, expires_at=Now() + KEPT_FOR)
    except BaseException:
        export.file.storage.delete(export.file.name or "")  # the row does not know of this file
        raise


def _write_zip(export: DataExport, archive: zipfile.ZipFile) -> None:
    user = export.user
    with archive.open("data.json", "w", force_zip64=True) as raw, io.TextIOWrapper(raw, "utf-8") as text:
        _write_json(text, user)
    with (
        archive.open("detections.csv", "w", force_zip64=True) as raw,
        io.TextIOWrapper(raw, "utf-8-sig", newline="") as text,
    ):
        _write_csv(text, user)
    others = _write_others(archive, user)
    with translation.override(user.language or None):
        archive.writestr("README.txt", _readme(others))
    packed = 0
    for observation in _observations(user):
        for batch in _photos(observation):
            for photo in batch:
                _write_original(archive, photo, observation)
            packed += len(batch)
            _count(export, packed)


def _write_others(archive: zipfile.ZipFile, user: User) -> list[str]:
    """The files that other apps add; gives their names."""
    names: list[str] = []
    for answer in personal_data.answers(user):
        for name, rows in answer:
            if not _SAFE_NAME.fullmatch(name) or name in archive.namelist():
                raise ValueError(f"not a name for a file of its own: {name!r}")
            with archive.open(name, "w", force_zip64=True) as raw:
                _write_rows(raw, rows, as_table=name.endswith(".csv"))
            names.append(name)
    return names


def _write_rows(raw: IO[bytes], rows: Iterable[Mapping[str, Any]], *, as_table: bool) -> None:
    with io.TextIOWrapper(raw, "utf-8-sig" if as_table else "utf-8", newline="") as text:
        if as_table:
            writer = None
            for row in rows:
                if writer is None:
                    writer = csv.DictWriter(text, fieldnames=list(row), restval="", extrasaction="ignore")
                    writer.writeheader()
                writer.writerow({key: csv_cell(value) for key, value in row.items()})
            return
        text.write("[")
        for index, row in enumerate(rows):
            text.write(
                (",\n" if index else "\n") + json.dumps(row, ensure_ascii=False, cls=DjangoJSONEncoder)
            )
        text.write("\n]\n")


def _readme(others: Sequence[str]) -> str:
    return "\n".join(
        (
            _("This is everything you sent and wrote."),
            "",
            _("originals/: your photos as you sent them, a folder for each observation"),
            _("data.json: your account, observations, photos with what was found on them, and comments"),
            _("detections.csv: one row for each animal, with place, licence and author"),
            *(_("%(file)s: what you did here beyond that") % {"file": name} for name in others),
            "",
        )
    )


def _write_json(text: IO[str], user: User) -> None:
    """One observation at a time, so that memory does not grow with their number."""
    account = {
        "email": user.email,
        "public_name": user.display_name,
        "language": user.language,
        "joined_at": moment(user.date_joined),
        "is_expert": user.is_expert,
    }
    text.write(f'{{"account": {json.dumps(account, ensure_ascii=False)},\n"observations": [')
    for index, observation in enumerate(_observations(user)):
        body = observation_header(observation, user=user) | {
            "comment": observation.comment,
            "visibility": observation.visibility,
            "created_at": moment(observation.created_at),
            "attribution": _attribution(observation),
        }
        text.write(",\n" if index else "\n")
        text.write(json.dumps(body, ensure_ascii=False)[:-1] + ', "photos": [')
        separator = ""
        for batch in _photos(observation):
            for photo, photo_body in zip(batch, photo_bodies(observation, batch, user=user), strict=True):
                more = {"file": _path(photo, observation), "sha256": photo.sha256, "camera": photo.camera}
                text.write(separator + "\n" + json.dumps(photo_body | more, ensure_ascii=False))
                separator = ","
        text.write("]}")
    text.write('],\n"comments": [')
    comments = Comment.objects.filter(author=user).select_related("observation", "photo").order_by("pk")
    for index, comment in enumerate(comments.iterator(chunk_size=500)):
        body = {
            "observation": str(comment.observation.public_id),
            "photo": str(comment.photo.public_id) if comment.photo else None,
            "box_number": comment.box_number,
            "body": comment.body,
            "created_at": moment(comment.created_at),
        }
        text.write((",\n" if index else "\n") + json.dumps(body, ensure_ascii=False))
    text.write("]}\n")


def _write_csv(text: IO[str], user: User) -> None:
    for index, observation in enumerate(_observations(user)):
        for part, lines in enumerate(csv_lines(observation, _photos(observation), user=user)):
            # Each observation's lines begin with the header; one is enough.
            text.write(lines if index == 0 or part > 0 else lines.split("\r\n", 1)[1])


def _write_original(archive: zipfile.ZipFile, photo: Photo, observation: Observation) -> None:
    try:
        source = photo.original.open("rb")
    except FileNotFoundError:
        logger.warning("original_missing", photo=photo.pk)
        return
    info = zipfile.ZipInfo(_path(photo, observation), date_time=_zip_time(photo))
    with source, archive.open(info, "w", force_zip64=True) as target:
        while chunk := source.read(1 << 20):
            target.write(chunk)


def _path(photo: Photo, observation: Observation) -> str:
    """Unique, harmless as a path, and still telling: a name somebody gave is a label, never a folder."""
    name = "".join(c if c.isalnum() or c in " ._-()" else "_" for c in photo.name).strip(". ") or "photo"
    return f"originals/{observation.public_id}/{photo.pk}-{name[-120:]}"


def _zip_time(photo: Photo) -> tuple[int, int, int, int, int, int]:
    sent = photo.created_at
    return (max(sent.year, 1980), sent.month, sent.day, sent.hour, sent.minute, sent.second)


def _attribution(observation: Observation) -> str:
    return f"{force_str(observation.contributor)}, {observation.get_licence_display()}"


def _observations(user: User) -> Iterator[Observation]:
    rows = Observation.objects.filter(contributor=user).select_related("survey", "contributor")
    return rows.order_by("pk").iterator(chunk_size=_AT_ONCE)


def _photos(observation: Observation) -> Iterator[list[Photo]]:
    rows: Any = Photo.objects.filter(observation=observation).select_related(
        "model_version__registered_model"
    )
    after = 0
    while batch := list(rows.filter(pk__gt=after).order_by("pk")[:_AT_ONCE]):
        yield batch
        after = batch[-1].pk


def _count(export: DataExport, packed: int) -> None:
    if is_stopping():
        raise _StoppedError
    if (
        not DataExport.objects.all()
        .held(export.lease_token)
        .filter(pk=export.pk)
        .update(photos_packed=packed)
    ):
        raise LeaseLostError(f"DataExport {export.pk}")

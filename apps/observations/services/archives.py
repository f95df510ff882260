"""Zip archives: checked when they arrive, then read entry by entry in the background. Nothing is ever extracted."""

from __future__ import annotations

import contextlib
import stat
import struct
import tempfile
import time
import unicodedata
import uuid
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, Any, BinaryIO, Final, cast

import structlog
from django.conf import settings
from django.core.files import File
from django.db import transaction

from apps.common.leased import LeaseLostError, WorkStatus, is_stopping, kept_lease
from apps.common.tasks import wake_once
from apps.observations.models import ArchiveUpload, Observation
from apps.observations.services.deletion import discard_files
from apps.observations.services.intake import RefusedPictureError, receive_photo, record_refusal
from apps.observations.services.observations import clean_name

logger = structlog.get_logger(__name__)

DIRECTORY_BYTES_PER_ENTRY: Final = 2_048
"""What the list of contents may take for each allowed file; zipfile reads all of it into memory."""
MAX_RATIO: Final = 200
"""Pictures hardly shrink in a zip; deflate's own limit is 1,032."""
FREE_BYTES: Final = 1 << 20
"""Up to here a ratio says nothing: a small blank picture shrinks a lot."""
_PIECE: Final = 1 << 18
_ZIP_STARTS: Final = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
_METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_SILENT_NAMES: Final = {"thumbs.db", "desktop.ini", ".ds_store"}
# zipfile promises BadZipFile and raises all of these (measured on damaged and hostile archives).
_ZIP_ERRORS: Final = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    EOFError,
    KeyError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    UnicodeError,
    ValueError,
    struct.error,
)


def is_archive(file: BinaryIO | File[Any]) -> bool:
    """Whether the content begins as a zip does; the name does not matter."""
    file.seek(0)
    start = file.read(4)
    file.seek(0)
    return start in _ZIP_STARTS


def receive_archive(*, observation: Observation, file: BinaryIO | File[Any], name: str) -> ArchiveUpload:
    """Store an archive and queue its reading. Raises `RefusedPictureError` for one that is refused as a whole."""
    from apps.observations.tasks import read_archives  # tasks call services

    stream = cast(BinaryIO, file)
    size_bytes = stream.seek(0, 2)
    if size_bytes == 0:
        raise RefusedPictureError("empty")
    if size_bytes > settings.ARCHIVE_MAX_BYTES:
        raise RefusedPictureError("archive_too_large", {"limit": settings.ARCHIVE_MAX_BYTES})
    with _opened(stream) as archive:
        entries = len(archive.infolist())
    upload = ArchiveUpload(
        observation=observation, name=clean_name(name), size_bytes=size_bytes, entries=entries
    )
    stream.seek(0)
    upload.file.save(f"{uuid.uuid4()}.zip", File(stream), save=False)
    try:
        with transaction.atomic():
            upload.save(force_insert=True)
            wake_once(read_archives)
    except BaseException:
        upload.file.storage.delete(str(upload.file.name))
        raise
    return upload


def read_next_archive(*, seconds: float) -> bool:
    """Read on in the next waiting archive for some seconds; gives False when there is nothing to go on with."""
    claimed = ArchiveUpload.objects.all().select_related("observation__survey").claim(limit=1)
    if not claimed:
        return False
    archive = claimed[0]
    with kept_lease(ArchiveUpload.objects.all(), archive.lease_token):
        try:
            file = archive.file.open("rb")
        except FileNotFoundError:
            _finish(archive, reason="archive_damaged")
            return True
        except Exception as error:  # noqa: BLE001  (each storage raises the errors of its own library)
            # The storage is away: no fault of the archive, so no attempt is counted. The next sweep tries again.
            logger.warning("archive_unreadable", archive=archive.pk, error=type(error).__name__)
            ArchiveUpload.objects.all().release(archive.lease_token)
            return False
        try:
            with file:
                read_archive(archive, cast("BinaryIO", file), until=time.monotonic() + seconds)
        except LeaseLostError:
            logger.warning("archive_in_other_hands", archive=archive.pk)
        except Exception as error:
            logger.exception("archive_broke", archive=archive.pk)
            ArchiveUpload.objects.all().give_back_after_error(
                archive.lease_token, reason=f"archive_failed: {error}"
            )
            return False
    return True


def read_archive(archive: ArchiveUpload, file: BinaryIO, *, until: float) -> None:
    """Take a claimed archive's files in, from where the last attempt ended, until the time is up.

    After each entry the position is written under the claim's token. An interrupted entry is read again: a photo it
    had stored is recognised by its content, a refusal by its place in the archive, so each is there exactly once.
    Raises `LeaseLostError` when somebody else holds the archive now.
    """
    try:
        with _opened(file) as opened:
            is_through = _read_entries(archive, opened, until)
    except RefusedPictureError as error:
        _finish(archive, reason=error.code)
    else:
        if is_through:
            _finish(archive)
        else:
            ArchiveUpload.objects.all().release(archive.lease_token)


@transaction.atomic
def discard_failed_archives() -> int:
    """Have the zips of archives removed whose last attempt fell silent or broke; gives how many."""
    failed = ArchiveUpload.objects.filter(status=WorkStatus.FAILED).exclude(file="").select_for_update()
    names = dict(failed.values_list("pk", "file"))
    discard_files([("default", name) for name in names.values()])
    return ArchiveUpload.objects.filter(pk__in=names).update(file="")


def _read_entries(archive: ArchiveUpload, opened: zipfile.ZipFile, until: float) -> bool:
    """Gives True when the last entry was read."""
    entries = opened.infolist()
    read_bytes = sum(entry.file_size for entry in entries[: archive.next_entry])
    for index in range(archive.next_entry, len(entries)):
        if is_stopping() or time.monotonic() > until:
            return False
        entry = entries[index]
        if not _is_silent(entry):
            try:
                left = settings.ARCHIVE_MAX_BYTES - read_bytes
                read_bytes += _take(archive, opened, entry, left)
            except RefusedPictureError as error:
                if error.code == "observation_deleted":
                    raise LeaseLostError(f"archive {archive.pk}") from error
                record_refusal(
                    observation=archive.observation,
                    name=_entry_name(entry),
                    code=error.code,
                    params=error.params,
                    archive=archive,
                    archive_index=index,
                )
                if error.code == "archive_too_large":
                    raise
        _advance(archive, index + 1)
    return True


def _take(archive: ArchiveUpload, opened: zipfile.ZipFile, entry: zipfile.ZipInfo, left_bytes: int) -> int:
    """Take one entry in; gives its length. Raises `RefusedPictureError`."""
    if archive.attempts >= settings.JOB_MAX_ATTEMPTS:
        # Every attempt so far died on this very entry: `_advance` counts anew after each.
        raise RefusedPictureError("decoder_limit")
    _check_entry(entry)
    with tempfile.SpooledTemporaryFile(max_size=8 << 20) as content:
        size_bytes = _unpack(opened, entry, cast(IO[bytes], content), left_bytes)
        content.seek(0)
        if content.read(4) in _ZIP_STARTS:
            raise RefusedPictureError("archive_nested")
        name = _entry_name(entry)
        received = receive_photo(observation=archive.observation, file=cast(BinaryIO, content), name=name)
    if received.is_duplicate and received.photo.observation_id != archive.observation_id:
        raise RefusedPictureError(
            "duplicate",
            {"sent_at": received.photo.created_at.isoformat(), "photo": str(received.photo.public_id)},
        )
    return size_bytes


def _unpack(opened: zipfile.ZipFile, entry: zipfile.ZipInfo, target: IO[bytes], left_bytes: int) -> int:
    """Copy one entry, counting what really comes out: what an archive states about itself may be a lie."""
    size_bytes = 0
    try:
        with opened.open(entry) as source:
            while piece := source.read(_PIECE):
                size_bytes += len(piece)
                if size_bytes > settings.PICTURE_MAX_BYTES:
                    raise RefusedPictureError("too_many_bytes", {"limit": settings.PICTURE_MAX_BYTES})
                if size_bytes > left_bytes:
                    raise RefusedPictureError("archive_too_large", {"limit": settings.ARCHIVE_MAX_BYTES})
                if size_bytes > max(FREE_BYTES, MAX_RATIO * entry.compress_size):
                    raise RefusedPictureError("archive_bomb")
                target.write(piece)
    except _ZIP_ERRORS as error:
        raise RefusedPictureError("archive_damaged") from error
    return size_bytes


def _check_entry(entry: zipfile.ZipInfo) -> None:
    if _is_unsafe(entry):
        raise RefusedPictureError("archive_unsafe_name")
    kind = stat.S_IFMT(entry.external_attr >> 16) if entry.create_system == 3 else 0
    if kind not in (0, stat.S_IFREG):
        raise RefusedPictureError("archive_link")
    if entry.flag_bits & 0x41:  # encrypted, or strongly encrypted
        raise RefusedPictureError("archive_encrypted")
    if entry.compress_type not in _METHODS:
        raise RefusedPictureError("archive_method")
    if entry.file_size > settings.PICTURE_MAX_BYTES:
        raise RefusedPictureError("too_many_bytes", {"limit": settings.PICTURE_MAX_BYTES})


@contextlib.contextmanager
def _opened(stream: BinaryIO) -> Iterator[zipfile.ZipFile]:
    """The archive, its list of contents within limits. Raises `RefusedPictureError`."""
    limit = settings.ARCHIVE_MAX_ENTRIES
    try:
        # The very reader that ZipFile uses, so that the two cannot disagree about where the list of contents is.
        end = zipfile._EndRecData(stream)  # type: ignore[attr-defined]  # noqa: SLF001
        if not end:
            raise RefusedPictureError("archive_not_a_zip")
        if end[zipfile._ECD_SIZE] > limit * DIRECTORY_BYTES_PER_ENTRY:  # type: ignore[attr-defined]  # noqa: SLF001
            raise RefusedPictureError("archive_too_many_files", {"limit": limit})
        archive = zipfile.ZipFile(stream)
    except (*_ZIP_ERRORS, OSError) as error:
        raise RefusedPictureError("archive_not_a_zip") from error
    with archive:
        files = [entry for entry in archive.infolist() if not _is_silent(entry)]
        if len(files) > limit:
            raise RefusedPictureError("archive_too_many_files", {"limit": limit})
        if sum(entry.file_size for entry in files) > settings.ARCHIVE_MAX_BYTES:
            raise RefusedPictureError("archive_too_large", {"limit": settings.ARCHIVE_MAX_BYTES})
        if files and all(entry.flag_bits & 0x41 for entry in files):
            raise RefusedPictureError("archive_encrypted")
        yield archive


def _is_silent(entry: zipfile.ZipInfo) -> bool:
    """Folders, and what computers add by themselves: skipped without a word."""
    parts = entry.filename.replace("\\", "/").split("/")
    last = parts[-1]
    return not last or "__MACOSX" in parts[:-1] or last.startswith("._") or last.lower() in _SILENT_NAMES


def _is_unsafe(entry: zipfile.ZipInfo) -> bool:
    """A name that would leave the folder it is unpacked into, on any system. We unpack nowhere, but it is no accident."""
    name = entry.orig_filename.replace("\\", "/")
    has_control = any(unicodedata.category(character) == "Cc" for character in name)
    return name.startswith("/") or name[1:2] == ":" or ".." in name.split("/") or has_control


def _entry_name(entry: zipfile.ZipInfo) -> str:
    return clean_name(entry.filename)


def _advance(archive: ArchiveUpload, next_entry: int) -> None:
    """Write the position. An attempt that got further is not held against a long archive."""
    held = ArchiveUpload.objects.all().held(archive.lease_token).filter(pk=archive.pk)
    if not held.update(next_entry=next_entry, attempts=1):
        raise LeaseLostError(f"archive {archive.pk}")
    archive.next_entry, archive.attempts = next_entry, 1


def _finish(archive: ArchiveUpload, *, reason: str = "") -> None:
    """End it, well or badly; the stored zip is no longer needed."""
    with transaction.atomic():
        archive.finish(status=WorkStatus.FAILED if reason else WorkStatus.DONE, reason=reason)
        discard_files([("default", str(archive.file.name))])

"""Zip archives of labelled pictures: read without ever unpacking to a disk, and written with the same bytes each time."""

from __future__ import annotations

import contextlib
import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from types import TracebackType
from typing import IO, BinaryIO, Final, Self

from apps.training.formats.model import PICTURE_SUFFIXES, is_plain_text
from apps.training.formats.problems import FormatError, Problem, Problems

DIRECTORY_BYTES_PER_ENTRY: Final = 2_048
MAX_RATIO: Final = 200
FREE_BYTES: Final = 1 << 20
"""Up to here a ratio says nothing: a label file of one class repeats itself."""
_PIECE: Final = 1 << 18
_SILENT_NAMES: Final = {"thumbs.db", "desktop.ini", ".ds_store"}
# zipfile promises BadZipFile and raises all of these on damaged and hostile archives.
ZIP_ERRORS: Final = (
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


@dataclass(frozen=True, slots=True)
class ReadLimits:
    entries: int = 20_000
    total_bytes: int = 4 * 1024**3
    text_bytes: int = 256 * 1024**2
    """Of one annotation file."""
    picture_bytes: int = 50 * 1024**2
    boxes: int = 10_000
    """On one picture."""


DEFAULT_LIMITS: Final = ReadLimits()


class ReadArchive:
    """The files of an archive by their paths. Nothing in it is trusted, least of all what it says about itself."""

    def __init__(self, stream: BinaryIO, *, limits: ReadLimits = DEFAULT_LIMITS) -> None:
        self.limits = limits
        self._read_bytes = 0
        self._zip = _opened(stream, limits)
        self._entries: dict[str, zipfile.ZipInfo] = {}
        problems = Problems()
        for info in self._zip.infolist():
            if _is_silent(info):
                continue
            name = _name(info)
            if code := _refusal(info, name):
                problems.add(code, file=name[:200])
            elif name in self._entries:
                problems.add("entry_twice", file=name[:200])
            self._entries[name] = info
        problems.raise_any()
        self._prefix = _common_folder(self._entries)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zip.close()

    def names(self) -> Iterator[str]:
        """Paths in the order of the archive, without the one folder that may be around all of them."""
        for name in self._entries:
            yield name[len(self._prefix) :]

    def pictures(self) -> list[str]:
        return [name for name in self.names() if PurePosixPath(name).suffix.lower() in PICTURE_SUFFIXES]

    def __contains__(self, name: object) -> bool:
        return f"{self._prefix}{name}" in self._entries

    def read(self, name: str, *, limit: int | None = None) -> bytes:
        """One file's content, counted while it is unpacked. Raises `FormatError`."""
        info = self._entries[self._prefix + name]
        limit = self.limits.text_bytes if limit is None else limit
        pieces, size = [], 0
        try:
            with self._zip.open(info) as source:
                while piece := source.read(_PIECE):
                    size += len(piece)
                    if size > limit:
                        raise _error("too_many_bytes", name, limit=limit)
                    if size > max(FREE_BYTES, MAX_RATIO * info.compress_size):
                        raise _error("zip_bomb", name)
                    if self._read_bytes + size > self.limits.total_bytes:
                        raise _error("too_many_bytes", name, limit=self.limits.total_bytes)
                    pieces.append(piece)
        except ZIP_ERRORS as error:
            raise _error("entry_damaged", name) from error
        self._read_bytes += size
        return b"".join(pieces)

    def read_text(self, name: str) -> str:
        content = self.read(name)
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise _error("not_utf8", name) from error


class WrittenArchive:
    """A zip whose bytes depend on its content only: no clock, no user, the order of writing."""

    def __init__(self, target: BinaryIO) -> None:
        self._zip = zipfile.ZipFile(target, "w", zipfile.ZIP_STORED)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zip.close()

    def add_text(self, name: str, text: str) -> None:
        self._zip.writestr(_info(name), text.encode(), zipfile.ZIP_DEFLATED, 6)

    @contextlib.contextmanager
    def open_text(self, name: str) -> Iterator[IO[str]]:
        """For a text that is written piece by piece, UTF-8, line ends as they are given."""
        info = _info(name)
        info.compress_type = zipfile.ZIP_DEFLATED
        with (
            self._zip.open(info, "w", force_zip64=True) as raw,
            io.TextIOWrapper(raw, "utf-8", newline="") as text,
        ):
            yield text

    def add_picture(self, name: str, content: bytes) -> None:
        """Stored: pictures are compressed already."""
        self._zip.writestr(_info(name), content, zipfile.ZIP_STORED)


def _info(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    info.create_system = 3
    info.external_attr = (stat.S_IFREG | 0o644) << 16
    return info


def _opened(stream: BinaryIO, limits: ReadLimits) -> zipfile.ZipFile:
    try:
        stream.seek(0)
        # The very reader that ZipFile uses, so that the two cannot disagree about where the list of contents is.
        end = zipfile._EndRecData(stream)  # type: ignore[attr-defined]  # noqa: SLF001
        if not end:
            raise _error("not_a_zip")
        if end[zipfile._ECD_SIZE] > limits.entries * DIRECTORY_BYTES_PER_ENTRY:  # type: ignore[attr-defined]  # noqa: SLF001
            raise _error("too_many_files", limit=limits.entries)
        archive = zipfile.ZipFile(stream)
    except (*ZIP_ERRORS, OSError) as error:
        raise _error("not_a_zip") from error
    if len(archive.infolist()) > limits.entries:
        raise _error("too_many_files", limit=limits.entries)
    if sum(info.file_size for info in archive.infolist()) > limits.total_bytes:
        raise _error("too_many_bytes", limit=limits.total_bytes)
    return archive


def _error(code: str, file: str = "", **params: object) -> FormatError:
    return FormatError([Problem(code, file, params=params)])


def _name(info: zipfile.ZipInfo) -> str:
    """Names that are UTF-8 without saying so (macOS, `zip` on Linux) are read as UTF-8."""
    name = info.filename.replace("\\", "/")
    if not info.flag_bits & 0x800:
        with contextlib.suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    return name.removeprefix("./")


def _refusal(info: zipfile.ZipInfo, name: str) -> str:
    raw = info.orig_filename.replace("\\", "/")
    if raw.startswith("/") or raw[1:2] == ":" or ".." in raw.split("/") or not is_plain_text(name + raw):
        return "entry_unsafe"
    kind = stat.S_IFMT(info.external_attr >> 16) if info.create_system == 3 else 0
    if kind not in (0, stat.S_IFREG):
        return "entry_link"
    if info.flag_bits & 0x41:
        return "entry_encrypted"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "entry_method"
    return ""


def _is_silent(info: zipfile.ZipInfo) -> bool:
    """Folders, and what computers add by themselves."""
    parts = info.filename.replace("\\", "/").split("/")
    last = parts[-1]
    return not last or "__MACOSX" in parts[:-1] or last.startswith("._") or last.lower() in _SILENT_NAMES


def _common_folder(entries: dict[str, zipfile.ZipInfo]) -> str:
    """The folder around everything (people zip the folder, not what is in it), with its slash, or nothing."""
    tops = {name.split("/", 1)[0] if "/" in name else "" for name in entries}
    top = tops.pop() if len(tops) == 1 else ""
    return f"{top}/" if top and top not in ("images", "labels", "annotations", "JPEGImages") else ""

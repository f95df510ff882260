"""What all readers share: the archive, the pictures' true sizes, strict JSON and XML, and one list of problems."""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

from apps.training.engine.pictures import PictureError, inspect
from apps.training.formats.archive import DEFAULT_LIMITS, ReadArchive, ReadLimits
from apps.training.formats.credits import Credit, read_credits
from apps.training.formats.model import (
    LabelledImage,
    LabelledSet,
    Split,
    is_file_name,
    is_plain_text,
    split_named,
)
from apps.training.formats.problems import MAX_PROBLEMS, FormatError, Problem, Problems, TooManyProblemsError

MAX_MAGNITUDE: Final = 1e9
"""Beyond it a number is no coordinate; it also keeps the whole numbers of the grid small."""


@dataclass(frozen=True, slots=True)
class ReadSet:
    """A set that is sound in every respect but for the pictures' pixels, which were not decoded."""

    labelled: LabelledSet
    pictures: dict[str, str]
    """Path in the archive by `LabelledImage.path`."""


def picture_size(content: bytes) -> tuple[int, int]:
    """Width and height of the upright picture, from its header. Raises `PictureError`."""
    header = inspect(content)
    return header.width_px, header.height_px


class Reading:
    """One reading of one archive; `images` grows while a format's reader goes through its files."""

    def __init__(self, archive: ReadArchive, problems: Problems) -> None:
        self.archive = archive
        self.problems = problems
        self.title, self.credits = read_credits(archive, problems)
        self.images: list[LabelledImage] = []
        self.pictures: dict[str, str] = {}
        self._taken: set[str] = set()
        self._sizes: dict[str, tuple[int, int] | None] = {}

    def size_px(self, path: str) -> tuple[int, int] | None:
        """Of a picture in the archive; None when it cannot be read, which is then listed once."""
        if path not in self._sizes:
            self._sizes[path] = None
            try:
                content = self.archive.read(path, limit=self.archive.limits.picture_bytes)
                self._sizes[path] = picture_size(content)
            except PictureError:
                self.problems.add("bad_picture", file=path)
            except FormatError as error:
                self.take(error)
        return self._sizes[path]

    def take(self, error: FormatError) -> None:
        for problem in error.problems:
            self.problems.add(
                problem.code,
                file=problem.file,
                field=problem.field,
                row=problem.row,
                **problem.params,
            )

    def add_image(self, image: LabelledImage, path: str) -> None:
        """Take an image in, with the credit that the archive gives its picture."""
        credit = self.credits.get(path, Credit(image.licence, image.attribution, image.source_id))
        image = LabelledImage(
            image.file_name,
            image.width_px,
            image.height_px,
            image.boxes,
            image.split,
            plain(credit.licence),
            plain(credit.attribution),
            plain(credit.source_id),
        )
        if not is_file_name(image.file_name):
            self.problems.add("bad_file_name", file=path, value=image.file_name)
        elif image.path in self.pictures or path in self._taken:
            self.problems.add("image_twice", file=path, value=image.file_name)
        else:
            self.pictures[image.path] = path
            self._taken.add(path)
            self.images.append(image)

    def result(self, labels: tuple[str, ...]) -> ReadSet:
        """Raises `FormatError` if anything was wrong."""
        if not self.images and not self.problems.found:
            self.problems.add("no_images")
        self.problems.raise_any()
        return ReadSet(LabelledSet(labels, tuple(self.images), plain(self.title)).in_order(), self.pictures)


Reader = Callable[[Reading], tuple[str, ...]]
"""Reads all files of a format into a `Reading` and gives the labels in order."""


def read_with(reader: Reader, stream: BinaryIO, limits: ReadLimits = DEFAULT_LIMITS) -> ReadSet:
    """Read an archive to its end and raise `FormatError` with everything that is wrong in it."""
    with ReadArchive(stream, limits=limits) as archive:
        problems = Problems()
        try:
            reading = Reading(archive, problems)
            return reading.result(reader(reading))
        except TooManyProblemsError:
            raise FormatError(problems.found) from None
        except FormatError as error:
            if error.problems is problems.found:
                raise
            raise FormatError(problems.found + error.problems) from error


def split_of_path(path: str) -> Split | None:
    """The split that one of the folders of a path, or the end of the file's name, is named after."""
    *folders, name = path.split("/")
    stem = name.rsplit(".", 1)[0]
    for word in (stem.rsplit("_", 1)[-1], *reversed(folders)):
        if split := split_named(word.removesuffix("2017")):
            return split
    return None


def failed(code: str, file: str, *, field: str = "", row: int | None = None, **params: Any) -> FormatError:
    return FormatError([Problem(code, file, field, row, params)])


def read_json(archive: ReadArchive, name: str) -> Any:
    """No endless nesting, no name twice in an object: which of the two was meant? NaN is no JSON, but is let through, so
    that `number` can name its field and row.

    Raises `FormatError`.
    """
    text = archive.read_text(name)
    has_doubled = False

    def as_dict(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal has_doubled
        found = dict(pairs)
        if len(found) == len(pairs):
            return found
        has_doubled = True
        counts = Counter(key for key, _value in pairs)
        return _Doubled(found, next(key for key, count in counts.items() if count > 1))

    try:
        document = json.loads(text, object_pairs_hook=as_dict)
        if has_doubled:
            raise FormatError(_doubled(document, name))
        return document
    except RecursionError as error:
        raise failed("too_deep", name) from error
    except json.JSONDecodeError as error:
        raise failed("not_json", name, line=error.lineno) from error
    except ValueError as error:  # a whole number of thousands of digits
        raise failed("not_json", name, line="?") from error


class _Doubled(dict[str, Any]):
    """An object in which a name is there twice."""

    def __init__(self, values: dict[str, Any], name: str) -> None:
        super().__init__(values)
        self.name = name


def _doubled(document: Any, file: str) -> list[Problem]:
    """Where names are there twice: the fields, and the row of the outermost list they are in."""
    found: list[Problem] = []
    waiting: list[tuple[Any, str, int | None]] = [(document, "", None)]
    while waiting and len(found) < MAX_PROBLEMS:
        value, field, row = waiting.pop()
        dot = "." if field else ""
        if isinstance(value, _Doubled):
            name = value.name[:40]
            found.append(Problem("name_twice", file, f"{field}{dot}{name}", row, {"value": name}))
        if isinstance(value, dict):
            waiting += [(each, f"{field}{dot}{name}", row) for name, each in reversed(value.items())]
        elif isinstance(value, list):
            rows = [(each, field, row or place) for place, each in enumerate(value, start=1)]
            waiting += reversed(rows)
    return found


class _PlainTree(ET.TreeBuilder):
    """Refuses documents that could define entities."""

    def doctype(self, *_declaration: str | None) -> None:
        raise _DoctypeError


class _DoctypeError(Exception):
    pass


def read_xml(archive: ReadArchive, name: str) -> ET.Element:
    """A document without a document type, so without entities. Raises `FormatError`."""
    content = archive.read(name, limit=min(archive.limits.text_bytes, 16 << 20))
    # Entities can only be defined in a DOCTYPE, which is refused before any of it is read.
    parser = ET.XMLParser(target=_PlainTree())  # noqa: S314
    try:
        parser.feed(content)
        root: ET.Element = parser.close()
    except _DoctypeError as error:
        raise failed("xml_doctype", name) from error
    except ET.ParseError as error:
        raise failed("not_xml", name, line=error.position[0]) from error
    except (ValueError, LookupError) as error:  # an encoding that does not exist
        raise failed("not_xml", name, line=1) from error
    return root


@contextmanager
def listed(reading: Reading) -> Iterator[None]:
    """A file that cannot be read at all is one problem; the others are still looked at."""
    try:
        yield
    except FormatError as error:
        reading.take(error)


def number(
    problems: Problems, value: object, *, file: str, field: str, row: int | None, is_text: bool = True
) -> float | None:
    """A finite number, else the problem is listed. XML and text files write it as text; in JSON that is none."""
    if isinstance(value, str) and is_text:
        try:
            value = float(value)
        except ValueError:
            problems.add("not_a_number", file=file, field=field, row=row, value=str(value)[:40])
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        code = "missing_value" if value is None else "not_a_number"
        problems.add(code, file=file, field=field, row=row, value=str(value)[:40])
        return None
    if isinstance(value, float) and not math.isfinite(value):
        problems.add("not_finite", file=file, field=field, row=row)
        return None
    if abs(value) > MAX_MAGNITUDE:
        problems.add("outside", file=file, field=field, row=row, value=str(value)[:20], limit="1e9")
        return None
    return float(value)


def whole_number(
    problems: Problems, value: object, *, file: str, field: str, row: int | None, is_text: bool = True
) -> int | None:
    found = number(problems, value, file=file, field=field, row=row, is_text=is_text)
    if found is not None and not found.is_integer():
        problems.add("not_a_whole_number", file=file, field=field, row=row, value=found)
        return None
    return None if found is None else int(found)


def plain(text: str) -> str:
    """A name or a title without characters that no format and no database holds."""
    return "".join(character for character in text if is_plain_text(character))


def text_of(value: object) -> str:
    return value if isinstance(value, str) else ""

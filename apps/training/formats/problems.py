"""What is wrong with labelled data that somebody sends: all of it, each with its file, row and field."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

MAX_PROBLEMS: Final = 100
"""Enough to see the pattern; a set of 100,000 wrong boxes must not become a page of 100,000 rows."""


def gettext_noop(message: str) -> str:
    """Marks a text for the translators, without Django; whoever shows it translates it."""
    return message


MESSAGES: Final[Mapping[str, str]] = {
    "not_a_zip": gettext_noop("This is not a zip archive that can be read. Make it again."),
    "too_many_files": gettext_noop("The archive holds more than %(limit)s files. Send it in parts."),
    "too_many_bytes": gettext_noop("More than %(limit)s bytes when unpacked. Send it in parts."),
    "zip_bomb": gettext_noop("The file unpacks to far more than its size, so it was not read."),
    "entry_damaged": gettext_noop("This part of the archive is damaged. Make the archive again."),
    "entry_encrypted": gettext_noop("The file is protected by a password. Make an archive without."),
    "entry_method": gettext_noop("The archive uses a compression that is not read. Make an ordinary zip."),
    "entry_unsafe": gettext_noop("The file's name points outside of the archive. Rename it."),
    "entry_twice": gettext_noop("The archive holds two files of this name. Remove one."),
    "entry_link": gettext_noop("This is a link, not a file. Put the file itself into the archive."),
    "no_annotations": gettext_noop("There is no %(wanted)s in the archive. Is it the right format?"),
    "no_images": gettext_noop("There is no picture in the archive."),
    "not_utf8": gettext_noop("The text is not UTF-8. Save it as UTF-8."),
    "not_json": gettext_noop("This is not JSON that can be read (line %(line)s). Is the file cut off?"),
    "not_yaml": gettext_noop("This is not YAML that can be read (line %(line)s)."),
    "not_xml": gettext_noop("This is not XML that can be read (line %(line)s). Is the file cut off?"),
    "xml_doctype": gettext_noop("A document type (DOCTYPE) is not read. Remove it."),
    "yaml_alias": gettext_noop("Anchors and aliases are not read. Write the values out."),
    "too_deep": gettext_noop("The values are nested too deeply."),
    "not_an_object": gettext_noop("An object ({…}) is needed here."),
    "not_a_list": gettext_noop("A list is needed here."),
    "missing_value": gettext_noop("This value is missing."),
    "not_a_number": gettext_noop("“%(value)s” is not a number."),
    "not_a_whole_number": gettext_noop("“%(value)s” is not a whole number."),
    "not_finite": gettext_noop("The number is not finite (NaN or infinite)."),
    "negative": gettext_noop("%(value)s is negative."),
    "outside": gettext_noop("%(value)s lies outside of the picture (0 to %(limit)s)."),
    "reversed": gettext_noop("The right or lower edge (%(maximum)s) comes before the other (%(minimum)s)."),
    "zero_area": gettext_noop("The box has no area."),
    "columns": gettext_noop(
        "The row has %(found)s columns; a box has 5: class, x centre, y centre, width, height."
    ),
    "crowd": gettext_noop("A crowd region (iscrowd) is not one animal. Draw its animals, or leave it out."),
    "unknown_class": gettext_noop("“%(value)s” is none of the classes of this set."),
    "unknown_label": gettext_noop("The survey has no label “%(value)s”. Make it first, or have it made."),
    "unknown_image": gettext_noop("There is no image with the id %(value)s."),
    "label_order": gettext_noop("The classes are not those of %(other)s, in the same order."),
    "no_labels": gettext_noop("The set names no classes."),
    "bad_label": gettext_noop("“%(value)s” cannot be a class's name."),
    "label_twice": gettext_noop("The class “%(value)s” is there twice."),
    "name_twice": gettext_noop("The name “%(value)s” is there twice in one object."),
    "id_twice": gettext_noop("The id %(value)s is there twice."),
    "image_twice": gettext_noop("The picture “%(value)s” is there twice."),
    "bad_file_name": gettext_noop("“%(value)s” cannot be a picture's file name."),
    "missing_image": gettext_noop("The picture “%(value)s” is not in the archive."),
    "several_images": gettext_noop("Several pictures in the archive could be “%(value)s”."),
    "same_picture": gettext_noop("This is the same picture as %(other)s. Remove one."),
    "wrong_size": gettext_noop("%(stated)s pixels are stated, but the picture has %(actual)s."),
    "bad_picture": gettext_noop("The picture cannot be read."),
    "too_many_boxes": gettext_noop("More than %(limit)s boxes on one picture."),
    "bad_licence": gettext_noop("“%(value)s” is no licence that photos have here."),
    "not_csv": gettext_noop("This is not CSV that can be read (row %(line)s)."),
    "split_twice": gettext_noop(
        "“%(value)s” is in more than one of the lists for training, validation and test."
    ),
}


@dataclass(frozen=True, slots=True)
class Problem:
    """`row` counts from 1: a line of a text file, or the place in a list; `field` is the format's own word."""

    code: str
    file: str = ""
    field: str = ""
    row: int | None = None
    params: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def message(self) -> str:
        """In English. `MESSAGES` and `params` make it in other languages."""
        return MESSAGES[self.code] % self.params

    def __str__(self) -> str:
        place = ", ".join(
            part for part in (self.file, f"row {self.row}" if self.row else "", self.field) if part
        )
        return f"{place}: {self.message}" if place else self.message

    def as_json(self) -> dict[str, Any]:
        return {
            "code": self.code,
            "file": _storable(self.file)[:300],
            "field": _storable(self.field)[:100],
            "row": self.row,
            "params": {name: _storable(str(value))[:200] for name, value in self.params.items()},
        }


def _storable(text: str) -> str:
    """A database takes neither a NUL nor half a character; archives have both."""
    return text.encode("utf-8", "replace").decode().replace("\0", "?")


class FormatError(Exception):
    """Labelled data that cannot be taken, with all that is wrong with it (the first 100)."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems

    @property
    def code(self) -> str:
        return self.problems[0].code


class TooManyProblemsError(Exception):
    """The list is full: nobody reads on."""


class Problems:
    """Collects problems while a set is read."""

    def __init__(self, *, limit: int = MAX_PROBLEMS) -> None:
        self.found: list[Problem] = []
        self._limit = limit

    def add(
        self, code: str, *, file: str = "", field: str = "", row: int | None = None, **params: Any
    ) -> None:
        self.found.append(Problem(code, file, field, row, params))
        if len(self.found) >= self._limit:
            raise TooManyProblemsError

    def raise_any(self) -> None:
        if self.found:
            raise FormatError(self.found)

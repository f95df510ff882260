"""Formats of labelled pictures, exact in both directions. Pure Python: no Django, nothing is unpacked to a disk.

Why these are not somebody else's converters: docs/formats.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO, Final

from apps.training.formats import box_csv, coco, label_studio, voc, yolo
from apps.training.formats.archive import DEFAULT_LIMITS, ReadLimits
from apps.training.formats.model import LabelledBox, LabelledImage, LabelledSet
from apps.training.formats.problems import FormatError, Problem
from apps.training.formats.reading import Reader, ReadSet, read_with

PictureOf = Callable[[LabelledImage], bytes]

WRITERS: Final[dict[str, Callable[[LabelledSet, BinaryIO, PictureOf], None]]] = {
    "yolo": yolo.write,
    "coco": coco.write,
    "voc": voc.write,
    "label_studio": label_studio.write,
    "csv": box_csv.write,
}
READERS: Final[dict[str, Reader]] = {"yolo": yolo.read, "coco": coco.read, "voc": voc.read}


def write_set(labelled: LabelledSet, kind: str, target: BinaryIO, picture: PictureOf) -> None:
    """Write a zip archive of the set; `picture` gives each picture's bytes. Raises `FormatError`."""
    WRITERS[kind](labelled, target, picture)


def read_set(stream: BinaryIO, kind: str, *, limits: ReadLimits = DEFAULT_LIMITS) -> ReadSet:
    """Read a zip archive. Raises `FormatError` with all that is wrong in it."""
    return read_with(READERS[kind], stream, limits)


__all__ = [
    "READERS", "WRITERS", "FormatError", "LabelledBox", "LabelledImage", "LabelledSet", "PictureOf", "Problem",
    "ReadLimits", "ReadSet", "read_set", "write_set",
]  # fmt: skip

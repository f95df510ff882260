"""Labelled pictures in memory: what every format is written from and read into.

Coordinates are pixels of the upright picture, origin top left, x to the right, y down, edges (not pixel numbers): the
whole picture is 0, 0, width, height. They lie on a grid of a millionth of a pixel, held as whole numbers wherever
they are converted, because only then every format gives back exactly what was written: `x + width` of two floats, or
a share of the picture's width times that width, is off in the last digit. A float with up to six decimals is on the
grid as it is; what the grid moves is at most half a millionth of a pixel.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Final, Literal

from apps.training.formats.problems import Problems, TooManyProblemsError

Split = Literal["train", "validation", "test"]

SPLITS: Final[tuple[Split, ...]] = ("train", "validation", "test")
SPLIT_FOLDERS: Final[dict[Split | None, str]] = {
    "train": "train",
    "validation": "val",
    "test": "test",
    None: "default",
}
"""The folder names that Ultralytics, COCO and VOC users expect; "default" is CVAT's word for no split."""
_SPLITS_BY_WORD: Final[dict[str, Split]] = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
GRID: Final = 1_000_000
"""Steps of the coordinates' grid in one pixel."""
PICTURE_SUFFIXES: Final = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".heic", ".heif")
MAX_SIDE_PX: Final = 30_000


@dataclass(frozen=True, slots=True)
class LabelledBox:
    x_min: float
    y_min: float
    x_max: float
    y_max: float
    label: int
    """Index into the set's labels."""
    score: float | None = None
    """Of a prediction, 0 to 1; None for an answer."""

    def steps(self) -> tuple[int, int, int, int]:
        """The four edges in steps of the grid."""
        return steps(self.x_min), steps(self.y_min), steps(self.x_max), steps(self.y_max)


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """An empty `boxes` says that there is no animal, not that nobody looked."""

    file_name: str
    """Relative path below the folder of its split."""
    width_px: int
    height_px: int
    boxes: tuple[LabelledBox, ...] = ()
    split: Split | None = None
    licence: str = ""
    attribution: str = ""
    source_id: str = ""

    @property
    def stem(self) -> str:
        return str(PurePosixPath(self.file_name).with_suffix(""))

    @property
    def path(self) -> str:
        """Where YOLO, COCO and Label Studio archives of ours keep it."""
        return f"images/{SPLIT_FOLDERS[self.split]}/{self.file_name}"


@dataclass(frozen=True, slots=True)
class LabelledSet:
    labels: tuple[str, ...]
    images: tuple[LabelledImage, ...]
    title: str = ""

    def in_order(self) -> LabelledSet:
        """Images by split and name, edges on the grid: the one order in which all formats write."""
        images = sorted(
            (replace(image, boxes=tuple(map(on_grid, image.boxes))) for image in self.images), key=_place
        )
        return replace(self, images=tuple(images))

    def without_noncommercial(self) -> LabelledSet:
        """Only the pictures whose licence allows commercial use."""
        kept = tuple(image for image in self.images if "-NC" not in image.licence.upper())
        return replace(self, images=kept)

    def splits(self) -> list[Split | None]:
        """Those that have pictures, in order."""
        there = {image.split for image in self.images}
        return [split for split in (*SPLITS, None) if split in there]


def _place(image: LabelledImage) -> tuple[int, str]:
    return SPLITS.index(image.split) if image.split else len(SPLITS), image.file_name


def split_named(word: str) -> Split | None:
    return _SPLITS_BY_WORD.get(word.lower())


def steps(pixels: float) -> int:
    return round(pixels * GRID)


def pixels(grid_steps: int) -> float:
    """The float nearest to the decimal number, so that it is written with at most six decimals."""
    return grid_steps / GRID


def on_grid(box: LabelledBox) -> LabelledBox:
    x_min, y_min, x_max, y_max = box.steps()
    # A box thinner than the grid keeps an area.
    return replace(
        box,
        x_min=pixels(x_min if x_max > x_min or not x_min else x_min - 1),
        y_min=pixels(y_min if y_max > y_min or not y_min else y_min - 1),
        x_max=pixels(x_max if x_max > x_min or x_min else x_min + 1),
        y_max=pixels(y_max if y_max > y_min or y_min else y_min + 1),
    )


def is_plain_text(text: str) -> bool:
    """Without characters that some of the formats cannot hold: control, lone surrogates, line breaks, non-characters."""
    return not any(
        unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") or c == "\ufeff" or ord(c) & 0xFFFE == 0xFFFE
        for c in text
    )


def is_label(name: str) -> bool:
    return bool(name) and len(name) <= 200 and name == name.strip() and is_plain_text(name)


def is_file_name(name: str) -> bool:
    """A relative path that stays where it is unpacked, on every system, and names a picture."""
    parts = name.split("/")
    return (
        len(name) <= 250
        and is_plain_text(name)
        and "\\" not in name
        and ":" not in name
        and all(part and part not in (".", "..") and part == part.strip() for part in parts)
        and PurePosixPath(name).suffix.lower() in PICTURE_SUFFIXES
        and PurePosixPath(name).stem == PurePosixPath(name).stem.strip()
    )


def check_labels(labels: Sequence[str], problems: Problems, *, file: str = "", field: str = "names") -> None:
    if not labels:
        problems.add("no_labels", file=file, field=field)
    seen: set[str] = set()
    for row, label in enumerate(labels, start=1):
        if not is_label(label):
            problems.add("bad_label", file=file, field=field, row=row, value=label)
        elif label in seen:
            problems.add("label_twice", file=file, field=field, row=row, value=label)
        seen.add(label)


def check_set(labelled: LabelledSet) -> None:
    """What must hold before a set is written. Raises `FormatError`."""
    problems = Problems()
    try:
        check_labels(labelled.labels, problems)
        seen: set[tuple[Split | None, str]] = set()
        for row, image in enumerate(labelled.images, start=1):
            name = image.file_name
            if not is_file_name(name):
                problems.add("bad_file_name", field="file_name", row=row, value=name)
            # Label files are named after the picture without its suffix.
            elif (image.split, image.stem) in seen:
                problems.add("image_twice", field="file_name", row=row, value=name)
            seen.add((image.split, image.stem))
            for number, box in enumerate(image.boxes, start=1):
                check_box(problems, image, box, file=name, row=number)
                if not 0 <= box.label < len(labelled.labels):
                    problems.add("unknown_class", file=name, field="label", row=number, value=box.label)
                if box.score is not None and not 0 <= box.score <= 1:
                    problems.add("outside", file=name, field="score", row=number, value=box.score, limit=1)
    except TooManyProblemsError:
        pass
    problems.raise_any()


def check_box(
    problems: Problems, image: LabelledImage, box: LabelledBox, *, file: str, row: int, field: str = ""
) -> bool:
    """Whether the box lies in its picture and has an area; else the problems say what is wrong.

    `field` is put before the name of the wrong edge, e.g. `bbox.`.
    """
    edges = {"x_min": box.x_min, "y_min": box.y_min, "x_max": box.x_max, "y_max": box.y_max}
    before = len(problems.found)
    for name, value in edges.items():
        limit = image.width_px if name.startswith("x") else image.height_px
        if not math.isfinite(value):
            problems.add("not_finite", file=file, field=f"{field}{name}", row=row)
        elif not 0 <= value <= limit:
            shown = f"{value:g}"
            problems.add("outside", file=file, field=f"{field}{name}", row=row, value=shown, limit=limit)
    if len(problems.found) > before:
        return False
    for low, high in (("x_min", "x_max"), ("y_min", "y_max")):
        if edges[high] < edges[low]:
            problems.add(
                "reversed",
                file=file,
                field=f"{field}{high}",
                row=row,
                minimum=f"{edges[low]:g}",
                maximum=f"{edges[high]:g}",
            )
        elif edges[high] == edges[low]:
            problems.add("zero_area", file=file, field=f"{field}{high}", row=row)
    return len(problems.found) == before


def pulled_in(
    grid_edges: tuple[int, int, int, int], image: LabelledImage, *, slack_px: float
) -> tuple[float, float, float, float]:
    """Edges in pixels; those outside of the picture by no more than the format's rounding are put on its border."""
    slack = round(slack_px * GRID)

    def pulled(edge: int, limit_px: int) -> float:
        limit = limit_px * GRID
        if -slack <= edge < 0:
            return 0.0
        return pixels(limit if limit < edge <= limit + slack else edge)

    x_min, y_min, x_max, y_max = grid_edges
    width, height = image.width_px, image.height_px
    return pulled(x_min, width), pulled(y_min, height), pulled(x_max, width), pulled(y_max, height)

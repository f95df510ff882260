"""CSV: one row for each box, and one row without a box for each picture that shows no animal; RFC 4180, UTF-8."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import BinaryIO, Final

from apps.training.formats.archive import WrittenArchive
from apps.training.formats.credits import LICENCE_URLS, write_credits
from apps.training.formats.model import SPLIT_FOLDERS, LabelledImage, LabelledSet, check_set
from apps.training.formats.tables import Cell, table

COLUMNS: Final = (
    "file", "split", "width_px", "height_px", "box", "label", "label_index", "x_min", "y_min", "x_max", "y_max",
    "score", "licence", "licence_url", "attribution", "source_id",
)  # fmt: skip


def write(labelled: LabelledSet, target: BinaryIO, picture: Callable[[LabelledImage], bytes]) -> None:
    """Raises `FormatError`."""
    check_set(labelled)
    labelled = labelled.in_order()
    with WrittenArchive(target) as archive:
        archive.add_text("boxes.csv", table(COLUMNS, _rows(labelled)))
        archive.add_text("labels.csv", table(("label_index", "label"), enumerate(labelled.labels)))
        write_credits(archive, labelled, {image.path: image.path for image in labelled.images})
        for image in labelled.images:
            archive.add_picture(image.path, picture(image))


def _rows(labelled: LabelledSet) -> Iterator[list[Cell]]:
    for image in labelled.images:
        split = SPLIT_FOLDERS[image.split] if image.split else None
        before: list[Cell] = [image.path, split, image.width_px, image.height_px]
        licence_url = LICENCE_URLS.get(image.licence)
        after: list[Cell] = [image.licence, licence_url, image.attribution, image.source_id]
        for number, box in enumerate(image.boxes, start=1):
            edges = [box.x_min, box.y_min, box.x_max, box.y_max]
            label = labelled.labels[box.label]
            yield [*before, number, label, box.label, *edges, box.score, *after]
        if not image.boxes:
            yield [*before, *([None] * 8), *after]

"""Pascal VOC: `Annotations/*.xml`, `JPEGImages/`, `ImageSets/Main/<split>.txt`, and `labels.txt` for the order of classes.

VOC counts pixels from 1 and includes the last: a box over the whole picture is 1, 1, width, height. So the left and
upper edges are one more than ours, and the others are the same (as Detectron2 reads it; tools that take VOC's numbers for
edges are one pixel off). Ours may have decimals, which the format's schema allows and its first tools did not write.

http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from pathlib import PurePosixPath
from typing import BinaryIO, Final

from apps.training.formats.archive import ReadArchive, WrittenArchive
from apps.training.formats.credits import write_credits
from apps.training.formats.model import (
    GRID,
    PICTURE_SUFFIXES,
    SPLIT_FOLDERS,
    SPLITS,
    LabelledBox,
    LabelledImage,
    LabelledSet,
    Split,
    check_box,
    check_labels,
    check_set,
    pulled_in,
    split_named,
    steps,
)
from apps.training.formats.problems import FormatError, Problem
from apps.training.formats.reading import Reading, failed, listed, number, read_xml, whole_number

_SLACK_PX: Final = 0.02
_LABELS: Final = "labels.txt"
_SETS: Final = "ImageSets/Main"


def write(labelled: LabelledSet, target: BinaryIO, picture: Callable[[LabelledImage], bytes]) -> None:
    """Raises `FormatError`, also for two splits with a picture of one name: VOC has one folder for all."""
    check_set(labelled)
    labelled = labelled.in_order()
    _check_one_folder(labelled)
    with WrittenArchive(target) as archive:
        archive.add_text(_LABELS, "".join(f"{label}\n" for label in labelled.labels))
        for split in SPLITS:
            stems = [image.stem for image in labelled.images if image.split == split]
            if stems:
                archive.add_text(f"{_SETS}/{SPLIT_FOLDERS[split]}.txt", "".join(f"{s}\n" for s in stems))
        paths = {image.path: f"JPEGImages/{image.file_name}" for image in labelled.images}
        write_credits(archive, labelled, paths)
        for image in labelled.images:
            archive.add_text(f"Annotations/{image.stem}.xml", _document(labelled, image))
        for image in labelled.images:
            archive.add_picture(paths[image.path], picture(image))


def _check_one_folder(labelled: LabelledSet) -> None:
    seen: set[str] = set()
    twice = []
    for image in labelled.images:
        if image.stem in seen:
            twice.append(Problem("image_twice", field="filename", params={"value": image.file_name}))
        seen.add(image.stem)
    if twice:
        raise FormatError(twice[:100])


def _document(labelled: LabelledSet, image: LabelledImage) -> str:
    root = ET.Element("annotation")
    _add(root, "folder", "JPEGImages")
    _add(root, "filename", image.file_name)
    source = ET.SubElement(root, "source")
    _add(source, "database", labelled.title)
    size = ET.SubElement(root, "size")
    for name, value in (("width", image.width_px), ("height", image.height_px), ("depth", 3)):
        _add(size, name, str(value))
    _add(root, "segmented", "0")
    for box in image.boxes:
        item = ET.SubElement(root, "object")
        for name, text in (
            ("name", labelled.labels[box.label]),
            ("pose", "Unspecified"),
            ("truncated", "0"),
            ("difficult", "0"),
        ):
            _add(item, name, text)
        corners = ET.SubElement(item, "bndbox")
        x_min, y_min, x_max, y_max = box.steps()
        for name, grid_steps in (
            ("xmin", x_min + GRID),
            ("ymin", y_min + GRID),
            ("xmax", x_max),
            ("ymax", y_max),
        ):
            _add(corners, name, _decimal(grid_steps))
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"


def _add(parent: ET.Element, name: str, text: str) -> None:
    ET.SubElement(parent, name).text = text


def _decimal(grid_steps: int) -> str:
    """Whole pixels without a point, as VOC's own tools read them; never an exponent."""
    whole, rest = divmod(grid_steps, GRID)
    return f"{whole}.{rest:06d}".rstrip("0") if rest else str(whole)


def read(reading: Reading) -> tuple[str, ...]:
    """Reads `Annotations/*.xml`; without `labels.txt` the classes stand in the order of the alphabet."""
    archive, problems = reading.archive, reading.problems
    files = sorted(name for name in archive.names() if name.endswith(".xml"))
    if not files:
        raise failed("no_annotations", "", wanted="Annotations/….xml")
    splits = _splits(reading)
    roots: dict[str, ET.Element] = {}
    for name in files:
        with listed(reading):
            root = read_xml(archive, name)
            if root.tag != "annotation":
                raise failed("missing_value", name, field="annotation")
            roots[name] = root
    labels = _labels(reading, roots)
    taken = set()
    unread = set(files)
    for name, root in roots.items():
        with listed(reading):
            taken.add(_read_document(reading, root, name, labels, splits))
            unread.discard(name)
    for path in archive.pictures():
        if path not in taken and path.startswith("JPEGImages/"):
            wanted = f"Annotations/{PurePosixPath(path).stem}.xml"
            if wanted not in unread:  # what is wrong with those is listed already
                problems.add("no_annotations", file=path, wanted=wanted)
    return labels


def _splits(reading: Reading) -> dict[str, Split]:
    found: dict[str, Split] = {}
    for name in sorted(reading.archive.names()):
        path = PurePosixPath(name)
        split = split_named(path.stem)
        if str(path.parent) != _SETS or path.suffix != ".txt" or split is None:
            continue  # lists by class, and `trainval`
        for row, line in enumerate(reading.archive.read_text(name).split("\n"), start=1):
            stem = line.strip()
            if not stem:
                continue
            if found.setdefault(stem, split) != split:
                reading.problems.add("split_twice", file=name, row=row, value=stem)
    return found


def _labels(reading: Reading, roots: dict[str, ET.Element]) -> tuple[str, ...]:
    if _LABELS in reading.archive:
        lines = reading.archive.read_text(_LABELS).split("\n")
        labels = tuple(line.strip() for line in lines if line.strip())
        check_labels(labels, reading.problems, file=_LABELS, field="")
        return labels
    names = {_text(item, "name") for root in roots.values() for item in root.iterfind("object")}
    labels = tuple(sorted(names - {""}))
    if not roots:
        return ()  # none of them could be read, which is listed already
    check_labels(labels, reading.problems, field="name")
    return labels


def _text(parent: ET.Element, name: str) -> str:
    return (parent.findtext(name) or "").strip()


def _read_document(
    reading: Reading, root: ET.Element, file: str, labels: tuple[str, ...], splits: dict[str, Split]
) -> str:
    """Gives the path of the picture."""
    name = _text(root, "filename")
    if not name:
        raise failed("missing_value", file, field="filename")
    path = _path(reading.archive, name, file)
    if path is None:
        raise failed("missing_image", file, field="filename", value=name)
    size = reading.size_px(path)
    if size is None:
        return path
    stated = [
        whole_number(reading.problems, root.findtext(f"size/{key}"), file=file, field=f"size.{key}", row=None)
        for key in ("width", "height")
    ]
    if None in stated:
        return path
    if tuple(stated) != size:
        pairs = [f"{width} × {height}" for width, height in (stated, size)]
        raise failed("wrong_size", file, field="size", stated=pairs[0], actual=pairs[1])
    file_name = path.removeprefix("JPEGImages/")
    image = LabelledImage(file_name, *size)
    image = replace(image, split=splits.get(image.stem) or splits.get(PurePosixPath(image.stem).name))
    items = root.findall("object")
    if len(items) > reading.archive.limits.boxes:
        raise failed("too_many_boxes", file, limit=reading.archive.limits.boxes)
    boxes = [
        _read_box(reading, item, image, labels, file=file, row=row) for row, item in enumerate(items, start=1)
    ]
    reading.add_image(replace(image, boxes=tuple(box for box in boxes if box)), path)
    return path


def _path(archive: ReadArchive, name: str, file: str) -> str | None:
    """The picture an annotation names; some tools leave its suffix away or write a path of their own disk."""
    bare = name.replace("\\", "/").split("/")[-1]
    beside = file.rpartition("/")[0]
    stem = file.removeprefix("Annotations/").removesuffix(".xml")
    candidates = [f"JPEGImages/{name}", f"JPEGImages/{bare}", f"images/{bare}", f"{beside}/{bare}", bare]
    candidates += [f"JPEGImages/{stem}{suffix}" for suffix in PICTURE_SUFFIXES if "." not in bare]
    return next((path for path in candidates if path in archive), None)


def _read_box(
    reading: Reading,
    item: ET.Element,
    image: LabelledImage,
    labels: tuple[str, ...],
    *,
    file: str,
    row: int,
) -> LabelledBox | None:
    problems, label = reading.problems, _text(item, "name")
    if label not in labels:
        problems.add("unknown_class", file=file, field="object.name", row=row, value=label[:80])
        return None
    values = [
        number(problems, item.findtext(f"bndbox/{key}"), file=file, field=f"object.bndbox.{key}", row=row)
        for key in ("xmin", "ymin", "xmax", "ymax")
    ]
    if None in values:
        return None
    x_min, y_min, x_max, y_max = (steps(value) for value in values if value is not None)
    edges = (_from_one(x_min), _from_one(y_min), x_max, y_max)
    box = LabelledBox(*pulled_in(edges, image, slack_px=_SLACK_PX), labels.index(label))
    return box if check_box(problems, image, box, file=file, row=row, field="object.bndbox.") else None


def _from_one(grid_steps: int) -> int:
    """Some tools count from 0: there the border is 0, not 1."""
    return 0 if 0 <= grid_steps < GRID else grid_steps - GRID

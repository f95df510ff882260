"""Ultralytics YOLO for detection: `data.yaml`, `images/<split>/`, `labels/<split>/*.txt`.

A row is `class x_centre y_centre width height`, as shares of the upright picture's size. They are written as the float
nearest to the true share: with Ultralytics' own six decimals a box on a picture of 10,000 px would move by 0.005 px
each time. Read back, the product with the picture's size is off by less than 1e-7 px, so the grid gives the edge exactly.
Scores have no place in it: a sixth column is read as a polygon.

https://docs.ultralytics.com/datasets/detect/
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any, BinaryIO, Final

import yaml

from apps.training.formats.archive import ReadArchive, WrittenArchive
from apps.training.formats.credits import write_credits
from apps.training.formats.model import (
    GRID,
    SPLIT_FOLDERS,
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
from apps.training.formats.reading import Reading, failed, listed, number, split_of_path

_FIELDS: Final = ("class", "x_centre", "y_centre", "width", "height")
_YAML_BYTES: Final = 1 << 20
_YAML_DEPTH: Final = 20
_YAML_SUFFIXES: Final = (".yaml", ".yml")
_CLASSES: Final = "classes.txt"
# Six decimals of centre and width, each rounded: what other tools write for a box that touches the border.
_SHARE_SLACK: Final = 2e-6


def write(labelled: LabelledSet, target: BinaryIO, picture: Callable[[LabelledImage], bytes]) -> None:
    """Raises `FormatError` for a set that cannot be written."""
    check_set(labelled)
    labelled = labelled.in_order()
    with WrittenArchive(target) as archive:
        archive.add_text("data.yaml", _data_yaml(labelled))
        write_credits(archive, labelled, {image.path: image.path for image in labelled.images})
        for image in labelled.images:
            text = "".join(_row(image, box) for box in image.boxes)
            archive.add_text(f"labels/{SPLIT_FOLDERS[image.split]}/{image.stem}.txt", text)
        for image in labelled.images:
            archive.add_picture(image.path, picture(image))


def _row(image: LabelledImage, box: LabelledBox) -> str:
    x_min, y_min, x_max, y_max = box.steps()
    width, height = image.width_px * GRID, image.height_px * GRID
    # Whole numbers divided: Python rounds the true quotient, once.
    shares = (
        (x_min + x_max) / (2 * width),
        (y_min + y_max) / (2 * height),
        (x_max - x_min) / width,
        (y_max - y_min) / height,
    )
    return " ".join([str(box.label), *map(_decimal, shares)]) + "\n"


def _decimal(share: float) -> str:
    """Shortest text that gives this float back, without an exponent, which some readers do not know."""
    text = repr(share)
    if "e" not in text:
        return text
    digits, _e, exponent = text.partition("e-")
    return "0." + "0" * (int(exponent) - 1) + digits.replace(".", "")


def _data_yaml(labelled: LabelledSet) -> str:
    there = labelled.splits()
    folders: dict[str, str] = {}
    for split in there:
        folders[SPLIT_FOLDERS[split] if split else "train"] = f"images/{SPLIT_FOLDERS[split]}"
    if "train" in there and None in there:
        folders["train"] = "images/train"
    # Ultralytics wants both; a set without one of them says so by naming a folder that is there.
    first = next(iter(folders.values()), "images/train")
    wanted = {"path": ".", "train": folders.get("train", first), "val": folders.get("val", first)}
    document: dict[str, Any] = wanted | folders
    document["names"] = dict(enumerate(labelled.labels))
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=1_000)


def read(reading: Reading) -> tuple[str, ...]:
    """Reads this layout and its common variants (`train/images`, lists of pictures in .txt)."""
    archive, problems = reading.archive, reading.problems
    name = _data_file(archive)
    document = _load_yaml(archive, name) if name.endswith(_YAML_SUFFIXES) else _classes(archive, name)
    labels = _labels(document.get("names"), reading, name)
    splits = _splits(document, archive)
    label_files = {path for path in archive.names() if path.endswith(".txt") and _is_label_file(path)}
    for path in archive.pictures():
        label_files.discard(_label_path(path))
        with listed(reading):
            _read_image(reading, path, _split(path, splits), labels)
    for path in sorted(label_files):
        problems.add("missing_image", file=path, value=PurePosixPath(path).stem)
    return labels


def _data_file(archive: ReadArchive) -> str:
    found = [name for name in archive.names() if name.endswith((*_YAML_SUFFIXES, _CLASSES))]
    best = sorted(
        found, key=lambda name: (name.endswith(_CLASSES), name.count("/"), name != "data.yaml", name)
    )
    if not best:
        raise failed("no_annotations", "", wanted="data.yaml")
    return best[0]


def _classes(archive: ReadArchive, name: str) -> dict[str, Any]:
    """Label Studio and LabelImg write a list of names instead of a description."""
    lines = [line.strip() for line in archive.read_text(name).split("\n")]
    return {"names": [line for line in lines if line]}


def _load_yaml(archive: ReadArchive, name: str) -> dict[str, Any]:
    text = archive.read(name, limit=_YAML_BYTES).decode("utf-8-sig", errors="replace")
    try:
        _check_events(text, name)
        document = yaml.load(text, _Loader)  # noqa: S506 (a SafeLoader)
    except RecursionError as error:
        raise failed("too_deep", name) from error
    except _KeyTwiceError as error:
        raise failed("id_twice", name, field=error.key[:40], row=error.line, value=error.key[:40]) from error
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        raise failed("not_yaml", name, line=mark.line + 1 if mark else "?") from error
    if not isinstance(document, dict):
        raise failed("not_an_object", name)
    return document


class _Loader(yaml.SafeLoader):
    """Tells the line of a value that is not what its tag says, and of a key that is there twice."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:  # noqa: FBT001, FBT002 (inherited)
        try:
            return super().construct_object(node, deep)
        except (
            ValueError,
            LookupError,
            AttributeError,
            TypeError,
        ) as error:  # `!!bool x`, `!!int ''`, 2026-99-99
            raise yaml.constructor.ConstructorError(None, None, str(error), node.start_mark) from error

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
        seen: set[str] = set()
        for key, _value in node.value if node.id == yaml.MappingNode.id else ():
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise _KeyTwiceError(key)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


class _KeyTwiceError(Exception):
    def __init__(self, key: yaml.ScalarNode) -> None:
        super().__init__(key.value)
        self.key, self.line = key.value, key.start_mark.line + 1


def _check_events(text: str, file: str) -> None:
    """Before anything is built: no aliases, which grow without end, and no depth that ends in a recursion error."""
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise failed("yaml_alias", file, row=_line(event))
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _YAML_DEPTH:
            raise failed("too_deep", file, row=_line(event))


def _line(event: yaml.Event) -> int | None:
    return event.start_mark.line + 1 if event.start_mark else None


def _labels(names: object, reading: Reading, file: str) -> tuple[str, ...]:
    """`names` is a list, or an object by class number; numbers must run from 0 without a gap."""
    problems = reading.problems
    if isinstance(names, dict):
        keys = [key for key in names if isinstance(key, int) and not isinstance(key, bool)]
        if sorted(keys) != list(range(len(names))):
            raise failed("missing_value", file, field=f"names.{_first_gap(keys)}")
        names = [names[key] for key in range(len(names))]
    if not isinstance(names, list):
        raise failed("no_labels", file, field="names")
    for row, name in enumerate(names, start=1):
        if name is None or isinstance(name, bool):  # `no` without quotes is false: whose name was it?
            problems.add("bad_label", file=file, field="names", row=row, value=str(name))
    labels = tuple(name if isinstance(name, str) else str(name) for name in names)
    check_labels(labels, problems, file=file)
    return labels


def _first_gap(keys: list[int]) -> int:
    return next(number for number in range(len(keys) + 1) if number not in keys)


def _splits(document: dict[str, Any], archive: ReadArchive) -> dict[str, Split]:
    """Split by folder or picture, as `data.yaml` says; where two splits name the same folder, its own name decides."""
    found: dict[str, Split] = {}
    for key in ("train", "val", "test"):
        split, values = split_named(key), document.get(key)
        for value in values if isinstance(values, list) else [values]:
            if not isinstance(value, str) or split is None:
                continue
            place = value.removeprefix("./").removeprefix("../").strip("/")
            if place.endswith(".txt") and place in archive:
                lines = archive.read_text(place).split("\n")
                places = [line.strip().removeprefix("./") for line in lines if line.strip()]
            else:
                places = [place]
            for each in places:
                if each not in found or split_of_path(f"{each}/") == split:
                    found[each] = split
    return found


def _split(path: str, splits: dict[str, Split]) -> Split | None:
    if path.startswith("images/default/"):
        return None
    if path in splits:
        return splits[path]
    parents = [str(parent) for parent in PurePosixPath(path).parents]
    for parent in parents:
        if parent in splits:
            return splits[parent]
    return split_of_path("/".join(path.split("/")[:-1]) + "/")


def _is_label_file(path: str) -> bool:
    return "labels" in path.split("/")[:-1] and not path.endswith(f"/{_CLASSES}")


def _label_path(picture: str) -> str:
    """Ultralytics' rule: the last `images` folder becomes `labels`, the suffix `.txt`."""
    path = PurePosixPath(picture)
    parts = list(path.with_suffix(".txt").parts)
    for place in range(len(parts) - 2, -1, -1):
        if parts[place] == "images":
            parts[place] = "labels"
            break
    return "/".join(parts)


def _file_name(path: str) -> str:
    """The name below the split's folder."""
    parts = path.split("/")
    for place in range(len(parts) - 2, -1, -1):
        if parts[place] == "images":
            parts = parts[place + 1 :]
            break
    if len(parts) > 1 and (split_named(parts[0]) or parts[0] == "default"):
        parts = parts[1:]
    return "/".join(parts)


def _read_image(reading: Reading, path: str, split: Split | None, labels: tuple[str, ...]) -> None:
    size = reading.size_px(path)
    if size is None:
        return
    image = LabelledImage(_file_name(path), *size, split=split)
    file = _label_path(path)
    boxes: list[LabelledBox] = []
    if file in reading.archive:  # none: Ultralytics' way to say that there is no animal
        rows = reading.archive.read_text(file).split("\n")
        if sum(map(bool, rows)) > reading.archive.limits.boxes:
            raise failed("too_many_boxes", file, limit=reading.archive.limits.boxes)
        for row, line in enumerate(rows, start=1):
            if line.strip():
                box = _read_row(reading, image, labels, line, file=file, row=row)
                boxes += [box] if box else []
    reading.add_image(LabelledImage(image.file_name, *size, tuple(boxes), split), path)


def _read_row(
    reading: Reading, image: LabelledImage, labels: tuple[str, ...], line: str, *, file: str, row: int
) -> LabelledBox | None:
    problems, values = reading.problems, line.split()
    if len(values) != len(_FIELDS):
        problems.add("columns", file=file, row=row, found=len(values))
        return None
    found = [
        number(problems, value, file=file, field=field, row=row)
        for field, value in zip(_FIELDS, values, strict=True)
    ]
    if None in found:
        return None
    label, x, y, width, height = (value for value in found if value is not None)
    if not label.is_integer() or not 0 <= label < len(labels):
        problems.add("unknown_class", file=file, field="class", row=row, value=values[0][:40])
        return None
    for field, value in (("width", width), ("height", height)):
        if value < 0:
            problems.add("negative", file=file, field=field, row=row, value=value)
            return None
    edges = (
        steps((x - width / 2) * image.width_px),
        steps((y - height / 2) * image.height_px),
        steps((x + width / 2) * image.width_px),
        steps((y + height / 2) * image.height_px),
    )
    slack = max(0.02, _SHARE_SLACK * max(image.width_px, image.height_px))
    box = LabelledBox(*pulled_in(edges, image, slack_px=slack), int(label))
    return box if check_box(problems, image, box, file=file, row=row) else None

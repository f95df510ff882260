"""COCO object detection: `annotations/instances_<split>.json` with the pictures in `images/<split>/`.

Categories are numbered from 1 in the set's order; images and annotations over all splits, so that files can be joined.
Images without annotations stay in `images`. `bbox` is x, y, width, height in pixels from the left upper corner. Predictions
carry a `score` with each annotation, and are also written as COCO results (`results_<split>.json`), which is what
`COCO.loadRes` takes.

https://cocodataset.org/#format-data, https://cocodataset.org/#format-results
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, BinaryIO, Final

from apps.training.formats.archive import ReadArchive, WrittenArchive
from apps.training.formats.credits import LICENCE_URLS, write_credits
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
    pixels,
    pulled_in,
    steps,
)
from apps.training.formats.reading import (
    Reading,
    failed,
    listed,
    read_json,
    split_of_path,
    text_of,
)
from apps.training.formats.reading import number as any_number
from apps.training.formats.reading import whole_number as any_whole_number

_SLACK_PX: Final = 0.02
"""Two decimals each for x and width are what many tools write."""
# Numbers of JSON: "12" is text.
number = partial(any_number, is_text=False)
whole_number = partial(any_whole_number, is_text=False)
_BBOX: Final = ("x", "y", "width", "height")


def write(labelled: LabelledSet, target: BinaryIO, picture: Callable[[LabelledImage], bytes] | None) -> None:
    """Without `picture` the archive holds the annotations alone. Raises `FormatError`."""
    check_set(labelled)
    labelled = labelled.in_order()
    with WrittenArchive(target) as archive:
        for name, document in documents(labelled).items():
            text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
            archive.add_text(f"annotations/{name}", text + "\n")
        write_credits(archive, labelled, {image.path: image.path for image in labelled.images})
        for image in labelled.images if picture else ():
            archive.add_picture(image.path, picture(image))  # type: ignore[misc]


def documents(labelled: LabelledSet) -> dict[str, Any]:
    """The JSON documents of a set in order, by file name."""
    licences = sorted({image.licence for image in labelled.images if image.licence})
    licence_ids = {name: number for number, name in enumerate(licences, start=1)}
    head = {
        "info": {"description": labelled.title},
        "licenses": [{"id": licence_ids[n], "name": n, "url": LICENCE_URLS.get(n, "")} for n in licences],
    }
    categories = [
        {"id": number, "name": label, "supercategory": "animal"}
        for number, label in enumerate(labelled.labels, start=1)
    ]
    found: dict[str, Any] = {}
    next_image = next_annotation = 1
    for split in labelled.splits() or [None]:
        images, annotations, results = [], [], []
        for image in labelled.images:
            if image.split != split:
                continue
            images.append(_image(image, next_image, licence_ids.get(image.licence)))
            for box in image.boxes:
                annotations.append(_annotation(box, next_annotation, next_image))
                if box.score is not None:
                    results.append(_result(annotations[-1]))
                next_annotation += 1
            next_image += 1
        folder = SPLIT_FOLDERS[split]
        body = {"images": images, "annotations": annotations, "categories": categories}
        found[f"instances_{folder}.json"] = head | body
        if results:
            found[f"results_{folder}.json"] = results
    return found


def _image(image: LabelledImage, number: int, licence: int | None) -> dict[str, Any]:
    found: dict[str, Any] = {
        "id": number,
        "file_name": image.file_name,
        "width": image.width_px,
        "height": image.height_px,
    }
    if licence:
        found["license"] = licence
    if image.attribution:
        found["attribution"] = image.attribution
    if image.source_id:
        found["source_id"] = image.source_id
    return found


def _annotation(box: LabelledBox, number: int, image: int) -> dict[str, Any]:
    x_min, y_min, x_max, y_max = box.steps()
    width, height = x_max - x_min, y_max - y_min
    found = {
        "id": number,
        "image_id": image,
        "category_id": box.label + 1,
        # Each from whole numbers: `x + width` read as whole numbers is the right edge again.
        "bbox": [pixels(x_min), pixels(y_min), pixels(width), pixels(height)],
        "area": width * height / (GRID * GRID),
        "iscrowd": 0,
        "segmentation": [],
    }
    return found if box.score is None else found | {"score": box.score}


def _result(annotation: dict[str, Any]) -> dict[str, Any]:
    return {key: annotation[key] for key in ("image_id", "category_id", "bbox", "score")}


def read(reading: Reading) -> tuple[str, ...]:
    """Reads every JSON with images and categories; their categories must agree."""
    archive, problems = reading.archive, reading.problems
    labels: tuple[str, ...] = ()
    first = ""
    for name in _files(archive):
        with listed(reading):
            document = read_json(archive, name)
            if not isinstance(document, dict):
                raise failed("not_an_object", name)
            if not first and (title := document.get("info")) and isinstance(title, dict):
                reading.title = reading.title or text_of(title.get("description"))
            ids, found = _categories(reading, document, name)
            if not first:
                first, labels = name, found
                check_labels(labels, problems, file=name, field="categories")
            elif found != labels:
                raise failed("label_order", name, field="categories", other=first)
            _read_document(reading, document, name, ids)
    return labels


def _files(archive: ReadArchive) -> list[str]:
    found = [
        name for name in archive.names() if name.endswith(".json") and "results_" not in name.split("/")[-1]
    ]
    if not found:
        raise failed("no_annotations", "", wanted="annotations/instances_….json")
    instances = [name for name in found if name.split("/")[-1].startswith("instances")]
    return sorted(instances or found)


def _rows(
    reading: Reading, document: dict[str, Any], key: str, file: str
) -> list[tuple[int, dict[str, Any]]]:
    """The objects of a list with their places, from 1."""
    values = document.get(key)
    if values is None:
        raise failed("missing_value", file, field=key)
    if not isinstance(values, list):
        raise failed("not_a_list", file, field=key)
    rows = []
    for row, value in enumerate(values, start=1):
        if isinstance(value, dict):
            rows.append((row, value))
        else:
            reading.problems.add("not_an_object", file=file, field=key, row=row)
    return rows


def _categories(
    reading: Reading, document: dict[str, Any], file: str
) -> tuple[dict[int, int], tuple[str, ...]]:
    """Index into the labels by category id, and the labels in the file's order."""
    ids: dict[int, int] = {}
    labels: list[str] = []
    for row, category in _rows(reading, document, "categories", file):
        number = whole_number(reading.problems, category.get("id"), file=file, field="categories.id", row=row)
        if number is None:
            continue
        if number in ids:
            reading.problems.add("id_twice", file=file, field="categories.id", row=row, value=number)
        ids[number] = len(labels)
        labels.append(text_of(category.get("name")))
    return ids, tuple(labels)


def _read_document(reading: Reading, document: dict[str, Any], file: str, ids: dict[int, int]) -> None:
    licences = _licences(document)
    split = split_of_path(file)
    images: dict[int, LabelledImage] = {}
    paths: dict[int, str] = {}
    known: set[int] = set()
    for row, entry in _rows(reading, document, "images", file):
        number = whole_number(reading.problems, entry.get("id"), file=file, field="images.id", row=row)
        if number is None:
            continue
        if number in known:
            reading.problems.add("id_twice", file=file, field="images.id", row=row, value=number)
            continue
        known.add(number)
        found = _read_image(reading, entry, file=file, row=row, split=split, licences=licences)
        if found:
            images[number], paths[number] = found
    boxes = _read_boxes(reading, document, file, ids=ids, images=images, known=known)
    for number, image in images.items():
        reading.add_image(replace(image, boxes=tuple(boxes.get(number, ()))), paths[number])


def _licences(document: dict[str, Any]) -> dict[Any, str]:
    """Names by id; also by their address, whatever a tool calls them."""
    found: dict[Any, str] = {}
    by_url = {url: name for name, url in LICENCE_URLS.items()}
    values = document.get("licenses")
    for entry in values if isinstance(values, list) else []:
        if isinstance(entry, dict) and isinstance(entry.get("id"), int):
            url = text_of(entry.get("url")).replace("http://", "https://")
            found[entry["id"]] = by_url.get(url, text_of(entry.get("name")))
    return found


def _read_image(
    reading: Reading,
    entry: dict[str, Any],
    *,
    file: str,
    row: int,
    split: Split | None,
    licences: dict[Any, str],
) -> tuple[LabelledImage, str] | None:
    problems, name = reading.problems, text_of(entry.get("file_name"))
    if not name:
        problems.add("missing_value", file=file, field="images.file_name", row=row)
        return None
    stated = [
        whole_number(problems, entry.get(key), file=file, field=f"images.{key}", row=row)
        for key in ("width", "height")
    ]
    path = _path(reading.archive, name, split, file)
    if path is None:
        problems.add("missing_image", file=file, field="images.file_name", row=row, value=name)
        return None
    size = reading.size_px(path)
    if size is None or None in stated:
        return None
    if tuple(stated) != size:
        problems.add(
            "wrong_size",
            file=file,
            field="images.width",
            row=row,
            stated=f"{stated[0]} × {stated[1]}",
            actual=f"{size[0]} × {size[1]}",
        )
        return None
    licence = entry.get("license")
    image = LabelledImage(
        name,
        *size,
        split=split,
        licence=licences.get(licence, "") if isinstance(licence, int) else "",
        attribution=text_of(entry.get("attribution")),
        source_id=text_of(entry.get("source_id")),
    )
    return image, path


def _path(archive: ReadArchive, name: str, split: Split | None, file: str) -> str | None:
    """Where a picture lies: as ours, as COCO's own (a folder for each split), or beside the annotations."""
    folder = SPLIT_FOLDERS[split]
    beside = file.rpartition("/")[0]
    candidates = (
        f"images/{folder}/{name}",
        f"{folder}/{name}",
        f"{folder}2017/{name}",
        f"{beside}/{name}",
        f"images/{name}",
        name,
    )
    return next((path for path in candidates if path in archive), None)


def _read_boxes(
    reading: Reading,
    document: dict[str, Any],
    file: str,
    *,
    ids: dict[int, int],
    images: dict[int, LabelledImage],
    known: set[int],
) -> dict[int, list[LabelledBox]]:
    problems = reading.problems
    boxes: dict[int, list[LabelledBox]] = {}
    seen: set[int] = set()
    for row, entry in _rows(reading, document, "annotations", file):
        if entry.get("id") is not None:
            own = whole_number(problems, entry["id"], file=file, field="annotations.id", row=row)
            if own is not None and own in seen:
                problems.add("id_twice", file=file, field="annotations.id", row=row, value=own)
            if own is not None:
                seen.add(own)
        image_id, label_id = (
            whole_number(problems, entry.get(key), file=file, field=f"annotations.{key}", row=row)
            for key in ("image_id", "category_id")
        )
        if image_id is not None and image_id not in known:
            problems.add("unknown_image", file=file, field="annotations.image_id", row=row, value=image_id)
        if label_id is not None and label_id not in ids:
            problems.add("unknown_class", file=file, field="annotations.category_id", row=row, value=label_id)
            continue
        if image_id not in images or label_id is None:
            continue
        box = _read_box(reading, entry, images[image_id], ids[label_id], file=file, row=row)
        if box:
            of_image = boxes.setdefault(image_id, [])
            of_image.append(box)
            if len(of_image) > reading.archive.limits.boxes:
                raise failed("too_many_boxes", file, row=row, limit=reading.archive.limits.boxes)
    return boxes


def _read_box(
    reading: Reading, entry: dict[str, Any], image: LabelledImage, label: int, *, file: str, row: int
) -> LabelledBox | None:
    problems = reading.problems
    if entry.get("iscrowd"):
        problems.add("crowd", file=file, field="annotations.iscrowd", row=row)
        return None
    bbox, score = entry.get("bbox"), entry.get("score")
    if not isinstance(bbox, list) or len(bbox) != len(_BBOX):
        problems.add("missing_value", file=file, field="annotations.bbox", row=row)
        return None
    values = [
        number(problems, value, file=file, field=f"annotations.bbox.{name}", row=row)
        for name, value in zip(_BBOX, bbox, strict=True)
    ]
    if score is not None:
        score = number(problems, score, file=file, field="annotations.score", row=row)
        if score is not None and not 0 <= score <= 1:
            problems.add("outside", file=file, field="annotations.score", row=row, value=score, limit=1)
            return None
    if None in values:
        return None
    x, y, width, height = (steps(value) for value in values if value is not None)
    for name, value in (("width", width), ("height", height)):
        if value < 0:
            shown = pixels(value)
            problems.add("negative", file=file, field=f"annotations.bbox.{name}", row=row, value=shown)
            return None
    edges = pulled_in((x, y, x + width, y + height), image, slack_px=_SLACK_PX)
    box = LabelledBox(*edges, label, score)
    return box if check_box(problems, image, box, file=file, row=row, field="annotations.bbox.") else None

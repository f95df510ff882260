"""The labelled dataset that a simulation replays: read, checked, and parted into a pool and a test part."""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml
from numpy.typing import NDArray

from apps.annotation.active_learning.strategies import draw, is_telling
from apps.observations.renditions import perceptual_hash
from apps.training.engine.labelled import LabelledPicture, LabelledPictures, read_coco
from apps.training.engine.pictures import PictureError, decode_upright_rgb, inspect

NEAR_DUPLICATE_BITS: Final = 6
"""Pictures whose perceptual hashes differ in at most so many of 64 bits are kept together, as in a survey."""
_PICTURES: Final = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff"}
_OUTSIDE_PX: Final = 1.0
"""Boxes may reach this far beyond the border: tools round."""


class ReplayError(ValueError):
    """The dataset cannot be replayed; the message names the file and the row."""


def read_folder(folder: Path) -> LabelledPictures:
    """A folder with `coco.json` and `images/`, or of YOLO's layout (`images/`, `labels/`, `data.yaml`)."""
    if not folder.is_dir():
        raise ReplayError(f"{folder}: no such folder")
    images = folder / "images" if (folder / "images").is_dir() else folder
    if (folder / "coco.json").is_file():
        labelled = _read_coco(images, folder / "coco.json")
    elif (folder / "labels").is_dir():
        labelled = _read_yolo(images, folder)
    else:
        raise ReplayError(f"{folder}: neither a coco.json nor a folder labels/ is in it")
    names = [picture.path.name for picture in labelled.pictures]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise ReplayError(f"{folder}: two pictures have the name {min(repeated)}")
    for picture in labelled.pictures:
        _check(picture)
    return labelled


def _read_coco(images: Path, coco: Path) -> LabelledPictures:
    try:
        document: dict[str, Any] = json.loads(coco.read_text())
        _check_ids(document, coco)
        return read_coco(images, coco)
    except ReplayError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ReplayError(f"{coco}: not a COCO detection file ({type(error).__name__}: {error})") from error


def _check_ids(document: dict[str, Any], coco: Path) -> None:
    images = {image["id"] for image in document["images"]}
    labels = {category["id"] for category in document["categories"]}
    if len(images) < len(document["images"]) or len(labels) < len(document["categories"]):
        raise ReplayError(f"{coco}: an id is used twice")
    for row, annotation in enumerate(document["annotations"]):
        if annotation["image_id"] not in images:
            raise ReplayError(f"{coco}: annotations[{row}] is of an image that is not listed")
        if annotation["category_id"] not in labels:
            raise ReplayError(f"{coco}: annotations[{row}] is of a category that is not listed")


def _read_yolo(images: Path, folder: Path) -> LabelledPictures:
    pictures = []
    highest = -1
    for path in sorted(path for path in images.rglob("*") if path.suffix.lower() in _PICTURES):
        try:
            header = inspect(path)
        except PictureError as error:
            raise ReplayError(f"{path}: cannot be read ({error})") from error
        text = folder / "labels" / path.relative_to(images).with_suffix(".txt")
        rows = list(_yolo_rows(text)) if text.exists() else []  # YOLO's way to say that nothing is on it
        centres = np.array([row[1:] for row in rows], np.float64).reshape(-1, 4)
        halves = centres[:, 2:] / 2
        corners = np.concatenate([centres[:, :2] - halves, centres[:, :2] + halves], axis=1)
        labels = np.array([int(row[0]) for row in rows], np.int64)
        highest = max(highest, *labels.tolist(), -1)
        size = np.array([header.width_px, header.height_px] * 2)
        boxes = (corners * size).astype(np.float32)
        pictures.append(LabelledPicture(path, boxes, labels, header.width_px, header.height_px))
    return LabelledPictures(_yolo_labels(folder, highest), tuple(pictures))


def _yolo_rows(text: Path) -> Iterator[tuple[float, ...]]:
    for number, line in enumerate(text.read_text().splitlines(), start=1):
        if not line.strip():
            continue
        try:
            values = tuple(float(value) for value in line.split())
        except ValueError:
            values = ()
        is_label = len(values) == 5 and values[0] >= 0 and values[0] == int(values[0])
        if not is_label or not all(0 <= value <= 1 for value in values[1:]):
            raise ReplayError(f"{text}: line {number} is not `label x y width height` with shares of 0..1")
        yield values


def _yolo_labels(folder: Path, highest: int) -> tuple[str, ...]:
    description = folder / "data.yaml"
    if not description.is_file():
        return tuple(f"label {index}" for index in range(highest + 1))
    try:
        names = (yaml.safe_load(description.read_text()) or {}).get("names", [])
    except (yaml.YAMLError, AttributeError) as error:
        raise ReplayError(f"{description}: cannot be read ({error})") from error
    if isinstance(names, dict):
        names = [names[index] for index in sorted(names)]
    if highest >= len(names):
        raise ReplayError(f"{description}: names {len(names)} labels, but label {highest} is used")
    return tuple(str(name) for name in names)


def _check(picture: LabelledPicture) -> None:
    if not picture.path.is_file():
        raise ReplayError(f"{picture.path}: the picture is missing")
    limits = np.array([picture.width_px, picture.height_px] * 2) + _OUTSIDE_PX
    for row, box in enumerate(picture.boxes_xyxy_px):
        is_sound = np.isfinite(box).all() and (box >= -_OUTSIDE_PX).all() and (box <= limits).all()
        if not is_sound or box[2] <= box[0] or box[3] <= box[1]:
            numbers = ", ".join(f"{value:g}" for value in box.tolist())
            raise ReplayError(f"{picture.path.name}: box {row + 1} ({numbers}) does not lie on the picture")


@dataclass(frozen=True, slots=True)
class Parts:
    """What a seed makes of the dataset."""

    pool: LabelledPictures
    """May be annotated; in an order drawn from the seed, so that ties are broken by chance."""
    test: LabelledPictures
    """Only ever measured on."""
    left_out: tuple[str, ...]
    """Names of pictures that share an animal with the test part."""


def is_plate(labelled: LabelledPictures) -> bool:
    """Whether all pictures are tiles that say where on a plate they lie."""
    return all(picture.place_px is not None for picture in labelled.pictures)


def part(labelled: LabelledPictures, groups: Sequence[Hashable], *, seed: int, test_share: float) -> Parts:
    """A test part of about `test_share` of the pictures, drawn by `seed`, without anything of the pool on it.

    Tiles of a plate are parted by a straight cut at a random angle, so that the test part lies in one piece beside
    the pool; tiles of the pool that show the other half of a test animal are left out. Other pictures are drawn as
    groups (`near_duplicates`; unused for a plate), a group wholly to one part. Raises `ReplayError` if a part is left without an animal.
    """
    wanted = round(test_share * len(labelled.pictures))
    order = _across(labelled, seed) if is_plate(labelled) else _by_group(labelled, groups, seed)
    held_out = {labelled.pictures[index].path.name for index in order[:wanted]}
    if not is_plate(labelled):
        started = {groups[index] for index in order[:wanted]}
        held_out |= {
            p.path.name for p, group in zip(labelled.pictures, groups, strict=True) if group in started
        }
    test = labelled.only(held_out)
    rest = labelled.without(held_out)
    shown = {animal for picture in test.pictures for animal in picture.individuals}
    left_out = tuple(p.path.name for p in rest.pictures if shown & set(p.individuals))
    pool = sorted(
        rest.without(left_out).pictures, key=lambda picture: draw(seed, f"pool:{picture.path.name}")
    )
    parts = Parts(LabelledPictures(labelled.labels, tuple(pool)), test, left_out)
    for name, pictures in (("test part", test), ("pool", parts.pool)):
        if not any(len(picture.labels) for picture in pictures.pictures):
            raise ReplayError(f"seed {seed}: no animal is in the {name} of {len(pictures.pictures)} pictures")
    return parts


def _across(labelled: LabelledPictures, seed: int) -> list[int]:
    angle = 2 * math.pi * draw(seed, "angle")
    direction = np.array([math.cos(angle), math.sin(angle)])
    places = np.array([picture.place_px for picture in labelled.pictures], np.float64)
    order: list[int] = np.argsort(places @ direction, kind="stable").tolist()
    return order


def _by_group(labelled: LabelledPictures, groups: Sequence[Hashable], seed: int) -> list[int]:
    first: dict[Hashable, str] = {}
    for group, picture in zip(groups, labelled.pictures, strict=True):
        first.setdefault(group, picture.path.name)
    return sorted(range(len(groups)), key=lambda index: (draw(seed, f"test:{first[groups[index]]}"), index))


def near_duplicates(pictures: Iterable[LabelledPicture], *, bits: int = NEAR_DUPLICATE_BITS) -> list[int]:
    """A group number per picture; chains of near-duplicates are one group. Blank pictures are nobody's duplicate."""
    hashes = np.array([_hash(picture.path) for picture in pictures], np.int64)
    telling = np.array([is_telling(value) for value in hashes.tolist()], np.bool_)
    group = np.arange(len(hashes))
    for index in np.flatnonzero(telling):
        near = np.bitwise_count((hashes[:index] ^ hashes[index]).view(np.uint64)) <= bits
        near &= telling[:index]
        joined = np.unique(group[:index][near])
        group[np.isin(group, joined)] = index
    numbers: NDArray[np.intp] = np.unique(group, return_inverse=True)[1]
    result: list[int] = numbers.tolist()
    return result


def _hash(path: Path) -> int:
    try:
        return perceptual_hash(decode_upright_rgb(path, scale=4))
    except PictureError as error:
        raise ReplayError(f"{path}: cannot be read ({error})") from error

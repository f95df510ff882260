"""Labelled pictures as training and evaluation see them, read from COCO and cut into windows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from apps.training.engine.pictures import decode_upright_rgb

MIN_VISIBLE_FRACTION: Final = 0.15
"""Of an animal cut by the border of a window: below this share of its box it is not labelled there."""


@dataclass(frozen=True, slots=True)
class LabelledPicture:
    """One picture with its ground truth; an empty picture has N = 0 and is kept, it teaches what debris is."""

    path: Path
    boxes_xyxy_px: NDArray[np.float32]
    """(N, 4) in pixels of the upright picture, origin top left."""
    labels: NDArray[np.int64]
    """(N,) index into the label list."""
    width_px: int
    height_px: int
    place_px: tuple[int, int] | None = None
    """Left and top on the plate that the picture was cut from, where known."""
    individuals: tuple[str, ...] = ()
    """(N,) names of the animals, so that the pieces of one animal on two tiles can be joined; may be empty."""

    def pixels(self) -> NDArray[np.uint8]:
        """(H, W, 3) RGB, uint8."""
        return np.asarray(decode_upright_rgb(self.path))


@dataclass(frozen=True, slots=True)
class LabelledPictures:
    labels: tuple[str, ...]
    pictures: tuple[LabelledPicture, ...]

    def only(self, names: Iterable[str]) -> LabelledPictures:
        """Those whose file name is in `names`; raises ValueError for a name that is not there."""
        wanted = set(names)
        kept = tuple(picture for picture in self.pictures if picture.path.name in wanted)
        if missing := wanted - {picture.path.name for picture in kept}:
            raise ValueError(f"no such labelled pictures: {', '.join(sorted(missing))}")
        return LabelledPictures(self.labels, kept)

    def without(self, names: Iterable[str]) -> LabelledPictures:
        unwanted = set(names)
        return LabelledPictures(self.labels, tuple(p for p in self.pictures if p.path.name not in unwanted))

    def typical_object_px(self) -> float:
        """The median long side of the boxes in pixels: what the tiling of large pictures is measured by."""
        sides = [
            np.ptp(p.boxes_xyxy_px.reshape(-1, 2, 2), axis=1).max(1) for p in self.pictures if len(p.labels)
        ]
        if not sides:
            raise ValueError("no labelled animal in these pictures")
        return float(np.median(np.concatenate(sides)))


def read_coco(images: Path, coco: Path) -> LabelledPictures:
    """COCO detection ground truth; labels are the categories in the order of their ids."""
    document: dict[str, Any] = json.loads(coco.read_text())
    categories = sorted(document["categories"], key=lambda category: category["id"])
    index_of = {category["id"]: index for index, category in enumerate(categories)}
    by_image: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in document["images"]}
    for annotation in document["annotations"]:
        if not annotation.get("iscrowd"):
            by_image[annotation["image_id"]].append(annotation)
    pictures = [
        _labelled_picture(images, image, by_image[image["id"]], index_of) for image in document["images"]
    ]
    return LabelledPictures(tuple(category["name"] for category in categories), tuple(pictures))


def _labelled_picture(
    folder: Path, image: dict[str, Any], annotations: list[dict[str, Any]], index_of: dict[int, int]
) -> LabelledPicture:
    boxes = np.array([a["bbox"] for a in annotations], np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    place = (int(image["plate_x"]), int(image["plate_y"])) if "plate_x" in image else None
    individuals = tuple(str(a["source_id"]) for a in annotations) if place and annotations else ()
    return LabelledPicture(
        path=folder / Path(image["file_name"]).name,
        boxes_xyxy_px=boxes,
        labels=np.array([index_of[a["category_id"]] for a in annotations], np.int64),
        width_px=int(image["width"]),
        height_px=int(image["height"]),
        place_px=place,
        individuals=individuals,
    )


@dataclass(frozen=True, slots=True)
class Cutting:
    """A picture in memory with its ground truth, e.g. a window cut from a larger one."""

    name: str
    pixels: NDArray[np.uint8]
    """(H, W, 3) RGB."""
    boxes_xyxy_px: NDArray[np.float32]
    labels: NDArray[np.int64]

    def transposed(self) -> Cutting:
        """Mirrored at the main diagonal: with both flips it gives all eight orientations of a specimen."""
        pixels = np.ascontiguousarray(self.pixels.transpose(1, 0, 2))
        return Cutting(f"{self.name}_t", pixels, self.boxes_xyxy_px[:, [1, 0, 3, 2]], self.labels)


def cut(source: Cutting, windows_xyxy_px: Sequence[tuple[int, int, int, int]]) -> list[Cutting]:
    """The windows of a picture, each with the boxes that are visible enough in it, clipped to it."""
    cuttings = []
    for left, top, right, bottom in windows_xyxy_px:
        shift = np.array([left, top, left, top], np.float32)
        limits = np.array([right - left, bottom - top] * 2, np.float32)
        clipped = np.clip(source.boxes_xyxy_px - shift, 0, limits)
        visible = _areas(clipped) >= MIN_VISIBLE_FRACTION * np.maximum(_areas(source.boxes_xyxy_px), 1e-6)
        name = f"{source.name}_x{left}_y{top}"
        pixels = source.pixels[top:bottom, left:right]
        cuttings.append(Cutting(name, pixels, clipped[visible], source.labels[visible]))
    return cuttings


def _areas(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    areas: NDArray[np.float32] = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return areas


@dataclass(frozen=True, slots=True)
class Plate:
    """Neighbouring tiles put back where they were cut from; pixels without a tile are black."""

    cutting: Cutting
    covered: NDArray[np.bool_]
    """(H, W) whether a tile lies there."""


def stitch(pictures: Sequence[LabelledPicture], *, name: str = "plate") -> Plate:
    """Undo the cutting of a plate into tiles; the pieces of an animal on several tiles become one box again."""
    placed = [(p, p.place_px) for p in pictures if p.place_px is not None]
    if not placed:
        raise ValueError("these pictures do not say where on the plate they lie")
    left, top = min(place[0] for _, place in placed), min(place[1] for _, place in placed)
    right = max(place[0] + p.width_px for p, place in placed)
    bottom = max(place[1] + p.height_px for p, place in placed)
    pixels = np.zeros((bottom - top, right - left, 3), np.uint8)
    covered = np.zeros(pixels.shape[:2], np.bool_)
    whole: dict[str, tuple[NDArray[np.float32], int]] = {}
    for picture, (plate_x, plate_y) in placed:
        x, y = plate_x - left, plate_y - top
        pixels[y : y + picture.height_px, x : x + picture.width_px] = picture.pixels()
        covered[y : y + picture.height_px, x : x + picture.width_px] = True
        for row, box in enumerate(picture.boxes_xyxy_px + np.array([x, y, x, y], np.float32)):
            key = picture.individuals[row] if picture.individuals else f"{picture.path.name}#{row}"
            known = whole.get(key, (box, 0))[0]
            joined = np.concatenate([np.minimum(known[:2], box[:2]), np.maximum(known[2:], box[2:])])
            whole[key] = (joined, int(picture.labels[row]))
    boxes = np.array([box for box, _ in whole.values()], np.float32).reshape(-1, 4)
    labels = np.array([label for _, label in whole.values()], np.int64)
    return Plate(Cutting(name, pixels, boxes, labels), covered)


def recut(plate: Plate, *, size_px: int) -> list[Cutting]:
    """New windows of a stitched plate, shifted by half a tile each way, every second one transposed.

    The shifted windows show whole the animals that the original borders cut, and cut others: four times the
    pictures from the same labels. Only windows that lie wholly on tiles are taken.
    """
    height, width = plate.covered.shape
    windows = [
        (x, y, x + size_px, y + size_px)
        for y in range(0, height - size_px + 1, size_px // 2)
        for x in range(0, width - size_px + 1, size_px // 2)
        if plate.covered[y : y + size_px, x : x + size_px].all()
    ]
    cuttings = cut(plate.cutting, windows)
    return [cutting.transposed() if i % 2 else cutting for i, cutting in enumerate(cuttings)]

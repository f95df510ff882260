"""Labelled pictures as the trainer reads them: small enough, cut into windows where they must be, in a folder."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import statistics
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from apps.training.engine.events import TrainingError
from apps.training.engine.labelled import Cutting, LabelledPicture, LabelledPictures, cut, recut, stitch
from apps.training.engine.letterbox import fitting_scale
from apps.training.engine.pictures import PictureError, decode_upright_rgb
from apps.training.engine.recipe import Recipe
from apps.training.engine.tiling import SMALLEST_TRAINED_SHARE, windows_of

SMALLEST_VISIBLE_PX: Final = 32.0
"""Below this long side at the net's input, COCO's border of small objects, pictures are trained on in windows."""
_THREADS: Final = 4
"""Whole plates are decoded here: more at a time would cost gigabytes."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A folder that the trainer can start from."""

    description: Path
    """Ultralytics' `data.yaml`, made here and nowhere else: it may name a URL or a script, so none is ever taken in."""
    training: int
    """Pictures that the net is trained on, windows counted singly."""
    validation: int
    tiled: int
    """Labelled pictures that were cut into windows, and the side of those in pixels of the picture."""
    windows: int
    side_px: int
    object_size_px: float
    trained_size_px: float


@dataclass(frozen=True, slots=True)
class _Plan:
    """How the pictures of one training are shown to the net."""

    size_px: int
    scale: float
    """Pixels of the net's input for one pixel of a picture that is seen at the typical scale."""
    tiling: str

    @property
    def side_px(self) -> int:
        return round(self.size_px / self.scale)

    def is_tiled(self, picture: LabelledPicture) -> bool:
        """Windows for pictures that would otherwise show animals much smaller than the typical picture does."""
        if self.tiling == "never" or max(picture.width_px, picture.height_px) <= self.side_px:
            return False
        fitting = fitting_scale(picture.width_px, picture.height_px, self.size_px)
        return self.scale >= 1.0 or fitting < SMALLEST_TRAINED_SHARE * self.scale


def prepare(
    training: LabelledPictures, validation: LabelledPictures, *, folder: Path, recipe: Recipe
) -> Prepared:
    """Write both parts under `folder`, or find them there from an interrupted run of the same pictures."""
    if training.labels != validation.labels:
        raise ValueError("training and validation pictures have different labels")
    if not any(len(picture.labels) for picture in training.pictures):
        raise TrainingError("no_boxes")
    if not any(len(picture.labels) for picture in validation.pictures):
        raise TrainingError("no_validation")
    digest = _digest(training, validation, recipe)
    done = folder / "prepared.json"
    if (known := _read(done, digest)) is not None:
        return known
    shutil.rmtree(folder, ignore_errors=True)
    plan = _Plan(recipe.image_size, _training_scale(training, recipe), recipe.tiling)
    counts = {}
    for part, labelled in (("train", training), ("val", validation)):
        (folder / part / "images").mkdir(parents=True)
        (folder / part / "labels").mkdir()
        counts[part] = _write_all(labelled, folder / part, plan)
    recuttings = list(_recuttings(training, recipe.image_size))
    for number, cutting in enumerate(recuttings):
        _write_cutting(folder / "train", f"r{number:06}", cutting)
    typical = training.typical_object_px()
    tiled = [count for part in counts.values() for count in part if count > 1]
    prepared = Prepared(
        description=_describe(folder, training.labels),
        training=sum(counts["train"]) + len(recuttings),
        validation=sum(counts["val"]),
        tiled=len(tiled),
        windows=sum(tiled),
        side_px=plan.side_px,
        object_size_px=typical,
        trained_size_px=typical * plan.scale,
    )
    record = asdict(prepared) | {"description": prepared.description.name, "digest": digest}
    done.write_text(json.dumps(record))
    return prepared


def _read(done: Path, digest: str) -> Prepared | None:
    try:
        record = json.loads(done.read_text())
        is_same = record.pop("digest") == digest
        record["description"] = done.parent / record["description"]
        return Prepared(**record) if is_same else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _digest(training: LabelledPictures, validation: LabelledPictures, recipe: Recipe) -> str:
    digest = hashlib.sha256(json.dumps([training.labels, recipe.image_size, recipe.tiling]).encode())
    for labelled in (training, validation):
        for picture in labelled.pictures:
            size = picture.path.stat().st_size if picture.path.exists() else 0
            digest.update(f"{picture.path.name} {size} {picture.place_px}".encode())
            digest.update(picture.boxes_xyxy_px.tobytes() + picture.labels.tobytes())
        digest.update(b"|")
    return digest.hexdigest()


def _training_scale(labelled: LabelledPictures, recipe: Recipe) -> float:
    """Pictures are shrunk whole if animals stay visible; otherwise they are cut into windows at native scale."""
    if recipe.tiling == "always":
        return 1.0
    scales = [fitting_scale(p.width_px, p.height_px, recipe.image_size) for p in labelled.pictures]
    whole = statistics.median(scales)
    if recipe.tiling == "never" or labelled.typical_object_px() * whole >= SMALLEST_VISIBLE_PX:
        return whole
    return 1.0


def _write_all(labelled: LabelledPictures, folder: Path, plan: _Plan) -> list[int]:
    """How many files each picture became."""

    def write(numbered: tuple[int, LabelledPicture]) -> int:
        number, picture = numbered
        count = 0
        for cutting in _cuttings(picture, plan):
            _write_cutting(folder, f"{number:06}_{count:05}", cutting)
            count += 1
        return count

    threads = min(_THREADS, len(os.sched_getaffinity(0)))
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(write, enumerate(labelled.pictures)))


def _cuttings(picture: LabelledPicture, plan: _Plan) -> Iterator[Cutting]:
    """The picture, whole or in windows, never larger than the net sees it."""
    if not plan.is_tiled(picture):
        yield _whole(picture, plan.size_px)
        return
    source = Cutting(picture.path.stem, _pixels(picture), picture.boxes_xyxy_px, picture.labels)
    side = plan.side_px
    windows = windows_of(picture.width_px, picture.height_px, side_px=side, overlap_px=side // 4)
    for cutting in cut(source, windows):
        yield _shrunk(cutting, plan.size_px)


def _whole(picture: LabelledPicture, size_px: int) -> Cutting:
    """Decoded at 1/2, 1/4 or 1/8 where that is still larger than the net's input, as the detector does it."""
    longest = max(picture.width_px, picture.height_px)
    scale = next((scale for scale in (8, 4, 2) if longest // scale >= size_px), 1)
    pixels = _pixels(picture, scale)
    factors = np.array([pixels.shape[1] / picture.width_px, pixels.shape[0] / picture.height_px] * 2)
    boxes = (picture.boxes_xyxy_px.reshape(-1, 4) * factors).astype(np.float32)
    return _shrunk(Cutting(picture.path.stem, pixels, boxes, picture.labels), size_px)


def _shrunk(cutting: Cutting, size_px: int) -> Cutting:
    """At most `size_px` long: the trainer would shrink it anew in every epoch."""
    height, width = cutting.pixels.shape[:2]
    scale = fitting_scale(width, height, size_px)
    if scale >= 1.0:
        return cutting
    wide, high = max(1, round(width * scale)), max(1, round(height * scale))
    pixels = cv2.resize(cutting.pixels, (wide, high), interpolation=cv2.INTER_LINEAR)
    factors = np.array([wide / width, high / height] * 2)
    boxes = (cutting.boxes_xyxy_px * factors).astype(np.float32)
    return Cutting(cutting.name, pixels.astype(np.uint8, copy=False), boxes, cutting.labels)


def _pixels(picture: LabelledPicture, scale: int = 1) -> NDArray[np.uint8]:
    try:
        decoded = np.asarray(decode_upright_rgb(picture.path, scale=scale))
    except (PictureError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None and picture.path.exists():
            raise
        raise TrainingError("picture_unreadable", f"{picture.path.name}: {error}") from error
    stated = (-(-picture.height_px // scale), -(-picture.width_px // scale))
    if decoded.shape[:2] != stated:
        found = f"{picture.path.name} is not {picture.width_px} x {picture.height_px} px"
        raise TrainingError("picture_unreadable", found)
    return decoded


def _recuttings(labelled: LabelledPictures, size_px: int) -> Iterator[Cutting]:
    """New windows of the plate that the pictures were cut from, where they say so, without those they are."""
    places = [picture.place_px for picture in labelled.pictures if picture.place_px is not None]
    if not places:
        return
    left, top = min(x for x, _ in places), min(y for _, y in places)
    placed = tuple(picture for picture in labelled.pictures if picture.place_px is not None)
    for cutting in recut(stitch(placed), size_px=size_px):
        x, y = (int(part[1:]) for part in cutting.name.removesuffix("_t").split("_")[-2:])
        if cutting.name.endswith("_t") or (x + left, y + top) not in places:
            yield cutting


def _write_cutting(folder: Path, name: str, cutting: Cutting) -> None:
    Image.fromarray(cutting.pixels).save(folder / "images" / f"{name}.png", compress_level=1)
    height, width = cutting.pixels.shape[:2]
    rows = []
    # The trainer throws away a picture of which a single box reaches beyond it.
    boxes = np.clip(cutting.boxes_xyxy_px.reshape(-1, 4), 0, [width, height, width, height])
    for (x1, y1, x2, y2), label in zip(boxes.tolist(), cutting.labels.tolist(), strict=True):
        if x2 <= x1 or y2 <= y1:
            continue
        centre = f"{(x1 + x2) / 2 / width:.6f} {(y1 + y2) / 2 / height:.6f}"
        rows.append(f"{label} {centre} {(x2 - x1) / width:.6f} {(y2 - y1) / height:.6f}\n")
    (folder / "labels" / f"{name}.txt").write_text("".join(rows))


def _describe(folder: Path, labels: tuple[str, ...]) -> Path:
    description = folder / "data.yaml"
    names = [f"  {index}: {json.dumps(label)}" for index, label in enumerate(labels)]
    lines = [f"path: {json.dumps(str(folder.resolve()))}", "train: train/images", "val: val/images", "names:"]
    description.write_text("\n".join([*lines, *names, ""]))
    return description

"""A frozen dataset as a simulation replays it: its originals on disk, under names that lead back to the photos."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from django.core.files.storage import Storage

from apps.annotation.active_learning.replay import ReplayError
from apps.training.engine.labelled import LabelledPicture, LabelledPictures
from apps.training.models import Dataset
from apps.training.models.versions import private_storage
from apps.training.services.datasets import DatasetDamagedError, FrozenBox, FrozenItem, read_manifest


def find_dataset(name: str) -> Dataset:
    """By number (`12`), public identifier, or name and number (`springtails#3`). Raises `ReplayError`."""
    text, _, number = name.partition("#")
    if number:
        wanted = {"name": text, "number": number} if number.isdigit() else None
    elif text.isdigit():
        wanted = {"pk": text}
    else:
        wanted = {"public_id": text} if _is_uuid(text) else None
    dataset = Dataset.objects.filter(**wanted).first() if wanted else None
    if dataset is None:
        raise ReplayError(
            f"{name}: neither a folder nor a frozen dataset (12, springtails#3, or its identifier)"
        )
    return dataset


def fetch(dataset: Dataset, folder: Path) -> tuple[LabelledPictures, list[str]]:
    """Its pictures, copied into `folder` where they are not there yet, and the group of each.

    Pictures that were withdrawn since are left out. Raises `ReplayError` for an original that is missing or not the
    one that was frozen.
    """
    try:
        manifest = read_manifest(dataset)
    except (DatasetDamagedError, OSError) as error:
        raise ReplayError(f"{dataset}: {error}") from error
    withdrawn = set(dataset.items.filter(is_withdrawn=True).values_list("photo", flat=True))
    items = [item for item in manifest.items if uuid.UUID(item.photo) not in withdrawn]
    folder.mkdir(parents=True, exist_ok=True)
    storage = private_storage()
    pictures = tuple(_picture(item, _copied(item, folder, storage), manifest.labels) for item in items)
    return LabelledPictures(manifest.labels, pictures), [item.group for item in items]


def _copied(item: FrozenItem, folder: Path, storage: Storage) -> Path:
    path = folder / f"{item.photo}{PurePosixPath(item.file).suffix}"
    if path.exists():
        return path
    try:
        with storage.open(item.file, "rb") as file:
            content = file.read()
    except OSError as error:
        raise ReplayError(f"photo {item.photo}: its original {item.file} is missing") from error
    if hashlib.sha256(content).hexdigest() != item.file_sha256:
        raise ReplayError(f"photo {item.photo}: its original {item.file} is not the one that was frozen")
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_bytes(content)
    return unfinished.replace(path)


def _picture(item: FrozenItem, path: Path, labels: Sequence[str]) -> LabelledPicture:
    corners = [(box.x_min, box.y_min, box.x_max, box.y_max) for box in item.boxes]
    return LabelledPicture(
        path=path,
        boxes_xyxy_px=np.array(corners, np.float32).reshape(-1, 4),
        labels=np.array([_index(box, labels) for box in item.boxes], np.int64),
        width_px=item.width_px,
        height_px=item.height_px,
    )


def _index(box: FrozenBox, labels: Sequence[str]) -> int:
    return labels.index(box.label)


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True

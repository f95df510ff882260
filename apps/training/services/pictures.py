"""A frozen dataset's pictures on this machine: fetched from the storage once, and held against their digests."""

import hashlib
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from django.conf import settings
from django.core.files.storage import Storage

from apps.training.services.datasets import DatasetDamagedError, FrozenItem

if TYPE_CHECKING:
    from apps.training.engine.labelled import LabelledPicture

KEPT_UNUSED_FOR: Final = timedelta(days=7)


def pictures_folder() -> Path:
    return Path(settings.TRAINING_DIR) / "pictures"


def fetch_pictures(
    items: Sequence[FrozenItem],
    *,
    labels: Iterable[str],
    storage: Storage,
    between: Callable[[int], None] = lambda _done: None,
) -> list["LabelledPicture"]:
    """The items as labelled pictures, in their order; files are named by digest and shared by all work of this machine.

    `between` hears after each picture how many are there, and may raise to end. Raises `DatasetDamagedError` for an
    original that is missing or is not the one that was frozen.
    """
    from apps.training.engine.labelled import LabelledPicture

    index = {code: number for number, code in enumerate(labels)}
    pictures = []
    for done, item in enumerate(items, start=1):
        boxes = [(box.x_min, box.y_min, box.x_max, box.y_max) for box in item.boxes]
        pictures.append(
            LabelledPicture(
                path=_fetched(item, storage),
                boxes_xyxy_px=np.array(boxes, np.float32).reshape(-1, 4),
                labels=np.array([index[box.label] for box in item.boxes], np.int64),
                width_px=item.width_px,
                height_px=item.height_px,
            )
        )
        between(done)
    return pictures


def forget_unused_pictures(*, unused_for: timedelta = KEPT_UNUSED_FOR) -> int:
    """Remove what no work has asked for since; gives how many files."""
    before = time.time() - unused_for.total_seconds()
    removed = 0
    for path in pictures_folder().glob("*/*"):
        try:
            if path.stat().st_mtime < before:
                path.unlink()
                removed += 1
        except FileNotFoundError:
            continue  # another worker was faster
    return removed


def _fetched(item: FrozenItem, storage: Storage) -> Path:
    folder = pictures_folder() / item.file_sha256[:2]
    path = folder / f"{item.file_sha256}{Path(item.file).suffix.lower()}"
    if path.is_file() and _sha256(path) == item.file_sha256:
        path.touch()
        return path
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f".{uuid.uuid4().hex}"
    try:
        try:
            with storage.open(item.file, "rb") as stored, unfinished.open("wb") as target:
                shutil.copyfileobj(stored, target, 1 << 20)
        except FileNotFoundError as error:
            raise DatasetDamagedError(f"the original of photo {item.photo} is gone") from error
        if _sha256(unfinished) != item.file_sha256:
            raise DatasetDamagedError(f"the original of photo {item.photo} is not the one that was frozen")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""Frozen datasets of drawn scenes, with their originals in the test's storage."""

import hashlib
import tempfile
import uuid
from pathlib import Path

from django.core.files.base import ContentFile
from django.core.files.storage import storages

from apps.training.models import Dataset, RegisteredModel
from apps.training.services.datasets import FrozenBox, FrozenItem, create_dataset
from tests.training.engine.drawn import draw_scenes

SPLITS = {"train": 16, "validation": 6, "test": 6}


def frozen_scenes(
    model: RegisteredModel | None,
    *,
    labels: tuple[str, ...] = ("disc", "bar"),
    splits: dict[str, int] | None = None,
    side: int = 64,
    seed: int = 1,
) -> Dataset:
    """Every scene has one animal of each label."""
    items = []
    with tempfile.TemporaryDirectory() as folder:
        for number, (split, count) in enumerate((splits or SPLITS).items()):
            scenes = draw_scenes(Path(folder) / split, count, labels, seed=seed * 10 + number, side=side)
            items += [_item(scene, split) for scene in scenes]
    return create_dataset(
        name=f"scenes-{uuid.uuid4().hex[:8]}", labels=labels, items=items, registered_model=model
    )


def _item(scene: dict, split: str) -> FrozenItem:
    content = Path(scene["path"]).read_bytes()
    photo = str(uuid.uuid4())
    return FrozenItem(
        photo=photo,
        annotation=str(uuid.uuid4()),
        split=split,
        group=photo,
        file=storages["default"].save(f"originals/{photo}.png", ContentFile(content)),
        file_sha256=hashlib.sha256(content).hexdigest(),
        width_px=scene["width_px"],
        height_px=scene["height_px"],
        licence="CC-BY-4.0",
        attribution="Zoë",
        boxes=tuple(
            FrozenBox(*map(float, box), label)
            for box, label in zip(scene["boxes"], scene["labels"], strict=True)
        ),
    )

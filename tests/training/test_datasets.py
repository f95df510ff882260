"""Freezing labelled pictures: the same content is the same dataset, and nothing in it changes any more."""

import hashlib
import json
import uuid
from pathlib import Path

import pytest
from django.db import IntegrityError, transaction

from apps.training.models import Dataset, DatasetItem
from apps.training.services.datasets import (
    DatasetDamagedError,
    FrozenBox,
    FrozenItem,
    create_dataset,
    mark_withdrawn,
    read_manifest,
)

pytestmark = pytest.mark.django_db
LABELS = ("CER", "ISO_MIN")


def item(number: int = 1, *, split: str = "train", boxes: tuple[FrozenBox, ...] = ()) -> FrozenItem:
    return FrozenItem(
        photo=str(uuid.UUID(int=number)),
        annotation=str(uuid.UUID(int=1000 + number)),
        split=split,
        group=f"g{number}",
        file=f"originals/{number}.jpg",
        file_sha256=hashlib.sha256(bytes([number])).hexdigest(),
        width_px=640,
        height_px=480,
        licence="CC-BY-4.0",
        attribution="Zoë",
        boxes=boxes,
    )


BOX = FrozenBox(0.1, 0.2, 30.30000000000001, 40.5, "CER")


def test_what_is_read_back_is_what_was_frozen():
    items = (item(1, boxes=(BOX,)), item(2, split="test"))
    dataset = create_dataset(name="mites", labels=LABELS, items=items)
    manifest = read_manifest(dataset)
    assert manifest.labels == LABELS
    assert manifest.items == items
    assert dataset.digest == hashlib.sha256(dataset.manifest.open("rb").read()).hexdigest()
    rows = list(dataset.items.order_by("position").values_list("photo", "split", "box_count"))
    assert rows == [(uuid.UUID(int=1), "train", 1), (uuid.UUID(int=2), "test", 0)]


def test_the_order_in_which_items_come_does_not_matter():
    items = [item(n) for n in (3, 1, 2)]
    first = create_dataset(name="mites", labels=LABELS, items=items)
    files = list_files(first)
    again = create_dataset(name="mites", labels=LABELS, items=reversed(items))
    assert again == first
    assert Dataset.objects.count() == 1
    assert list_files(first) == files  # no second manifest was left over


def list_files(dataset: Dataset) -> list[str]:
    return dataset.manifest.storage.listdir("datasets")[1]


def test_one_more_answer_is_another_dataset_with_the_next_number():
    create_dataset(name="mites", labels=LABELS, items=[item(1)])
    second = create_dataset(name="mites", labels=LABELS, items=[item(1), item(2)])
    assert second.number == 2
    assert create_dataset(name="bees", labels=LABELS, items=[item(1)]).number == 1


def test_counts_and_what_is_lacking_are_told():
    dataset = create_dataset(
        name="mites",
        labels=LABELS,
        items=[item(1, boxes=(BOX, BOX)), item(2, split="validation"), item(3)],
    )
    assert dataset.counts["train"] == {
        "photos": 2,
        "empty": 1,
        "boxes": 2,
        "labels": {"CER": 2, "ISO_MIN": 0},
    }
    assert dataset.warnings == [
        {"code": "split_is_empty", "split": "test"},
        {"code": "label_is_missing", "split": "validation", "label": "CER"},
        {"code": "label_is_missing", "split": "train", "label": "ISO_MIN"},
        {"code": "label_is_missing", "split": "validation", "label": "ISO_MIN"},
    ]


def test_a_label_outside_the_list_is_refused_and_leaves_nothing():
    with pytest.raises(ValueError, match="LEP"):
        create_dataset(name="mites", labels=LABELS, items=[item(1, boxes=(FrozenBox(0, 0, 1, 1, "LEP"),))])
    assert not Dataset.objects.exists()


@pytest.mark.parametrize(
    ("model", "change"),
    [
        (Dataset, {"digest": "0" * 64}),
        (Dataset, {"labels": ["ISO_MIN", "CER"]}),
        (Dataset, {"counts": {}}),
        (DatasetItem, {"split": "test"}),
        (DatasetItem, {"annotation": uuid.UUID(int=5)}),
    ],
)
def test_the_database_itself_refuses_a_change(model, change):
    create_dataset(name="mites", labels=LABELS, items=[item(1)])
    with pytest.raises(IntegrityError, match="immutable"), transaction.atomic():
        model.objects.update(**change)


def test_a_deleted_photo_is_marked_in_every_dataset_that_holds_it():
    create_dataset(name="mites", labels=LABELS, items=[item(1)])
    create_dataset(name="mites", labels=LABELS, items=[item(1), item(2)])
    assert mark_withdrawn(photos=[uuid.UUID(int=1)]) == 2
    assert DatasetItem.objects.filter(is_withdrawn=True).count() == 2


def test_an_altered_manifest_is_not_read():
    dataset = create_dataset(name="mites", labels=LABELS, items=[item(1)])
    path = Path(dataset.manifest.path)
    document = json.loads(path.read_text())
    document["labels"].reverse()
    path.write_text(json.dumps(document))
    with pytest.raises(DatasetDamagedError):
        read_manifest(dataset)

"""Frozen datasets: writing one down for ever, and reading it back."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final
from uuid import UUID

from django.core.files.base import ContentFile
from django.db import connection, transaction
from django.db.models import F, Max, Q, QuerySet
from django.db.models.functions import Now

from apps.accounts.models import User
from apps.training.models import Dataset, DatasetItem, ModelVersion, RegisteredModel
from apps.training.models.datasets import Split

FORMAT: Final = "podura-dataset"
FORMAT_VERSION: Final = 1
_AT_ONCE = 2_000
_LINEAGE: Final = """
WITH RECURSIVE line AS (
    SELECT id, parent_id FROM training_modelversion WHERE id = %s
    UNION
    SELECT version.id, version.parent_id FROM training_modelversion AS version JOIN line ON version.id = line.parent_id
)
SELECT id FROM line
"""


class DatasetDamagedError(Exception):
    """The stored manifest is not the one that was frozen."""


@dataclass(frozen=True, slots=True)
class FrozenBox:
    """Pixels of the upright picture, origin top left; `label` is a code of the dataset's list."""

    x_min: float
    y_min: float
    x_max: float
    y_max: float
    label: str


@dataclass(frozen=True, slots=True)
class FrozenItem:
    """One picture with its whole answer; an empty `boxes` says that an expert confirmed that there is no animal."""

    photo: str
    annotation: str
    split: str
    group: str
    file: str
    """Name of the original in the private storage."""
    file_sha256: str
    width_px: int
    height_px: int
    licence: str
    attribution: str
    boxes: tuple[FrozenBox, ...]


@dataclass(frozen=True, slots=True)
class Manifest:
    labels: tuple[str, ...]
    items: tuple[FrozenItem, ...]

    def encoded(self) -> bytes:
        """Canonical JSON: the same content gives the same bytes, so their SHA-256 names the content."""
        document = {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "labels": list(self.labels),
            "items": [asdict(item) for item in self.items],
        }
        return json.dumps(document, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()

    @classmethod
    def decoded(cls, content: bytes) -> "Manifest":
        document = json.loads(content)
        if document.get("format") != FORMAT or document.get("version") != FORMAT_VERSION:
            raise DatasetDamagedError("not a manifest that this version of Podura can read")
        items = tuple(
            FrozenItem(**item | {"boxes": tuple(FrozenBox(**box) for box in item["boxes"])})
            for item in document["items"]
        )
        return cls(tuple(document["labels"]), items)


def create_dataset(
    *,
    name: str,
    labels: Sequence[str],
    items: Iterable[FrozenItem],
    registered_model: RegisteredModel | None = None,
    created_by: User | None = None,
) -> Dataset:
    """Freeze items, in the order of their photos' identifiers. The same content again is the same dataset.

    Raises ValueError for an item whose label is not in the list.
    """
    manifest = Manifest(tuple(labels), tuple(sorted(items, key=lambda item: item.photo)))
    counts = counted(manifest)
    content = manifest.encoded()
    digest = hashlib.sha256(content).hexdigest()
    known = Dataset.objects.filter(name=name, digest=digest).first()
    if known:
        return known
    dataset = Dataset(
        name=name,
        registered_model=registered_model,
        digest=digest,
        labels=list(manifest.labels),
        photo_count=len(manifest.items),
        box_count=sum(len(item.boxes) for item in manifest.items),
        counts=counts,
        warnings=shortcomings(manifest.labels, counts),
        created_by=created_by,
    )
    dataset.manifest.save(f"{name}-{digest[:16]}.json", ContentFile(content), save=False)
    try:
        with transaction.atomic():
            with connection.cursor() as cursor:  # two freezes at once get two numbers, or one dataset
                cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [f"dataset:{name}"])
            known = Dataset.objects.filter(name=name, digest=digest).first()
            if known is None:
                last = Dataset.objects.filter(name=name).aggregate(last=Max("number"))["last"] or 0
                dataset.number = last + 1
                dataset.save(force_insert=True)
                _write_items(dataset, manifest)
    except BaseException:
        dataset.manifest.storage.delete(str(dataset.manifest.name))
        raise
    if known is not None:
        dataset.manifest.storage.delete(str(dataset.manifest.name))
        return known
    return dataset


def read_manifest(dataset: Dataset) -> Manifest:
    """The frozen content, held against its digest. Raises `DatasetDamagedError`."""
    with dataset.manifest.storage.open(str(dataset.manifest.name), "rb") as file:
        content: bytes = file.read()
    if hashlib.sha256(content).hexdigest() != dataset.digest:
        raise DatasetDamagedError(f"the manifest of {dataset} is not the one that was frozen")
    return Manifest.decoded(content)


def counted(manifest: Manifest) -> dict[str, dict[str, Any]]:
    """Photos, confirmed empty ones, and boxes of each label, by split."""
    counts: dict[str, dict[str, Any]] = {
        split: {"photos": 0, "empty": 0, "boxes": 0, "labels": dict.fromkeys(manifest.labels, 0)}
        for split in Split.values
    }
    for item in manifest.items:
        split = counts[item.split]
        split["photos"] += 1
        split["empty"] += not item.boxes
        split["boxes"] += len(item.boxes)
        for box in item.boxes:
            if box.label not in split["labels"]:
                raise ValueError(f"photo {item.photo}: the label {box.label} is not in the list")
            split["labels"][box.label] += 1
    return counts


def shortcomings(labels: Iterable[str], counts: Mapping[str, Any]) -> list[dict[str, str]]:
    """What somebody who trains on it should know: empty splits, and labels that a split lacks."""
    found = [{"code": "split_is_empty", "split": s} for s in Split.values if not counts[s]["photos"]]
    for label in labels:
        lacking = [s for s in Split.values if counts[s]["photos"] and not counts[s]["labels"][label]]
        found += [{"code": "label_is_missing", "split": split, "label": label} for split in lacking]
    return found


def mark_withdrawn(*, photos: Iterable[UUID | str]) -> int:
    """Photos were deleted: datasets that hold them say so for ever; gives how many items."""
    items = DatasetItem.objects.filter(photo__in=[str(photo) for photo in photos], is_withdrawn=False)
    return items.update(is_withdrawn=True, withdrawn_at=Now())


def withdrawn_photos(version: ModelVersion) -> QuerySet[DatasetItem]:
    """One item for each photo that this version, or one it was fine-tuned from, learned from and that was deleted since.

    The validation split counts: it decided which epoch was kept. A photo deleted before a run was asked for was left out of
    it, and taught nothing.
    """
    learned = Q(dataset__runs__version__in=_lineage(version)) & ~Q(split=Split.TEST)
    since = Q(withdrawn_at__gte=F("dataset__runs__created_at")) | Q(withdrawn_at=None)
    items = DatasetItem.objects.filter(learned, since, is_withdrawn=True)
    return items.order_by("photo", "-dataset").distinct("photo")


def _lineage(version: ModelVersion) -> list[int]:
    """The version and those it was fine-tuned from, one after the other."""
    with connection.cursor() as cursor:
        cursor.execute(_LINEAGE, [version.pk])
        return [pk for (pk,) in cursor]


def _write_items(dataset: Dataset, manifest: Manifest) -> None:
    rows = (
        DatasetItem(
            dataset=dataset,
            position=position,
            photo=item.photo,
            annotation=item.annotation,
            split=item.split,
            group=item.group,
            file=item.file,
            file_sha256=item.file_sha256,
            width_px=item.width_px,
            height_px=item.height_px,
            box_count=len(item.boxes),
            licence=item.licence,
            attribution=item.attribution[:200],
        )
        for position, item in enumerate(manifest.items)
    )
    DatasetItem.objects.bulk_create(rows, batch_size=_AT_ONCE)

"""The photos that two versions are compared on: test photos that neither learned from, and which of them are the newest."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Min, QuerySet

from apps.training.hooks import photo_times
from apps.training.models import Dataset, DatasetItem, ModelVersion, TrainingRun
from apps.training.models.datasets import Split
from apps.training.services.datasets import FrozenItem, read_manifest


@dataclass(frozen=True, slots=True)
class GatePhotos:
    labels: tuple[str, ...]
    items: tuple[FrozenItem, ...]
    recent: tuple[int, ...]
    """Places of the newest in `items`."""


def gate_photos(
    *, dataset: Dataset, champion: ModelVersion | None, challenger: ModelVersion, recent: int
) -> GatePhotos:
    """Test photos of `dataset`, and those of the champion's own that are not in it, without any photo that was deleted or
    that either side, or a version it was fine-tuned from, learned from. Raises `DatasetDamagedError`.
    """
    sides = [challenger, *([champion] if champion else [])]
    learned = learned_items(sides)
    photos = {str(photo) for photo in learned.values_list("photo", flat=True)}
    # The same picture sent twice has two identifiers and one digest.
    files = set(learned.values_list("file_sha256", flat=True))
    labels: dict[str, None] = {}
    items: dict[str, FrozenItem] = {}
    for source in _sources(dataset, champion):
        manifest = read_manifest(source)
        labels |= dict.fromkeys(manifest.labels)
        for item in manifest.items:
            if item.split == Split.TEST and item.photo not in photos and item.file_sha256 not in files:
                items.setdefault(item.photo, item)
    gone = set(map(str, _withdrawn(list(items))))
    kept = tuple(items[photo] for photo in sorted(items) if photo not in gone)
    return GatePhotos(tuple(labels), kept, newest(kept, count=recent))


def learned_items(versions: Sequence[ModelVersion]) -> QuerySet[DatasetItem]:
    """What these versions and those they were fine-tuned from saw; the validation split chose which epoch was kept."""
    line: set[int] = set()
    ahead = {version.pk for version in versions}
    while ahead:
        line |= ahead
        parents = ModelVersion.objects.filter(pk__in=ahead, parent__isnull=False)
        ahead = set(parents.values_list("parent_id", flat=True)) - line
    datasets = TrainingRun.objects.filter(version__in=line).values("dataset")
    return DatasetItem.objects.filter(dataset__in=datasets).exclude(split=Split.TEST)


def dataset_for(version: ModelVersion) -> Dataset | None:
    """What a version is compared on when nobody said: its own dataset, else the model's newest one."""
    own = Dataset.objects.filter(runs__version=version).first()
    return own or Dataset.objects.filter(registered_model=version.registered_model_id).order_by("-pk").first()


def newest(items: Sequence[FrozenItem], *, count: int) -> tuple[int, ...]:
    """The places of the `count` newest photos: by when they were sent, and before that by the dataset that first held them."""
    photos = [item.photo for item in items]
    times: dict[str, datetime] = {}
    for answer in photo_times.sound_answers(photos):
        times |= answer
    first_in = dict(
        DatasetItem.objects.filter(photo__in=photos)
        .order_by()
        .values("photo")
        .annotate(first=Min("dataset"))
        .values_list("photo", "first")
    )
    first = {str(photo): dataset for photo, dataset in first_in.items()}

    def age(place: int) -> tuple[bool, float, int, str]:
        photo = photos[place]
        at = times.get(photo)
        return at is not None, at.timestamp() if at else 0.0, first.get(photo, 0), photo

    return tuple(sorted(sorted(range(len(items)), key=age, reverse=True)[:count]))


def _sources(dataset: Dataset, champion: ModelVersion | None) -> list[Dataset]:
    """The challenger's first: where both hold a photo, its answer is the newer one."""
    other = Dataset.objects.filter(runs__version=champion).first() if champion else None
    return [dataset, other] if other and other != dataset else [dataset]


def _withdrawn(photos: list[str]) -> QuerySet[DatasetItem, object]:
    gone = DatasetItem.objects.filter(photo__in=photos, is_withdrawn=True)
    return gone.values_list("photo", flat=True)

"""Which deleted photos a version had learned from: its card says so for ever."""

import uuid

import pytest

from apps.training.models import Dataset, DatasetItem, ModelVersion, RunStatus
from apps.training.services.datasets import mark_withdrawn, withdrawn_photos
from tests.training.factories import CandidateFactory, DatasetFactory, DatasetItemFactory, TrainingRunFactory

pytestmark = pytest.mark.django_db
ONE, TWO, THREE = (uuid.UUID(int=n) for n in (1, 2, 3))


def dataset_of(*photos: uuid.UUID, split: str = "train") -> Dataset:
    dataset = DatasetFactory()
    for position, photo in enumerate(photos):
        DatasetItemFactory(dataset=dataset, position=position, photo=photo, split=split)
    return dataset


def trained_on(dataset: Dataset, number: int = 1, parent: ModelVersion | None = None) -> ModelVersion:
    version = CandidateFactory(number=number, parent=parent)
    TrainingRunFactory(
        registered_model=version.registered_model,
        dataset=dataset,
        version=version,
        status=RunStatus.SUCCEEDED,
    )
    return version


def test_a_version_knows_the_photos_it_learned_from_that_were_deleted_since() -> None:
    version = trained_on(dataset_of(ONE, TWO))
    assert withdrawn_photos(version).count() == 0
    mark_withdrawn(photos=[ONE])
    assert [item.photo for item in withdrawn_photos(version)] == [ONE]
    assert DatasetItem.objects.get(photo=ONE).withdrawn_at is not None


def test_photos_it_was_only_tested_on_taught_it_nothing() -> None:
    test, validation = (
        trained_on(dataset_of(ONE, split="test")),
        trained_on(dataset_of(TWO, split="validation")),
    )
    mark_withdrawn(photos=[ONE, TWO])
    assert withdrawn_photos(test).count() == 0
    assert withdrawn_photos(validation).count() == 1  # it decided which epoch was kept


def test_what_it_was_fine_tuned_from_counts_and_each_photo_once() -> None:
    grandparent = trained_on(dataset_of(ONE, TWO))
    parent = trained_on(dataset_of(TWO, THREE), 2, grandparent)
    child = trained_on(dataset_of(TWO), 3, parent)
    mark_withdrawn(photos=[ONE, TWO])
    assert [item.photo for item in withdrawn_photos(child)] == [ONE, TWO]
    assert withdrawn_photos(child).count() == 2
    assert withdrawn_photos(grandparent).count() == 2


def test_a_photo_deleted_before_the_run_was_left_out_of_it() -> None:
    dataset = dataset_of(ONE, TWO)
    mark_withdrawn(photos=[ONE])
    DatasetItem.objects.filter(photo=ONE).update(withdrawn_at="2026-01-01T00:00Z")
    version = trained_on(dataset)
    assert withdrawn_photos(version).count() == 0


def test_a_version_from_outside_learned_from_none_of_ours() -> None:
    dataset_of(ONE)
    mark_withdrawn(photos=[ONE])
    assert withdrawn_photos(CandidateFactory()).count() == 0

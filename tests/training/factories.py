"""The smallest valid row of each table of the model factory."""

import factory
from factory.django import DjangoModelFactory

from apps.training.engine.recipe import Recipe
from apps.training.models import (
    Comparison,
    Dataset,
    DatasetItem,
    Evaluation,
    ModelImport,
    ModelVersion,
    PromotionEvent,
    PromotionPolicy,
    TrainingEpoch,
    TrainingLogLine,
    TrainingRun,
)
from tests.factories import ModelVersionFactory, RegisteredModelFactory, new_digest

LABELS = ["CER", "ISO_MIN"]


def counts_of(labels: list[str], *, boxes: int = 10) -> dict[str, object]:
    """Each split with so many boxes of each label."""
    return {
        split: {
            "photos": boxes,
            "empty": 0,
            "boxes": boxes * len(labels),
            "labels": dict.fromkeys(labels, boxes),
        }
        for split in ("train", "validation", "test")
    }


class CandidateFactory(ModelVersionFactory):
    """A version that does not serve."""

    stage = ModelVersion.Stage.CANDIDATE
    labels = factory.LazyFunction(lambda: list(LABELS))


class DatasetFactory(DjangoModelFactory[Dataset]):
    """A dataset by its counts only; one that can be read is made by `create_dataset`."""

    class Meta:
        model = Dataset

    name = factory.Sequence(lambda n: f"dataset-{n}")
    number = 1
    registered_model = factory.SubFactory(RegisteredModelFactory)
    digest = factory.LazyFunction(new_digest)
    labels = factory.LazyFunction(lambda: list(LABELS))
    manifest = "datasets/none.json"
    photo_count = 30
    box_count = 60
    counts = factory.LazyAttribute(lambda dataset: counts_of(dataset.labels))


class DatasetItemFactory(DjangoModelFactory[DatasetItem]):
    class Meta:
        model = DatasetItem

    dataset = factory.SubFactory(DatasetFactory)
    position = factory.Sequence(lambda n: n)
    photo = factory.Faker("uuid4")
    annotation = factory.Faker("uuid4")
    split = "train"
    group = factory.Sequence(lambda n: f"g{n}")
    file = "originals/none.jpg"
    file_sha256 = factory.LazyFunction(new_digest)
    width_px = 640
    height_px = 640
    box_count = 1
    licence = "CC-BY-4.0"


class TrainingRunFactory(DjangoModelFactory[TrainingRun]):
    """A run that waits."""

    class Meta:
        model = TrainingRun

    registered_model = factory.SubFactory(RegisteredModelFactory)
    dataset = factory.SubFactory(DatasetFactory, registered_model=factory.SelfAttribute("..registered_model"))
    trigger = TrainingRun.Trigger.CURATOR
    parameters = factory.LazyFunction(lambda: Recipe().as_record())
    epochs = factory.LazyAttribute(lambda run: run.parameters["epochs"])


class TrainingEpochFactory(DjangoModelFactory[TrainingEpoch]):
    class Meta:
        model = TrainingEpoch

    run = factory.SubFactory(TrainingRunFactory)
    epoch = factory.Sequence(lambda n: n + 1)
    metrics = factory.LazyFunction(
        lambda: {
            "box_loss": 1.5,
            "cls_loss": 2.5,
            "dfl_loss": 1.1,
            "val_box_loss": 1.6,
            "val_cls_loss": 2.6,
            "val_dfl_loss": 1.2,
            "map50": 0.6,
            "map50_95": 0.4,
            "precision": 0.7,
            "recall": 0.5,
            "learning_rate": 0.001,
        }
    )
    seconds = 12.0
    batch = 8


class TrainingLogLineFactory(DjangoModelFactory[TrainingLogLine]):
    class Meta:
        model = TrainingLogLine

    run = factory.SubFactory(TrainingRunFactory)
    text = "a line of the trainer"


class EvaluationFactory(DjangoModelFactory[Evaluation]):
    class Meta:
        model = Evaluation

    version = factory.SubFactory(CandidateFactory)
    dataset = factory.SubFactory(
        DatasetFactory, registered_model=factory.SelfAttribute("..version.registered_model")
    )


class ComparisonFactory(DjangoModelFactory[Comparison]):
    """A comparison without a champion that waits."""

    class Meta:
        model = Comparison

    registered_model = factory.SubFactory(RegisteredModelFactory)
    challenger = factory.SubFactory(
        CandidateFactory, registered_model=factory.SelfAttribute("..registered_model")
    )
    dataset = factory.SubFactory(DatasetFactory, registered_model=factory.SelfAttribute("..registered_model"))


class PromotionPolicyFactory(DjangoModelFactory[PromotionPolicy]):
    class Meta:
        model = PromotionPolicy

    registered_model = factory.SubFactory(RegisteredModelFactory)


class PromotionEventFactory(DjangoModelFactory[PromotionEvent]):
    class Meta:
        model = PromotionEvent

    registered_model = factory.SubFactory(RegisteredModelFactory)
    kind = PromotionEvent.Kind.PROMOTED


class ModelImportFactory(DjangoModelFactory[ModelImport]):
    class Meta:
        model = ModelImport

    registered_model = factory.SubFactory(RegisteredModelFactory)
    name = "weights.pt"
    file = "quarantine/none.pt"
    size_bytes = 1
    sha256 = factory.LazyFunction(new_digest)

"""The model factory's tables."""

from apps.training.models.datasets import Dataset, DatasetExport, DatasetItem, Split
from apps.training.models.evaluations import Comparison, Evaluation
from apps.training.models.imports import ModelImport
from apps.training.models.promotion import PromotionEvent, PromotionPolicy
from apps.training.models.runs import OPEN_RUNS, RunStatus, TrainingEpoch, TrainingLogLine, TrainingRun
from apps.training.models.versions import ModelVersion, RegisteredModel, private_storage, sha256_validator

__all__ = [
    "OPEN_RUNS",
    "Comparison",
    "Dataset",
    "DatasetExport",
    "DatasetItem",
    "Evaluation",
    "ModelImport",
    "ModelVersion",
    "PromotionEvent",
    "PromotionPolicy",
    "RegisteredModel",
    "RunStatus",
    "Split",
    "TrainingEpoch",
    "TrainingLogLine",
    "TrainingRun",
    "private_storage",
    "sha256_validator",
]

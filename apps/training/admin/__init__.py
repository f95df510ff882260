"""The model factory in the curators' console."""

from apps.training.admin.comparisons import ComparisonAdmin
from apps.training.admin.datasets import DatasetAdmin, DatasetItemAdmin
from apps.training.admin.evaluations import EvaluationAdmin
from apps.training.admin.imports import ModelImportAdmin
from apps.training.admin.promotion import PromotionEventAdmin, RegisteredModelAdmin
from apps.training.admin.runs import TrainingRunAdmin
from apps.training.admin.versions import ModelVersionAdmin

__all__ = [
    "ComparisonAdmin",
    "DatasetAdmin",
    "DatasetItemAdmin",
    "EvaluationAdmin",
    "ModelImportAdmin",
    "ModelVersionAdmin",
    "PromotionEventAdmin",
    "RegisteredModelAdmin",
    "TrainingRunAdmin",
]

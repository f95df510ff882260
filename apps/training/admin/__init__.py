"""The model factory in the curators' console."""

from apps.training.admin.datasets import DatasetAdmin, DatasetItemAdmin
from apps.training.admin.evaluations import EvaluationAdmin
from apps.training.admin.imports import ModelImportAdmin
from apps.training.admin.runs import TrainingRunAdmin
from apps.training.admin.versions import ModelVersionAdmin, RegisteredModelAdmin

__all__ = [
    "DatasetAdmin",
    "DatasetItemAdmin",
    "EvaluationAdmin",
    "ModelImportAdmin",
    "ModelVersionAdmin",
    "RegisteredModelAdmin",
    "TrainingRunAdmin",
]

"""The model factory's tables."""

from apps.training.models.datasets import Dataset, DatasetExport, DatasetItem
from apps.training.models.versions import ModelVersion, RegisteredModel, private_storage, sha256_validator

__all__ = [
    "Dataset",
    "DatasetExport",
    "DatasetItem",
    "ModelVersion",
    "RegisteredModel",
    "private_storage",
    "sha256_validator",
]

"""Every write of the model factory that is more than one row."""

from apps.training.services.promotion import promote
from apps.training.services.registry import register_model_version

__all__ = ["promote", "register_model_version"]

"""The experts' loop in the curators' console."""

from apps.annotation.admin import freezes

__all__ = ["freezes"]

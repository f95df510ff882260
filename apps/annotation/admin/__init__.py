"""The experts' loop in the curators' console."""

from apps.annotation.admin import exports, freezes

__all__ = ["exports", "freezes"]

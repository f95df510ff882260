"""News from observations to the apps that stand to its right."""

from django.dispatch import Signal

photos_detected = Signal()
"""Sent after the detections of a batch are committed: `photo_ids: list[int]`, `model_version: ModelVersion`."""

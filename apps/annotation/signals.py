"""News from the experts' loop to the apps that stand to its right, and to its own other parts."""

from django.dispatch import Signal

annotation_accepted = Signal()
"""Sent after the answer that counts for a photo was committed: `task_id: int`, `annotation_id: int`."""

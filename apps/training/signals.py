"""News from training to the apps that stand to its right."""

from django.dispatch import Signal

model_promoted = Signal()
"""Sent after a promotion or roll-back is committed: `model_version: ModelVersion` (the new production version),
`previous: ModelVersion | None` (which served until then), `kind: str` (a `PromotionEvent.Kind`)."""

run_ended = Signal()
"""Sent after the end of a training run is committed, however it ended: `run: TrainingRun`."""

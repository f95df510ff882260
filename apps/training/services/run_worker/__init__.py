"""Working training runs off: claim, fetch, supervise the training in a process of its own, register what comes out."""

from apps.training.services.run_worker.checkpoints import discard_checkpoints
from apps.training.services.run_worker.flow import continue_next_run

__all__ = ["continue_next_run", "discard_checkpoints"]

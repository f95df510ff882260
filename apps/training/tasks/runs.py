"""Wake-ups for training runs."""

from apps.common.tasks import is_awake, send_once, task
from apps.training.models import TrainingRun
from apps.training.services.run_worker import continue_next_run, discard_checkpoints
from apps.training.services.runs import end_lost_runs

LONGEST_RUN_S = 90 * 24 * 3600
"""Weeks are possible. A training that hangs is found by its silence (TRAINING_SILENCE_SECONDS)."""


@task(queue="training", soft_limit_s=LONGEST_RUN_S)
def continue_runs() -> None:
    """Work off one run, then give the queue to evaluations and comparisons."""
    is_awake(continue_runs)
    if continue_next_run():
        send_once(continue_runs)


@task(queue="default", soft_limit_s=600)
def tidy_runs() -> None:
    """Remove from the storage what ended runs do not need any more."""
    is_awake(tidy_runs)
    discard_checkpoints()


def sweep_runs() -> None:
    """Find what a lost message left undone."""
    if end_lost_runs():
        send_once(tidy_runs)
    if TrainingRun.objects.all().claimable().exists():
        send_once(continue_runs)
    discard_checkpoints()

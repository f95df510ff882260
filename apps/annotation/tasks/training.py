"""Wake-ups for the starts of trainings."""

from apps.annotation.models import TrainingStart
from apps.annotation.services.training import consider_trainings, continue_next_start
from apps.common.leased import LeasedWorkQuerySet, is_stopping
from apps.common.tasks import is_awake, send_once, task


@task(queue="default", soft_limit_s=1_800)
def start_trainings() -> None:
    """See what is due, freeze it and ask for the runs; one wake-up serves all answers accepted since."""
    is_awake(start_trainings)
    consider_trainings()
    while not is_stopping() and continue_next_start():
        pass


def sweep_training() -> None:
    """Find what a lost message left undone."""
    rows: LeasedWorkQuerySet = TrainingStart.objects.all()
    rows.give_up_exhausted()
    if consider_trainings() or rows.claimable().exists():
        send_once(start_trainings)

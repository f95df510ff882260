"""Wake-ups for evaluations."""

from typing import Final

from apps.common.tasks import is_awake, send_once, task
from apps.training.models import Evaluation
from apps.training.services.evaluations import continue_next_evaluation
from apps.training.services.reports import discard_reports

LONGEST_S: Final = 24 * 3600
"""A thousand whole plates on two cores."""


@task(queue="training", soft_limit_s=LONGEST_S)
def evaluate_versions() -> None:
    """Work off one evaluation, then give the queue to others."""
    is_awake(evaluate_versions)
    if continue_next_evaluation():
        send_once(evaluate_versions)


def sweep_evaluation() -> None:
    """Find what a lost message left undone."""
    rows = Evaluation.objects.filter(is_for_comparison=False)
    for evaluation in rows.exhausted():
        discard_reports(evaluation)
    rows.give_up_exhausted()
    if rows.claimable().exists():
        send_once(evaluate_versions)

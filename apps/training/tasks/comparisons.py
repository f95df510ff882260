"""Wake-ups for comparisons of versions."""

from apps.common.tasks import is_awake, send_once, task
from apps.training.models import Comparison
from apps.training.services.comparisons import continue_next_comparison, give_up_lost_comparisons
from apps.training.tasks.evaluation import LONGEST_S


@task(queue="training", soft_limit_s=2 * LONGEST_S)
def compare_versions() -> None:
    """Work off one comparison, then give the queue to others."""
    is_awake(compare_versions)
    if continue_next_comparison():
        send_once(compare_versions)


def sweep_comparisons() -> None:
    """Find what a lost message left undone."""
    give_up_lost_comparisons()
    if Comparison.objects.all().claimable().exists():
        send_once(compare_versions)

"""Wake-ups for the model factory's background work. Each may run twice, or late, without harm."""

from apps.common.tasks import task
from apps.training.tasks.comparisons import sweep_comparisons
from apps.training.tasks.evaluation import sweep_evaluation
from apps.training.tasks.exports import sweep_dataset_exports
from apps.training.tasks.imports import sweep_imports
from apps.training.tasks.runs import sweep_runs
from apps.training.tasks.tracking import sweep_tracking


@task(queue="default", soft_limit_s=300)
def sweep() -> None:
    """Give up work whose last attempt fell silent, and wake workers for all that waits."""
    sweep_runs()
    sweep_evaluation()
    sweep_comparisons()
    sweep_imports()
    sweep_dataset_exports()
    sweep_tracking()

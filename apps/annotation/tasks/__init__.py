"""Wake-ups for the work of the experts' loop. Each may run twice, or late, without harm."""

from apps.annotation.tasks.crops import sweep_crops
from apps.annotation.tasks.datasets import sweep_datasets
from apps.annotation.tasks.news import sweep_news
from apps.annotation.tasks.queue import sweep_queue
from apps.annotation.tasks.training import sweep_training
from apps.common.tasks import task


@task(queue="default", soft_limit_s=300)
def sweep() -> None:
    """Give up work whose last attempt fell silent, and wake workers for all that waits."""
    sweep_queue()
    sweep_datasets()
    sweep_news()
    sweep_crops()
    sweep_training()

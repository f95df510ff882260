"""Wake-ups for the work that stands in the database."""

from apps.common.tasks import task


@task(queue="default", soft_limit_s=60)
def sweep() -> None:
    """Send wake-ups again and give up work whose last attempt fell silent."""

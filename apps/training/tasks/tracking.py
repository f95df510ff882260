"""Wake-ups for telling MLflow."""

from apps.common.tasks import is_awake, send_once, task
from apps.training.services.mlflow_tracking import has_news, tell_mlflow


@task(queue="default", soft_limit_s=600)
def track_runs() -> None:
    is_awake(track_runs)
    tell_mlflow()


def sweep_tracking() -> None:
    """A run under way is told of at each sweep; what an unreachable MLflow missed, later."""
    if has_news():
        send_once(track_runs)

"""Wake-ups for weights from outside."""

from apps.common.tasks import is_awake, send_once, task
from apps.training.models import ModelImport
from apps.training.services.model_imports import discard_imports, examine_next_import


@task(queue="training", soft_limit_s=1_800)
def examine_imports() -> None:
    """Examine one file, then give the queue to others."""
    is_awake(examine_imports)
    if examine_next_import():
        send_once(examine_imports)


def sweep_imports() -> None:
    """Find what a lost message left undone, and remove what nobody wanted."""
    rows = ModelImport.objects.all()
    rows.give_up_exhausted()
    if rows.claimable().exists():
        send_once(examine_imports)
    discard_imports()

"""Wake-ups for packing datasets."""

from apps.common.tasks import is_awake, send_once, task
from apps.training.models import DatasetExport
from apps.training.services.exports import discard_dataset_exports, pack_next_dataset_export


@task(queue="default", soft_limit_s=7_200)
def pack_dataset_exports() -> None:
    """Pack one dataset, then give the queue to others."""
    is_awake(pack_dataset_exports)
    if pack_next_dataset_export():
        send_once(pack_dataset_exports)


def sweep_dataset_exports() -> None:
    """Find what a lost message left undone, and remove what is over."""
    rows = DatasetExport.objects.all()
    rows.give_up_exhausted()
    if rows.claimable().exists():
        send_once(pack_dataset_exports)
    discard_dataset_exports()

"""Wake-ups for freezing datasets and for imports."""

from apps.annotation.models import DatasetFreeze
from apps.annotation.services.datasets import continue_freeze
from apps.common.leased import LeasedWorkQuerySet, kept_lease
from apps.common.tasks import is_awake, send_once, task
from apps.training.tasks import sweep_dataset_exports


@task(queue="default", soft_limit_s=1_800)
def freeze_waiting() -> None:
    """Freeze what curators asked for."""
    is_awake(freeze_waiting)
    rows: LeasedWorkQuerySet = DatasetFreeze.objects.all()  # type: ignore[assignment]
    for freeze in rows.select_related("survey__registered_model", "requested_by").claim(limit=1):
        with kept_lease(rows, freeze.lease_token):
            continue_freeze(freeze)
        send_once(freeze_waiting)


def sweep_datasets() -> None:
    """Find what a lost message left undone."""
    rows: LeasedWorkQuerySet = DatasetFreeze.objects.all()  # type: ignore[assignment]
    rows.give_up_exhausted()
    if rows.claimable().exists():
        send_once(freeze_waiting)
    sweep_dataset_exports()

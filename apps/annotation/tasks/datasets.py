"""Wake-ups for freezing datasets and for imports."""

from apps.annotation.models import DatasetFreeze, DatasetImport
from apps.annotation.services.datasets import continue_freeze
from apps.annotation.services.imports import continue_next_import, discard_failed_imports
from apps.common.leased import LeasedWorkQuerySet, kept_lease
from apps.common.tasks import is_awake, send_once, task

IMPORT_SECONDS = 300.0


@task(queue="default", soft_limit_s=1_800)
def freeze_waiting() -> None:
    """Freeze what curators asked for."""
    is_awake(freeze_waiting)
    rows: LeasedWorkQuerySet = DatasetFreeze.objects.all()
    for freeze in rows.select_related("survey__registered_model", "requested_by").claim(limit=1):
        with kept_lease(rows, freeze.lease_token):
            continue_freeze(freeze)
        send_once(freeze_waiting)


@task(queue="default", soft_limit_s=3_600)
def import_waiting() -> None:
    """Work on one import for some minutes, then give the queue to others."""
    is_awake(import_waiting)
    if continue_next_import(seconds=IMPORT_SECONDS):
        send_once(import_waiting)


def sweep_datasets() -> None:
    """Find what a lost message left undone."""
    rows: LeasedWorkQuerySet = DatasetFreeze.objects.all()
    rows.give_up_exhausted()
    if rows.claimable().exists():
        send_once(freeze_waiting)
    imports: LeasedWorkQuerySet = DatasetImport.objects.all()
    imports.give_up_exhausted()
    if imports.claimable().exists():
        send_once(import_waiting)
    discard_failed_imports()

"""The end of a run: its version registered, or the reason why there is none, and nothing left behind."""

from pathlib import Path
from typing import Any

import structlog
from django.db import transaction

from apps.common.leased import WorkStatus
from apps.common.tasks import send_once
from apps.training.engine.weights import WeightsError, file_sha256
from apps.training.models import ModelVersion, RunStatus, TrainingLogLine, TrainingRun
from apps.training.services.registry import register_model_version
from apps.training.services.run_worker.checkpoints import discard_checkpoints_of
from apps.training.services.run_worker.ends import RunBrokeError, RunFailedError
from apps.training.services.run_worker.folder import RunFolder
from apps.training.services.run_worker.record import RunRecord
from apps.training.services.runs import tell_ended

logger = structlog.get_logger(__name__)
_SHOWN_METRICS = ("map50", "map50_95", "precision", "recall")


def succeed(record: RunRecord, *, weights: Path, sha256: str, best_epoch: int) -> ModelVersion:
    """Register what came out. The version, the run's end and the comparison's beginning are one transaction.

    Killed before it, the training is found finished and this is done anew; after it, there is nothing left to do.
    """
    run = record.run
    record.change(stage=TrainingRun.Stage.SAVING)
    if not weights.is_file() or file_sha256(weights) != sha256:
        raise RunFailedError("weights_unsound", "the file is not the one that the training wrote")
    version: ModelVersion | None = None
    try:
        with transaction.atomic():
            version = register_model_version(
                registered_model=run.registered_model,
                weights_path=weights,
                metrics=_metrics(run, best_epoch),
                origin=ModelVersion.Origin.TRAINED,
                parent=run.base_version,
            )
            record.hold()  # somebody may have cancelled it while its weights went to the storage
            run.finish(version=version, seconds_spent=record.seconds_spent)
            run.epoch_rows.filter(epoch__gt=record.epochs_done).delete()  # of an attempt that came further
            record.note("succeeded", version=str(version))
            _ask_for_comparison(record, version)
            tell_ended(run.pk)
    except WeightsError as error:
        raise RunFailedError("weights_unsound", str(error)) from error
    except BaseException:
        _forget_weights(version)
        raise
    return version


def fail(record: RunRecord, failure: RunFailedError) -> None:
    """End the run without a version; its curves and its log stay."""
    with transaction.atomic():
        record.note(failure.code, level=TrainingLogLine.Level.ERROR, detail=failure.detail[:1000])
        record.run.finish(status=WorkStatus.FAILED, reason=failure.code, seconds_spent=record.seconds_spent)
        tell_ended(record.run.pk)


def cancel(record: RunRecord) -> None:
    run = record.run
    with transaction.atomic():
        run.finish(status=RunStatus.CANCELLED, seconds_spent=record.seconds_spent)  # type: ignore[arg-type]
        record.note("cancelled")
        tell_ended(run.pk)


def end_attempt(record: RunRecord, error: BaseException) -> bool:
    """An end that another attempt may not meet; True when there is no further attempt."""
    run = record.run
    if isinstance(error, RunBrokeError):
        code, reason = error.code, str(error)
    else:
        code, reason = "error", f"{type(error).__name__}: {error}"
    with transaction.atomic():
        if run.lease_token is None:
            return False
        TrainingRun.objects.filter(pk=run.pk).update(seconds_spent=record.seconds_spent)
        TrainingRun.objects.all().give_back_after_error(run.lease_token, reason=code)
        is_over = TrainingRun.objects.filter(pk=run.pk, status=RunStatus.FAILED).exists()
        if is_over:
            record.note(code, level=TrainingLogLine.Level.ERROR, detail=reason[:1000])
            tell_ended(run.pk)
        else:
            record.note("broke", level=TrainingLogLine.Level.WARNING, error=reason[:1000])
    return is_over


def clear(run: TrainingRun, folder: RunFolder) -> None:
    """Nothing of an ended run stays on this machine or among the checkpoints."""
    from apps.training.tasks.runs import tidy_runs  # tasks call services

    folder.remove()
    try:
        discard_checkpoints_of(run)
    except Exception:
        logger.exception("checkpoints_not_removed", run=run.pk)
        send_once(tidy_runs)


def _metrics(run: TrainingRun, best_epoch: int) -> dict[str, Any]:
    """What the trainer measured on the validation photos; the evaluation on the test photos follows."""
    best = run.epoch_rows.filter(epoch=best_epoch).first()
    measured = best.metrics if best else {}
    return {name: measured[name] for name in _SHOWN_METRICS if name in measured} | {"epoch": best_epoch}


def _ask_for_comparison(record: RunRecord, version: ModelVersion) -> None:
    """What keeps from comparing must not cost the version: it is a candidate, and can be compared by hand."""
    try:
        from apps.training.services.comparisons import request_comparison

        with transaction.atomic():
            request_comparison(challenger=version, run=record.run)
    except Exception as error:
        logger.exception("comparison_not_requested", run=record.run.pk)
        record.note("not_compared", level=TrainingLogLine.Level.ERROR, error=str(error)[:1000])


def _forget_weights(version: ModelVersion | None) -> None:
    """The row was not committed: its file is nobody's."""
    if version is None or ModelVersion.objects.filter(pk=version.pk).exists():
        return
    version.weights.storage.delete(str(version.weights.name))

"""Evaluations as work: asked for, claimed, measured, written down once."""

import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

import structlog
from django.contrib.auth.models import AbstractBaseUser
from django.core.files.storage import storages
from django.db import IntegrityError, transaction

from apps.common.leased import LeasedWork, LeaseLostError, WorkStatus, is_stopping, kept_lease
from apps.common.tasks import wake_once
from apps.training.inference import ModelUnavailableError
from apps.training.models import Comparison, Dataset, DatasetItem, Evaluation, ModelVersion
from apps.training.models.datasets import Split
from apps.training.services.datasets import DatasetDamagedError, FrozenItem, Manifest, read_manifest
from apps.training.services.measurement import LabelsUnknownError, PictureDamagedError, measure_versions
from apps.training.services.reports import discard_reports, latest_table, read_report, store_evaluation

__all__ = [
    "EvaluationRefusedError",
    "continue_next_evaluation",
    "failure_reason",
    "latest_table",
    "measure_versions",
    "read_report",
    "remaining_items",
    "request_evaluation",
    "store_evaluation",
    "told_progress",
]

logger = structlog.get_logger(__name__)
_TOLD_EVERY_S: Final = 2.0


class EvaluationRefusedError(Exception):
    """There is nothing to measure. `code` is for `evaluation_texts.refusal_sentence`."""

    def __init__(self, code: str, **details: Any) -> None:
        super().__init__(f"{code} {details}" if details else code)
        self.code = code
        self.details = details


class StoppedError(Exception):
    """The worker was told to end: the work starts over elsewhere."""


def request_evaluation(
    *, version: ModelVersion, dataset: Dataset, split: str = Split.TEST, by: AbstractBaseUser | None = None
) -> Evaluation:
    """Have a version measured on a split. One that is under way is given again. Raises `EvaluationRefusedError`."""
    from apps.training.tasks.evaluation import evaluate_versions  # tasks call services

    if split not in Split.values:
        raise EvaluationRefusedError("unknown_split", split=str(split))
    if version.unusable_reason:
        raise EvaluationRefusedError("version_unusable", version=str(version))
    if not set(version.labels) & set(dataset.labels):
        raise EvaluationRefusedError("no_common_label", version=str(version), dataset=str(dataset))
    photos = DatasetItem.objects.filter(dataset=dataset, split=split, is_withdrawn=False).count()
    if not photos:
        raise EvaluationRefusedError("split_is_empty", dataset=str(dataset), split=str(Split(split).label))
    wanted = {"version": version, "dataset": dataset, "split": split, "is_for_comparison": False}
    try:
        with transaction.atomic():
            evaluation = Evaluation.objects.create(
                **wanted,
                photo_count=photos,
                requested_by_id=by.pk if by else None,
                priority=LeasedWork.Priority.INTERACTIVE if by else LeasedWork.Priority.BATCH,
            )
            wake_once(evaluate_versions)
    except IntegrityError:
        under_way = (WorkStatus.PENDING, WorkStatus.PROCESSING)
        known = Evaluation.objects.filter(**wanted, status__in=under_way).first()
        if known is None:  # it ended in this moment
            return request_evaluation(version=version, dataset=dataset, split=split, by=by)
        evaluation = cast("Evaluation", known)
    return evaluation


def continue_next_evaluation() -> bool:
    """Claim one and measure it; False when none waits, or when the one claimed must wait for better times."""
    rows = Evaluation.objects.filter(is_for_comparison=False)
    for evaluation in rows.select_related("dataset", "version").claim(limit=1):
        token = evaluation.lease_token
        try:
            with kept_lease(rows, token):
                _measure(evaluation)
        except LeaseLostError:
            logger.warning("evaluation_lease_lost", evaluation=evaluation.pk)
        except StoppedError:
            rows.release(token)
            return False
        except (DatasetDamagedError, LabelsUnknownError, EvaluationRefusedError) as error:
            _fail(evaluation, error)  # the next attempt would find the same
        except ModelUnavailableError as error:
            if not error.is_fault:  # a storage that is away now may be back at the next sweep
                rows.give_back_after_error(token, reason=failure_reason(error))
                return False
            _fail(evaluation, error)
        except Exception as error:
            logger.exception("evaluation_failed", evaluation=evaluation.pk)
            rows.give_back_after_error(token, reason=failure_reason(error))
            return False
        return True
    return False


def remaining_items(dataset: Dataset, manifest: Manifest, split: str) -> list[FrozenItem]:
    """The items of a split without the photos that were deleted since the dataset was frozen."""
    withdrawn = DatasetItem.objects.filter(dataset=dataset, is_withdrawn=True).values_list("photo", flat=True)
    left_out = {str(photo) for photo in withdrawn}
    return [item for item in manifest.items if item.split == split and item.photo not in left_out]


def told_progress(row: Evaluation | Comparison, token: uuid.UUID | None) -> Callable[[int], None]:
    """For `measure_versions`: writes `photos_done` now and then, and ends the work of a worker that shall stop.

    Progress does not give back attempts: an interrupted evaluation starts over, so that a picture that kills its worker must
    not do so for ever.
    """
    rows: Any = type(row)._default_manager.filter(pk=row.pk)
    told_at = 0.0

    def tell(done: int) -> None:
        nonlocal told_at
        if is_stopping():
            raise StoppedError
        now = time.monotonic()
        if now - told_at >= _TOLD_EVERY_S:
            told_at = now
            if not rows.held(token).update(photos_done=done):
                raise LeaseLostError(f"{type(row).__name__} {row.pk}")

    return tell


def _measure(evaluation: Evaluation) -> None:
    discard_reports(evaluation)  # of an attempt that was killed between the file and the row
    manifest = read_manifest(evaluation.dataset)
    items = remaining_items(evaluation.dataset, manifest, evaluation.split)
    if not items:
        raise EvaluationRefusedError(
            "split_is_empty", dataset=str(evaluation.dataset), split=str(evaluation.get_split_display())
        )
    rows = Evaluation.objects.filter(pk=evaluation.pk)
    rows.held(evaluation.lease_token).update(photo_count=len(items), photos_done=0)
    (measured,) = _measured_without_withdrawn(evaluation, items, manifest)
    store_evaluation(evaluation, measured)


def _measured_without_withdrawn(
    evaluation: Evaluation, items: Sequence[FrozenItem], manifest: Manifest
) -> list[Any]:
    """A photo that is deleted while it is measured is no damage: it is left out, and the work starts over."""
    tell = told_progress(evaluation, evaluation.lease_token)
    while True:
        try:
            return measure_versions(
                [evaluation.version],
                items,
                labels=manifest.labels,
                storage=storages["default"],
                between=tell,
            )
        except DatasetDamagedError:
            remaining = remaining_items(evaluation.dataset, manifest, evaluation.split)
            if not remaining or len(remaining) == len(items):
                raise
            items = remaining


def failure_reason(error: Exception) -> str:
    """For the row: a code and what it is about; `evaluation_texts.failure_sentence` makes a sentence of it."""
    if isinstance(error, PictureDamagedError):
        return f"photo_damaged: {error.photo}"
    if isinstance(error, DatasetDamagedError):
        return f"dataset_damaged: {error}"
    if isinstance(error, LabelsUnknownError):
        return f"no_common_label: {error}"
    if isinstance(error, ModelUnavailableError):
        return f"model_unavailable: {error}"
    if isinstance(error, EvaluationRefusedError):
        return f"{error.code}:"
    return f"error: {type(error).__name__}: {error}"


def _fail(evaluation: Evaluation, error: Exception) -> None:
    try:
        evaluation.finish(status=WorkStatus.FAILED, reason=failure_reason(error))
    except LeaseLostError:
        logger.warning("evaluation_lease_lost", evaluation=evaluation.pk)

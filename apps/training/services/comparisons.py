"""Comparisons as work: champion and challenger in one go on the same photos, the gate's verdict, and what follows from it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import structlog
from django.core.files.storage import storages
from django.db import IntegrityError, transaction

from apps.accounts.models import User
from apps.common.leased import LeasedWork, LeaseLostError, WorkStatus, kept_lease
from apps.common.tasks import wake_once
from apps.training.gate import Gate, Judgement, Side, judge
from apps.training.inference import ModelUnavailableError, detector_of, is_loadable_here
from apps.training.models import (
    Comparison,
    Dataset,
    Evaluation,
    ModelVersion,
    PromotionEvent,
    PromotionPolicy,
    RegisteredModel,
    TrainingRun,
)
from apps.training.models.datasets import Split
from apps.training.promotion_texts import NotPromotableError, OvertakenError, PromotionError
from apps.training.services.datasets import DatasetDamagedError
from apps.training.services.evaluations import StoppedError, failure_reason, told_progress
from apps.training.services.gate_photos import GatePhotos, dataset_for, gate_photos
from apps.training.services.measurement import LabelsUnknownError, measure_versions
from apps.training.services.promotion import (
    mark_unusable,
    policy_of,
    promote,
    readmit,
    refuse,
    report_unloadable,
)
from apps.training.services.promotion_mails import tell_comparison, tell_failed_comparison
from apps.training.services.reports import discard_reports, store_evaluation

if TYPE_CHECKING:
    from apps.training.engine.measures import Measured

logger = structlog.get_logger(__name__)
SEED: Final = 20_261_121
"""The same photos and the same boxes give the same verdict, whoever asks again."""
_OPEN: Final = (WorkStatus.PENDING, WorkStatus.PROCESSING)


def request_comparison(
    *,
    challenger: ModelVersion,
    dataset: Dataset | None = None,
    run: TrainingRun | None = None,
    by: User | None = None,
) -> Comparison:
    """Have a version compared with the one that serves when its turn comes. One under way is given again.

    Raises `PromotionError` where there is nothing to compare.
    """
    from apps.training.tasks.comparisons import compare_versions  # tasks call services

    current = ModelVersion.objects.select_related("registered_model").get(pk=challenger.pk)
    if current.stage == ModelVersion.Stage.PRODUCTION:
        raise NotPromotableError("already_serving", version=str(current))
    if current.unusable_reason:
        raise NotPromotableError("unusable", version=str(current), reason=current.unusable_reason)
    dataset = dataset or (run.dataset if run else None) or dataset_for(current)
    if dataset is None:
        raise PromotionError("no_dataset", version=str(current))
    try:
        with transaction.atomic():
            comparison = Comparison.objects.create(
                registered_model=current.registered_model,
                champion=current.registered_model.production_version,
                challenger=current,
                dataset=dataset,
                run=run,
                requested_by=by,
                priority=LeasedWork.Priority.INTERACTIVE if by else LeasedWork.Priority.BATCH,
            )
            wake_once(compare_versions)
    except IntegrityError:
        known: Comparison | None = Comparison.objects.filter(challenger=current, status__in=_OPEN).first()
        if known is None:  # it ended in this moment
            return request_comparison(challenger=challenger, dataset=dataset, run=run, by=by)
        comparison = known
    return comparison


def continue_next_comparison() -> bool:
    """Claim one, measure and decide; False when none waits, or when the one claimed must wait for better times."""
    rows = Comparison.objects.all()
    related = ("registered_model", "dataset", "run", "challenger__registered_model")
    for comparison in rows.select_related(*related).claim(limit=1):
        token = comparison.lease_token
        try:
            with kept_lease(rows, token):
                _compare(comparison)
        except LeaseLostError:
            logger.warning("comparison_lease_lost", comparison=comparison.pk)
        except StoppedError:
            rows.release(token)
            return False
        except PromotionError as error:
            _fail(comparison, f"{error.code}: {error.details.get('reason', '')}")
        except (DatasetDamagedError, LabelsUnknownError) as error:
            _fail(comparison, failure_reason(error))  # the next attempt would find the same
        except Exception as error:
            if _is_storage_away(comparison):
                # Three attempts would be over in two minutes, and the version would never be compared.
                logger.warning("comparison_waits_for_storage", comparison=comparison.pk, error=str(error))
                rows.release(token)
                return False
            logger.exception("comparison_failed", comparison=comparison.pk)
            with transaction.atomic():
                rows.give_back_after_error(token, reason=failure_reason(error))
                _tell_failed([comparison.pk])
            return False
        return True
    return False


def give_up_lost_comparisons() -> int:
    """End those whose last attempt fell silent, and tell; gives how many."""
    with transaction.atomic():
        lost = (
            Comparison.objects.all()
            .exhausted()
            .select_for_update(skip_locked=True, no_key=True)
            .order_by("pk")
        )
        pks = list(lost.values_list("pk", flat=True))
        given_up = Comparison.objects.filter(pk__in=pks).give_up_exhausted()
        _tell_failed(pks)
    return given_up


def _compare(comparison: Comparison) -> None:
    policy = policy_of(comparison.registered_model_id)
    gate = Gate.of(policy)
    champion = _usable_champion(comparison)
    challenger = comparison.challenger
    photos = _photos(comparison, champion, gate)
    rows = Comparison.objects.filter(pk=comparison.pk)
    rows.held(comparison.lease_token).update(
        champion=champion, photo_count=len(photos.items), photos_done=0, policy=gate.as_record()
    )
    versions = [challenger, *([champion] if champion else [])]
    measured, photos = _measured(comparison, versions, photos, gate)
    new, old = measured[0], measured[1] if champion else None
    judgement = _judged(gate, photos, champion=champion, challenger=challenger, old=old, new=new)
    evaluations: list[Evaluation] = []
    try:
        with transaction.atomic():
            for version, one in zip(versions, measured, strict=True):
                evaluations.append(_stored(comparison, version, one))
            # Before the comparison's own row, as every decision takes them: else two could wait for each other.
            RegisteredModel.objects.select_for_update(no_key=True).get(pk=comparison.registered_model_id)
            comparison.finish(
                champion=champion,
                challenger_evaluation=evaluations[0],
                champion_evaluation=evaluations[1] if champion else None,
                verdict=judgement.verdict,
                rules=judgement.as_records(),
                policy=gate.as_record() | {"promotion": policy.promotion},
                photo_count=len(photos.items),
                photos_done=len(photos.items),
            )
            comparison.refresh_from_db()
            _act(comparison)
    except BaseException:
        for evaluation in evaluations:  # the rows were not committed: their files are nobody's
            discard_reports(evaluation)
        raise
    logger.info("compared", comparison=comparison.pk, verdict=judgement.verdict, photos=len(photos.items))


def _usable_champion(comparison: Comparison) -> ModelVersion | None:
    """The version that serves now, which can be loaded; so must the challenger."""
    _load_challenger(comparison)
    for _attempt in range(3):
        champion = comparison.registered_model.production_version
        if champion is None:
            return None
        if champion == comparison.challenger:
            raise NotPromotableError("already_serving", version=str(champion))
        try:
            detector_of(champion)
        except ModelUnavailableError as error:
            if not error.is_fault or report_unloadable(champion, str(error)) is None:
                raise
            continue
        return champion
    raise ModelUnavailableError("the version in production changed three times meanwhile")


def _load_challenger(comparison: Comparison) -> None:
    challenger = comparison.challenger
    try:
        detector_of(challenger)
    except ModelUnavailableError as error:
        if not error.is_fault or not _can_load_another(comparison):
            raise
        mark_unusable(challenger, str(error))
        raise PromotionError("challenger_unusable", reason=str(error)) from error


def _can_load_another(comparison: Comparison) -> bool:
    """Whether it is the challenger and not this machine that is at fault; where nothing serves, that cannot be told."""
    champion = comparison.registered_model.production_version
    return champion is None or champion == comparison.challenger or is_loadable_here(champion)


def _photos(comparison: Comparison, champion: ModelVersion | None, gate: Gate) -> GatePhotos:
    photos = gate_photos(
        dataset=comparison.dataset,
        champion=champion,
        challenger=comparison.challenger,
        recent=gate.recent_photos,
    )
    if not photos.items:
        raise PromotionError("no_test_photo")
    return photos


def _measured(
    comparison: Comparison, versions: Sequence[ModelVersion], photos: GatePhotos, gate: Gate
) -> "tuple[list[Measured], GatePhotos]":
    """A photo that is deleted while it is measured is no damage: it is left out, and the work starts over."""
    tell = told_progress(comparison, comparison.lease_token)
    while True:
        try:
            measured = measure_versions(
                versions, photos.items, labels=photos.labels, storage=storages["default"], between=tell
            )
        except DatasetDamagedError:
            champion = versions[1] if len(versions) > 1 else None
            remaining = _photos(comparison, champion, gate)
            if len(remaining.items) == len(photos.items):
                raise
            photos = remaining
        else:
            return measured, photos


def _judged(
    gate: Gate,
    photos: GatePhotos,
    *,
    champion: ModelVersion | None,
    challenger: ModelVersion,
    old: "Measured | None",
    new: "Measured",
) -> Judgement:
    from apps.training.engine.resampling import paired_bootstrap

    challenging = Side(challenger.labels, new.metrics, new.by_label)
    if champion is None or old is None:
        return judge(gate, champion=None, challenger=challenging)
    draws: dict[str, Any] = {
        "samples": gate.bootstrap_samples,
        "confidence": gate.confidence,
        "seed": SEED,
    }
    difference = paired_bootstrap(old.table, new.table, **draws)
    are_all_recent = len(photos.recent) == len(photos.items)
    return judge(
        gate,
        champion=Side(champion.labels, old.metrics, old.by_label),
        challenger=challenging,
        difference=difference,
        recent=difference
        if are_all_recent
        else paired_bootstrap(old.table, new.table, pictures=photos.recent, **draws),
    )


def _stored(comparison: Comparison, version: ModelVersion, measured: "Measured") -> Evaluation:
    evaluation = Evaluation(
        version=version,
        dataset=comparison.dataset,
        split=Split.TEST,
        is_for_comparison=True,
        requested_by_id=comparison.requested_by_id,
        status=WorkStatus.DONE,
        started_at=comparison.started_at,
    )
    return store_evaluation(evaluation, measured)


def _act(comparison: Comparison) -> None:
    """What follows from the verdict, in the transaction that writes it: so it happens once."""
    comparison.challenger.refresh_from_db()
    if comparison.challenger.stage == ModelVersion.Stage.PRODUCTION:  # a curator was faster
        Comparison.objects.filter(pk=comparison.pk).update(decision=Comparison.Decision.PROMOTED)
        return
    policy = PromotionPolicy.objects.get(registered_model=comparison.registered_model_id)
    if comparison.verdict == Comparison.Verdict.REFUSED:
        refuse(
            version=comparison.challenger,
            comparison=comparison,
            kind=PromotionEvent.Kind.REFUSED_BY_GATE,
            by=None,
        )
        return
    if comparison.verdict == Comparison.Verdict.PASSED:
        readmit(comparison.challenger)
    is_automatic = policy.promotion == PromotionPolicy.Promotion.AUTOMATIC
    promoted = False
    if comparison.verdict == Comparison.Verdict.PASSED and is_automatic and not policy.is_frozen:
        try:
            with transaction.atomic():
                promote(
                    version=comparison.challenger,
                    comparison=comparison,
                    kind=PromotionEvent.Kind.PROMOTED_BY_GATE,
                )
            promoted = True
        except OvertakenError:
            # It is better than a version that serves no more. Its place is not taken by this: it is compared again.
            request_comparison(
                challenger=comparison.challenger, dataset=comparison.dataset, run=comparison.run
            )
            return
        except NotPromotableError as error:
            logger.warning("not_promoted", comparison=comparison.pk, reason=str(error))
    tell_comparison(comparison, promoted=promoted, frozen=policy.is_frozen)


def _fail(comparison: Comparison, reason: str) -> None:
    try:
        with transaction.atomic():
            comparison.finish(status=WorkStatus.FAILED, reason=reason)
            _tell_failed([comparison.pk])
    except LeaseLostError:
        logger.warning("comparison_lease_lost", comparison=comparison.pk)


def _tell_failed(pks: Sequence[int]) -> None:
    """In the transaction that ends them: a version that is not compared never goes live by itself."""
    failed = Comparison.objects.filter(pk__in=pks, status=WorkStatus.FAILED)
    for comparison in failed.exclude(challenger__stage=ModelVersion.Stage.PRODUCTION):
        tell_failed_comparison(comparison)


def _is_storage_away(comparison: Comparison) -> bool:
    """Asked, since each storage raises the errors of its own library."""
    manifest = comparison.dataset.manifest
    try:
        manifest.storage.exists(str(manifest.name))
    except Exception:  # noqa: BLE001
        return True
    return False

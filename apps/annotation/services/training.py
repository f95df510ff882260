"""Starting trainings: by themselves when enough answers were accepted, on a curator's word, from the command line.

Every way is a `TrainingStart` row or its equivalent in one call: freeze, then ask the model factory for a run. The answers
themselves say whether a training is due, so that a start killed at any point is found again, and none is started twice.
"""

from collections.abc import Mapping
from typing import Any, Final

import structlog
from django.db import IntegrityError, connection, transaction
from django.utils.translation import gettext as _

from apps.accounts.models import User
from apps.annotation.models import AnnotationTask, TrainingStart
from apps.annotation.services.datasets import NOTHING_ACCEPTED, NothingAcceptedError, freeze_dataset
from apps.annotation.services.readiness import (
    NO_MODEL,
    RUN_UNDER_WAY,
    Readiness,
    last_runs,
    readiness_of,
    ready_to_train,
)
from apps.common.leased import LeasedWork, LeasedWorkQuerySet, LeaseLostError, WorkStatus, kept_lease
from apps.common.tasks import wake_once
from apps.observations.models import Survey
from apps.training.models import Dataset, ModelVersion, TrainingRun
from apps.training.run_texts import parameter_sentence
from apps.training.services.runs import (
    DatasetUnfitError,
    ParametersError,
    RunUnderWayError,
    problem_sentence,
    request_run,
)

__all__ = [
    "NoModelError",
    "Readiness",
    "consider_training",
    "consider_trainings",
    "continue_next_start",
    "ready_to_train",
    "request_training",
    "start_failure",
    "start_training",
]

logger = structlog.get_logger(__name__)
_UNDER_WAY: Final = (WorkStatus.PENDING, WorkStatus.PROCESSING)
PARAMETERS: Final = "parameters"
UNFIT: Final = "dataset_unfit"


class NoModelError(Exception):
    """The survey has no registered model that could be trained."""


def start_training(
    *,
    survey: Survey,
    by: User | None = None,
    parameters: Mapping[str, Any] | None = None,
    base: ModelVersion | None = None,
    is_untrained: bool = False,
    trigger: str = TrainingRun.Trigger.CURATOR,
) -> TrainingRun:
    """Freeze the accepted answers and ask for a run on them, now.

    Raises `NoModelError`, `NothingAcceptedError`, and what `request_run` raises: `RunUnderWayError`, `ParametersError`,
    `DatasetUnfitError`.
    """
    if survey.registered_model is None:
        raise NoModelError
    dataset = freeze_dataset(survey, by=by)
    return request_run(
        registered_model=survey.registered_model,
        dataset=dataset,
        parameters=parameters,
        base=base,
        is_untrained=is_untrained,
        trigger=trigger,
        by=by,
    )


@transaction.atomic
def request_training(
    *,
    survey: Survey,
    by: User | None = None,
    parameters: Mapping[str, Any] | None = None,
    base: ModelVersion | None = None,
    is_untrained: bool = False,
    trigger: str = TrainingRun.Trigger.CURATOR,
) -> tuple[TrainingStart, bool]:
    """Have a worker freeze and ask for the run; gives the row, and whether it is new: one that waits already is that one."""
    from apps.annotation.tasks.training import start_trainings  # tasks call services

    try:
        with transaction.atomic():
            start = TrainingStart.objects.create(
                survey=survey,
                trigger=trigger,
                parameters=dict(parameters or {}),
                base=base,
                is_untrained=is_untrained,
                requested_by=by,
                priority=LeasedWork.Priority.INTERACTIVE if by else LeasedWork.Priority.BATCH,
            )
            is_new = True
    except IntegrityError:
        start = TrainingStart.objects.get(survey=survey, status__in=_UNDER_WAY)
        is_new = False
    wake_once(start_trainings)
    return start, is_new


# --- By themselves ------------------------------------------------------------------------------------------


def consider_trainings() -> int:
    """Start what is due in any survey; gives how many trainings that were."""
    surveys = list(Survey.objects.filter(registered_model__isnull=False).select_related("registered_model"))
    known = readiness_of(surveys)
    return sum(consider_training(survey) is not None for survey in surveys if known[survey.pk].is_ready)


def consider_training(survey: Survey) -> TrainingStart | None:
    """Start the survey's training if it is due now. Asked at once from several sides, it is started once."""
    if not ready_to_train(survey).is_ready or _failed_on_the_same(survey):
        return None
    with transaction.atomic():
        _alone(survey)
        # Asked anew: whoever was here before may have started one, and it may even have ended.
        if not ready_to_train(survey).is_ready:
            return None
        start, is_new = request_training(survey=survey, trigger=TrainingRun.Trigger.AUTOMATIC)
    return start if is_new else None


def _failed_on_the_same(survey: Survey) -> bool:
    """The last start by itself failed, and no answer came since: the next one would fail as well."""
    starts = TrainingStart.objects.filter(survey=survey, trigger=TrainingRun.Trigger.AUTOMATIC)
    last = starts.order_by("-pk").first()
    if last is None or last.status != WorkStatus.FAILED:
        return False
    since = AnnotationTask.objects.filter(survey=survey, accepted__isnull=False)
    return not since.filter(accepted_at__gt=last.queued_at).exists()


def _alone(survey: Survey) -> None:
    """Until the transaction ends nobody else starts a training of this survey's model."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [f"train:{survey.registered_model_id}"])


# --- The work of a row --------------------------------------------------------------------------------------


def continue_next_start() -> bool:
    """Work off one start; gives whether there was one."""
    rows: LeasedWorkQuerySet = TrainingStart.objects.all()
    related = ("survey__registered_model", "base", "requested_by")
    starts = rows.select_related(*related).claim(limit=1)
    for start in starts:
        try:
            with kept_lease(rows, start.lease_token):
                _continue(start)
        except LeaseLostError:
            continue
        except Exception as error:
            logger.exception("training_not_started", survey=start.survey.slug)
            rows.give_back_after_error(start.lease_token, reason=f"{type(error).__name__}: {error}")
    return bool(starts)


def _continue(start: TrainingStart) -> None:
    """Done twice it finds the dataset of the first time, and the run."""
    survey: Survey = start.survey
    if survey.registered_model is None:
        start.finish(status=WorkStatus.FAILED, reason=NO_MODEL)
        return
    try:
        dataset = freeze_dataset(survey, by=start.requested_by)
        _ask_for_run(start, dataset)
    except NothingAcceptedError:
        start.finish(status=WorkStatus.FAILED, reason=NOTHING_ACCEPTED)
    except RunUnderWayError:
        start.finish(status=WorkStatus.FAILED, reason=RUN_UNDER_WAY)
    except ParametersError as error:
        start.finish(status=WorkStatus.FAILED, reason=PARAMETERS, details={"problems": error.problems})
    except DatasetUnfitError as error:
        problems = [{"code": one.code, "details": dict(one.details)} for one in error.problems]
        start.finish(status=WorkStatus.FAILED, reason=UNFIT, details={"problems": problems})


@transaction.atomic
def _ask_for_run(start: TrainingStart, dataset: Dataset) -> None:
    """The run and the end of the row that asked for it are one step: killed before, nothing was asked for."""
    survey = start.survey
    assert survey.registered_model is not None
    _alone(survey)
    if start.trigger == TrainingRun.Trigger.AUTOMATIC:
        last = last_runs([survey]).get(survey.pk)
        if last is not None and last.dataset_id == dataset.pk:
            start.finish(run=last)  # somebody else trained on the same answers meanwhile
            return
    run = request_run(
        registered_model=survey.registered_model,
        dataset=dataset,
        parameters=start.parameters,
        base=start.base,
        is_untrained=start.is_untrained,
        trigger=start.trigger,
        by=start.requested_by,
    )
    start.finish(run=run)


def start_failure(start: TrainingStart) -> str:
    """Why no run came of it, in the reader's language; empty when there is nothing to say."""
    if start.status != WorkStatus.FAILED:
        return ""
    problems = start.details.get("problems", [])
    sentences = {
        NO_MODEL: _("No model is chosen for this survey. A curator chooses one in its settings."),
        NOTHING_ACCEPTED: _("No photo of this survey has an accepted answer yet."),
        RUN_UNDER_WAY: _("Another run of this model was under way already."),
        PARAMETERS: " ".join(map(parameter_sentence, problems)),
        UNFIT: " ".join(
            problem_sentence(one["code"], one["details"])
            for one in problems
            if "code" in one and "details" in one
        ),
    }
    return sentences.get(start.failure_reason) or _("Something went wrong. It can be started anew.")

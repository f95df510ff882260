"""Training runs: asked for, judged, cancelled. How one is worked off stands in `run_worker`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import structlog
from django.contrib.auth.models import AbstractBaseUser
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.db.models.functions import Now

from apps.common.leased import LeasedWork
from apps.common.tasks import wake_once
from apps.training.engine.hardware import Hardware
from apps.training.engine.label_codes import label_code
from apps.training.engine.recipe import Recipe, RecipeError, default_recipe
from apps.training.models import (
    OPEN_RUNS,
    Dataset,
    ModelVersion,
    RegisteredModel,
    RunStatus,
    Split,
    TrainingLogLine,
    TrainingRun,
)
from apps.training.run_texts import parameter_name, parameter_problem, problem_sentence
from apps.training.signals import run_ended

__all__ = [
    "DatasetUnfitError",
    "ParametersError",
    "Problem",
    "RunUnderWayError",
    "cancel_run",
    "dataset_problems",
    "end_lost_runs",
    "problem_sentence",
    "recipe_of",
    "request_run",
    "retry_run",
    "tell_ended",
]

logger = structlog.get_logger(__name__)
WORKER_LOST: Final = "worker_lost"


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a dataset cannot be trained on."""

    code: str
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sentence(self) -> str:
        """In the reader's language."""
        return problem_sentence(self.code, self.details)


class RunUnderWayError(Exception):
    """The model has an open run already: `run`."""

    def __init__(self, run: TrainingRun) -> None:
        super().__init__(f"{run} is under way")
        self.run = run


class ParametersError(Exception):
    """Parameters that are refused: `problems` has field, code and message (in the reader's language) of each."""

    def __init__(self, problems: list[dict[str, Any]]) -> None:
        super().__init__("; ".join(f"{one['name']}: {one['message']}" for one in problems))
        self.problems = problems


class DatasetUnfitError(Exception):
    """The dataset cannot be trained on; `problems` has all reasons, `code`, `details` and `sentence` are the first's."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__(" ".join(problem.sentence for problem in problems))
        self.problems = problems
        self.code = problems[0].code
        self.details = problems[0].details
        self.sentence = problems[0].sentence


def dataset_problems(
    dataset: Dataset, *, registered_model: RegisteredModel | None = None, base: ModelVersion | None = None
) -> list[Problem]:
    """What keeps from training on it, read from its counts alone; with model and base, whether it fits these as well.

    A label that no photo shows at all is no obstacle: a survey may list more animals than have been found.
    """
    problems = []
    if registered_model and dataset.registered_model_id not in (None, registered_model.pk):
        problems.append(Problem("dataset_of_other_model", {"dataset": str(dataset)}))
    training, validation = dataset.counts[Split.TRAIN], dataset.counts[Split.VALIDATION]
    if not training["photos"]:
        problems.append(Problem("no_training_photo"))
    elif not training["boxes"]:
        problems.append(Problem("no_box"))
    if not validation["photos"]:
        problems.append(Problem("no_validation_photo"))
    if not problems:
        for label in dataset.labels:
            problems += _label_problems(dataset, label)
    return problems + (_base_problems(dataset, base) if base else [])


def _label_problems(dataset: Dataset, label: str) -> list[Problem]:
    boxes = {split: dataset.counts[split]["labels"].get(label, 0) for split in Split.values}
    if not any(boxes.values()):
        return []
    if not boxes[Split.TRAIN]:
        return [Problem("label_without_training_photo", {"label": label})]
    if not boxes[Split.VALIDATION]:
        return [Problem("label_without_validation_photo", {"label": label})]
    return []


def _base_problems(dataset: Dataset, base: ModelVersion) -> list[Problem]:
    problems = []
    if base.unusable_reason:
        problems.append(Problem("base_unusable", {"version": str(base)}))
    lacking = [label for label in base.labels if label_code(label) not in dataset.labels]
    # Another model's weights are a start only; nobody expects their labels of this one.
    if lacking and base.registered_model_id == dataset.registered_model_id:
        problems.append(Problem("labels_do_not_extend", {"labels": lacking}))
    return problems


def recipe_of(
    chosen: Mapping[str, Any], *, hardware: Hardware, pictures: int, base: ModelVersion | None = None
) -> Recipe:
    """What somebody chose, and for the rest the defaults of the machine. Raises `ParametersError` with every problem.

    A base keeps its image size: animals of another size than it knows would be new to it, and the gate would judge
    a latency that nobody asked for.
    """
    own = {"image_size": base.image_size_px} if base else {}
    try:
        return Recipe.checked(default_recipe(hardware, pictures).as_record() | own | dict(chosen))
    except RecipeError as error:
        problems = [
            {**one, "name": parameter_name(one["field"]), "message": parameter_problem(one)}
            for one in error.problems
        ]
        raise ParametersError(problems) from error


def request_run(
    *,
    registered_model: RegisteredModel,
    dataset: Dataset,
    parameters: Mapping[str, Any] | None = None,
    base: ModelVersion | None = None,
    is_untrained: bool = False,
    trigger: str,
    by: AbstractBaseUser | None = None,
) -> TrainingRun:
    """Put a run into the queue. Without a base it starts from the production version, or from an untrained network.

    Raises `ParametersError`, `DatasetUnfitError`, and `RunUnderWayError` when the model has an open run.
    """
    from apps.training.tasks.runs import continue_runs  # tasks call services

    chosen = dict(parameters or {})
    photos = int(dataset.counts[Split.TRAIN]["photos"])
    if base is None and not is_untrained:
        base = registered_model.production_version
    recipe = recipe_of(chosen, hardware=Hardware.here(), pictures=photos, base=base)
    problems = dataset_problems(dataset, registered_model=registered_model, base=base)
    if problems:
        raise DatasetUnfitError(problems)
    try:
        with transaction.atomic():
            run: TrainingRun = TrainingRun.objects.create(
                registered_model=registered_model,
                dataset=dataset,
                base_version=base,
                trigger=trigger,
                requested_by_id=by.pk if by else None,
                parameters=recipe.as_record(),
                chosen=chosen,
                epochs=recipe.epochs,
                priority=LeasedWork.Priority.BATCH,
            )
            TrainingLogLine.objects.create(
                run=run,
                code="asked_for",
                details={"dataset": str(dataset), "base": str(base) if base else recipe.architecture},
            )
            wake_once(continue_runs)
    except IntegrityError as error:
        under_way = TrainingRun.objects.filter(
            registered_model=registered_model, status__in=OPEN_RUNS
        ).first()
        if under_way is None:
            raise  # it ended in this very moment, or another rule of the table was broken
        raise RunUnderWayError(under_way) from error
    return run


def retry_run(run: TrainingRun, *, by: AbstractBaseUser | None = None) -> TrainingRun:
    """Ask for the same again, as a run of its own. Raises what `request_run` raises."""
    return request_run(
        registered_model=run.registered_model,
        dataset=run.dataset,
        parameters=run.chosen,
        base=run.base_version,
        is_untrained=run.base_version_id is None,
        trigger=TrainingRun.Trigger.CURATOR,
        by=by,
    )


@transaction.atomic
def cancel_run(run: TrainingRun, *, by: AbstractBaseUser | None = None) -> bool:
    """End a run: one that waits at once, a running one as soon as its worker hears of it. False when it had ended."""
    from apps.training.tasks.runs import tidy_runs  # tasks call services

    current = TrainingRun.objects.select_for_update(of=("self",)).filter(pk=run.pk, status__in=OPEN_RUNS)
    row: TrainingRun | None = current.first()
    if row is None:
        return False
    asked = {"cancel_requested_at": Now(), "cancelled_by_id": by.pk if by else None}
    if row.cancel_requested_at is None:
        TrainingRun.objects.filter(pk=row.pk).update(**asked)
    if _end_cancelled(Q(pk=row.pk)):
        wake_once(tidy_runs)
    run.refresh_from_db()
    return True


def end_lost_runs() -> int:
    """End runs that nobody can end any more: cancelled ones without a worker, and those whose last attempt fell silent."""
    ended = _end_cancelled(Q(cancel_requested_at__isnull=False))
    for pk in list(TrainingRun.objects.all().exhausted().values_list("pk", flat=True)):
        with transaction.atomic():
            if TrainingRun.objects.all().filter(pk=pk).give_up_exhausted():
                ended += 1
                _note(pk, WORKER_LOST, TrainingLogLine.Level.ERROR)
                tell_ended(pk)
    return ended


def _end_cancelled(which: Q) -> int:
    """Cancel those that no worker holds."""
    unheld = Q(status=RunStatus.QUEUED) | Q(status=RunStatus.RUNNING, lease_until__lt=Now())
    ended = 0
    for pk in list(TrainingRun.objects.filter(which, unheld).values_list("pk", flat=True)):
        with transaction.atomic():
            if TrainingRun.objects.filter(unheld, pk=pk, cancel_requested_at__isnull=False).update(
                status=RunStatus.CANCELLED, finished_at=Now(), lease_token=None, lease_until=None
            ):
                ended += 1
                _note(pk, "cancelled", TrainingLogLine.Level.INFO)
                tell_ended(pk)
    return ended


def _note(pk: int, code: str, level: str, **details: Any) -> None:
    TrainingLogLine.objects.create(run_id=pk, code=code, level=level, details=details)


def tell_ended(pk: int) -> None:
    """Once the end of a run is committed, say so to whoever listens. What a listener breaks stays its own."""
    transaction.on_commit(partial(_send_ended, pk))


def _send_ended(pk: int) -> None:
    related = ("registered_model", "dataset", "base_version", "version")
    run = TrainingRun.objects.select_related(*related).get(pk=pk)
    for receiver, answer in run_ended.send_robust(sender=TrainingRun, run=run):
        if isinstance(answer, Exception):
            logger.error("signal_receiver_failed", receiver=str(receiver), exc_info=answer)

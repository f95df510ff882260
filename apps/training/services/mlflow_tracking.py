"""Runs, metrics and versions are told to an MLflow server too, where one is configured.

The rows are the truth and MLflow follows them, from a task of its own: a training neither waits for MLflow nor knows of
it. What MLflow has is asked of it, so that any pass may be cut anywhere and the next one goes on; when it was away, it
gets all of it later.
"""

import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

import structlog
from django.conf import settings
from django.db.models import Q
from django.db.models.functions import Now
from redis.exceptions import RedisError

from apps.common.heartbeat import broker
from apps.training.card_markdown import markdown_of
from apps.training.cards import read_card
from apps.training.mlflow_client import MlflowClient, MlflowError
from apps.training.models import ModelVersion, RegisteredModel, RunStatus, TrainingEpoch, TrainingRun
from apps.training.models.runs import OPEN_RUNS

logger = structlog.get_logger(__name__)

FOLLOWED_FOR: Final = timedelta(days=30)
"""So long after its end a run is still sent, should MLflow have been away."""
AT_ONCE: Final = 20
PAUSE_S: Final = 120
"""How long MLflow is left alone after it could not be reached."""
ALIAS: Final = "production"
_TAG: Final = "podura_run"
_ENDS: Final[Mapping[str, str]] = {
    RunStatus.SUCCEEDED: "FINISHED",
    RunStatus.FAILED: "FAILED",
    RunStatus.CANCELLED: "KILLED",
}


def is_tracked() -> bool:
    return bool(settings.MLFLOW_TRACKING_URI)


def has_news() -> bool:
    """Whether MLflow should be told something; without asking it."""
    if not is_tracked() or _mark_of("away"):
        return False
    return _waiting().exists() or any(_is_news(model) for model in _models())


def tell_mlflow() -> int:
    """One pass; gives how many runs were told of. Never raises because of MLflow."""
    if not is_tracked() or _mark_of("away"):
        return 0
    told = 0
    try:
        client = MlflowClient(settings.MLFLOW_TRACKING_URI, token=settings.MLFLOW_TRACKING_TOKEN)
        experiment = client.experiment_id(settings.MLFLOW_EXPERIMENT)
        for run in _waiting().select_related("registered_model", "dataset", "version", "base_version")[
            :AT_ONCE
        ]:
            told += _is_followed(client, experiment, run)
        for model in _models():
            _tell_production(client, model)
    except (
        MlflowError,
        KeyError,
        TypeError,
        ValueError,
    ) as error:  # away, or an answer that is none of MLflow's
        logger.warning("mlflow_not_told", error=f"{type(error).__name__}: {error}")
        _set_mark("away", "1", seconds=PAUSE_S)
    return told


def _is_followed(client: MlflowClient, experiment: str, run: TrainingRun) -> bool:
    """A run that MLflow refuses keeps no other from being told of; it is tried again after a pause."""
    try:
        _follow(client, experiment, run)
    except MlflowError as error:
        if not error.is_refusal:
            raise
        logger.warning("mlflow_refused", run=run.pk, error=str(error))
        _set_mark("away", "1", seconds=PAUSE_S)
        return False
    return True


def _waiting() -> Any:
    """Runs of which MLflow may not know all yet; those that wait for a worker are no news."""
    recent = Q(status=RunStatus.RUNNING) | Q(finished_at__gt=Now() - FOLLOWED_FOR)
    return TrainingRun.objects.filter(recent, tracked_at=None).exclude(status=RunStatus.QUEUED).order_by("pk")


def _models() -> Any:
    return RegisteredModel.objects.filter(versions__run__isnull=False).distinct()


def _follow(client: MlflowClient, experiment: str, run: TrainingRun) -> None:
    known = client.run_of(experiment, _TAG, str(run.public_id))
    if known is None:
        known = _created(client, experiment, run)
    info, data = known["info"], known.get("data") or {}
    run_id = str(info["run_id"])
    if run.mlflow_run_id != run_id:
        TrainingRun.objects.filter(pk=run.pk).update(mlflow_run_id=run_id)
        run.mlflow_run_id = run_id
    latest = {metric["key"]: int(metric.get("step") or 0) for metric in data.get("metrics") or ()}
    _send_epochs(client, run, after=latest.get("epoch", 0))
    if run.status in OPEN_RUNS:
        return
    client.log(run_id, tags=_tags(run))
    if run.version is not None:
        _send_version(client, run, run.version, str(info["artifact_uri"]))
    ended: dict[str, Any] = {"run_id": run_id, "status": _ENDS[run.status]}
    if run.finished_at:
        ended["end_time"] = _milliseconds(run.finished_at)
    client.call("POST", "runs/update", ended)
    TrainingRun.objects.filter(pk=run.pk).update(tracked_at=Now())


def _created(client: MlflowClient, experiment: str, run: TrainingRun) -> dict[str, Any]:
    values = {
        "experiment_id": experiment,
        "run_name": f"{run.registered_model.name} {run.pk}",
        "start_time": _milliseconds(run.started_at or run.created_at),
        "tags": [{"key": _TAG, "value": str(run.public_id)}],
    }
    created: dict[str, Any] = client.call("POST", "runs/create", values)["run"]
    run_id = str(created["info"]["run_id"])
    params = {f"recipe.{name}": value for name, value in run.parameters.items()}
    client.log(run_id, params=params | {"base": run.base_version or "–"}, tags=_tags(run))
    return created


def _tags(run: TrainingRun) -> dict[str, Any]:
    hardware = ", ".join(f"{name}: {value}" for name, value in run.hardware.items())
    tags = {
        "dataset": str(run.dataset),
        "dataset_digest": run.dataset.digest,
        "registered_model": run.registered_model.name,
        "trigger": run.trigger,
        "mlflow.source.git.commit": run.code_commit,
        "hardware": hardware,
        "minutes": f"{run.minutes_spent:.1f}",
        "failure": run.failure_reason,
    }
    return {name: value for name, value in tags.items() if value}


def _send_epochs(client: MlflowClient, run: TrainingRun, *, after: int) -> None:
    """The last epoch that MLflow knows is sent once more: a pass may have ended within it."""
    rows = TrainingEpoch.objects.filter(run=run, epoch__gte=max(1, after)).order_by("epoch")
    metrics: list[dict[str, Any]] = []
    for row in rows:
        at = {"step": row.epoch, "timestamp": _milliseconds(row.finished_at)}
        values = row.metrics | {"seconds": row.seconds, "batch": row.batch}
        metrics += [
            {"key": name, "value": float(value), **at}
            for name, value in sorted(values.items())
            if isinstance(value, int | float) and math.isfinite(value)
        ]
        metrics.append(
            {"key": "epoch", "value": float(row.epoch), **at}
        )  # after the others: it says they are there
    client.log(run.mlflow_run_id, metrics=metrics)


def _send_version(client: MlflowClient, run: TrainingRun, version: ModelVersion, place: str) -> None:
    """Card and weights, and a version of the registered model that points to them."""
    model = run.registered_model.name
    try:
        _send_files(client, version, place)
    except MlflowError as error:  # a proxy before it often takes a megabyte and no more
        if not error.is_refusal:
            raise
        logger.warning("mlflow_refused_files", version=str(version), error=str(error))
    client.log(
        run.mlflow_run_id,
        tags={"version": str(version), "weights_sha256": version.weights_sha256},
    )
    client.ensure_model(model, run.registered_model.description)
    if client.version_of(model, run.mlflow_run_id):
        return
    tags = {"podura_version": str(version.number), "weights_sha256": version.weights_sha256}
    client.call(
        "POST",
        "model-versions/create",
        {
            "name": model,
            "source": place,
            "run_id": run.mlflow_run_id,
            "description": str(version),
            "tags": [{"key": key, "value": value} for key, value in tags.items()],
        },
    )


def _send_files(client: MlflowClient, version: ModelVersion, place: str) -> None:
    card = markdown_of(read_card(version)).encode()
    if not client.upload(place, "card.md", card, len(card)):
        logger.info("mlflow_takes_no_files", place=place.partition(":")[0])
        return
    try:
        with version.weights.storage.open(str(version.weights.name), "rb") as file:
            client.upload(place, "weights.podura", file, version.weights_bytes)
    except FileNotFoundError:
        logger.warning("weights_gone", version=str(version))


def _tell_production(client: MlflowClient, model: RegisteredModel) -> None:
    """The alias follows the version in production; one that MLflow does not know has none."""
    if not _is_news(model):
        return
    serving = model.production_version
    run = TrainingRun.objects.filter(version=serving).first() if serving else None
    if run is not None and run.tracked_at is None and run.finished_at is not None:
        return  # its version comes first
    number = client.version_of(model.name, run.mlflow_run_id) if run and run.mlflow_run_id else ""
    client.ensure_model(model.name, model.description)
    client.set_alias(model.name, ALIAS, number)
    _set_mark(f"production:{model.pk}", _serving(model))


def _is_news(model: RegisteredModel) -> bool:
    return _mark_of(f"production:{model.pk}") != _serving(model)


def _serving(model: RegisteredModel) -> str:
    version = model.production_version
    return str(version.pk) if version else "-"


def _mark_of(name: str) -> str:
    """What was told last; kept where losing it only means telling it again."""
    try:
        value = broker().get(_key(name))
    except RedisError:
        return ""
    return value.decode() if isinstance(value, bytes) else ""


def _set_mark(name: str, value: str, *, seconds: int = 7 * 86_400) -> None:
    try:
        broker().set(_key(name), value, ex=seconds)
    except RedisError:
        return


def _key(name: str) -> str:
    return f"{settings.CELERY_BROKER_TRANSPORT_OPTIONS['global_keyprefix']}mlflow:{name}"


def _milliseconds(at: Any) -> int:
    return int(at.timestamp() * 1000)

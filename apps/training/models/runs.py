"""Fine-tuning runs: from a frozen dataset to a model version."""

import statistics
import uuid
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from apps.common.leased import LeasedWork
from apps.training.models.datasets import Dataset
from apps.training.models.versions import ModelVersion, RegisteredModel, private_storage, sha256_validator


class RunStatus(models.TextChoices):
    """The states of leased work by the names that runs have everywhere, and one more."""

    QUEUED = "pending", _("Waiting")
    RUNNING = "processing", _("Running")
    SUCCEEDED = "done", _("Succeeded")
    FAILED = "failed", _("Failed")
    CANCELLED = "cancelled", _("Cancelled")


OPEN_RUNS = (RunStatus.QUEUED, RunStatus.RUNNING)


class TrainingRun(LeasedWork):
    """One fine-tuning of a registered model on a frozen dataset; as leased work, its doing.

    An interrupted run goes on from `checkpoint`, on whichever machine claims it next.
    """

    class Trigger(models.TextChoices):
        AUTOMATIC = "automatic", _("enough new answers")
        CURATOR = "curator", _("a curator")
        COMMAND = "command", _("the command line")

    class Stage(models.TextChoices):
        PREPARING = "preparing", _("fetching the pictures")
        TRAINING = "training", _("training")
        SAVING = "saving", _("saving the new version")

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    registered_model = models.ForeignKey(
        RegisteredModel, models.PROTECT, related_name="runs", verbose_name=_("registered model")
    )
    dataset = models.ForeignKey(Dataset, models.PROTECT, related_name="runs", verbose_name=_("dataset"))
    base_version = models.ForeignKey(
        ModelVersion,
        models.PROTECT,
        null=True,
        related_name="runs_from_it",
        verbose_name=_("fine-tuned from"),
        help_text=_("Empty: from an untrained network of the architecture in the parameters."),
    )
    version = models.OneToOneField(
        ModelVersion,
        models.PROTECT,
        null=True,
        related_name="run",
        editable=False,
        verbose_name=_("resulting version"),
    )
    status = models.CharField(
        _("status"), max_length=12, choices=RunStatus, default=RunStatus.QUEUED, editable=False
    )
    stage = models.CharField(
        _("stage"), max_length=12, choices=Stage, default=Stage.PREPARING, editable=False
    )
    trigger = models.CharField(_("started by"), max_length=10, choices=Trigger, editable=False)
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        null=True,
        related_name="+",
        editable=False,
        verbose_name=_("asked for by"),
    )
    created_at = models.DateTimeField(_("asked for at"), db_default=Now(), editable=False)
    parameters = models.JSONField(
        _("parameters"), editable=False, help_text="The validated record of engine.recipe.Recipe."
    )
    chosen: "models.JSONField[Any, Any]" = models.JSONField(
        default=dict,
        editable=False,
        help_text="Those that somebody chose: the machine that trains gives the rest.",
    )
    batch = models.PositiveIntegerField(
        _("batch in use"), null=True, editable=False, help_text=_("Halved when the memory does not suffice.")
    )
    epochs = models.PositiveIntegerField(_("epochs"), editable=False)
    epochs_done = models.PositiveIntegerField(_("epochs done"), default=0, editable=False)
    seconds_spent = models.FloatField(_("seconds of work"), default=0, editable=False)
    hardware = models.JSONField(_("hardware"), default=dict, editable=False)
    code_commit = models.CharField(_("code commit"), max_length=40, blank=True, editable=False)
    checkpoint = models.FileField(
        storage=private_storage, upload_to="checkpoints/", max_length=200, blank=True, editable=False
    )
    checkpoint_sha256 = models.CharField(
        max_length=64, blank=True, validators=[sha256_validator], editable=False
    )
    checkpoint_epoch = models.PositiveIntegerField(default=0, editable=False)
    cancel_requested_at = models.DateTimeField(_("cancelling asked for at"), null=True, editable=False)
    cancelled_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        null=True,
        related_name="+",
        editable=False,
        verbose_name=_("cancelled by"),
    )
    mlflow_run_id = models.CharField(max_length=64, blank=True, editable=False)
    tracked_at = models.DateTimeField(
        null=True, editable=False, help_text="When MLflow had all of it, its end included."
    )

    class Meta(LeasedWork.Meta):
        verbose_name = _("training run")
        verbose_name_plural = _("training runs")
        ordering = ["-id"]
        permissions = [("start_trainingrun", "Can start and cancel training runs")]
        constraints = [
            *LeasedWork.Meta.constraints,
            models.UniqueConstraint(
                fields=["registered_model"], condition=Q(status__in=OPEN_RUNS), name="one_open_run_per_model"
            ),
            models.CheckConstraint(
                name="succeeded_run_has_version",
                condition=~Q(status=RunStatus.SUCCEEDED) | Q(version__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.registered_model} · {self.pk}"

    @property
    def is_open(self) -> bool:
        return self.status in OPEN_RUNS

    @property
    def is_being_cancelled(self) -> bool:
        return self.is_open and self.cancel_requested_at is not None

    @property
    def minutes_spent(self) -> float:
        return self.seconds_spent / 60

    @property
    def eta(self) -> timedelta | None:
        """How long the epochs that remain will take, by the last twenty; None before the first and after the end."""
        if self.status != RunStatus.RUNNING or not self.epochs_done:
            return None
        last = list(self.epoch_rows.order_by("-epoch").values_list("seconds", "finished_at")[:20])
        if not last:
            return None
        each = statistics.median(seconds for seconds, _at in last)
        begun = min(max(0.0, (timezone.now() - last[0][1]).total_seconds()), each)
        return timedelta(seconds=max(0.0, each * (self.epochs - self.epochs_done) - begun))


class TrainingEpoch(models.Model):
    """What was measured after an epoch; an epoch that is done again after an interruption replaces its row.

    `metrics` holds `box_loss, cls_loss, dfl_loss, val_box_loss, val_cls_loss, val_dfl_loss, map50, map50_95,
    precision, recall, learning_rate` (those that the trainer gave), measured by the trainer on the validation split.
    """

    run = models.ForeignKey(TrainingRun, models.CASCADE, related_name="epoch_rows", verbose_name=_("run"))
    epoch = models.PositiveIntegerField(_("epoch"))
    metrics = models.JSONField(_("metrics"))
    seconds = models.FloatField(_("seconds"))
    batch = models.PositiveIntegerField(_("batch"))
    finished_at = models.DateTimeField(_("finished at"), db_default=Now())

    class Meta:
        verbose_name = _("epoch")
        verbose_name_plural = _("epochs")
        ordering = ["run", "epoch"]
        constraints = [models.UniqueConstraint(fields=["run", "epoch"], name="epoch_of_run")]

    def __str__(self) -> str:
        return str(self.epoch)


class TrainingLogLine(models.Model):
    """A line of a run's log. Lines for people have a `code` that pages translate; others are the trainer's own words."""

    class Level(models.TextChoices):
        INFO = "info", _("information")
        WARNING = "warning", _("warning")
        ERROR = "error", _("error")

    run = models.ForeignKey(TrainingRun, models.CASCADE, related_name="log_lines", verbose_name=_("run"))
    at = models.DateTimeField(_("at"), db_default=Now())
    level = models.CharField(_("level"), max_length=8, choices=Level, default=Level.INFO)
    code = models.CharField(max_length=40, blank=True)
    details: "models.JSONField[Any, Any]" = models.JSONField(default=dict)
    text = models.CharField(_("text"), max_length=1000, blank=True)

    class Meta:
        verbose_name = _("line of the log")
        verbose_name_plural = _("log")
        ordering = ["run", "id"]

    def __str__(self) -> str:
        return self.text or self.code

"""Background work of the experts' loop."""

import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from apps.common.leased import LeasedWork, WorkStatus
from apps.observations.models import Licence, Observation, Survey
from apps.training.models import Dataset, ModelVersion, TrainingRun, private_storage

_OPEN = Q(status__in=(WorkStatus.PENDING, WorkStatus.PROCESSING))


class QueueUpdate(LeasedWork):
    """As leased work: the scores and ranks of a survey's whole queue, after a promotion or a change of the rules."""

    class Reason(models.TextChoices):
        PROMOTION = "promotion", _("a new model version")
        RULES = "rules", _("changed rules")
        CURATOR = "curator", _("a curator asked")

    survey = models.ForeignKey(Survey, models.CASCADE, related_name="queue_updates", verbose_name=_("survey"))
    reason = models.CharField(_("reason"), max_length=10, choices=Reason, editable=False)
    model_version = models.ForeignKey(
        ModelVersion,
        models.PROTECT,
        null=True,
        related_name="+",
        editable=False,
        verbose_name=_("model version"),
    )
    next_task = models.BigIntegerField(
        default=0, editable=False, help_text=_("It resumes here after an interruption.")
    )
    has_asked_for_detection = models.BooleanField(default=False, editable=False)
    total = models.PositiveIntegerField(_("photos"), default=0, editable=False)
    done = models.PositiveIntegerField(_("photos scored"), default=0, editable=False)
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        null=True,
        related_name="+",
        editable=False,
        verbose_name=_("asked for by"),
    )

    class Meta(LeasedWork.Meta):
        verbose_name = _("update of a queue")
        verbose_name_plural = _("updates of queues")
        ordering = ["-id"]
        constraints = [
            *LeasedWork.Meta.constraints,
            models.UniqueConstraint(fields=["survey"], condition=_OPEN, name="one_queue_update_at_a_time"),
        ]

    def __str__(self) -> str:
        return f"{self.survey} ({self.get_reason_display()})"


class DatasetFreeze(LeasedWork):
    """As leased work: freezing the accepted answers of a survey into a dataset."""

    survey = models.ForeignKey(Survey, models.CASCADE, related_name="freezes", verbose_name=_("survey"))
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        null=True,
        related_name="+",
        editable=False,
        verbose_name=_("asked for by"),
    )
    dataset = models.ForeignKey(
        Dataset, models.SET_NULL, null=True, related_name="+", editable=False, verbose_name=_("dataset")
    )

    class Meta(LeasedWork.Meta):
        verbose_name = _("freezing of a dataset")
        verbose_name_plural = _("freezings of datasets")
        ordering = ["-id"]
        constraints = [
            *LeasedWork.Meta.constraints,
            models.UniqueConstraint(fields=["survey"], condition=_OPEN, name="one_freeze_at_a_time"),
        ]

    def __str__(self) -> str:
        return str(self.survey)


class TrainingStart(LeasedWork):
    """As leased work: freezing a survey's answers and asking for a training on them.

    `parameters` are what differs from the defaults of the machine that trains. Refused, `failure_reason` is a code and
    `details` what its sentence tells.
    """

    survey = models.ForeignKey(
        Survey, models.CASCADE, related_name="training_starts", verbose_name=_("survey")
    )
    trigger = models.CharField(_("started by"), max_length=10, choices=TrainingRun.Trigger, editable=False)
    parameters = models.JSONField(_("parameters"), default=dict, editable=False)
    base = models.ForeignKey(
        ModelVersion,
        models.PROTECT,
        null=True,
        related_name="+",
        editable=False,
        verbose_name=_("fine-tuned from"),
        help_text=_("Empty: the version in production at that time."),
    )
    is_untrained = models.BooleanField(_("from an untrained network"), default=False, editable=False)
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        null=True,
        related_name="+",
        editable=False,
        verbose_name=_("asked for by"),
    )
    run = models.ForeignKey(
        TrainingRun,
        models.SET_NULL,
        null=True,
        related_name="+",
        editable=False,
        verbose_name=_("training run"),
    )
    details = models.JSONField(default=dict, editable=False)

    class Meta(LeasedWork.Meta):
        verbose_name = _("start of a training")
        verbose_name_plural = _("starts of trainings")
        ordering = ["-id"]
        constraints = [
            *LeasedWork.Meta.constraints,
            models.UniqueConstraint(fields=["survey"], condition=_OPEN, name="one_training_start_at_a_time"),
        ]

    def __str__(self) -> str:
        return str(self.survey)


class DatasetImport(LeasedWork):
    """As leased work: labelled pictures from a zip. Everything is checked first; nothing is written if anything is wrong."""

    class Format(models.TextChoices):
        YOLO = "yolo", "Ultralytics YOLO"
        COCO = "coco", "COCO"
        VOC = "voc", "Pascal VOC"

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    survey = models.ForeignKey(Survey, models.CASCADE, related_name="imports", verbose_name=_("survey"))
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, related_name="+", verbose_name=_("imported by")
    )
    name = models.CharField(_("file name"), max_length=255)
    file = models.FileField(_("zip file"), storage=private_storage, upload_to="imports/", max_length=200)
    size_bytes = models.PositiveBigIntegerField(_("size in bytes"), editable=False)
    format = models.CharField(_("format"), max_length=12, choices=Format)
    licence = models.CharField(_("licence"), max_length=14, choices=Licence, default=Licence.CC_BY)
    visibility = models.CharField(
        _("visibility"),
        max_length=8,
        choices=Observation.Visibility,
        default=Observation.Visibility.PRIVATE,
    )
    makes_labels = models.BooleanField(
        _("make missing labels"), default=False, help_text=_("Else an unknown label refuses the import.")
    )
    observation = models.ForeignKey(
        Observation,
        models.SET_NULL,
        null=True,
        related_name="+",
        editable=False,
        verbose_name=_("observation"),
    )
    is_checked = models.BooleanField(_("checked"), default=False, editable=False)
    problems = models.JSONField(_("problems"), default=list, editable=False)
    total = models.PositiveIntegerField(_("pictures"), default=0, editable=False)
    next_picture = models.PositiveIntegerField(_("pictures read"), default=0, editable=False)
    duplicates = models.PositiveIntegerField(_("pictures that were there already"), default=0, editable=False)
    created_at = models.DateTimeField(_("sent at"), db_default=Now(), editable=False)

    class Meta(LeasedWork.Meta):
        verbose_name = _("import of labelled photos")
        verbose_name_plural = _("imports of labelled photos")
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.name

"""Frozen datasets: what a version was trained and measured on, for ever."""

import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from apps.common.leased import LeasedWork, WorkStatus
from apps.training.models.versions import RegisteredModel, private_storage, sha256_validator


class Split(models.TextChoices):
    TRAIN = "train", _("training")
    VALIDATION = "validation", _("validation")
    TEST = "test", _("test")


class Dataset(models.Model):
    """An immutable set of labelled pictures.

    The manifest (canonical JSON: labels in order, items with their boxes, licences, splits) is the truth; its SHA-256
    is the digest. It refers to stored originals by name and SHA-256, so that a worker needs the storage alone.
    """

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    name = models.SlugField(_("name"), max_length=60, editable=False)
    number = models.PositiveIntegerField(_("number"), editable=False)
    registered_model = models.ForeignKey(
        RegisteredModel,
        models.PROTECT,
        null=True,
        related_name="datasets",
        editable=False,
        verbose_name=_("registered model"),
    )
    digest = models.CharField(
        _("digest (SHA-256)"), max_length=64, validators=[sha256_validator], editable=False
    )
    labels = models.JSONField(_("label codes, in fixed order"), editable=False)
    manifest = models.FileField(
        _("manifest"), storage=private_storage, upload_to="datasets/", max_length=200, editable=False
    )
    photo_count = models.PositiveIntegerField(_("photos"), editable=False)
    box_count = models.PositiveIntegerField(_("boxes"), editable=False)
    counts = models.JSONField(
        _("counts by split and label"),
        editable=False,
        help_text=_("{split: {photos, empty, boxes, labels: {code: boxes}}}"),
    )
    warnings = models.JSONField(_("warnings"), default=list, editable=False)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        null=True,
        related_name="+",
        editable=False,
        verbose_name=_("frozen by"),
    )
    created_at = models.DateTimeField(_("frozen at"), db_default=Now(), editable=False)

    class Meta:
        verbose_name = _("dataset")
        verbose_name_plural = _("datasets")
        ordering = ["name", "-number"]
        constraints = [
            models.UniqueConstraint(fields=["name", "number"], name="dataset_number"),
            models.UniqueConstraint(fields=["name", "digest"], name="dataset_frozen_once"),
        ]

    def __str__(self) -> str:
        return f"{self.name} #{self.number}"


class DatasetItem(models.Model):
    """One picture of a frozen dataset; its boxes are in the manifest."""

    dataset = models.ForeignKey(Dataset, models.CASCADE, related_name="items", verbose_name=_("dataset"))
    position = models.PositiveIntegerField(_("position"))
    photo = models.UUIDField(_("photo"), help_text=_("Public identifier of the photo."))
    annotation = models.UUIDField(_("annotation"), help_text=_("Public identifier of the answer."))
    split = models.CharField(_("split"), max_length=10, choices=Split)
    group = models.CharField(_("group"), max_length=60, help_text=_("Photos of one group share a split."))
    file = models.CharField(_("stored original"), max_length=200)
    file_sha256 = models.CharField("SHA-256", max_length=64)
    width_px = models.PositiveIntegerField(_("width (px)"))
    height_px = models.PositiveIntegerField(_("height (px)"))
    box_count = models.PositiveIntegerField(_("boxes"))
    licence = models.CharField(_("licence"), max_length=14)
    attribution = models.CharField(_("attribution"), max_length=200, blank=True)
    is_withdrawn = models.BooleanField(
        _("withdrawn"), default=False, help_text=_("The photo was deleted after the dataset was frozen.")
    )
    withdrawn_at = models.DateTimeField(_("withdrawn at"), null=True, editable=False)

    class Meta:
        verbose_name = _("dataset item")
        verbose_name_plural = _("dataset items")
        ordering = ["dataset", "position"]
        indexes = [models.Index(fields=["photo"], name="dataset_item_photo")]
        constraints = [
            models.UniqueConstraint(fields=["dataset", "position"], name="dataset_item_position"),
            models.UniqueConstraint(fields=["dataset", "photo"], name="dataset_item_photo_once"),
        ]

    def __str__(self) -> str:
        return str(self.photo)


class DatasetExport(LeasedWork):
    """A frozen dataset in a format others read, as a zip; as leased work, its making."""

    class Format(models.TextChoices):
        YOLO = "yolo", "Ultralytics YOLO"
        COCO = "coco", "COCO"
        VOC = "voc", "Pascal VOC"
        LABEL_STUDIO = "label_studio", "Label Studio JSON"
        CSV = "csv", "CSV"

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    dataset = models.ForeignKey(Dataset, models.CASCADE, related_name="exports", verbose_name=_("dataset"))
    format = models.CharField(_("format"), max_length=12, choices=Format)
    leaves_out_noncommercial = models.BooleanField(_("without photos not free for profit"), default=False)
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+", verbose_name=_("asked for by")
    )
    file = models.FileField(
        storage=private_storage, upload_to="dataset-exports/", max_length=200, editable=False
    )
    size_bytes = models.PositiveBigIntegerField(_("size in bytes"), null=True, editable=False)
    photos_done = models.PositiveIntegerField(_("photos packed"), default=0, editable=False)
    created_at = models.DateTimeField(_("asked for at"), db_default=Now(), editable=False)
    expires_at = models.DateTimeField(_("kept until"), null=True, editable=False)

    class Meta(LeasedWork.Meta):
        verbose_name = _("dataset export")
        verbose_name_plural = _("dataset exports")
        ordering = ["-id"]
        constraints = [
            *LeasedWork.Meta.constraints,
            models.UniqueConstraint(
                fields=["dataset", "format", "leaves_out_noncommercial"],
                condition=Q(status__in=(WorkStatus.PENDING, WorkStatus.PROCESSING)),
                name="one_dataset_export_at_a_time",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.dataset} ({self.get_format_display()})"

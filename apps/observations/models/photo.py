import uuid
from typing import Any, Self

from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.contrib.gis.db import models
from django.core.files.storage import Storage, storages
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from apps.common.leased import LeasedWork, LeasedWorkQuerySet, WorkStatus
from apps.observations.models.observation import Observation
from apps.observations.models.survey import Survey
from apps.training.models import ModelVersion, sha256_validator


def private_storage() -> Storage:
    return storages["default"]


def rendition_storage() -> Storage:
    return storages["renditions"]


class PhotoQuerySet(LeasedWorkQuerySet):
    def visible_to(self, user: Any) -> Self:
        if isinstance(user, AnonymousUser) or not user.is_authenticated:
            return self.filter(observation__visibility=Observation.Visibility.PUBLIC)
        if user.is_staff:
            return self
        return self.filter(
            Q(observation__visibility=Observation.Visibility.PUBLIC) | Q(observation__contributor=user)
        )


class Photo(LeasedWork):
    """A stored picture; as leased work, its detection by the survey's production model.

    `width_px` and `height_px` are those of the upright photo, the frame of every box.
    The original is private and byte-exact; `display` (long side at most 2,560 px) and `thumbnail`
    (480 px) are JPEG without metadata.
    """

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    observation = models.ForeignKey(
        Observation, models.CASCADE, related_name="photos", verbose_name=_("observation")
    )
    contributor = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, related_name="+", editable=False
    )
    survey = models.ForeignKey(Survey, models.PROTECT, related_name="+", editable=False)
    name = models.CharField(_("file name"), max_length=255)
    original = models.FileField(
        _("original"), storage=private_storage, upload_to="originals/", max_length=200, editable=False
    )
    display = models.FileField(
        storage=rendition_storage, upload_to="display/", max_length=200, editable=False
    )
    thumbnail = models.FileField(
        storage=rendition_storage, upload_to="thumbnails/", max_length=200, editable=False
    )
    format = models.CharField(_("format"), max_length=8, editable=False)
    size_bytes = models.PositiveBigIntegerField(_("size in bytes"), editable=False)
    width_px = models.PositiveIntegerField(_("width (px)"), editable=False)
    height_px = models.PositiveIntegerField(_("height (px)"), editable=False)
    sha256 = models.CharField("SHA-256", max_length=64, validators=[sha256_validator], editable=False)
    perceptual_hash = models.BigIntegerField(
        null=True, editable=False, help_text="64-bit pHash as a signed integer, for near-duplicates."
    )
    camera = models.CharField(_("camera"), max_length=120, blank=True, editable=False)
    proposed_at = models.DateTimeField(_("date from the file"), null=True, editable=False)
    proposed_location = models.PointField(_("place from the file"), null=True, editable=False, srid=4326)
    is_flagged = models.BooleanField(
        _("odd metadata"),
        default=False,
        editable=False,
        help_text=_("The file's date or place cannot be right."),
    )
    model_version = models.ForeignKey(
        ModelVersion,
        models.PROTECT,
        null=True,
        related_name="+",
        editable=False,
        verbose_name=_("model version"),
        help_text=_("The version whose detections are shown."),
    )
    detection_count = models.PositiveIntegerField(_("animals"), null=True, editable=False)
    best_score = models.FloatField(_("best confidence"), null=True, editable=False)
    detection_ms = models.FloatField(_("detection time (ms)"), null=True, editable=False)
    created_at = models.DateTimeField(_("sent at"), db_default=Now(), editable=False)

    objects = PhotoQuerySet.as_manager()  # type: ignore[misc]

    class Meta(LeasedWork.Meta):
        verbose_name = _("photo")
        verbose_name_plural = _("photos")
        ordering = ["-id"]
        indexes = [
            *LeasedWork.Meta.indexes,
            models.Index(fields=["survey", "-id"], name="photo_survey"),
            models.Index(fields=["observation", "id"], name="photo_observation"),
            models.Index(
                fields=["-id"],
                include=["best_score"],
                condition=Q(detection_count__gt=0),
                name="photo_with_animals",
            ),
            models.Index(fields=["-finished_at"], condition=Q(status="failed"), name="photo_failed"),
        ]
        constraints = [
            *LeasedWork.Meta.constraints,
            models.UniqueConstraint(fields=["contributor", "survey", "sha256"], name="photo_sent_once"),
            models.CheckConstraint(
                name="photo_has_a_size", condition=Q(width_px__gt=0, height_px__gt=0, size_bytes__gt=0)
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def has_result(self) -> bool:
        """An earlier one stays while the photo is looked at again, and when that fails."""
        return self.status == WorkStatus.DONE or self.model_version_id is not None

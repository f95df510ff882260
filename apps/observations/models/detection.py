from typing import Self

from django.contrib.gis.db import models as gis
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Func, Q
from django.utils.translation import gettext_lazy as _

from apps.observations.models.photo import Photo
from apps.observations.models.survey import Label
from apps.training.models import ModelVersion


class DetectionQuerySet(models.QuerySet["Detection"]):
    def shown(self) -> Self:
        """Those at or above the survey's confidence threshold when they were detected, of any version."""
        return self.filter(is_weak=False)

    def with_weak(self) -> Self:
        """All of the version whose result the photo shows, in the order of their numbers: the weak ones last."""
        return self.filter(model_version=F("photo__model_version")).order_by("photo", "number")

    def current(self) -> Self:
        """What the photo shows: `with_weak` without the weak ones."""
        return self.with_weak().shown()

    def weak(self) -> Self:
        """Those of the shown version that are kept for experts only."""
        return self.with_weak().filter(is_weak=True)


class Detection(models.Model):
    """One box of one model version on one photo.

    Pixel coordinates of the upright photo, origin top left, x to the right, y down. `class_scores` is the whole
    class vector in the order of `model_version.labels`; `score` is its maximum (0-1, uncalibrated).

    A *weak* box lies below what the survey shows. It is kept for the experts' drawing page and is never part of what
    the public sees, counts or finds. Weak boxes of a photo are numbered after the shown ones. Detected again by the same
    version a box keeps its number, so after a change of thresholds only `is_weak` tells which are shown.
    """

    photo = models.ForeignKey(Photo, models.CASCADE, related_name="detections", verbose_name=_("photo"))
    model_version = models.ForeignKey(
        ModelVersion, models.PROTECT, related_name="+", verbose_name=_("model version")
    )
    number = models.PositiveIntegerField(_("number"))
    label = models.ForeignKey(Label, models.PROTECT, related_name="detections", verbose_name=_("label"))
    score = models.FloatField(_("confidence"))
    is_weak = models.BooleanField(_("weak"), default=False, db_default=False)
    class_scores = ArrayField(models.FloatField(), verbose_name=_("class scores"))
    x_min = models.FloatField()
    y_min = models.FloatField()
    x_max = models.FloatField()
    y_max = models.FloatField()
    box = models.GeneratedField(
        expression=Func(F("x_min"), F("y_min"), F("x_max"), F("y_max"), function="ST_MakeEnvelope"),
        # No spatial reference: -1 is how GeoDjango spells PostGIS' unknown, 0 fails in lookups.
        output_field=gis.PolygonField(srid=-1, spatial_index=False),
        db_persist=True,
    )

    objects = DetectionQuerySet.as_manager()

    class Meta:
        verbose_name = _("detection")
        verbose_name_plural = _("detections")
        ordering = ["photo", "number"]
        indexes = [
            # Weak boxes may be many times as many as the shown ones, and nobody looks for them by their label.
            models.Index(
                fields=["label", "-photo", "-score"], condition=Q(is_weak=False), name="detection_label_shown"
            ),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["photo", "model_version", "number"], name="detection_number_on_photo"
            ),
            models.CheckConstraint(
                name="detection_box_has_area",
                condition=Q(x_min__gte=0, y_min__gte=0, x_max__gt=F("x_min"), y_max__gt=F("y_min"))
                & Q(x_max__lte=30_000, y_max__lte=30_000),
            ),
            models.CheckConstraint(name="detection_score_0_1", condition=Q(score__gte=0, score__lte=1)),
        ]

    def __str__(self) -> str:
        return f"#{self.number}"

    @property
    def width_px(self) -> float:
        return self.x_max - self.x_min

    @property
    def height_px(self) -> float:
        return self.y_max - self.y_min

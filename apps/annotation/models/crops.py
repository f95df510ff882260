"""The grid of crops: one row for each box of an answer that counts. A trigger keeps the rows (migration 0003)."""

from typing import Self

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.utils.translation import gettext_lazy as _

from apps.annotation.models.answers import AnnotatedBox
from apps.annotation.models.tasks import AnnotationTask
from apps.common.leased import LeasedWork
from apps.observations.models import Label, Observation


class CropQuerySet(models.QuerySet["Crop"]):
    def public(self) -> Self:
        """Of photos that everybody may see, as in the queue."""
        return self.filter(task__photo__observation__visibility=Observation.Visibility.PUBLIC)


class Crop(models.Model):
    """A box of the answer that counts, with what the grid sorts by, so that each order is one walk along an index.

    `features` (see `apps.annotation.crops`) and `picture` (a small JPEG) are made in the background from the display
    rendition, which is decoded once for all boxes of a photo. They live in the row and not in a file, so that whatever
    deletes the photo deletes them too.
    """

    box = models.OneToOneField(AnnotatedBox, models.CASCADE, related_name="crop")
    task = models.ForeignKey(AnnotationTask, models.CASCADE, related_name="crops")
    label = models.ForeignKey(Label, models.PROTECT, related_name="+")
    confidence = models.FloatField(help_text="Of the proposal it began as; 0: drawn by hand.")
    size_px = models.FloatField(help_text="Long side.")
    disagreement = models.FloatField(help_text="0-1; see docs/experts.md.")
    outlierness = models.FloatField(default=-1, db_default=-1, help_text="-1: not measured yet.")
    features = models.BinaryField(null=True)
    picture = models.BinaryField(null=True)

    objects = CropQuerySet.as_manager()

    class Meta:
        indexes = [
            models.Index(fields=["label", "id"], name="crop_label"),
            models.Index(fields=["label", "confidence", "id"], name="crop_confidence"),
            models.Index(fields=["label", "size_px", "id"], name="crop_size"),
            models.Index(fields=["label", "disagreement", "id"], name="crop_disagreement"),
            models.Index(fields=["label", "outlierness", "id"], name="crop_outlierness"),
        ]

    def __str__(self) -> str:
        return f"{self.task_id}/{self.box_id}"


class CropSheet(LeasedWork):
    """As leased work: pictures and features of one photo's crops."""

    task = models.OneToOneField(AnnotationTask, models.CASCADE, related_name="crop_sheet")

    class Meta(LeasedWork.Meta):
        constraints = [*LeasedWork.Meta.constraints]

    def __str__(self) -> str:
        return str(self.task_id)


class LabelLook(LeasedWork):
    """How a label's crops usually look; as leased work, measuring how far each of them lies from that."""

    label = models.OneToOneField(Label, models.CASCADE, related_name="+", verbose_name=_("label"))
    middle = ArrayField(models.FloatField(), default=list)
    spread = ArrayField(models.FloatField(), default=list)
    crops = models.PositiveIntegerField(default=0, help_text="That `middle` was computed from.")

    class Meta(LeasedWork.Meta):
        constraints = [*LeasedWork.Meta.constraints]

    def __str__(self) -> str:
        return str(self.label)

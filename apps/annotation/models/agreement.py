from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from apps.annotation.models.answers import Annotation
from apps.annotation.models.tasks import AnnotationTask


class Conflict(AnnotationTask):
    """A photo about which experts disagree, as curators have it in a list of its own."""

    class Meta:
        proxy = True
        default_permissions = ()  # who may add a review settles it
        verbose_name = _("disagreement")
        verbose_name_plural = _("disagreements")


class AnswerComparison(models.Model):
    """Two answers for one photo, box by box; what the agreement page adds up.

    `label_pairs` holds `[code of first, code of second, boxes]` of the matched boxes. `missed` are boxes of the second
    (the reference) that the first lacks, `extra` boxes of the first that the second lacks. For a comparison with the model
    the second is the model's shown boxes of `first.model_version`, and `second` is empty.
    """

    class Kind(models.TextChoices):
        EXPERTS = "experts", _("two experts")
        CONSENSUS = "consensus", _("expert and consensus")
        MODEL = "model", _("expert and model")

    task = models.ForeignKey(AnnotationTask, models.CASCADE, related_name="comparisons")
    kind = models.CharField(max_length=10, choices=Kind)
    first = models.ForeignKey(Annotation, models.CASCADE, related_name="+")
    second = models.ForeignKey(Annotation, models.CASCADE, null=True, related_name="+")
    first_expert = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    second_expert = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    matched = models.PositiveIntegerField()
    missed = models.PositiveIntegerField()
    extra = models.PositiveIntegerField()
    iou_sum = models.FloatField()
    label_pairs = models.JSONField(default=list)
    by_label = models.JSONField(
        default=dict,
        help_text="{code: [sum of IoU, missed, extra]}; a matched pair counts under both its labels.",
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        indexes = [models.Index(fields=["kind", "first_expert"], name="comparison_expert")]
        constraints = [
            models.UniqueConstraint(fields=["kind", "first", "second"], name="comparison_once"),
            models.UniqueConstraint(
                fields=["first"], condition=Q(kind="model"), name="comparison_with_model_once"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.first_id}/{self.second_id}"


class GoldenPhoto(models.Model):
    """A photo with a known answer, woven in among the others to learn how reliable answers are."""

    task = models.OneToOneField(
        AnnotationTask, models.CASCADE, related_name="golden", verbose_name=_("photo in the queue")
    )
    answer = models.ForeignKey(Annotation, models.CASCADE, related_name="+", verbose_name=_("known answer"))
    is_active = models.BooleanField(_("in use"), default=True)
    added_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+", verbose_name=_("chosen by")
    )
    created_at = models.DateTimeField(_("chosen at"), db_default=Now(), editable=False)

    class Meta:
        verbose_name = _("golden photo")
        verbose_name_plural = _("golden photos")

    def __str__(self) -> str:
        return str(self.task)


class GoldenResult(models.Model):
    """How one expert's answer to a golden photo compares with the known one."""

    golden = models.ForeignKey(GoldenPhoto, models.CASCADE, related_name="results")
    annotation = models.OneToOneField(Annotation, models.CASCADE, related_name="golden_result")
    expert = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="golden_results"
    )
    matched = models.PositiveIntegerField()
    mislabelled = models.PositiveIntegerField()
    missed = models.PositiveIntegerField()
    extra = models.PositiveIntegerField()
    iou_sum = models.FloatField()
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        verbose_name = _("result on a golden photo")
        verbose_name_plural = _("results on golden photos")
        indexes = [models.Index(fields=["expert", "-id"], name="golden_result_expert")]

    def __str__(self) -> str:
        return f"{self.golden}: {self.matched}"

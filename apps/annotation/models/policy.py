import secrets

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from apps.observations.models import Survey
from apps.training.models import ModelVersion


def new_seed() -> int:
    return secrets.randbits(62)


class AnnotationPolicy(models.Model):
    """How a survey's photos come before experts: order, number of answers, control arm, splits."""

    class Strategy(models.TextChoices):
        MARGIN_SUM = "margin_sum", _("Least margin, sum over the boxes")
        MARGIN_MEAN = "margin_mean", _("Least margin, mean of the boxes")
        MARGIN_MAX = "margin_max", _("Least margin, the most uncertain box")
        MARGIN_TOP_K = "margin_top_k", _("Least margin, mean of the k most uncertain boxes")
        MANY_DOUBTFUL = "many_doubtful", _("Many boxes of low confidence")
        RANDOM = "random", _("At random")

    class EmptyPhotos(models.TextChoices):
        AS_ONE_BOX = "as_one_box", _("as photos with one wholly uncertain box")
        FIRST = "first", _("before all others")
        LAST = "last", _("after all others")

    survey = models.OneToOneField(
        Survey, models.CASCADE, related_name="annotation_policy", verbose_name=_("survey")
    )
    strategy = models.CharField(
        _("order of the queue"), max_length=20, choices=Strategy, default=Strategy.MARGIN_SUM
    )
    top_k = models.PositiveSmallIntegerField(
        _("k of the k most uncertain boxes"),
        default=5,
        validators=[MinValueValidator(1), MaxValueValidator(100)],
    )
    doubtful_below = models.FloatField(
        _("low confidence is below"), default=0.40, validators=[MinValueValidator(0.01), MaxValueValidator(1)]
    )
    doubtful_more_than = models.PositiveSmallIntegerField(_("many boxes are more than"), default=3)
    empty_photos = models.CharField(
        _("photos without a box are queued"),
        max_length=12,
        choices=EmptyPhotos,
        default=EmptyPhotos.AS_ONE_BOX,
        help_text=_("They are where a detector misses animals."),
    )
    comment_weight = models.FloatField(
        _("a comment on a box raises the score by"),
        default=1.0,
        validators=[MinValueValidator(0), MaxValueValidator(100)],
    )
    duplicate_distance = models.PositiveSmallIntegerField(
        _("near-duplicates differ in at most (bits of 64)"),
        default=6,
        validators=[MaxValueValidator(20)],
        help_text=_("Between the perceptual hashes of two photos."),
    )
    control_fraction = models.FloatField(
        _("control arm"),
        default=0.10,
        validators=[MinValueValidator(0), MaxValueValidator(0.5)],
        help_text=_(
            "Share of the photos drawn at random, whatever the model thinks; they are the test split."
        ),
    )
    validation_share = models.FloatField(
        _("validation share"),
        default=0.20,
        validators=[MinValueValidator(0), MaxValueValidator(0.5)],
        help_text=_("Of all photos; training gets the rest."),
    )
    seed = models.BigIntegerField(_("seed of all draws"), default=new_seed, editable=False)
    experts_per_photo = models.PositiveSmallIntegerField(
        _("experts for each photo"), default=1, validators=[MinValueValidator(1), MaxValueValidator(9)]
    )
    consensus_iou = models.FloatField(
        _("boxes are the same animal from an IoU of"),
        default=0.5,
        validators=[MinValueValidator(0.1), MaxValueValidator(0.95)],
    )
    golden_rate = models.FloatField(
        _("photos with a known answer"),
        default=0.0,
        validators=[MinValueValidator(0), MaxValueValidator(0.5)],
        help_text=_("Share of the photos given to an expert whose answer is known already."),
    )
    lease_minutes = models.PositiveSmallIntegerField(
        _("minutes a photo is held"), default=15, validators=[MinValueValidator(1), MaxValueValidator(240)]
    )
    train_after = models.PositiveIntegerField(
        _("accepted answers before a training"), default=50, validators=[MinValueValidator(1)]
    )
    trains_by_itself = models.BooleanField(
        _("train when there are so many"),
        default=True,
        help_text=_("Else trainings start on a curator's word only."),
    )
    control_given = models.PositiveIntegerField(default=0, editable=False)
    active_given = models.PositiveIntegerField(default=0, editable=False)
    ranked_version = models.ForeignKey(
        ModelVersion,
        models.PROTECT,
        null=True,
        related_name="+",
        editable=False,
        help_text="The version whose promotion the queue was last put in order for.",
    )
    next_swept = models.BigIntegerField(
        default=0, editable=False, help_text="The sweep looks here next for photos that no message brought."
    )

    class Meta:
        verbose_name = _("rules of the experts' queue")
        verbose_name_plural = _("rules of the experts' queues")
        constraints = [
            models.CheckConstraint(
                name="policy_shares",
                condition=Q(control_fraction__gte=0, control_fraction__lte=0.5)
                & Q(validation_share__gte=0, validation_share__lte=0.5)
                & Q(control_fraction__lt=1 - F("validation_share")),
            ),
            models.CheckConstraint(name="policy_experts", condition=Q(experts_per_photo__gte=1)),
            models.CheckConstraint(
                name="policy_golden", condition=Q(golden_rate__gte=0, golden_rate__lte=0.5)
            ),
        ]

    def __str__(self) -> str:
        return str(self.survey)

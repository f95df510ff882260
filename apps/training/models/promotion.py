"""Which version serves: the rules of the gate, and the record of every decision."""

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from apps.training.models.evaluations import Comparison
from apps.training.models.versions import ModelVersion, RegisteredModel

_SHARE = [MinValueValidator(0), MaxValueValidator(1)]


class PromotionPolicy(models.Model):
    """A registered model's gate, and whether passing it is enough."""

    class Promotion(models.TextChoices):
        AUTOMATIC = "automatic", _("automatic: a version that passes the gate goes live")
        MANUAL = "manual", _("manual: a curator decides")

    registered_model = models.OneToOneField(
        RegisteredModel, models.CASCADE, related_name="promotion_policy", verbose_name=_("registered model")
    )
    promotion = models.CharField(
        _("promotion"), max_length=10, choices=Promotion, default=Promotion.AUTOMATIC
    )
    is_frozen = models.BooleanField(
        _("promotion is frozen"), default=False, editable=False, help_text=_("Nothing goes live meanwhile.")
    )
    frozen_reason = models.CharField(_("why it is frozen"), max_length=500, blank=True, editable=False)
    max_map_loss = models.FloatField(
        _("mAP50-95 may be lower by"),
        default=0.005,
        validators=_SHARE,
        help_text=_("The lower bound of the paired bootstrap's interval must not lie below this loss."),
    )
    max_recall_loss = models.FloatField(
        _("recall of a label may be lower by"), default=0.05, validators=_SHARE
    )
    min_label_boxes = models.PositiveIntegerField(
        _("labels count from (test boxes)"), default=10, validators=[MinValueValidator(1)]
    )
    max_calibration_loss = models.FloatField(
        _("calibration error may be higher by"), default=0.02, validators=_SHARE
    )
    max_latency_ratio = models.FloatField(
        _("latency may be higher by the factor"),
        default=1.2,
        validators=[MinValueValidator(0.1), MaxValueValidator(100)],
    )
    min_test_photos = models.PositiveIntegerField(
        _("test photos at least"),
        default=10,
        validators=[MinValueValidator(2)],
        help_text=_("With fewer, nothing can be told of a difference: a curator decides."),
    )
    recent_photos = models.PositiveIntegerField(
        _("most recent test photos looked at apart"), default=100, validators=[MinValueValidator(2)]
    )
    bootstrap_samples = models.PositiveIntegerField(
        _("bootstrap samples"),
        default=1000,
        validators=[MinValueValidator(100), MaxValueValidator(20_000)],
    )
    confidence = models.FloatField(
        _("confidence of the interval"),
        default=0.95,
        validators=[MinValueValidator(0.5), MaxValueValidator(0.999)],
    )

    class Meta:
        verbose_name = _("rules of promotion")
        verbose_name_plural = _("rules of promotion")
        constraints = [
            models.CheckConstraint(
                name="policy_losses",
                condition=Q(max_map_loss__gte=0, max_map_loss__lte=1)
                & Q(max_recall_loss__gte=0, max_recall_loss__lte=1)
                & Q(max_calibration_loss__gte=0, max_calibration_loss__lte=1),
            ),
            models.CheckConstraint(
                name="policy_bootstrap",
                condition=Q(bootstrap_samples__gte=100, confidence__gte=0.5, confidence__lte=0.999),
            ),
        ]

    def __str__(self) -> str:
        return str(self.registered_model)


class PromotionEvent(models.Model):
    """One decision on which version serves, for ever: rows can be neither changed nor deleted (a trigger)."""

    class Kind(models.TextChoices):
        PROMOTED = "promoted", _("promoted")
        PROMOTED_BY_GATE = "promoted_gate", _("promoted by the gate")
        OVERRIDDEN = "overridden", _("promoted against the gate")
        REFUSED = "refused", _("refused")
        REFUSED_BY_GATE = "refused_gate", _("refused by the gate")
        ROLLED_BACK = "rolled_back", _("rolled back")
        ROLLED_BACK_BY_FAILURE = "rolled_back_fail", _("rolled back because it could not be loaded")
        FROZEN = "frozen", _("promotion frozen")
        THAWED = "thawed", _("promotion released")
        RULES_CHANGED = "rules_changed", _("rules changed")

    registered_model = models.ForeignKey(
        RegisteredModel, models.PROTECT, related_name="promotion_events", verbose_name=_("registered model")
    )
    kind = models.CharField(_("decision"), max_length=20, choices=Kind)
    at = models.DateTimeField(_("at"), db_default=Now())
    by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+", verbose_name=_("by")
    )
    by_name = models.CharField(_("by (name then)"), max_length=200, blank=True)
    reason = models.TextField(_("reason"), blank=True)
    from_version = models.ForeignKey(
        ModelVersion, models.PROTECT, null=True, related_name="+", verbose_name=_("from")
    )
    to_version = models.ForeignKey(
        ModelVersion, models.PROTECT, null=True, related_name="promotion_events", verbose_name=_("to")
    )
    comparison = models.ForeignKey(
        Comparison, models.PROTECT, null=True, related_name="events", verbose_name=_("comparison")
    )
    evidence = models.JSONField(_("evidence"), default=dict)

    class Meta:
        verbose_name = _("decision on promotion")
        verbose_name_plural = _("decisions on promotion")
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.registered_model}: {self.get_kind_display()}"

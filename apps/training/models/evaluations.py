"""What was measured of a version, and what came out when two were compared."""

import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from apps.common.leased import LeasedWork, WorkStatus
from apps.training.models.datasets import Dataset, Split
from apps.training.models.runs import TrainingRun
from apps.training.models.versions import ModelVersion, RegisteredModel, private_storage

_OPEN = Q(status__in=(WorkStatus.PENDING, WorkStatus.PROCESSING))


class Evaluation(LeasedWork):
    """A version measured on a split of a frozen dataset; as leased work, its doing.

    `metrics` (all 0..1 unless named): `map50, map50_95, precision, recall, f1, ece, latency_ms` (median a picture),
    `photos, boxes`, `…_low, …_high` of the first five (95 % bootstrap over photos), `evaluator`, `confidence` (at which
    precision, recall, F1 and the confusion matrix hold). `by_label`: the same for each label code, with `boxes`.
    `report` is gzipped JSON: curves, matrix, bins, and every picture's boxes and matches (services/evaluations.py).
    """

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    version = models.ForeignKey(
        ModelVersion, models.PROTECT, related_name="evaluations", verbose_name=_("model version")
    )
    dataset = models.ForeignKey(
        Dataset, models.PROTECT, related_name="evaluations", verbose_name=_("dataset")
    )
    split = models.CharField(_("split"), max_length=10, choices=Split, default=Split.TEST)
    is_for_comparison = models.BooleanField(
        default=False,
        editable=False,
        help_text="Made by a comparison: on the photos that neither side learned from.",
    )
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        null=True,
        related_name="+",
        editable=False,
        verbose_name=_("asked for by"),
    )
    photo_count = models.PositiveIntegerField(_("photos"), default=0, editable=False)
    photos_done = models.PositiveIntegerField(_("photos done"), default=0, editable=False)
    metrics = models.JSONField(_("metrics"), default=dict, editable=False)
    by_label = models.JSONField(_("metrics by label"), default=dict, editable=False)
    hardware = models.JSONField(_("hardware"), default=dict, editable=False)
    report = models.FileField(
        storage=private_storage, upload_to="evaluations/", max_length=200, blank=True, editable=False
    )
    created_at = models.DateTimeField(_("asked for at"), db_default=Now(), editable=False)

    class Meta(LeasedWork.Meta):
        verbose_name = _("evaluation")
        verbose_name_plural = _("evaluations")
        ordering = ["-id"]
        constraints = [
            *LeasedWork.Meta.constraints,
            models.UniqueConstraint(
                fields=["version", "dataset", "split"],
                condition=_OPEN & Q(is_for_comparison=False),
                name="one_evaluation_at_a_time",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.version} · {self.dataset} · {self.get_split_display()}"


class Comparison(LeasedWork):
    """Champion and challenger measured in one go on the same photos, and the gate's verdict; as leased work, its doing.

    `rules`: a list of `{"code", "passed", "champion", "challenger", "difference", "low", "high", "threshold", "label",
    "scope", "note"}`, those that apply to the rule. `policy` is the gate as it was then. Without a champion (nothing in
    production yet) only the challenger is measured.
    """

    class Verdict(models.TextChoices):
        PASSED = "passed", _("passes the gate")
        REFUSED = "refused", _("refused by the gate")
        UNDECIDED = "undecided", _("cannot be decided")

    class Decision(models.TextChoices):
        OPEN = "open", _("to be decided")
        PROMOTED = "promoted", _("promoted")
        OVERRIDDEN = "overridden", _("promoted against the gate")
        REFUSED = "refused", _("refused")

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    registered_model = models.ForeignKey(
        RegisteredModel, models.PROTECT, related_name="comparisons", verbose_name=_("registered model")
    )
    run = models.ForeignKey(
        TrainingRun,
        models.SET_NULL,
        null=True,
        related_name="comparisons",
        editable=False,
        verbose_name=_("training run"),
    )
    champion = models.ForeignKey(
        ModelVersion,
        models.PROTECT,
        null=True,
        related_name="comparisons_as_champion",
        verbose_name=_("champion"),
    )
    challenger = models.ForeignKey(
        ModelVersion, models.PROTECT, related_name="comparisons", verbose_name=_("challenger")
    )
    dataset = models.ForeignKey(
        Dataset, models.PROTECT, related_name="comparisons", verbose_name=_("dataset")
    )
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        null=True,
        related_name="+",
        editable=False,
        verbose_name=_("asked for by"),
    )
    champion_evaluation = models.OneToOneField(
        Evaluation, models.PROTECT, null=True, related_name="comparison_as_champion", editable=False
    )
    challenger_evaluation = models.OneToOneField(
        Evaluation, models.PROTECT, null=True, related_name="comparison_as_challenger", editable=False
    )
    photos_done = models.PositiveIntegerField(_("photos done"), default=0, editable=False)
    photo_count = models.PositiveIntegerField(_("photos"), default=0, editable=False)
    verdict = models.CharField(_("verdict"), max_length=10, choices=Verdict, blank=True, editable=False)
    rules = models.JSONField(_("rules"), default=list, editable=False)
    policy = models.JSONField(_("gate at that time"), default=dict, editable=False)
    decision = models.CharField(
        _("decision"), max_length=10, choices=Decision, default=Decision.OPEN, editable=False
    )
    created_at = models.DateTimeField(_("asked for at"), db_default=Now(), editable=False)

    class Meta(LeasedWork.Meta):
        verbose_name = _("comparison")
        verbose_name_plural = _("comparisons")
        ordering = ["-id"]
        constraints = [
            *LeasedWork.Meta.constraints,
            models.UniqueConstraint(fields=["challenger"], condition=_OPEN, name="one_comparison_at_a_time"),
            models.CheckConstraint(
                name="comparison_of_two", condition=Q(champion=None) | ~Q(champion=models.F("challenger"))
            ),
        ]

    def __str__(self) -> str:
        return f"{self.champion or '–'} / {self.challenger}"

import uuid
from typing import Self

from django.conf import settings
from django.contrib.gis.db import models as gis
from django.db import models
from django.db.models import F, Func, Q
from django.db.models.functions import Lower, Now
from django.utils.translation import gettext_lazy as _

from apps.annotation.models.tasks import AnnotationTask
from apps.observations.models import Label, Survey
from apps.training.models import ModelVersion


class LabelProposal(models.Model):
    """A label that an expert misses; a curator makes it one, or does not."""

    class Status(models.TextChoices):
        PENDING = "pending", _("waiting for a decision")
        ACCEPTED = "accepted", _("accepted")
        REFUSED = "refused", _("refused")

    survey = models.ForeignKey(
        Survey, models.CASCADE, related_name="label_proposals", verbose_name=_("survey")
    )
    name = models.CharField(_("proposed name"), max_length=160)
    status = models.CharField(
        _("status"), max_length=10, choices=Status, default=Status.PENDING, editable=False
    )
    proposed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+", verbose_name=_("proposed by")
    )
    created_at = models.DateTimeField(_("proposed at"), db_default=Now(), editable=False)
    label = models.ForeignKey(
        Label,
        models.SET_NULL,
        null=True,
        related_name="+",
        editable=False,
        verbose_name=_("label made of it"),
    )
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        null=True,
        related_name="+",
        editable=False,
        verbose_name=_("decided by"),
    )
    decided_at = models.DateTimeField(_("decided at"), null=True, editable=False)

    class Meta:
        verbose_name = _("proposed label")
        verbose_name_plural = _("proposed labels")
        ordering = ["-id"]
        constraints = [models.UniqueConstraint("survey", Lower("name"), name="label_proposed_once")]

    def __str__(self) -> str:
        return self.name


class AnnotationQuerySet(models.QuerySet["Annotation"]):
    def current(self) -> Self:
        """Not superseded by a correction."""
        return self.filter(is_current=True)

    def by_experts(self) -> Self:
        return self.filter(origin=Annotation.Origin.EXPERT)


class Annotation(models.Model):
    """A whole answer for one photo, immutable (a trigger refuses changes); a correction is a new one that supersedes.

    `changes` says what became of the proposals of `model_version`:
    `{"kept": [n…], "moved": [n…], "relabelled": [n…], "deleted": [n…], "drawn": count}` by proposal number; a box both
    moved and relabelled is in both lists.
    """

    class Origin(models.TextChoices):
        EXPERT = "expert", _("an expert")
        CONSENSUS = "consensus", _("agreement of several experts")
        CURATOR = "curator", _("a curator")
        BULK = "bulk", _("review of crops")
        IMPORT = "import", _("import")

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    task = models.ForeignKey(
        AnnotationTask, models.CASCADE, related_name="annotations", verbose_name=_("photo in the queue")
    )
    author = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        null=True,
        related_name="annotations",
        verbose_name=_("author"),
        help_text=_("None: a consensus, an import, or somebody who closed their account."),
    )
    origin = models.CharField(_("made by"), max_length=10, choices=Origin, default=Origin.EXPERT)
    model_version = models.ForeignKey(
        ModelVersion,
        models.PROTECT,
        null=True,
        related_name="+",
        verbose_name=_("started from"),
        help_text=_("The version whose proposals were there to start from."),
    )
    is_empty = models.BooleanField(_("confirmed empty"), default=False)
    box_count = models.PositiveIntegerField(_("boxes"))
    seconds_spent = models.FloatField(_("seconds spent"), default=0)
    changes = models.JSONField(_("changes to the proposals"), default=dict)
    key = models.UUIDField(null=True, help_text="Chosen by the page: the same answer sent twice is one.")
    supersedes = models.OneToOneField(
        "self", models.SET_NULL, null=True, related_name="superseded_by", verbose_name=_("corrects")
    )
    is_current = models.BooleanField(_("current"), default=True)
    created_at = models.DateTimeField(_("answered at"), db_default=Now(), editable=False)

    objects = AnnotationQuerySet.as_manager()

    class Meta:
        verbose_name = _("annotation")
        verbose_name_plural = _("annotations")
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["author", "-id"], name="annotation_author"),
            models.Index(fields=["created_at"], name="annotation_date"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["task", "author"],
                condition=Q(is_current=True, origin="expert"),
                name="one_current_answer_each",
            ),
            models.UniqueConstraint(fields=["author", "key"], name="annotation_sent_once"),
            models.CheckConstraint(
                name="empty_answer_has_no_boxes",
                condition=Q(is_empty=True, box_count=0) | Q(is_empty=False, box_count__gt=0),
            ),
            models.CheckConstraint(name="annotation_seconds", condition=Q(seconds_spent__gte=0)),
        ]

    def __str__(self) -> str:
        return str(self.public_id)[:8]


class AnnotatedBox(models.Model):
    """One animal of an answer. Pixels of the upright photo, origin top left, x to the right, y down.

    For a consensus, `votes` counts the experts' labels by code, `agreement` is the share of experts that saw this animal
    under this label, and `mean_iou` how well their boxes overlap the consensus box.
    """

    annotation = models.ForeignKey(
        Annotation, models.CASCADE, related_name="boxes", verbose_name=_("annotation")
    )
    number = models.PositiveIntegerField(_("number"))
    label = models.ForeignKey(Label, models.PROTECT, related_name="annotated_boxes", verbose_name=_("label"))
    x_min = models.FloatField()
    y_min = models.FloatField()
    x_max = models.FloatField()
    y_max = models.FloatField()
    box = models.GeneratedField(
        expression=Func(F("x_min"), F("y_min"), F("x_max"), F("y_max"), function="ST_MakeEnvelope"),
        output_field=gis.PolygonField(srid=-1, spatial_index=False),
        db_persist=True,
    )
    proposal_number = models.PositiveIntegerField(
        _("proposal"), null=True, help_text=_("Number of the model's box it began as; none: drawn by hand.")
    )
    proposal_score = models.FloatField(_("confidence of the proposal"), null=True)
    note = models.CharField(_("note"), max_length=500, blank=True)
    is_uncertain = models.BooleanField(_("uncertain"), default=False)
    label_proposal = models.ForeignKey(
        LabelProposal, models.SET_NULL, null=True, related_name="boxes", verbose_name=_("proposed label")
    )
    votes = models.JSONField(_("votes"), default=dict)
    agreement = models.FloatField(_("agreement"), null=True)
    mean_iou = models.FloatField(_("mean IoU"), null=True)

    class Meta:
        verbose_name = _("annotated box")
        verbose_name_plural = _("annotated boxes")
        ordering = ["annotation", "number"]
        indexes = [models.Index(fields=["label", "-annotation"], name="annotated_box_label")]
        constraints = [
            models.UniqueConstraint(fields=["annotation", "number"], name="annotated_box_number"),
            models.CheckConstraint(
                name="annotated_box_has_area",
                condition=Q(x_min__gte=0, y_min__gte=0, x_max__gt=F("x_min"), y_max__gt=F("y_min"))
                & Q(x_max__lte=30_000, y_max__lte=30_000),
            ),
            models.CheckConstraint(
                name="annotated_box_agreement",
                condition=Q(agreement__isnull=True) | Q(agreement__gte=0, agreement__lte=1),
            ),
        ]

    def __str__(self) -> str:
        return f"#{self.number}"

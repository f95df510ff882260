import uuid
from typing import Self

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from apps.observations.models import Observation, Photo, Survey
from apps.training.models import ModelVersion
from apps.training.models.datasets import Split


class Arm(models.TextChoices):
    ACTIVE = "active", _("by uncertainty")
    CONTROL = "control", _("at random (control arm)")
    IMPORTED = "imported", _("imported")


class PhotoGroup(models.Model):
    """Photos that must not be torn apart between training and test: of one observation, near-duplicates, one day of one
    camera. Arm and split are decided when the group begins, by its recorded draw, and never change.
    """

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    survey = models.ForeignKey(Survey, models.CASCADE, related_name="+", verbose_name=_("survey"))
    arm = models.CharField(_("arm"), max_length=10, choices=Arm)
    split = models.CharField(_("split"), max_length=10, choices=Split)
    draw = models.FloatField(
        _("draw"), help_text=_("Between 0 and 1, from the survey's seed and the group's first photo.")
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        verbose_name = _("group of photos")
        verbose_name_plural = _("groups of photos")
        constraints = [
            models.CheckConstraint(
                name="control_arm_is_the_test_split",
                condition=(Q(arm=Arm.CONTROL) & Q(split=Split.TEST))
                | (Q(arm=Arm.ACTIVE) & ~Q(split=Split.TEST))
                | Q(arm=Arm.IMPORTED),
            )
        ]

    def __str__(self) -> str:
        return str(self.public_id)[:8]


class GroupKey(models.Model):
    """What makes a photo join a group, e.g. `observation:12` or `camera:7:2026-05-04:Leica`."""

    survey = models.ForeignKey(Survey, models.CASCADE, related_name="+")
    key = models.CharField(max_length=200)
    group = models.ForeignKey(PhotoGroup, models.CASCADE, related_name="keys")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["survey", "key"], name="group_key_once")]

    def __str__(self) -> str:
        return self.key


class AnnotationTaskQuerySet(models.QuerySet["AnnotationTask"]):
    def waiting(self) -> Self:
        return self.filter(state=AnnotationTask.State.WAITING)

    def public(self) -> Self:
        """Of photos that everybody may see: what is private or hidden is not shown to experts.

        The copy on the task makes it fast, the observation's own word makes it sure.
        """
        return self.filter(is_public=True, photo__observation__visibility=Observation.Visibility.PUBLIC)

    def by_uncertainty(self) -> Self:
        """The queue's one order: highest score first, the older photo first among equals."""
        return self.order_by("-score", "id")


class AnnotationTask(models.Model):
    """A photo that experts are to look at."""

    class State(models.TextChoices):
        WAITING = "waiting", _("waiting")
        DONE = "done", _("done")
        CONFLICT = "conflict", _("experts disagree")
        SET_ASIDE = "set_aside", _("set aside")

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    survey = models.ForeignKey(Survey, models.PROTECT, related_name="+", verbose_name=_("survey"))
    photo = models.OneToOneField(
        Photo, models.CASCADE, related_name="annotation_task", verbose_name=_("photo")
    )
    state = models.CharField(_("state"), max_length=10, choices=State, default=State.WAITING, editable=False)
    arm = models.CharField(_("arm"), max_length=10, choices=Arm, default=Arm.ACTIVE, editable=False)
    group = models.ForeignKey(
        PhotoGroup,
        models.PROTECT,
        null=True,
        related_name="tasks",
        editable=False,
        verbose_name=_("group"),
        help_text=_("None: it joins groups of different splits, so it is in no dataset."),
    )
    draw = models.FloatField(_("draw"), editable=False)
    is_public = models.BooleanField(
        default=True, db_default=True, editable=False, help_text="Copied from the observation, by a trigger."
    )
    perceptual_hash = models.BigIntegerField(
        null=True, editable=False, help_text="The photo's; null where it says nothing, as of a blank picture."
    )
    uncertainty = models.FloatField(_("uncertainty"), default=0, editable=False)
    score = models.FloatField(
        _("score"), default=0, editable=False, help_text=_("Uncertainty, raised by comments on boxes.")
    )
    scored_version = models.ForeignKey(
        ModelVersion,
        models.PROTECT,
        null=True,
        related_name="+",
        editable=False,
        verbose_name=_("model version"),
        help_text=_("The version whose boxes were scored."),
    )
    scored_at = models.DateTimeField(null=True, editable=False)
    commented_boxes = models.PositiveIntegerField(_("commented boxes"), default=0, editable=False)
    rank_before = models.PositiveIntegerField(_("rank before the last promotion"), null=True, editable=False)
    rank_after = models.PositiveIntegerField(_("rank after the last promotion"), null=True, editable=False)
    answers_needed = models.PositiveSmallIntegerField(_("answers needed"), default=1, editable=False)
    answers = models.PositiveSmallIntegerField(_("answers"), default=0, editable=False)
    waits_for = models.ForeignKey(
        "self",
        models.SET_NULL,
        null=True,
        related_name="+",
        editable=False,
        verbose_name=_("waits for"),
        help_text=_("A near-duplicate that experts have looked at since the last promotion."),
    )
    accepted = models.OneToOneField(
        "Annotation",
        models.SET_NULL,
        null=True,
        related_name="accepted_for",
        editable=False,
        verbose_name=_("answer that counts"),
    )
    accepted_at = models.DateTimeField(_("accepted at"), null=True, editable=False)
    created_at = models.DateTimeField(_("queued at"), db_default=Now(), editable=False)

    objects = AnnotationTaskQuerySet.as_manager()

    class Meta:
        verbose_name = _("photo in the queue")
        verbose_name_plural = _("photos in the queue")
        ordering = ["-id"]
        indexes = [
            models.Index(
                fields=["survey", "-score", "id"],
                condition=Q(
                    state="waiting", arm__in=("active", "imported"), is_public=True, waits_for__isnull=True
                ),
                name="task_queue",
            ),
            models.Index(
                fields=["survey", "draw", "id"],
                condition=Q(state="waiting", arm="control", is_public=True, waits_for__isnull=True),
                name="task_control",
            ),
            models.Index(fields=["survey", "is_public", "state"], name="task_counts"),
            models.Index(
                fields=["survey"],
                include=["perceptual_hash", "id", "group"],
                condition=Q(perceptual_hash__isnull=False),
                name="task_looks",
            ),
            models.Index(fields=["survey", "state", "-score", "id"], name="task_console"),
            models.Index(fields=["-score", "id"], name="task_score"),
            models.Index(
                fields=["survey", "-accepted_at"], condition=Q(accepted__isnull=False), name="task_accepted"
            ),
        ]
        constraints = [
            models.CheckConstraint(
                name="done_task_has_an_answer",
                condition=~Q(state="done") | Q(accepted_at__isnull=False),
            ),
            models.CheckConstraint(name="task_needs_answers", condition=Q(answers_needed__gte=1)),
        ]

    def __str__(self) -> str:
        return str(self.public_id)[:8]


class AssignmentQuerySet(models.QuerySet["Assignment"]):
    def held(self) -> Self:
        """Open ones whose lease runs, by the database's clock."""
        return self.filter(state=Assignment.State.OPEN, lease_until__gte=Now())

    def looked_at(self) -> Self:
        """Held, answered or passed on: somebody has their eyes on the photo, or had."""
        ended = (Assignment.State.SUBMITTED, Assignment.State.SKIPPED)
        return self.filter(Q(state__in=ended) | Q(state=Assignment.State.OPEN, lease_until__gte=Now()))


class Assignment(models.Model):
    """One expert's work on one photo: the lease, the draft, and how it ended. The draft outlives the lease."""

    class State(models.TextChoices):
        OPEN = "open", _("open")
        SUBMITTED = "submitted", _("answered")
        SKIPPED = "skipped", _("skipped")
        RETURNED = "returned", _("returned")

    class SkipReason(models.TextChoices):
        BLURRED = "blurred", _("too blurred to tell")
        NOT_SURE = "not_sure", _("I am not sure about these animals")
        BAD_PICTURE = "bad_picture", _("not a picture for this survey")
        OTHER = "other", _("another reason")

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    task = models.ForeignKey(
        AnnotationTask, models.CASCADE, related_name="assignments", verbose_name=_("photo in the queue")
    )
    expert = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, related_name="assignments", verbose_name=_("expert")
    )
    state = models.CharField(_("state"), max_length=10, choices=State, default=State.OPEN, editable=False)
    given_as = models.CharField(
        max_length=10, editable=False, help_text="active, control, golden or chosen (opened by a link)."
    )
    model_version = models.ForeignKey(
        ModelVersion,
        models.PROTECT,
        null=True,
        related_name="+",
        editable=False,
        verbose_name=_("started from"),
        help_text=_(
            "The version whose boxes the expert started from; a promotion meanwhile does not change them."
        ),
    )
    lease_until = models.DateTimeField(_("held until"), null=True, editable=False)
    opened_at = models.DateTimeField(_("opened at"), db_default=Now(), editable=False)
    closed_at = models.DateTimeField(_("ended at"), null=True, editable=False)
    draft = models.JSONField(null=True, editable=False)
    draft_version = models.PositiveIntegerField(default=0, editable=False)
    draft_client = models.UUIDField(null=True, editable=False)
    draft_saved_at = models.DateTimeField(_("draft saved at"), null=True, editable=False)
    seconds = models.FloatField(_("seconds spent"), default=0, editable=False)
    skip_reason = models.CharField(_("reason"), max_length=12, choices=SkipReason, blank=True, editable=False)
    skip_note = models.CharField(_("note"), max_length=500, blank=True, editable=False)

    objects = AssignmentQuerySet.as_manager()

    class Meta:
        verbose_name = _("assignment")
        verbose_name_plural = _("assignments")
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["expert", "state", "-id"], name="assignment_expert"),
            models.Index(fields=["lease_until"], condition=Q(state="open"), name="assignment_open"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["task", "expert"], name="assignment_once"),
            models.CheckConstraint(
                name="open_assignment_is_leased", condition=~Q(state="open") | Q(lease_until__isnull=False)
            ),
            models.CheckConstraint(name="assignment_seconds", condition=Q(seconds__gte=0)),
        ]

    def __str__(self) -> str:
        return f"{self.task} / {self.expert}"

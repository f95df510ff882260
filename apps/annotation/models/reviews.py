import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from apps.annotation.models.answers import Annotation
from apps.annotation.models.tasks import AnnotationTask
from apps.observations.models import Photo
from apps.training.models import ModelVersion


class Review(models.Model):
    """What somebody decided on others' answers: kept for ever, undone by another step."""

    class Kind(models.TextChoices):
        SETTLED = "settled", _("disagreement settled")
        SENT_BACK = "sent_back", _("sent back to the queue")
        RELABELLED = "relabelled", _("relabelled")
        SET_ASIDE = "set_aside", _("set aside")
        UNDONE = "undone", _("undone")

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    task = models.ForeignKey(
        AnnotationTask, models.CASCADE, related_name="reviews", verbose_name=_("photo in the queue")
    )
    reviewer = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+", verbose_name=_("reviewer")
    )
    kind = models.CharField(_("decision"), max_length=12, choices=Kind)
    before = models.ForeignKey(
        Annotation, models.SET_NULL, null=True, related_name="+", verbose_name=_("answer before")
    )
    after = models.ForeignKey(
        Annotation, models.SET_NULL, null=True, related_name="+", verbose_name=_("answer after")
    )
    batch = models.UUIDField(_("batch"), null=True, help_text=_("Decisions made at once are undone at once."))
    note = models.CharField(_("note"), max_length=500, blank=True)
    undone_at = models.DateTimeField(_("undone at"), null=True, editable=False)
    created_at = models.DateTimeField(_("decided at"), db_default=Now(), editable=False)

    class Meta:
        verbose_name = _("review")
        verbose_name_plural = _("reviews")
        ordering = ["-id"]
        indexes = [models.Index(fields=["batch"], condition=Q(batch__isnull=False), name="review_batch")]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.task}"


class ContributorNews(models.Model):
    """What a contributor is told of one accepted answer: "an expert confirmed #1 and corrected #3"."""

    contributor = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, related_name="photo_news", verbose_name=_("contributor")
    )
    photo = models.ForeignKey(Photo, models.CASCADE, related_name="news", verbose_name=_("photo"))
    annotation = models.OneToOneField(Annotation, models.CASCADE, related_name="news")
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    mailed_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        verbose_name = _("news for a contributor")
        verbose_name_plural = _("news for contributors")
        indexes = [
            models.Index(fields=["contributor", "id"], condition=Q(mailed_at=None), name="news_to_mail")
        ]

    def __str__(self) -> str:
        return str(self.photo)


class Thanks(models.Model):
    """Somebody's photos taught a version that went into production: told once, whatever number of photos it was."""

    contributor = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, related_name="thanks", verbose_name=_("contributor")
    )
    version = models.ForeignKey(
        ModelVersion, models.CASCADE, related_name="thanks", verbose_name=_("model version")
    )
    photos = models.PositiveIntegerField(_("photos"))
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    mailed_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        verbose_name = _("thanks to a contributor")
        verbose_name_plural = _("thanks to contributors")
        constraints = [models.UniqueConstraint(fields=["contributor", "version"], name="thanked_once")]
        indexes = [
            models.Index(fields=["contributor", "id"], condition=Q(mailed_at=None), name="thanks_to_mail")
        ]

    def __str__(self) -> str:
        return f"{self.contributor}: {self.version}"

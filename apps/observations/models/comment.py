import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from apps.observations.models.detection import Detection
from apps.observations.models.observation import Observation
from apps.observations.models.photo import Photo


class Comment(models.Model):
    """A remark on an observation, or on one numbered box of one of its photos ("#3 is a mite")."""

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    observation = models.ForeignKey(
        Observation, models.CASCADE, related_name="comments", verbose_name=_("observation")
    )
    photo = models.ForeignKey(
        Photo, models.CASCADE, null=True, blank=True, related_name="comments", verbose_name=_("photo")
    )
    detection = models.ForeignKey(
        Detection, models.SET_NULL, null=True, blank=True, related_name="comments", verbose_name=_("box")
    )
    box_number = models.PositiveIntegerField(_("box number"), null=True, blank=True)
    author = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, related_name="comments", verbose_name=_("author")
    )
    body = models.TextField(_("comment"), max_length=2000)
    created_at = models.DateTimeField(_("written at"), auto_now_add=True)

    class Meta:
        verbose_name = _("comment")
        verbose_name_plural = _("comments")
        ordering = ["created_at", "id"]
        constraints = [
            models.CheckConstraint(
                name="comment_box_has_photo",
                condition=Q(box_number__isnull=True, detection__isnull=True)
                | Q(box_number__isnull=False, photo__isnull=False),
            )
        ]

    def __str__(self) -> str:
        return self.body[:60]

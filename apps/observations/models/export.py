import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from apps.common.leased import LeasedWork, WorkStatus
from apps.observations.models.archive import private_storage


class DataExport(LeasedWork):
    """Everything a person sent and wrote, as a zip of their own; as leased work, its making."""

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, related_name="data_exports", verbose_name=_("user")
    )
    file = models.FileField(storage=private_storage, upload_to="exports/", max_length=200, editable=False)
    size_bytes = models.PositiveBigIntegerField(_("size in bytes"), null=True, editable=False)
    photos_total = models.PositiveIntegerField(_("photos"), default=0, editable=False)
    photos_packed = models.PositiveIntegerField(_("photos packed"), default=0, editable=False)
    created_at = models.DateTimeField(_("asked for at"), auto_now_add=True)
    expires_at = models.DateTimeField(_("kept until"), null=True, editable=False)

    class Meta(LeasedWork.Meta):
        verbose_name = _("download of a person's data")
        verbose_name_plural = _("downloads of people's data")
        ordering = ["-id"]
        constraints = [
            *LeasedWork.Meta.constraints,
            models.UniqueConstraint(
                fields=["user"],
                condition=Q(status__in=(WorkStatus.PENDING, WorkStatus.PROCESSING)),
                name="one_export_at_a_time",
            ),
        ]

    def __str__(self) -> str:
        return str(self.public_id)

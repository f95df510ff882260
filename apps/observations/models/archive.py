import uuid

from django.core.files.storage import Storage, storages
from django.db import models
from django.utils.translation import gettext_lazy as _

from apps.common.leased import LeasedWork
from apps.observations.models.observation import Observation


def private_storage() -> Storage:
    return storages["default"]


class ArchiveUpload(LeasedWork):
    """A zip somebody sent; as leased work, its reading entry by entry. Never extracted to disk."""

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    observation = models.ForeignKey(
        Observation, models.CASCADE, related_name="archives", verbose_name=_("observation")
    )
    name = models.CharField(_("file name"), max_length=255)
    file = models.FileField(storage=private_storage, upload_to="archives/", max_length=200, editable=False)
    size_bytes = models.PositiveBigIntegerField(_("size in bytes"), editable=False)
    entries = models.PositiveIntegerField(_("files in it"), null=True, editable=False)
    next_entry = models.PositiveIntegerField(
        _("files read"), default=0, editable=False, help_text=_("Reading resumes here after an interruption.")
    )

    class Meta(LeasedWork.Meta):
        verbose_name = _("zip archive")
        verbose_name_plural = _("zip archives")

    def __str__(self) -> str:
        return self.name


class RefusedFile(models.Model):
    """A file of a batch that was not taken, and why: shown to the contributor until they dismiss it."""

    observation = models.ForeignKey(Observation, models.CASCADE, related_name="refused_files")
    name = models.CharField(_("file name"), max_length=255)
    code = models.CharField(_("reason"), max_length=40)
    params = models.JSONField(default=dict)
    archive = models.ForeignKey(ArchiveUpload, models.CASCADE, null=True, related_name="refused_files")
    archive_index = models.PositiveIntegerField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name = _("refused file")
        verbose_name_plural = _("refused files")
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["archive", "archive_index"], name="one_refusal_per_archive_entry")
        ]

    def __str__(self) -> str:
        return self.name


class DiscardedFile(models.Model):
    """A stored file whose row is gone: written in the transaction that deletes the row, so no file is left over."""

    storage = models.CharField(max_length=20)
    name = models.CharField(max_length=200)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["storage", "name"], name="discarded_once")]

    def __str__(self) -> str:
        return f"{self.storage}:{self.name}"

"""Weights from outside: kept apart until a curator has seen what they are."""

import uuid

from django.conf import settings
from django.db import models
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from apps.common.leased import LeasedWork
from apps.training.models.versions import ModelVersion, RegisteredModel, private_storage, sha256_validator


class ModelImport(LeasedWork):
    """An uploaded weights file in quarantine; as leased work, its examination in a process that can do nothing else.

    `findings`: `{"kind", "labels", "architecture", "parameters", "image_size_px", ...}` once examined; `problem`: the
    code of why it was refused, with `problem_details` for its text.
    """

    class Decision(models.TextChoices):
        OPEN = "open", _("to be decided")
        ACCEPTED = "accepted", _("accepted")
        REFUSED = "refused", _("refused")

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    registered_model = models.ForeignKey(
        RegisteredModel, models.CASCADE, related_name="imports", verbose_name=_("registered model")
    )
    name = models.CharField(_("file name"), max_length=255, editable=False)
    file = models.FileField(
        _("weights"), storage=private_storage, upload_to="quarantine/", max_length=200, blank=True
    )
    size_bytes = models.PositiveBigIntegerField(_("size in bytes"), editable=False)
    sha256 = models.CharField("SHA-256", max_length=64, validators=[sha256_validator], editable=False)
    licence = models.CharField(_("licence"), max_length=120, blank=True)
    note = models.TextField(_("where it comes from"), blank=True)
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        null=True,
        related_name="+",
        editable=False,
        verbose_name=_("sent by"),
    )
    findings = models.JSONField(_("findings"), default=dict, editable=False)
    problem = models.CharField(_("problem"), max_length=40, blank=True, editable=False)
    problem_details = models.JSONField(default=dict, editable=False)
    decision = models.CharField(
        _("decision"), max_length=10, choices=Decision, default=Decision.OPEN, editable=False
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
    version = models.OneToOneField(
        ModelVersion,
        models.SET_NULL,
        null=True,
        related_name="imported_by",
        editable=False,
        verbose_name=_("resulting version"),
    )
    created_at = models.DateTimeField(_("sent at"), db_default=Now(), editable=False)

    class Meta(LeasedWork.Meta):
        verbose_name = _("import of weights")
        verbose_name_plural = _("imports of weights")
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.name

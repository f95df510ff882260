"""Registered models and their versions."""

from django.core.files.storage import Storage, storages
from django.core.validators import RegexValidator
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

sha256_validator = RegexValidator(r"^[0-9a-f]{64}$", _("64 lower-case hexadecimal digits"))


def private_storage() -> Storage:
    return storages["default"]


class RegisteredModel(models.Model):
    """A named line of model versions, of which at most one serves production."""

    name = models.SlugField(_("name"), max_length=80, unique=True)
    description = models.TextField(_("description"), blank=True)
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)

    class Meta:
        verbose_name = _("registered model")
        verbose_name_plural = _("registered models")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def production_version(self) -> "ModelVersion | None":
        return self.versions.filter(stage=ModelVersion.Stage.PRODUCTION).first()


class ModelVersion(models.Model):
    """Immutable weights with their label list and what was measured on them."""

    class Stage(models.TextChoices):
        CANDIDATE = "candidate", _("Candidate")
        PRODUCTION = "production", _("In production")
        ARCHIVED = "archived", _("Archived")
        REFUSED = "refused", _("Refused")

    class Origin(models.TextChoices):
        TRAINED = "trained", _("trained here")
        IMPORTED = "imported", _("came from outside")

    registered_model = models.ForeignKey(
        RegisteredModel, models.PROTECT, related_name="versions", verbose_name=_("registered model")
    )
    number = models.PositiveIntegerField(_("version"))
    stage = models.CharField(
        _("stage"), max_length=12, choices=Stage, default=Stage.CANDIDATE, editable=False
    )
    weights = models.FileField(
        _("weights"), storage=private_storage, upload_to="weights/", max_length=200, editable=False
    )
    weights_sha256 = models.CharField("SHA-256", max_length=64, validators=[sha256_validator], editable=False)
    weights_bytes = models.PositiveBigIntegerField(_("size in bytes"), editable=False)
    labels = models.JSONField(_("label codes, in the order of the class scores"), editable=False)
    image_size_px = models.PositiveIntegerField(_("image size (px)"), editable=False)
    object_size_px = models.FloatField(
        _("typical animal size in training (px)"),
        null=True,
        editable=False,
        help_text=_("Median long side of the boxes it was trained on, at native scale."),
    )
    origin = models.CharField(
        _("origin"), max_length=10, choices=Origin, default=Origin.IMPORTED, editable=False
    )
    parent = models.ForeignKey(
        "self",
        models.PROTECT,
        null=True,
        related_name="children",
        editable=False,
        verbose_name=_("fine-tuned from"),
    )
    unusable_reason = models.CharField(
        _("why it cannot be loaded"),
        max_length=500,
        blank=True,
        editable=False,
        help_text=_("Workers could not load it; it is not promoted again."),
    )
    metrics = models.JSONField(_("metrics"), default=dict, editable=False)
    card = models.TextField(_("model card (Markdown)"), blank=True, editable=False)
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    promoted_at = models.DateTimeField(_("promoted at"), null=True, editable=False)

    class Meta:
        verbose_name = _("model version")
        verbose_name_plural = _("model versions")
        ordering = ["registered_model", "-number"]
        permissions = [("promote_modelversion", "Can put a model version into production")]
        constraints = [
            models.UniqueConstraint(fields=["registered_model", "number"], name="model_version_number"),
            models.UniqueConstraint(
                fields=["registered_model"],
                condition=Q(stage="production"),
                name="one_production_version_per_model",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.registered_model.name} v{self.number}"

from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.utils.translation import get_language
from django.utils.translation import gettext_lazy as _

from apps.training.models import RegisteredModel

hex_colour = RegexValidator(r"^#[0-9a-f]{6}$", _("A colour such as #2a7f62"))


class Survey(models.Model):
    """One campaign: its animals, its labels, its model and its rules."""

    class GeoPrivacy(models.TextChoices):
        OPEN = "open", _("Exact places are public")
        OBSCURED = "obscured", _("Places are blurred to a grid cell")

    slug = models.SlugField(_("short name"), max_length=60, unique=True)
    name_en = models.CharField(_("name (English)"), max_length=120)
    name_fr = models.CharField(_("name (French)"), max_length=120)
    description_en = models.TextField(_("description (English)"), blank=True)
    description_fr = models.TextField(_("description (French)"), blank=True)
    registered_model = models.ForeignKey(
        RegisteredModel,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="surveys",
        verbose_name=_("model"),
    )
    is_open = models.BooleanField(_("open for new photos"), default=True)
    position = models.PositiveSmallIntegerField(_("position"), default=0)
    confidence_threshold = models.FloatField(
        _("confidence threshold"),
        default=0.25,
        validators=[MinValueValidator(0.01), MaxValueValidator(0.99)],
        help_text=_("Weaker boxes are not shown."),
    )
    kept_threshold = models.FloatField(
        _("lowest confidence kept"),
        default=0.05,
        validators=[MinValueValidator(0.01), MaxValueValidator(0.99)],
        help_text=_(
            "Weaker boxes that experts can still look at while they draw. Not above the confidence threshold."
        ),
    )
    object_size_px = models.FloatField(
        _("typical animal size (px)"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text=_(
            "Long side of a typical animal on the photos people send. It decides which photos are cut into tiles. "
            "Empty: the size the model was trained on."
        ),
    )
    minimum_photos = models.PositiveIntegerField(
        _("photos before the queue opens"), default=20, help_text=_("Nothing is queued for experts before.")
    )
    geoprivacy = models.CharField(_("geoprivacy"), max_length=10, choices=GeoPrivacy, default=GeoPrivacy.OPEN)
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)

    class Meta:
        verbose_name = _("survey")
        verbose_name_plural = _("surveys")
        ordering = ["position", "slug"]
        constraints = [
            models.CheckConstraint(
                name="survey_keeps_what_it_shows",
                condition=models.Q(kept_threshold__lte=models.F("confidence_threshold")),
                violation_error_message=_(
                    "The lowest confidence kept cannot be above the confidence threshold: boxes that are shown must be kept."
                ),
            )
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def name(self) -> str:
        return self.name_fr if get_language() == "fr" else self.name_en

    @property
    def description(self) -> str:
        return self.description_fr if get_language() == "fr" else self.description_en


class Label(models.Model):
    """What a box can be called in a survey. Retired rather than deleted."""

    class Rank(models.TextChoices):
        CLASS = "class", _("class")
        ORDER = "order", _("order")
        FAMILY = "family", _("family")
        GENUS = "genus", _("genus")
        SPECIES = "species", _("species")
        OTHER = "other", _("other")

    survey = models.ForeignKey(Survey, models.PROTECT, related_name="labels", verbose_name=_("survey"))
    code = models.SlugField(_("code"), max_length=40, help_text=_("The laboratory's code; it never changes."))
    scientific_name = models.CharField(_("scientific name"), max_length=160, blank=True)
    vernacular_en = models.CharField(_("English name"), max_length=120, blank=True)
    vernacular_fr = models.CharField(_("French name"), max_length=120, blank=True)
    rank = models.CharField(_("rank"), max_length=10, choices=Rank, default=Rank.SPECIES)
    parent = models.ForeignKey(
        "self", models.PROTECT, null=True, blank=True, related_name="children", verbose_name=_("parent")
    )
    gbif_key = models.PositiveBigIntegerField(_("GBIF key"), null=True, blank=True)
    colour = models.CharField(_("colour"), max_length=7, default="#2a7f62", validators=[hex_colour])
    is_active = models.BooleanField(_("in use"), default=True)
    is_sensitive = models.BooleanField(
        _("sensitive"), default=False, help_text=_("Places where it was found are blurred for the public.")
    )
    position = models.PositiveSmallIntegerField(_("position"), default=0)

    class Meta:
        verbose_name = _("label")
        verbose_name_plural = _("labels")
        ordering = ["survey", "position", "code"]
        constraints = [models.UniqueConstraint(fields=["survey", "code"], name="label_code_in_survey")]

    def __str__(self) -> str:
        return self.name

    @property
    def vernacular(self) -> str:
        return self.vernacular_fr if get_language() == "fr" else self.vernacular_en

    @property
    def name(self) -> str:
        """The scientific name when there is one, else the vernacular one, else the code."""
        return self.scientific_name or self.vernacular or self.code

import uuid
from typing import Any, Self

from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.contrib.gis.db import models
from django.contrib.postgres.indexes import GinIndex, OpClass
from django.db.models import Q
from django.db.models.functions import Now, Upper
from django.utils.translation import gettext_lazy as _

from apps.observations.models.survey import Survey


class Licence(models.TextChoices):
    CC0 = "CC0-1.0", _("CC0: no rights reserved")
    CC_BY = "CC-BY-4.0", _("CC BY: with my name")
    CC_BY_NC = "CC-BY-NC-4.0", _("CC BY-NC: with my name, not for profit")


class ObservationQuerySet(models.QuerySet["Observation"]):
    def visible_to(self, user: Any) -> Self:
        """Public ones, one's own, and for staff all."""
        if isinstance(user, AnonymousUser) or not user.is_authenticated:
            return self.filter(visibility=Observation.Visibility.PUBLIC)
        if user.is_staff:
            return self
        return self.filter(Q(visibility=Observation.Visibility.PUBLIC) | Q(contributor=user))


class Observation(models.Model):
    """Photos that one person took at one place and time: a single photo, or a whole folder or plate series.

    `location` is exact and private to its owner and staff; `public_location` is what everyone may see,
    computed once by `services.geoprivacy` and stored apart.
    """

    class Visibility(models.TextChoices):
        PUBLIC = "public", _("public")
        PRIVATE = "private", _("only me")
        HIDDEN = "hidden", _("hidden by a curator")

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    survey = models.ForeignKey(Survey, models.PROTECT, related_name="observations", verbose_name=_("survey"))
    contributor = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, related_name="observations", verbose_name=_("contributor")
    )
    title = models.CharField(_("title"), max_length=160, blank=True)
    observed_at = models.DateTimeField(_("observed at"), null=True, blank=True)
    location = models.PointField(_("exact place"), null=True, blank=True, srid=4326)
    location_accuracy_m = models.FloatField(_("accuracy (m)"), null=True, blank=True)
    public_location = models.PointField(_("public place"), null=True, editable=False, srid=4326)
    is_obscured = models.BooleanField(_("place is blurred"), default=False, editable=False)
    place_name = models.CharField(_("place"), max_length=160, blank=True)
    comment = models.TextField(_("comment"), max_length=4000, blank=True)
    licence = models.CharField(_("licence"), max_length=14, choices=Licence, default=Licence.CC_BY)
    visibility = models.CharField(
        _("visibility"), max_length=8, choices=Visibility, default=Visibility.PUBLIC
    )
    proposals_settled = models.BooleanField(
        default=False,
        editable=False,
        help_text=_("Date and place read from the photos were accepted or declined."),
    )
    created_at = models.DateTimeField(_("sent at"), db_default=Now(), editable=False)
    updated_at = models.DateTimeField(_("changed at"), auto_now=True)

    objects = ObservationQuerySet.as_manager()

    class Meta:
        verbose_name = _("observation")
        verbose_name_plural = _("observations")
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["contributor", "-id"], name="observation_mine"),
            models.Index(fields=["survey", "-id"], name="observation_survey"),
            models.Index(fields=["observed_at"], name="observation_date"),
            GinIndex(
                OpClass(Upper("place_name"), name="gin_trgm_ops"),
                condition=Q(visibility="public", is_obscured=False) & ~Q(place_name=""),
                name="observation_public_place_name",
            ),
        ]
        constraints = [
            models.CheckConstraint(
                name="observation_place_on_earth",
                condition=Q(location__isnull=True)
                | Q(location__coveredby="SRID=4326;POLYGON((-180 -90,180 -90,180 90,-180 90,-180 -90))"),
            ),
            models.CheckConstraint(
                name="observation_accuracy_positive",
                condition=Q(location_accuracy_m__isnull=True) | Q(location_accuracy_m__gte=0),
            ),
        ]

    def __str__(self) -> str:
        return self.title or f"{self.survey_id}/{str(self.public_id)[:8]}"


class MapCell(models.Model):
    """How many public observations lie in one cell of the world grid: the map's clusters, kept by a trigger.

    A cell of level z spans 360/2**z degrees of longitude and of latitude, counted from (-180, -90). What a cell holds
    is the sum over its rows: the trigger only appends changes (`is_change`), so that two people who send at once never
    wait for each other's transaction; `services.map_cells` folds the changes into one row for each cell later.
    """

    survey = models.ForeignKey(Survey, models.CASCADE, related_name="+")
    level = models.PositiveSmallIntegerField()
    x = models.IntegerField()
    y = models.IntegerField()
    observations = models.IntegerField(default=0)
    longitude_sum = models.FloatField(default=0)
    latitude_sum = models.FloatField(default=0)
    is_change = models.BooleanField(default=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["survey", "level", "x", "y"], condition=Q(is_change=False), name="one_map_cell"
            )
        ]
        indexes = [
            models.Index(fields=["level", "x", "y"], name="map_cell_window"),
            models.Index(fields=["id"], condition=Q(is_change=True), name="map_cell_changes"),
        ]

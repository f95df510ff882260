from typing import Any, cast

from django import forms
from django.contrib import admin, messages
from django.contrib.gis.geos import Point
from django.core.exceptions import ValidationError
from django.db.models import Count, QuerySet
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.translation import gettext_lazy as _
from unfold.widgets import UnfoldAdminDecimalFieldWidget

from apps.common.admin_base import DeletedByService, display
from apps.observations.models import Observation
from apps.observations.services.deletion import delete_observation
from apps.observations.services.observations import update_observation

Visibility = Observation.Visibility
PHOTOS_SHOWN = 24


class ObservationForm(forms.ModelForm):  # type: ignore[type-arg]
    """The exact place as two numbers: no map from elsewhere is loaded into the console."""

    latitude = forms.FloatField(
        label=_("exact latitude (°)"),
        required=False,
        min_value=-90,
        max_value=90,
        widget=UnfoldAdminDecimalFieldWidget(attrs={"step": "any"}),
    )
    longitude = forms.FloatField(
        label=_("exact longitude (°)"),
        required=False,
        min_value=-180,
        max_value=180,
        widget=UnfoldAdminDecimalFieldWidget(attrs={"step": "any"}),
    )

    class Meta:
        model = Observation
        fields = (
            "title",
            "observed_at",
            "location_accuracy_m",
            "place_name",
            "comment",
            "licence",
            "visibility",
        )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if place := self.instance.location:
            self.initial.update(latitude=place.y, longitude=place.x)
        # Hidden and shown again, what its contributor keeps private would become public.
        if visibility := cast("forms.ChoiceField | None", self.fields.get("visibility")):
            visibility.disabled = self.instance.visibility == Visibility.PRIVATE
            visibility.choices = [
                choice
                for choice in Visibility.choices
                if visibility.disabled or choice[0] != Visibility.PRIVATE.value
            ]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        latitude, longitude = cleaned.get("latitude"), cleaned.get("longitude")
        if (latitude is None) != (longitude is None):
            raise ValidationError(_("A place needs both latitude and longitude, or neither."))
        cleaned["location"] = None if latitude is None else Point(longitude, latitude, srid=4326)
        return cleaned


@admin.register(Observation)
class ObservationAdmin(DeletedByService):
    form = ObservationForm
    list_display = (
        "title_or_id",
        "survey",
        "contributor_mail",
        "visibility_state",
        "observed_at",
        "place_state",
        "created_at",
    )
    list_display_links = ("title_or_id",)
    list_select_related = ("survey", "contributor")
    list_filter = ("survey", "visibility", "is_obscured")
    ordering = ("-pk",)
    identity_lookups = {"uuid": "public_id", "email": "contributor__email__iexact", "number": "pk"}
    actions = ("hide", "show_again")
    readonly_fields = (
        "public_id",
        "survey",
        "contributor",
        "photos_shown",
        "public_place",
        "is_obscured",
        "created_at",
        "updated_at",
    )
    fieldsets = (
        (
            None,
            {
                "fields": (
                    "photos_shown",
                    ("survey", "contributor"),
                    "title",
                    ("visibility", "licence"),
                    "comment",
                )
            },
        ),
        (
            _("When and where"),
            {
                "fields": (
                    "observed_at",
                    ("latitude", "longitude"),
                    ("place_name", "location_accuracy_m"),
                    ("public_place", "is_obscured"),
                )
            },
        ),
        (_("Record"), {"fields": ("public_id", ("created_at", "updated_at"))}),
    )

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False  # observations begin with photos, which come in through the site or the API

    def view_on_site(self, observation: Observation) -> str:
        return reverse("observations:observation", args=[observation.public_id])

    @display(description=_("observation"))
    def title_or_id(self, observation: Observation) -> str:
        return observation.title or str(observation.public_id)[:8]

    @display(description=_("contributor"))
    def contributor_mail(self, observation: Observation) -> str:
        return observation.contributor.email

    @display(description=_("visibility"), label={"public": "success", "private": "info", "hidden": "danger"})
    def visibility_state(self, observation: Observation) -> tuple[str, str]:
        return observation.visibility, observation.get_visibility_display()

    @display(description=_("place"), label={"blurred": "warning", "exact": "success"})
    def place_state(self, observation: Observation) -> Any:
        if observation.location is None:
            return "–"
        if observation.is_obscured:
            return "blurred", str(_("blurred"))
        return "exact", str(_("exact"))

    @display(description=_("photos"))
    def photos_shown(self, observation: Observation) -> str:
        photos = observation.photos.all()
        counted = photos.aggregate(count=Count("pk"))["count"]
        context = {
            "photos": photos.order_by("pk")[:PHOTOS_SHOWN],
            "count": counted,
            "observation": observation,
        }
        return render_to_string("admin/observations/photo_strip.html", context)

    @display(description=_("public place"))
    def public_place(self, observation: Observation) -> str:
        place = observation.public_location
        return f"{place.y:.5f}, {place.x:.5f}" if place else "–"

    def save_model(self, request: HttpRequest, obj: Observation, form: Any, change: bool) -> None:
        """Through the service, which computes the public place anew."""
        names = (*ObservationForm.Meta.fields, "location")
        saved = update_observation(
            observation=obj, **{name: form.cleaned_data[name] for name in names if name in form.cleaned_data}
        )
        obj.__dict__.update(saved.__dict__)

    def delete_model(self, request: HttpRequest, obj: Observation) -> None:
        delete_observation(observation=obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Observation]) -> None:
        for observation in queryset:
            delete_observation(observation=observation)

    @admin.action(description=_("Hide from the public"), permissions=["change"])
    def hide(self, request: HttpRequest, queryset: QuerySet[Observation]) -> None:
        self._show(
            request, queryset.filter(visibility=Visibility.PUBLIC), queryset.count(), Visibility.HIDDEN
        )

    @admin.action(description=_("Show to the public again (hidden ones only)"), permissions=["change"])
    def show_again(self, request: HttpRequest, queryset: QuerySet[Observation]) -> None:
        self._show(
            request, queryset.filter(visibility=Visibility.HIDDEN), queryset.count(), Visibility.PUBLIC
        )

    def _show(self, request: HttpRequest, rows: QuerySet[Observation], chosen: int, visibility: str) -> None:
        """What its contributor keeps private stays private: only public and hidden are a curator's to change."""
        done = rows.update(visibility=visibility)
        if done:
            text = (
                _("%(count)d observations were hidden.")
                if visibility == Visibility.HIDDEN
                else _("%(count)d observations are public again.")
            )
            messages.success(request, text % {"count": done})
        if chosen > done:
            messages.warning(
                request,
                _("%(count)d were left as they are: private, or so already.") % {"count": chosen - done},
            )

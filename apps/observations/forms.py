"""What contributors fill in: the details of an observation, and the form they send photos with."""

import uuid
from datetime import datetime, time, timedelta
from typing import Any

from django import forms
from django.contrib.gis.geos import Point
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.observations.models import Licence, Observation, Survey


class DetailsForm(forms.Form):
    """Title, day, place, comment, licence and visibility of an observation; all may be left empty."""

    title = forms.CharField(label=gettext_lazy("Title"), max_length=160, required=False)
    observed_on = forms.DateField(
        label=gettext_lazy("Day"),
        required=False,
        widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
        help_text=gettext_lazy("If the files know it, the page will propose it afterwards."),
    )
    observed_time = forms.TimeField(
        label=gettext_lazy("Time"),
        required=False,
        widget=forms.TimeInput(attrs={"type": "time"}, format="%H:%M"),
    )
    latitude = forms.FloatField(
        label=gettext_lazy("Latitude"),
        required=False,
        min_value=-90,
        max_value=90,
        widget=forms.NumberInput(attrs={"step": "any", "inputmode": "decimal"}),
    )
    longitude = forms.FloatField(
        label=gettext_lazy("Longitude"),
        required=False,
        min_value=-180,
        max_value=180,
        widget=forms.NumberInput(attrs={"step": "any", "inputmode": "decimal"}),
    )
    place_name = forms.CharField(label=gettext_lazy("Name of the place"), max_length=160, required=False)
    comment = forms.CharField(
        label=gettext_lazy("Comment"),
        max_length=4000,
        required=False,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text=gettext_lazy("Habitat, method, magnification: whatever helps the one who names it."),
    )
    licence = forms.ChoiceField(
        label=gettext_lazy("Licence"),
        choices=Licence.choices,
        initial=Licence.CC_BY,
        help_text=gettext_lazy("What others may do with your photos. It goes with every download."),
    )
    visibility = forms.ChoiceField(
        label=gettext_lazy("Who sees it"),
        choices=[
            (Observation.Visibility.PUBLIC, gettext_lazy("Everyone")),
            (Observation.Visibility.PRIVATE, gettext_lazy("Only me and the staff")),
        ],
        initial=Observation.Visibility.PUBLIC,
    )

    def clean_observed_on(self) -> Any:
        day = self.cleaned_data["observed_on"]
        if day is not None:
            if day > timezone.localdate() + timedelta(days=1):
                raise forms.ValidationError(_("This day has not come yet."), code="future")
            if day.year < 2000:
                raise forms.ValidationError(_("Days before 2000 are not taken."), code="too_early")
        return day

    def clean(self) -> dict[str, Any]:
        values: dict[str, Any] = super().clean() or {}
        if values.get("observed_time") and not values.get("observed_on") and "observed_on" not in self.errors:
            self.add_error("observed_on", _("Give the day as well as the time."))
        for given, missing in (("latitude", "longitude"), ("longitude", "latitude")):
            if values.get(given) is not None and values.get(missing) is None and missing not in self.errors:
                self.add_error(missing, _("A place needs both latitude and longitude."))
        return values

    def observation_fields(self) -> dict[str, Any]:
        """The cleaned values as `create_observation` and `update_observation` take them."""
        values = self.cleaned_data
        observed_at = None
        if values["observed_on"]:
            # Noon stands for "some time that day" and is the same day in every zone nearby.
            moment = datetime.combine(values["observed_on"], values["observed_time"] or time(12))
            observed_at = timezone.make_aware(moment)
        location = None
        if values["latitude"] is not None and values["longitude"] is not None:
            location = Point(values["longitude"], values["latitude"], srid=4326)
        names = ("title", "place_name", "comment", "licence", "visibility")
        return {name: values[name] for name in names} | {"observed_at": observed_at, "location": location}

    @staticmethod
    def initial_of(observation: Observation) -> dict[str, Any]:
        """What the form shows of an observation that exists."""
        shown: dict[str, Any] = {
            name: getattr(observation, name)
            for name in ("title", "place_name", "comment", "licence", "visibility")
        }
        if observation.observed_at:
            local = timezone.localtime(observation.observed_at)
            shown |= {"observed_on": local.date(), "observed_time": local.time()}
        if observation.location:
            shown |= {"latitude": observation.location.y, "longitude": observation.location.x}
        return shown


class SendForm(DetailsForm):
    """The details for all files sent at once, and which survey they belong to."""

    survey = forms.ModelChoiceField(
        label=gettext_lazy("Survey"),
        queryset=Survey.objects.filter(is_open=True),
        to_field_name="slug",
        empty_label=None,
    )
    # Made with the page: a form posted twice names the same observation twice.
    batch = forms.UUIDField(widget=forms.HiddenInput, initial=uuid.uuid4)
    separate = forms.TypedChoiceField(
        label=gettext_lazy("These photos are"),
        choices=[
            ("", gettext_lazy("one observation: the same place and day, such as a folder or a plate")),
            ("1", gettext_lazy("one observation each")),
        ],
        coerce=bool,
        required=False,
        empty_value="",
        widget=forms.RadioSelect,
    )
    field_order = ("survey", "separate")

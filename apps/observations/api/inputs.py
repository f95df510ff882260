"""What each address of the API takes."""

from typing import Any

from django.contrib.gis.geos import Point
from django.utils.translation import gettext_lazy as _
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, ValidationError

from apps.common.inputs import StrictSerializer, TextField
from apps.common.leased import WorkStatus
from apps.common.parsers import StrictMultiPartParser
from apps.observations.api.fields import DecimalDegreesField, MomentField, WindowField
from apps.observations.api.paging import PageInput
from apps.observations.models import Licence, Observation, Survey

_VISIBILITIES = [
    choice for choice in Observation.Visibility.choices if choice[0] != Observation.Visibility.HIDDEN.value
]


class SurveyField(serializers.CharField):
    """The slug of a survey; gives the survey."""

    default_error_messages = {
        "unknown_survey": _("There is no such survey; surveys/ lists them."),
        "survey_closed": _("This survey takes no photos at the moment."),
    }

    def __init__(self, *, must_be_open: bool = False, **kwargs: Any) -> None:
        super().__init__(max_length=60, **kwargs)
        self.must_be_open = must_be_open

    def to_internal_value(self, data: Any) -> Survey:  # type: ignore[override]
        slug = super().to_internal_value(data)
        if "\0" in slug:
            self.fail("unknown_survey")
        survey = Survey.objects.select_related("registered_model").filter(slug=slug).first()
        if survey is None:
            self.fail("unknown_survey")
        if self.must_be_open and not survey.is_open:
            self.fail("survey_closed")
        return survey

    def run_validators(self, value: Any) -> None:
        """Those of a text do not apply to the survey found."""


class PhotoFileField(serializers.FileField):
    """A file as it came; what is in it is judged by the one door for pictures, each file for itself."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_empty_file=True, **kwargs)


class ObservationInput(StrictSerializer):
    """Photos taken at one place and time, and what their sender knows of them."""

    many_valued = ("photos",)

    survey = SurveyField(must_be_open=True, help_text=_("Short name of the survey."))
    photos = serializers.ListField(
        child=PhotoFileField(),
        allow_empty=False,
        max_length=StrictMultiPartParser.max_files,
        help_text=_("One or many JPEG, PNG, WebP, TIFF or HEIC files: repeat the field."),
    )
    observed_at = MomentField(
        is_bounded=True,
        required=False,
        help_text=_("ISO 8601, from 2000 until tomorrow; UTC unless it has an offset."),
    )
    latitude = DecimalDegreesField(
        min_value=-90, max_value=90, required=False, help_text=_("Degrees, WGS 84.")
    )
    longitude = DecimalDegreesField(
        min_value=-180, max_value=180, required=False, help_text=_("Degrees, WGS 84.")
    )
    title = TextField(max_length=160, required=False, allow_blank=True)
    comment = TextField(max_length=4000, required=False, allow_blank=True)
    licence = serializers.ChoiceField(choices=Licence.choices, default=Licence.CC_BY)
    visibility = serializers.ChoiceField(choices=_VISIBILITIES, default=Observation.Visibility.PUBLIC)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Both coordinates become one `location`, or there is none."""
        latitude, longitude = attrs.pop("latitude", None), attrs.pop("longitude", None)
        if (latitude is None) != (longitude is None):
            missing = "latitude" if latitude is None else "longitude"
            detail = ErrorDetail(str(_("Give both latitude and longitude, or neither.")), code="required")
            raise ValidationError({missing: [detail]})
        attrs["location"] = None if latitude is None else Point(longitude, latitude, srid=4326)
        return attrs


class ObservationFilter(PageInput):
    """Which observations to list."""

    mine = serializers.BooleanField(default=False, help_text=_("Only what you sent."))
    survey = SurveyField(required=False, help_text=_("Short name of the survey."))
    label = serializers.CharField(  # type: ignore[assignment]
        max_length=40, required=False, help_text=_("Code of a label: observations with such an animal.")
    )
    status = serializers.ChoiceField(
        choices=WorkStatus.choices, required=False, help_text=_("Observations with a photo in this state.")
    )
    observed_after = MomentField(required=False, help_text=_("Observed at this moment or later."))
    observed_before = MomentField(required=False, help_text=_("Observed before this moment."))
    bbox = WindowField(required=False, help_text=_("west,south,east,north in degrees."))


class IdentifyInput(StrictSerializer):
    """One photo to look at."""

    survey = SurveyField(help_text=_("Short name of the survey whose model looks at the photo."))
    photo = PhotoFileField(help_text=_("One JPEG, PNG, WebP, TIFF or HEIC file."))


class LabelFilter(PageInput):
    """Which labels to list."""

    survey = SurveyField(required=False, help_text=_("Short name of the survey."))


class NoParameters(StrictSerializer):
    """For addresses that take no query."""

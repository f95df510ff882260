"""What each address of the API answers: the schema's side of it.

The answers themselves are built as plain dictionaries in `representations`, because serializing thousands of boxes
field by field would take longer than finding them; the tests hold every answer against this schema.
"""

from typing import Any

from django.utils.translation import gettext_lazy as _
from rest_framework import serializers

from apps.common.leased import WorkStatus
from apps.observations.models import Label, Licence, Observation


class _Output(serializers.Serializer[Any]):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, read_only=True, **{k: v for k, v in kwargs.items() if k != "read_only"})


class BoxOutput(_Output):
    x = serializers.FloatField(help_text=_("Left edge, pixels of the upright photo."))
    y = serializers.FloatField(help_text=_("Top edge, pixels of the upright photo."))
    width = serializers.FloatField()
    height = serializers.FloatField()


class LabelNameOutput(_Output):
    code = serializers.CharField()
    name = serializers.CharField(help_text=_("Scientific name, or the name in your language."))


class DetectionOutput(_Output):
    number = serializers.IntegerField(help_text=_("As drawn on the photo."))
    label = LabelNameOutput()  # type: ignore[assignment]
    confidence = serializers.FloatField(min_value=0, max_value=1)
    scores = serializers.DictField(
        child=serializers.FloatField(), help_text=_("Score of every label, by code.")
    )
    box = BoxOutput()
    model_version = serializers.CharField()


class PhotoLinksOutput(_Output):
    observation = serializers.URLField()
    page = serializers.URLField()
    display = serializers.URLField(help_text=_("JPEG, long side at most 2,560 px, without metadata."))
    thumbnail = serializers.URLField()
    original = serializers.URLField(allow_null=True, help_text=_("Only for whoever sent it, and staff."))


class PhotoOutput(_Output):
    id = serializers.UUIDField()
    name = serializers.CharField(
        allow_null=True, help_text=_("File name; only for whoever sent it, and staff.")
    )
    status = serializers.ChoiceField(choices=WorkStatus.choices)
    failure_reason = serializers.CharField(
        allow_null=True, help_text=_("Why it failed, or why it still waits.")
    )
    width = serializers.IntegerField(help_text=_("Pixels of the upright photo."))
    height = serializers.IntegerField(help_text=_("Pixels of the upright photo."))
    model_version = serializers.CharField(allow_null=True)
    detection_count = serializers.IntegerField(allow_null=True)
    detections = DetectionOutput(many=True)
    links = PhotoLinksOutput()


class ProgressOutput(_Output):
    pending = serializers.IntegerField()
    processing = serializers.IntegerField()
    done = serializers.IntegerField()
    failed = serializers.IntegerField()


class ObservationLinksOutput(_Output):
    self = serializers.URLField()
    page = serializers.URLField()
    photos = serializers.URLField()


class ObservationOutput(_Output):
    id = serializers.UUIDField()
    survey = serializers.CharField()
    status = serializers.ChoiceField(choices=WorkStatus.choices, help_text=_("Of its photos together."))
    title = serializers.CharField(allow_blank=True)
    comment = serializers.CharField(allow_blank=True)
    contributor = serializers.CharField(help_text=_("Public name."))
    is_mine = serializers.BooleanField()
    observed_at = serializers.DateTimeField(allow_null=True)
    latitude = serializers.FloatField(allow_null=True)
    longitude = serializers.FloatField(allow_null=True)
    place_name = serializers.CharField(allow_blank=True)
    is_place_exact = serializers.BooleanField(
        help_text=_("False where a sensitive place is blurred for you.")
    )
    licence = serializers.ChoiceField(choices=Licence.choices)
    visibility = serializers.ChoiceField(choices=Observation.Visibility.choices)
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()
    photo_count = serializers.IntegerField()
    progress = ProgressOutput()
    photos = PhotoOutput(many=True, help_text=_("The first ones; next_photos leads to the others."))
    next_photos = serializers.URLField(allow_null=True)
    links = ObservationLinksOutput()


class _PageOutput(_Output):
    next = serializers.URLField(allow_null=True)


class ObservationPageOutput(_PageOutput):
    results = ObservationOutput(many=True)


class PhotoPageOutput(_PageOutput):
    results = PhotoOutput(many=True)


class SentPhotoOutput(_Output):
    id = serializers.UUIDField()
    index = serializers.IntegerField(help_text=_("Which of the files sent, from 0."))
    name = serializers.CharField()
    status = serializers.ChoiceField(choices=WorkStatus.choices)
    is_duplicate = serializers.BooleanField(
        help_text=_("You had sent this file before; the id is the earlier one's.")
    )
    observation = serializers.UUIDField()
    links = PhotoLinksOutput()


class RefusedFileOutput(_Output):
    index = serializers.IntegerField(help_text=_("Which of the files sent, from 0."))
    name = serializers.CharField()
    code = serializers.CharField()
    detail = serializers.CharField()


class SentObservationOutput(_Output):
    id = serializers.UUIDField(help_text=_("If every file was a duplicate: the observation of the first."))
    is_new = serializers.BooleanField()
    photos = SentPhotoOutput(many=True)
    refused = RefusedFileOutput(many=True)
    links = ObservationLinksOutput()


class IdentificationOutput(_Output):
    survey = serializers.CharField()
    width = serializers.IntegerField(help_text=_("Pixels of the upright photo."))
    height = serializers.IntegerField(help_text=_("Pixels of the upright photo."))
    model_version = serializers.CharField()
    detections = DetectionOutput(many=True)


class TranslatedOutput(_Output):
    en = serializers.CharField(allow_blank=True)
    fr = serializers.CharField(allow_blank=True)


class SurveyOutput(_Output):
    slug = serializers.SlugField()
    name = TranslatedOutput()
    description = TranslatedOutput()
    is_open = serializers.BooleanField()
    geoprivacy = serializers.CharField()
    confidence_threshold = serializers.FloatField()
    model_version = serializers.CharField(
        allow_null=True, help_text=_("Null: photos wait until there is a model.")
    )
    links = serializers.DictField(child=serializers.URLField())


class SurveyPageOutput(_PageOutput):
    results = SurveyOutput(many=True)


class LabelOutput(_Output):
    survey = serializers.SlugField()
    code = serializers.CharField()
    name = serializers.CharField()
    scientific_name = serializers.CharField(allow_blank=True)
    vernacular_name = TranslatedOutput()
    rank = serializers.ChoiceField(choices=Label.Rank.choices)
    parent = serializers.CharField(  # type: ignore[assignment]
        allow_null=True, help_text=_("Code of the label above it.")
    )
    gbif_key = serializers.IntegerField(allow_null=True)
    colour = serializers.CharField()
    is_active = serializers.BooleanField()


class LabelPageOutput(_PageOutput):
    results = LabelOutput(many=True)

"""The filters that gallery and map share."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, time, timedelta
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.db import OperationalError, connection, transaction
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone
from django.utils.functional import cached_property
from django.utils.translation import gettext_lazy as _
from psycopg.errors import QueryCanceled

from apps.observations.browse.window import Window
from apps.observations.models import Detection, Label, Observation, Photo, Survey

QUERY_LIMIT_MS = 4_000
FEW_OBSERVATIONS = 5_000


class TooBroadError(Exception):
    """A combination of filters that cannot be answered in the time a reader waits."""


@contextmanager
def limited_time() -> Iterator[None]:
    """Queries inside are given up after four seconds with `TooBroadError`, so that no filter can tie up the database."""
    try:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SELECT set_config('statement_timeout', %s, true)", [str(QUERY_LIMIT_MS)])
            yield
    except OperationalError as error:
        if isinstance(error.__cause__, QueryCanceled):
            raise TooBroadError from error
        raise


class WindowField(forms.CharField):
    widget = forms.HiddenInput

    def clean(self, value: Any) -> Window | None:
        text = super().clean(value)
        if not text:
            return None
        try:
            return Window.parse(text)
        except ValueError as error:
            raise forms.ValidationError(str(error)) from error


class BrowseForm(forms.Form):
    """Filters of public photos. A field that is wrong is named and left out; the others still count."""

    survey = forms.ChoiceField(label=_("Survey"), required=False)
    label = forms.ChoiceField(label=_("Animal"), required=False)
    since = forms.DateField(
        label=_("Observed from"), required=False, widget=forms.DateInput({"type": "date"})
    )
    until = forms.DateField(label=_("to"), required=False, widget=forms.DateInput({"type": "date"}))
    confidence = forms.IntegerField(
        label=_("Confidence from (%)"),
        required=False,
        min_value=0,
        max_value=100,
        widget=forms.NumberInput({"step": 5, "inputmode": "numeric"}),
    )
    place = forms.CharField(
        label=_("Place"), required=False, max_length=100, widget=forms.TextInput({"autocomplete": "off"})
    )
    animals = forms.BooleanField(label=_("Only photos with animals"), required=False)
    bbox = WindowField(label=_("Map window"), required=False, max_length=120)

    def __init__(self, data: Any, **kwargs: Any) -> None:
        super().__init__(data, **kwargs)
        # Called only where the choices are shown or a choice is checked: the map's data needs neither.
        for name, choices in (("survey", self._survey_choices), ("label", self._label_choices)):
            field = self.fields[name]
            assert isinstance(field, forms.ChoiceField)
            field.choices = choices

    @cached_property
    def surveys(self) -> dict[str, Survey]:
        return {survey.slug: survey for survey in Survey.objects.all()}

    @cached_property
    def labels(self) -> dict[str, Label]:
        slugs = {survey.pk: slug for slug, survey in self.surveys.items()}
        active = Label.objects.filter(is_active=True)
        return {f"{slugs[label.survey_id]}/{label.code}": label for label in active}

    @cached_property
    def survey_names(self) -> dict[int, str]:
        """By primary key, in the reader's language."""
        return {survey.pk: survey.name for survey in self.surveys.values()}

    def _survey_choices(self) -> list[tuple[str, Any]]:
        return [("", _("All surveys")), *((slug, survey.name) for slug, survey in self.surveys.items())]

    def _label_choices(self) -> list[tuple[Any, Any]]:
        return [("", _("All animals")), *self._labels_by_survey]

    @cached_property
    def _labels_by_survey(self) -> list[tuple[str, list[tuple[str, str]]]]:
        groups: dict[str, list[tuple[str, str]]] = {}
        for key, label in self.labels.items():
            vernacular = (
                f" ({label.vernacular})" if label.vernacular and label.vernacular != label.name else ""
            )
            groups.setdefault(self.surveys[key.partition("/")[0]].name, []).append(
                (key, f"{label.name}{vernacular}")
            )
        return [
            (name, sorted(choices, key=lambda choice: choice[1].casefold()))
            for name, choices in groups.items()
        ]

    def chosen(self, name: str) -> Any:
        """The cleaned value of a field; None when it is empty or wrong."""
        self.is_valid()
        return self.cleaned_data.get(name) or None

    @property
    def chosen_survey(self) -> Survey | None:
        slug = self.chosen("survey")
        return self.surveys.get(slug) if slug else None

    @property
    def chosen_label(self) -> Label | None:
        key = self.chosen("label")
        return self.labels.get(key) if key else None

    @property
    def label_ids(self) -> list[int]:
        """The chosen label and all below it: who asks for a genus means its species too."""
        if self.chosen_label is None:
            return []
        found, waiting = [], [self.chosen_label.pk]
        while waiting:
            pk = waiting.pop()
            found.append(pk)
            waiting += [
                label.pk for label in self.labels.values() if label.parent_id == pk and label.pk not in found
            ]
        return found

    @property
    def opens_more(self) -> bool:
        """Whether a field behind "More filters" is wrong; those in force are named above the results anyway."""
        return any(name in self.errors for name in ("since", "until", "confidence", "place", "animals"))

    @property
    def is_by_cells(self) -> bool:
        """Whether the map's counted cells can answer: they know surveys and places, nothing else."""
        names = ("label", "since", "until", "confidence", "place", "animals")
        return not any(self.chosen(name) for name in names)

    def photos(self) -> Any:
        """Public photos that match, without order."""
        matching = Photo.objects.filter(self.observation_filter("observation__"))
        if survey := self.chosen_survey:
            matching = matching.filter(survey=survey)
        return matching.filter(self.photo_filter())

    def observations(self) -> Any:
        """Public observations with a place that match, without order."""
        matching = Observation.objects.filter(self.observation_filter(), public_location__isnull=False)
        if survey := self.chosen_survey:
            matching = matching.filter(survey=survey)
        if condition := self.photo_filter():
            matching = matching.filter(pk__in=Photo.objects.filter(condition).values("observation"))
        return matching

    def observation_filter(self, prefix: str = "") -> Q:
        condition = Q(**{f"{prefix}visibility": Observation.Visibility.PUBLIC})
        if since := self.chosen("since"):
            condition &= Q(**{f"{prefix}observed_at__gte": _midnight(since)})
        if until := self.chosen("until"):
            condition &= Q(**{f"{prefix}observed_at__lt": _midnight(until, days=1)})
        if place := self.chosen("place"):
            if self.few_at_place is not None:
                condition &= Q(**{f"{prefix}pk__in": self.few_at_place})
            condition &= Q(**{f"{prefix}place_name__icontains": place, f"{prefix}is_obscured": False})
        if window := self.chosen("bbox"):
            condition &= window.condition(f"{prefix}public_location")
        return condition

    @cached_property
    def few_at_place(self) -> list[int] | None:
        """Observations at the place when they are few, found by the trigram index; None when they are many.

        PostgreSQL cannot guess how many names contain a text. Measured with 1,000,000 observations: looking for a rare
        name newest first took 1.5 s, for a frequent one through the index 4 s; the other way round 10 and 80 ms.
        """
        # Names of blurred places are not searched: an answer would tell that the name is right.
        named = Observation.objects.filter(
            ~Q(place_name=""),
            visibility=Observation.Visibility.PUBLIC,
            is_obscured=False,
            place_name__icontains=self.chosen("place"),
        )
        found = list(named.order_by().values_list("pk", flat=True)[: FEW_OBSERVATIONS + 1])
        return found if len(found) <= FEW_OBSERVATIONS else None

    def photo_filter(self) -> Q:
        score = (self.chosen("confidence") or 0) / 100
        condition = Q()
        if self.chosen("animals"):
            condition &= Q(detection_count__gt=0)
        if ids := self.label_ids:
            boxes = Detection.objects.shown().filter(
                photo=OuterRef("pk"), model_version=OuterRef("model_version")
            )
            condition &= Q(Exists(boxes.filter(label__in=ids, score__gte=score)))
        elif score:
            condition &= Q(detection_count__gt=0, best_score__gte=score)
        return condition

    def active(self) -> list[tuple[str, str, str]]:
        """(name, what is said, query string without it) of each filter in force."""
        said = {
            "survey": self.chosen_survey and self.chosen_survey.name,
            "label": self.chosen_label and self.chosen_label.name,
            "since": self.chosen("since") and _("from %s") % _shown(self.chosen("since")),
            "until": self.chosen("until") and _("to %s") % _shown(self.chosen("until")),
            "confidence": self.chosen("confidence") and _("at least %d %% sure") % self.chosen("confidence"),
            "place": self.chosen("place") and _("place: %s") % self.chosen("place"),
            "animals": self.chosen("animals") and _("with animals"),
            "bbox": self.chosen("bbox") and _("in the map window"),
        }
        return [(name, str(text), self.query(without=name)) for name, text in said.items() if text]

    def query(self, *, without: str = "", **changes: str) -> str:
        """The filters in force as a query string."""
        self.is_valid()
        values = {
            name: self.data.get(name, "") for name in self.fields if self.chosen(name) and name != without
        }
        return urlencode({**values, **changes})


def _midnight(day: date, *, days: int = 0) -> datetime:
    """The day's start in the reader's time zone; the calendar's last days stay on it."""
    try:
        day += timedelta(days=days)
        return timezone.make_aware(datetime.combine(day, time.min))
    except OverflowError:
        return datetime.max.replace(tzinfo=timezone.get_current_timezone())


def _shown(day: date) -> str:
    from django.utils.formats import date_format

    return date_format(day, "DATE_FORMAT")

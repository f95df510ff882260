"""The form with which a curator starts a training."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from django import forms
from django.utils.functional import Promise
from django.utils.text import capfirst
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from apps.observations.models import Survey
from apps.training.engine.hardware import Gpu, Hardware
from apps.training.engine.recipe import RULES, Rule, default_recipe
from apps.training.models import Dataset, ModelVersion, Split, TrainingRun
from apps.training.run_texts import choice_name, parameter_name
from apps.training.services.runs import ParametersError, recipe_of

PRODUCTION: Final = "production"
UNTRAINED: Final = "untrained"
OFTEN: Final = ("epochs", "image_size", "patience", "batch", "frozen_layers", "tiling", "seed")
AUGMENTATION: Final = (
    "mosaic",
    "epochs_without_mosaic",
    "scale",
    "translate",
    "flip_up_down",
    "flip_left_right",
    "hue",
    "saturation",
    "value",
)
_MOST: Final = 2**53
_HELP: Final[Mapping[str, Promise | str]] = {
    "epochs": _("How often it sees every photo."),
    "image_size": _("A multiple of 32. Larger finds smaller animals and takes longer."),
    "patience": _("It ends early after so many epochs without a better one; 0: never."),
    "batch": _("Photos of one step; 0: what suits the memory of the machine."),
    "frozen_layers": _("Layers from the input on that keep what they know."),
    "tiling": _("Large photos are cut where their animals would become too small."),
    "seed": _("The same seed, data and machine give the same weights."),
    "architecture": _("Of an untrained network only."),
    "mosaic": _("Share of the pictures that are put together from four."),
    "flip_up_down": _("Share; 0 where animals have an up and a down."),
}


class StartForm(forms.Form):
    """Only what differs from the defaults is sent on: the machine that trains decides the rest by what it has."""

    base = forms.ChoiceField(label=_("Start from"))

    def __init__(self, survey: Survey, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._survey = survey
        self.hardware, self.pictures = _expected(survey)
        self.defaults = default_recipe(self.hardware, self.pictures).as_record()
        model = survey.registered_model
        self._production = model.production_version if model else None
        if self._production:
            self.defaults["image_size"] = self._production.image_size_px
        base: Any = self.fields["base"]
        base.choices = list(_bases(survey))
        for name, rule in RULES.items():
            field = _field(rule)
            field.label = capfirst(parameter_name(name))
            field.help_text = str(_HELP.get(name, ""))
            field.initial = self.defaults[name]
            self.fields[name] = field

    @property
    def often(self) -> list[forms.BoundField]:
        return [self["base"], *(self[name] for name in OFTEN)]

    @property
    def augmentation(self) -> list[forms.BoundField]:
        return [self[name] for name in AUGMENTATION]

    @property
    def others(self) -> list[forms.BoundField]:
        return [self[name] for name in RULES if name not in (*OFTEN, *AUGMENTATION)]

    @property
    def has_error_below(self) -> bool:
        """In the part that is folded away."""
        return any(field.errors for field in (*self.augmentation, *self.others))

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        try:
            recipe_of(self._chosen(cleaned), hardware=self.hardware, pictures=self.pictures)
        except ParametersError as error:
            for problem in error.problems:
                if problem["field"] in self.fields:
                    self.add_error(problem["field"], problem["message"])
        return cleaned

    def request(self) -> dict[str, Any]:
        """The arguments for `request_training`."""
        base = self.cleaned_data["base"]
        version = None
        if base not in (PRODUCTION, UNTRAINED):
            version = ModelVersion.objects.get(pk=base)
        return {
            "parameters": self._chosen(self.cleaned_data),
            "base": version,
            "is_untrained": base == UNTRAINED,
        }

    def _chosen(self, cleaned: Mapping[str, Any]) -> dict[str, Any]:
        chosen = {
            name: value
            for name, value in cleaned.items()
            if name in RULES and value not in (None, "") and value != self.defaults[name]
        }
        if self._production and cleaned.get("base") != PRODUCTION and cleaned.get("image_size"):
            # Another base brings another size; what stands in the form is what was meant.
            chosen["image_size"] = cleaned["image_size"]
        return chosen


def _field(rule: Rule) -> forms.Field:
    """What is out of range is said by the rule itself, with its own words."""
    if rule.kind == "choice":
        return forms.ChoiceField(choices=[(choice, choice_name(choice)) for choice in rule.choices])
    if rule.kind == "switch":
        return forms.BooleanField(required=False)
    field: forms.Field
    limits: dict[str, float | str]
    if rule.kind == "whole":
        # No more digits than a float tells apart: the rule's own limits are narrower.
        field = forms.IntegerField(min_value=-_MOST, max_value=_MOST)
        limits = {"min": int(rule.low), "max": int(rule.high), "step": rule.multiple_of}
    else:
        field = forms.FloatField()
        limits = {"min": rule.low, "max": rule.high, "step": "any"}
    field.widget.attrs |= limits
    return field


def _bases(survey: Survey) -> Iterable[tuple[str, str]]:
    versions = ModelVersion.objects.filter(registered_model=survey.registered_model_id, unusable_reason="")
    found = list(versions.select_related("registered_model").order_by("-number")[:100])
    serving = next((row for row in found if row.stage == ModelVersion.Stage.PRODUCTION), None)
    if serving:
        yield PRODUCTION, gettext("version %(number)s, in production") % {"number": serving.number}
    for version in found:
        if version is not serving:
            shown = gettext("version %(number)s (%(stage)s)")
            yield str(version.pk), shown % {"number": version.number, "stage": version.get_stage_display()}
    yield UNTRAINED, gettext("an untrained network")


def _expected(survey: Survey) -> tuple[Hardware, int]:
    """The machine that trained last, else this one; and how many photos it would learn from."""
    runs = TrainingRun.objects.filter(registered_model=survey.registered_model_id).exclude(hardware={})
    known = runs.order_by("-pk").values_list("hardware", flat=True).first()
    dataset = Dataset.objects.filter(name=survey.slug).order_by("-number").first()
    photos = int(dataset.counts[Split.TRAIN]["photos"]) if dataset else 0
    return (_machine(known) if known and known.get("cpu") else Hardware.here()), photos


def _machine(record: Mapping[str, Any]) -> Hardware:
    gpus = tuple(Gpu(str(gpu["name"]), int(gpu["memory_bytes"])) for gpu in record.get("gpus") or ())
    return Hardware(
        str(record["cpu"]), int(record.get("cores") or 1), int(record.get("memory_bytes") or 0), gpus
    )

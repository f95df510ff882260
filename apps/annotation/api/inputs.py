"""What the addresses of the experts' loop take. Boxes are judged by `answer_rules`, thousands at once."""

import math
import uuid
from typing import Any

from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from apps.annotation.answer_rules import (
    MAX_BOXES,
    MAX_LABEL_NAME,
    MAX_NOTE,
    InvalidAnswerError,
    Wrong,
    draft_boxes,
)
from apps.annotation.models import Assignment
from apps.common.inputs import StrictSerializer, TextField
from apps.common.parsers import StrictJSONParser
from apps.common.problems import FieldProblem, Problem, field_problems

MAX_SECONDS = 7 * 24 * 3600
_MAX_VERSION = 2**31 - 1


class AnswerJSONParser(StrictJSONParser):
    """NaN in the 3,000th number of an answer is told by its field and row instead of as broken JSON."""

    names_odd_numbers = True


class ExpertInput(StrictSerializer):
    """Tells of unknown fields and of what is wrong with the others at once."""

    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, dict):
            return super().to_internal_value(data)
        known = {name: value for name, value in data.items() if name in self.fields}
        errors: dict[str, Any] = {}
        fields: Any = None
        for part in (known, data):  # at an unknown field the strict serializer stops
            try:
                fields = super().to_internal_value(part)
            except serializers.ValidationError as error:
                errors |= dict(error.detail)  # type: ignore[arg-type]
        if errors:
            raise serializers.ValidationError(errors)
        return fields


class FlagField(serializers.BooleanField):
    """True or false; not 1, "yes" or null."""

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data


class WholeNumberField(serializers.IntegerField):
    """A JSON integer; not true, "3" or 3.5."""

    def to_internal_value(self, data: Any) -> int:
        if isinstance(data, bool) or not isinstance(data, int):
            self.fail("invalid")
        return data


class SecondsField(serializers.FloatField):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(min_value=0, max_value=MAX_SECONDS, **kwargs)

    def to_internal_value(self, data: Any) -> float:
        if isinstance(data, bool) or not isinstance(data, int | float) or not _is_finite(data):
            self.fail("invalid")
        return float(data)


class IdField(serializers.UUIDField):
    """A UUID as text; the framework would also take numbers."""

    def to_internal_value(self, data: Any) -> uuid.UUID:
        if not isinstance(data, str):
            self.fail("invalid", value=data)
        return super().to_internal_value(data)


class AnnotationBoxInput(StrictSerializer):
    """Pixels of the upright photo, origin top left. Half a pixel outside of the picture is clipped, more is refused."""

    x_min = serializers.FloatField()
    y_min = serializers.FloatField()
    x_max = serializers.FloatField()
    y_max = serializers.FloatField()
    label = serializers.CharField(max_length=40, help_text=_("Code of a label of the survey."))  # type: ignore[assignment]
    proposal = serializers.IntegerField(
        min_value=1, allow_null=True, required=False, help_text=_("Number of the model's box it began as.")
    )
    note = serializers.CharField(max_length=MAX_NOTE, allow_blank=True, required=False)
    is_uncertain = serializers.BooleanField(required=False)
    proposed_label = serializers.CharField(
        max_length=MAX_LABEL_NAME,
        allow_blank=True,
        required=False,
        help_text=_("Name of a label that the survey lacks, for a curator; `label` is the nearest there is."),
    )


@extend_schema_field(serializers.ListField(child=AnnotationBoxInput(), max_length=MAX_BOXES))
class BoxesField(serializers.Field[Any, Any, Any, Any]):
    """As they came."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_null=True, **kwargs)  # what is no list is told by the rules

    def to_internal_value(self, data: Any) -> Any:
        return data


class NextInput(ExpertInput):
    after = IdField(required=False, allow_null=True, help_text=_("The photo that the caller has now."))
    peek = FlagField(
        default=False, help_text=_("Only say which one would come, to load its picture; nothing is held.")
    )


class DraftInput(ExpertInput):
    base_version = WholeNumberField(min_value=0, max_value=_MAX_VERSION)
    boxes = BoxesField()
    is_empty = FlagField(default=False)
    seconds = SecondsField(default=0.0)
    client = IdField(help_text=_("Made by the window, so that another one can tell."))


class AnswerInput(ExpertInput):
    key = IdField(help_text=_("Made by the caller: the same answer sent twice is one."))
    boxes = BoxesField()
    is_empty = FlagField(default=False, help_text=_("Confirms that there is no animal on the photo."))
    seconds = SecondsField(default=0.0)
    model_version = TextField(max_length=200, allow_null=True, default=None)
    supersedes = IdField(
        allow_null=True, default=None, help_text=_("Your own answer that this one corrects.")
    )
    base_version = WholeNumberField(min_value=0, max_value=_MAX_VERSION, allow_null=True, default=None)
    client = IdField(
        allow_null=True, default=None, help_text=_("Made by the window, so that another one can tell.")
    )
    next = FlagField(default=False, help_text=_("Also give the next photo."))


class SkipInput(ExpertInput):
    reason = serializers.ChoiceField(choices=Assignment.SkipReason.choices)
    note = TextField(max_length=500, allow_blank=True, default="")


class NothingInput(ExpertInput):
    """For addresses that take no body."""


def read(serializer_class: type[StrictSerializer], data: Any) -> dict[str, Any]:
    """The fields, or a `Problem` with everything that is wrong, that of the boxes included."""
    serializer = serializer_class(data=data)
    if serializer.is_valid():
        return dict(serializer.validated_data)
    error = serializers.ValidationError(serializer.errors)
    problems = field_problems(error.get_full_details())
    left_out = 0
    if isinstance(data, dict) and "boxes" in data and "boxes" in serializer.fields:
        try:
            draft_boxes(data["boxes"])
        except InvalidAnswerError as wrong:
            problems += field_problems_of(wrong.wrongs)
            left_out = wrong.left_out
    raise invalid(problems, left_out=left_out)


def field_problems_of(wrongs: list[Wrong]) -> list[FieldProblem]:
    return [FieldProblem(wrong.field, wrong.code, wrong.detail, wrong.row) for wrong in wrongs]


def invalid(problems: list[FieldProblem], *, left_out: int = 0) -> Problem:
    return Problem(
        status=400,
        code="invalid",
        detail=_("Some of what you sent cannot be taken: see the errors. What you drew is kept."),
        errors=problems,
        extra={"errors_left_out": left_out} if left_out else {},
    )


def _is_finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # an integer longer than any float
        return False

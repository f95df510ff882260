"""What the addresses of the experts' loop answer: the schema's side of it (see `representations`)."""

from typing import Any

from django.utils.translation import gettext_lazy as _
from rest_framework import serializers

from apps.annotation.models import AnnotationPolicy, AnnotationTask, Arm
from apps.observations.models import Label


class _Output(serializers.Serializer[Any]):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, read_only=True, **{k: v for k, v in kwargs.items() if k != "read_only"})


class CornersOutput(_Output):
    x_min = serializers.FloatField()
    y_min = serializers.FloatField()
    x_max = serializers.FloatField()
    y_max = serializers.FloatField()


class AnnotationBoxOutput(CornersOutput):
    label = serializers.CharField(allow_blank=True, help_text=_("Code; empty only in drafts."))  # type: ignore[assignment]
    proposal = serializers.IntegerField(allow_null=True)
    note = serializers.CharField(allow_blank=True)
    is_uncertain = serializers.BooleanField()
    proposed_label = serializers.CharField(allow_blank=True)


class TileLevelOutput(_Output):
    level = serializers.IntegerField()
    width = serializers.IntegerField()
    height = serializers.IntegerField()
    columns = serializers.IntegerField()
    rows = serializers.IntegerField()


class TilesOutput(_Output):
    url = serializers.CharField(help_text=_("With {level}, {column} and {row} to be filled in."))
    tile_px = serializers.IntegerField()
    levels = TileLevelOutput(many=True, help_text=_("Smallest first; the last is the whole photo."))


class TaskPhotoOutput(_Output):
    id = serializers.UUIDField()
    name = serializers.CharField()
    width = serializers.IntegerField(help_text=_("Pixels of the upright photo."))
    height = serializers.IntegerField(help_text=_("Pixels of the upright photo."))
    display = serializers.CharField()
    display_width = serializers.IntegerField()
    display_height = serializers.IntegerField()
    thumbnail = serializers.CharField()
    tiles = TilesOutput(allow_null=True)


class TaskLabelOutput(_Output):
    code = serializers.CharField()
    name = serializers.CharField()
    vernacular = serializers.CharField(allow_blank=True)
    colour = serializers.CharField()
    rank = serializers.ChoiceField(choices=Label.Rank.choices)


class ProposalOutput(_Output):
    number = serializers.IntegerField()
    label = serializers.CharField()  # type: ignore[assignment]
    score = serializers.FloatField()
    best = serializers.ListField(
        child=serializers.ListField(child=serializers.JSONField()),
        help_text=_("The likeliest labels, each as code and score."),
    )
    box = CornersOutput()
    is_weak = serializers.BooleanField(help_text=_("Below what the survey shows to everybody."))


class DraftOutput(_Output):
    version = serializers.IntegerField()
    boxes = AnnotationBoxOutput(many=True)
    is_empty = serializers.BooleanField()
    seconds = serializers.FloatField()
    saved_at = serializers.DateTimeField()
    client = serializers.UUIDField(allow_null=True)


class OwnAnnotationOutput(_Output):
    id = serializers.UUIDField()
    boxes = AnnotationBoxOutput(many=True)
    is_empty = serializers.BooleanField()
    created_at = serializers.DateTimeField()


class LeaseOutput(_Output):
    until = serializers.DateTimeField(allow_null=True, help_text=_("Null: there is none, or none is needed."))
    seconds_left = serializers.FloatField(help_text=_("By the server's clock."))
    is_mine = serializers.BooleanField()


class MarginOutput(_Output):
    number = serializers.IntegerField()
    p1 = serializers.FloatField()
    p2 = serializers.FloatField()
    margin = serializers.FloatField()
    u = serializers.FloatField(help_text=_("1 − (p1 − p2)"))


class WhyOutput(_Output):
    arm = serializers.ChoiceField(choices=Arm.choices)
    strategy = serializers.ChoiceField(choices=AnnotationPolicy.Strategy.choices)
    score = serializers.FloatField()
    aggregate_text = serializers.CharField()
    boxes = MarginOutput(many=True, help_text=_("Most uncertain first."))
    model_version = serializers.CharField(allow_null=True)
    rank_before = serializers.IntegerField(allow_null=True)
    rank_after = serializers.IntegerField(allow_null=True)
    comments = serializers.IntegerField()


class TaskCommentOutput(_Output):
    author = serializers.CharField()
    body = serializers.CharField()
    box_number = serializers.IntegerField(allow_null=True)
    created_at = serializers.DateTimeField()


class ExpertProgressOutput(_Output):
    mine_today = serializers.IntegerField()
    mine_total = serializers.IntegerField()
    median_seconds = serializers.FloatField(allow_null=True)
    team_done = serializers.IntegerField()
    team_total = serializers.IntegerField()
    waiting = serializers.IntegerField()


class TaskOutput(_Output):
    id = serializers.UUIDField()
    survey = serializers.SlugField()
    state = serializers.ChoiceField(choices=AnnotationTask.State.choices)
    photo = TaskPhotoOutput()
    labels = TaskLabelOutput(many=True)
    recent_labels = serializers.ListField(child=serializers.CharField())
    proposals = ProposalOutput(many=True)
    model_version = serializers.CharField(allow_null=True)
    draft = DraftOutput(allow_null=True)
    my_annotation = OwnAnnotationOutput(allow_null=True)
    lease = LeaseOutput()
    why = WhyOutput()
    comments = TaskCommentOutput(many=True)
    progress = ExpertProgressOutput()


class WaitingOutput(_Output):
    code = serializers.CharField()
    message = serializers.CharField()
    missing_photos = serializers.IntegerField(required=False)


class NextOutput(_Output):
    task = TaskOutput(allow_null=True)
    waiting = WaitingOutput(allow_null=True, help_text=_("Why there is no photo."))


class SavedDraftOutput(_Output):
    version = serializers.IntegerField()
    lease = LeaseOutput()


class FeedbackOutput(_Output):
    matched = serializers.IntegerField()
    mislabelled = serializers.IntegerField()
    missed = serializers.IntegerField()
    extra = serializers.IntegerField()
    text = serializers.CharField()


class SubmittedOutput(_Output):
    annotation = serializers.UUIDField()
    next = TaskOutput(allow_null=True)
    waiting = WaitingOutput(allow_null=True)
    progress = ExpertProgressOutput()
    feedback = FeedbackOutput(
        allow_null=True, help_text=_("After photos whose answer was known: what matched and what differed.")
    )

"""What the model saw on photos, as pages and downloads show it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import Count, QuerySet
from django.urls import reverse

from apps.observations.models import Comment, Detection, Label, Observation, Photo
from apps.observations.renditions import display_size
from apps.observations.services.geoprivacy import is_exact_for
from apps.observations.services.tiles import tiles_of

BEST_CLASSES = 3
COMMENTS_SHOWN = 200


@dataclass(frozen=True, slots=True)
class NamedBox:
    """One animal. Pixels of the upright photo, origin top left; `best` is the label and score of the likeliest classes.

    Near the top or the right border its name is written inside the box or to the left, not over the border.
    """

    number: int
    label: Label
    score: float
    x_min: float
    y_min: float
    width_px: float
    height_px: float
    best: Sequence[tuple[Label | str, float]]
    is_near_top: bool = False
    is_near_right: bool = False

    @property
    def x_max(self) -> float:
        return self.x_min + self.width_px

    @property
    def others(self) -> Sequence[tuple[Label | str, float]]:
        return self.best[1:]


@dataclass(frozen=True, slots=True)
class LabelCount:
    label: Label
    animals: int


def named_boxes(photo: Photo) -> list[NamedBox]:
    """The boxes of the version whose result the photo shows, in the order of their numbers."""
    version = photo.model_version
    if version is None:
        return []
    labels = {label.pk: label for label in Label.objects.filter(survey=photo.survey_id)}
    by_code = {label.code: label for label in labels.values()}
    names: list[Label | str] = [by_code.get(code, code) for code in version.labels]
    rows = Detection.objects.shown().filter(photo=photo, model_version=version).order_by("number")
    return [_named_box(row, labels[row.label_id], names, photo) for row in rows]


def _named_box(row: Detection, label: Label, names: Sequence[Label | str], photo: Photo) -> NamedBox:
    ranking = sorted(zip(names, row.class_scores, strict=False), key=lambda pair: -pair[1])
    return NamedBox(
        number=row.number,
        label=label,
        score=row.score,
        x_min=row.x_min,
        y_min=row.y_min,
        width_px=row.width_px,
        height_px=row.height_px,
        best=ranking[:BEST_CLASSES],
        is_near_top=row.y_min < photo.height_px * 0.03,
        is_near_right=row.x_min > photo.width_px * 0.6,
    )


def label_counts(observation: Observation) -> list[LabelCount]:
    """How many animals of each label all photos of an observation show; the most frequent first."""
    counted = (
        Detection.objects.filter(photo__observation=observation)
        .current()
        .order_by()
        .values_list("label")
        .annotate(animals=Count("pk"))
    )
    animals = dict(counted)
    labels = Label.objects.filter(pk__in=animals)
    return sorted(
        (LabelCount(label, animals[label.pk]) for label in labels),
        key=lambda row: (-row.animals, row.label.code),
    )


def latest_comments(comments: QuerySet[Comment]) -> list[Comment]:
    """The latest remarks in the order they were written; more than a page can hold are not shown."""
    latest = comments.select_related("author", "detection", "photo").order_by("-created_at", "-pk")
    return list(latest[:COMMENTS_SHOWN])[::-1]


def picture_part(photo: Photo, *, viewer: Any) -> dict[str, Any]:
    """What a drawing page needs to show a photo: addresses and sizes of its renditions, and its tiles if it has any.

    The file's name may tell a place, so others than its contributor and staff read the beginning of its identifier.
    Costs no query with `select_related("observation", "tile_pyramid")`.
    """
    display_width, display_height = display_size(photo.width_px, photo.height_px)
    return {
        "id": str(photo.public_id),
        "name": photo.name if is_exact_for(photo.observation, viewer) else str(photo.public_id)[:8],
        "width": photo.width_px,
        "height": photo.height_px,
        "display": reverse("observations:display", args=[photo.public_id]),
        "display_width": display_width,
        "display_height": display_height,
        "thumbnail": reverse("observations:thumbnail", args=[photo.public_id]),
        "tiles": tiles_of(photo),
    }


def boxes_of(photos: Iterable[Photo]) -> QuerySet[Detection]:
    """Shown boxes of several photos, photo by photo."""
    return Detection.objects.filter(photo__in=[photo.pk for photo in photos]).current()

"""The gallery's pages: public photos, newest first, paged by key."""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Count
from django.utils.translation import gettext as _

from apps.observations.browse.filters import BrowseForm
from apps.observations.models import Detection, Label, Photo

PAGE_SIZE = 24
COUNT_LIMIT = 1_000


@dataclass(slots=True)
class Picture:
    """A photo with its most frequent labels, most frequent first: (label, boxes)."""

    photo: Photo
    labels: list[tuple[Label, int]] = field(default_factory=list)

    @property
    def more_labels(self) -> int:
        """Labels beyond the two that stand under the picture."""
        return max(0, len(self.labels) - 2)

    @property
    def shape(self) -> str:
        """How wide the picture stands in its row."""
        ratio = self.photo.width_px / self.photo.height_px
        if ratio > 1.9:
            return "panorama"
        if ratio > 1.15:
            return "wide"
        return "square" if ratio > 0.85 else "tall"

    @property
    def place_name(self) -> str:
        """The words for the place, unless they would give a blurred one away."""
        return "" if self.photo.observation.is_obscured else self.photo.observation.place_name

    @property
    def description(self) -> str:
        """For those who do not see the picture."""
        named = ", ".join(f"{label} × {boxes}" for label, boxes in self.labels[:3])
        if named:
            return _("Photo with %(animals)s") % {"animals": named}
        return _("Photo from %(survey)s") % {"survey": self.photo.survey}


@dataclass(frozen=True, slots=True)
class GalleryPage:
    pictures: list[Picture]
    next_before: int | None
    count: int  # at most COUNT_LIMIT + 1

    @property
    def is_count_capped(self) -> bool:
        return self.count > COUNT_LIMIT


def gallery_page(form: BrowseForm, *, before: int | None = None) -> GalleryPage:
    """The page of photos older than the key `before`; three queries, whatever the size of the gallery."""
    matching = form.photos()
    page = matching.select_related("observation__contributor", "survey").order_by("-pk")
    if before is not None:
        page = page.filter(pk__lt=before)
    photos = list(page[: PAGE_SIZE + 1])
    shown = photos[:PAGE_SIZE]
    labels = labels_of(shown)
    return GalleryPage(
        pictures=[Picture(photo, labels.get(photo.pk, [])) for photo in shown],
        next_before=shown[-1].pk if len(photos) > PAGE_SIZE else None,
        count=matching.order_by()[: COUNT_LIMIT + 1].count(),
    )


def labels_of(photos: Collection[Photo]) -> dict[int, list[tuple[Label, int]]]:
    """Labels of the shown boxes of each photo with their number, the most frequent first; two queries."""
    counted: Any = (
        Detection.objects.filter(photo__in=photos)
        .current()
        .order_by()
        .values("photo", "label")
        .annotate(boxes=Count("pk"))
        .order_by("photo", "-boxes", "label")
    )
    rows: list[dict[str, Any]] = list(counted)
    labels = Label.objects.in_bulk({row["label"] for row in rows})
    found: dict[int, list[tuple[Label, int]]] = defaultdict(list)
    for row in rows:
        found[row["photo"]].append((labels[row["label"]], row["boxes"]))
    return found

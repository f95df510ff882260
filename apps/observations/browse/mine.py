"""What one person sent: newest first, by state, searched, paged by key."""

import uuid
from dataclasses import dataclass, field
from typing import Any, Final

from django import forms
from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import Count, Exists, OuterRef, Q, QuerySet, Sum
from django.utils.translation import gettext_lazy as _

from apps.accounts.models import User
from apps.common.leased import WorkStatus
from apps.observations.models import ArchiveUpload, Observation, Photo, RefusedFile

PAGE_SIZE: Final = 24
THUMBNAILS: Final = 4
COUNT_LIMIT: Final = 1_000
_OPEN: Final = (WorkStatus.PENDING, WorkStatus.PROCESSING)


class MineForm(forms.Form):
    """The search and the state, in the address."""

    STATES = (
        ("", _("All")),
        ("waiting", _("Waiting")),
        ("processing", _("In progress")),
        ("done", _("Done")),
        ("failed", _("Failed")),
        ("refused", _("With files not taken")),
    )

    q = forms.CharField(
        label=_("Search"),
        required=False,
        max_length=100,
        widget=forms.SearchInput(attrs={"autocomplete": "off"}),
        help_text=_("In titles, comments, places and file names."),
    )
    state = forms.ChoiceField(label=_("State"), choices=STATES, required=False)

    @property
    def words(self) -> str:
        return str(self.cleaned_data.get("q", "")) if self.is_valid() or "q" in self.cleaned_data else ""

    @property
    def chosen_state(self) -> str:
        self.is_valid()
        return str(self.cleaned_data.get("state", ""))


@dataclass(slots=True)
class MineRow:
    """An observation with the states of its photos; `thumbnails` are public ids of its first photos."""

    observation: Observation
    thumbnails: list[uuid.UUID]
    photos: int = 0
    waiting: int = 0
    processing: int = 0
    done: int = 0
    failed: int = 0
    animals: int = 0
    refused: int = 0
    archives: int = 0

    @property
    def more(self) -> int:
        return max(0, self.photos - len(self.thumbnails))

    @property
    def through(self) -> int:
        """Photos that need no more waiting."""
        return self.done + self.failed

    @property
    def is_working(self) -> bool:
        return bool(self.waiting or self.processing or self.archives)


@dataclass(slots=True)
class MinePage:
    rows: list[MineRow]
    page: dict[str, int | None] = field(default_factory=dict)

    @property
    def working(self) -> list[int]:
        """Keys of the observations whose state will change by itself."""
        return [row.observation.pk for row in self.rows if row.is_working]


def mine_page(
    user: User, *, words: str = "", state: str = "", before: int | None = None, after: int | None = None
) -> MinePage:
    """One page older than the key `before`, or newer than `after`; four queries, however much there is."""
    matching = _matching(user, words=words, state=state)
    if after is not None:
        rows = list(matching.filter(pk__gt=after).order_by("pk")[: PAGE_SIZE + 1])
        has_newer, has_older = len(rows) > PAGE_SIZE, True
        rows = rows[:PAGE_SIZE][::-1]
    else:
        older = matching.filter(pk__lt=before) if before is not None else matching
        rows = list(older.order_by("-pk")[: PAGE_SIZE + 1])
        has_newer, has_older = before is not None, len(rows) > PAGE_SIZE
        rows = rows[:PAGE_SIZE]
    page = {
        "newer": rows[0].pk if rows and has_newer else None,
        "older": rows[-1].pk if rows and has_older else None,
    }
    return MinePage(_rows(rows), page)


def state_counts(user: User) -> dict[str, int]:
    """Photos in each state that asks for attention, counted to `COUNT_LIMIT` + 1; from indexes of those states."""
    photos = Photo.objects.filter(contributor=user).order_by()
    states = {"waiting": WorkStatus.PENDING, "processing": WorkStatus.PROCESSING, "failed": WorkStatus.FAILED}
    return {name: photos.filter(status=status)[: COUNT_LIMIT + 1].count() for name, status in states.items()}


def _matching(user: User, *, words: str, state: str) -> QuerySet[Observation]:
    found = Observation.objects.filter(contributor=user).select_related("survey")
    if words:
        named = Exists(Photo.objects.filter(observation=OuterRef("pk"), name__icontains=words))
        in_text = Q(title__icontains=words) | Q(comment__icontains=words) | Q(place_name__icontains=words)
        found = found.filter(in_text | Q(named))
    photos = Photo.objects.filter(observation=OuterRef("pk")).order_by()
    archives = ArchiveUpload.objects.filter(observation=OuterRef("pk"), status__in=_OPEN).order_by()
    match state:
        case "waiting":
            found = found.filter(Exists(photos.filter(status=WorkStatus.PENDING)) | Exists(archives))
        case "processing":
            found = found.filter(Exists(photos.filter(status=WorkStatus.PROCESSING)))
        case "failed":
            found = found.filter(Exists(photos.filter(status=WorkStatus.FAILED)))
        case "done":
            unfinished = photos.exclude(status=WorkStatus.DONE)
            found = found.filter(Exists(photos), ~Exists(unfinished), ~Exists(archives))
        case "refused":
            found = found.filter(Exists(RefusedFile.objects.filter(observation=OuterRef("pk")).order_by()))
    first = Photo.objects.filter(observation=OuterRef("pk")).order_by("pk").values("public_id")[:THUMBNAILS]
    return found.annotate(first_photos=ArraySubquery(first))


def _rows(observations: list[Observation]) -> list[MineRow]:
    ids = [observation.pk for observation in observations]
    by_state: dict[int, dict[str, Any]] = {
        row["observation"]: row
        for row in Photo.objects.filter(observation__in=ids)
        .order_by()
        .values("observation")
        .annotate(
            photos=Count("pk"),
            waiting=Count("pk", filter=Q(status=WorkStatus.PENDING)),
            processing=Count("pk", filter=Q(status=WorkStatus.PROCESSING)),
            done=Count("pk", filter=Q(status=WorkStatus.DONE)),
            failed=Count("pk", filter=Q(status=WorkStatus.FAILED)),
            animals=Sum("detection_count"),
        )
    }
    refused = _counts(RefusedFile.objects.filter(observation__in=ids))
    archives = _counts(ArchiveUpload.objects.filter(observation__in=ids, status__in=_OPEN))
    rows = []
    for observation in observations:
        states = by_state.get(observation.pk, {})
        counts = {name: value or 0 for name, value in states.items() if name != "observation"}
        thumbnails = observation.first_photos  # type: ignore[attr-defined]
        about_files = {"refused": refused.get(observation.pk, 0), "archives": archives.get(observation.pk, 0)}
        rows.append(MineRow(observation, thumbnails, **counts, **about_files))
    return rows


def _counts(rows: QuerySet[Any]) -> dict[int, int]:
    return dict(rows.order_by().values_list("observation").annotate(rows=Count("pk")))

"""An expert's own answers to photos whose answer was known: sums, and one after the other."""

from dataclasses import dataclass

from apps.accounts.models import User
from apps.annotation.models import GoldenResult
from apps.annotation.services.golden import Reliability, feedback_text, reliability_of
from apps.observations.models import Observation, Photo

PAGE_SIZE = 24


@dataclass(frozen=True, slots=True)
class Story:
    """One answer; the photo is None when it is no longer public."""

    result: GoldenResult
    photo: Photo | None
    text: str


@dataclass(frozen=True, slots=True)
class ReliabilityPage:
    sums: Reliability
    stories: list[Story]
    next_before: int | None
    """Key of the page with older ones."""


def reliability_page(expert: User, *, before: int | None = None) -> ReliabilityPage:
    results = GoldenResult.objects.filter(expert=expert).select_related(
        "golden__task__photo__observation", "golden__task__survey"
    )
    if before:
        results = results.filter(pk__lt=before)
    rows = list(results.order_by("-pk")[: PAGE_SIZE + 1])
    shown = rows[:PAGE_SIZE]
    return ReliabilityPage(
        sums=reliability_of(expert),
        stories=[_story(result) for result in shown],
        next_before=shown[-1].pk if len(rows) > PAGE_SIZE else None,
    )


def _story(result: GoldenResult) -> Story:
    photo = result.golden.task.photo
    is_public = photo.observation.visibility == Observation.Visibility.PUBLIC
    return Story(result, photo if is_public else None, feedback_text(result))

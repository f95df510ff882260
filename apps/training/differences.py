"""The photos on which two versions differ most, against what experts said; drawn one over the other.

What counts on a photo: animals that one version has right and the other has not, or names differently, and boxes where no
animal is that only one of them has.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from django.urls import reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from apps.common.leased import WorkStatus
from apps.training.engine.report import FoundBox, PictureReport, Report, ReportDamagedError
from apps.training.hooks import names_of
from apps.training.models import Comparison
from apps.training.scenes import Mark, Surroundings, corners, drawing_of, marks_of, whole
from apps.training.services.reports import read_report

_SAME_PLACE: Final = 0.5


@dataclass(frozen=True, slots=True)
class Change:
    """What the new version does differently on one photo."""

    photo: str
    gained: int
    """Animals that only the new version has right."""
    lost: int
    renamed: int
    """Animals that neither has right, but with another name, or missed by one only."""
    false_gone: int
    """Boxes without an animal that only the old version had."""
    false_new: int

    @property
    def size(self) -> int:
        return self.gained + self.lost + self.renamed + self.false_gone + self.false_new

    @property
    def text(self) -> str:
        parts = []
        if self.gained:
            parts.append(
                ngettext("%(n)d animal more right", "%(n)d animals more right", self.gained)
                % {"n": self.gained}
            )
        if self.lost:
            parts.append(
                ngettext("%(n)d animal no longer right", "%(n)d animals no longer right", self.lost)
                % {"n": self.lost}
            )
        if self.renamed:
            parts.append(
                ngettext("%(n)d animal differently wrong", "%(n)d animals differently wrong", self.renamed)
                % {"n": self.renamed}
            )
        if self.false_gone:
            parts.append(
                ngettext("%(n)d false box less", "%(n)d false boxes less", self.false_gone)
                % {"n": self.false_gone}
            )
        if self.false_new:
            parts.append(
                ngettext("%(n)d false box more", "%(n)d false boxes more", self.false_new)
                % {"n": self.false_new}
            )
        return ", ".join(parts) or _("no difference")


@dataclass(frozen=True, slots=True)
class DifferenceScene:
    """A photo with three drawings, of which a reader sees one: the old version's, the new one's, both."""

    change: Change
    width_px: int
    height_px: int
    old: SafeString
    new: SafeString
    both: SafeString
    address: str
    is_withdrawn: bool

    @property
    def src(self) -> str:
        return reverse("training:picture", args=[self.change.photo])


@dataclass(frozen=True, slots=True)
class Differences:
    scenes: list[DifferenceScene]
    total: int
    """Photos that differ at all."""
    photos: int
    start: int
    after: int | None
    before: int | None


def read_differences(comparison: Comparison, *, start: int = 0, limit: int = 6) -> Differences | None:
    """A page of them, the largest difference first. None without two finished reports."""
    reports = _reports(comparison)
    if reports is None:
        return None
    old, new = reports
    then = {picture.photo: picture for picture in old.pictures}
    pairs = [(then[picture.photo], picture) for picture in new.pictures if picture.photo in then]
    changes = [(change_of(before, after, old, new), before, after) for before, after in pairs]
    differing = sorted((one for one in changes if one[0].size), key=lambda one: (-one[0].size, one[0].photo))
    shown = differing[start : start + limit]
    around = Surroundings.of([change.photo for change, _before, _after in shown])
    names = names_of(comparison.registered_model)
    return Differences(
        [_scene(one, old, new, names, around) for one in shown],
        len(differing),
        len(pairs),
        start,
        start + limit if start + limit < len(differing) else None,
        max(0, start - limit) if start else None,
    )


def change_of(before: PictureReport, after: PictureReport, old: Report, new: Report) -> Change:
    """Animals are the same in both reports; their order may differ."""
    then, now = _names_given(before, old), _names_given(after, new)
    gained = lost = renamed = 0
    for animal, was in then.items():
        right, name = old.labels[before.truth[was[0]][4]], was[1]
        name_now = now[animal][1] if animal in now else None
        if name == name_now:
            continue
        if name_now == right:
            gained += 1
        elif name == right:
            lost += 1
        else:
            renamed += 1
    false_then, false_now = _false_boxes(before, old), _false_boxes(after, new)
    gone = sum(not _has_twin(box, false_now, old, new) for box in false_then)
    come = sum(not _has_twin(box, false_then, new, old) for box in false_now)
    return Change(after.photo, gained, lost, renamed, gone, come)


def _names_given(picture: PictureReport, report: Report) -> dict[object, tuple[int, str | None]]:
    """For each animal, by its place: its row, and the label that it was given, None for a missed one."""
    found = dict(picture.pairs)
    given: dict[object, tuple[int, str | None]] = {}
    seen: dict[object, int] = {}
    for row, animal in enumerate(picture.truth):
        place = animal[:4]
        seen[place] = seen.get(place, 0) + 1  # two animals with one box are two animals
        label = report.labels[picture.found[found[row]][4]] if row in found else None
        given[place, seen[place]] = (row, label)
    return given


def _false_boxes(picture: PictureReport, report: Report) -> list[FoundBox]:
    matched = {found for _truth, found in picture.pairs}
    return [
        box
        for number, box in enumerate(picture.found)
        if number not in matched and box[5] >= report.confidence
    ]


def _has_twin(box: FoundBox, others: Sequence[FoundBox], own: Report, other: Report) -> bool:
    label = own.labels[box[4]]
    return any(other.labels[one[4]] == label and _overlap(box, one) >= _SAME_PLACE for one in others)


def _overlap(one: FoundBox, other: FoundBox) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    areas = (one[2] - one[0]) * (one[3] - one[1]) + (other[2] - other[0]) * (other[3] - other[1])
    return shared / (areas - shared) if areas > shared else 0.0


def _reports(comparison: Comparison) -> tuple[Report, Report] | None:
    sides = (comparison.champion_evaluation, comparison.challenger_evaluation)
    if not all(side and side.status == WorkStatus.DONE for side in sides):
        return None
    try:
        old, new = (read_report(side) for side in sides if side)
    except ReportDamagedError:
        return None
    return old, new


def _scene(
    one: tuple[Change, PictureReport, PictureReport],
    old: Report,
    new: Report,
    names: Mapping[str, str],
    around: Surroundings,
) -> DifferenceScene:
    change, before, after = one
    window = whole(after)
    both = [Mark("truth", corners(animal)) for animal in after.truth]
    both += [Mark("old", corners(box)) for box in before.found if box[5] >= old.confidence]
    both += [Mark("new", corners(box)) for box in after.found if box[5] >= new.confidence]
    return DifferenceScene(
        change,
        after.width_px,
        after.height_px,
        drawing_of(marks_of(before, old, names), window, layer="layer-old"),
        drawing_of(marks_of(after, new, names), window, layer="layer-new"),
        drawing_of(both, window, layer="layer-both"),
        around.addresses.get(change.photo, ""),
        change.photo in around.withdrawn,
    )

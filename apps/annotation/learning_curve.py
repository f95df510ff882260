"""The quality of each version against the photos it could learn from, and which label gains most from more of them.

Pure but for the sentences' translation. What the advice rests on: learning curves follow an inverse power law (Figueroa et
al. 2012), which over the range of one survey is about a straight line against the logarithm of the number of boxes. So a label
is described by its gain with each doubling of its training boxes. With two versions or more that gain is fitted; with one
it is guessed: what is missing to 1 shrinks by a fifth with each doubling (error ~ n^-0.3, as Hestness et al. 2017 measured
for image classification). Labels are ranked by what the next 50 boxes promise: the same gain with each doubling
promises more where there are few.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from django.utils.translation import gettext as _

from apps.common.numbers import number

NEXT_BOXES: Final = 50
MIN_TEST_BOXES: Final = 5
"""With fewer the average precision of a label says nothing."""
_MIN_RATIO: Final = 1.2
"""Between the fewest and the most boxes; a fit over a smaller range is a fit of the noise."""
_GUESSED_SHRINKING: Final = 1 - 2**-0.3
_NEGLIGIBLE: Final = 0.005


@dataclass(frozen=True, slots=True)
class LabelQuality:
    """A label as one version knows it: boxes it learned from, boxes it was tested on, average precision 0..1."""

    training_boxes: int
    test_boxes: int
    map50_95: float


@dataclass(frozen=True, slots=True)
class Point:
    """One version. `photos`: annotated photos of the survey in its dataset, 0 for a version from outside."""

    version: int
    photos: int
    map50: float | None
    map50_95: float | None
    low: float | None
    """Bounds of the 95 % interval of mAP50-95, by bootstrap over the test photos."""
    high: float | None
    is_common: bool
    """Measured on the test photos that the others were measured on."""
    labels: Mapping[str, LabelQuality]
    is_refused: bool = False
    """A training that went wrong says nothing of what the photos were worth."""

    @property
    def is_measured(self) -> bool:
        return self.map50_95 is not None


@dataclass(frozen=True, slots=True)
class Curve:
    points: tuple[Point, ...]
    """In the order of their photos, then of their numbers."""

    @property
    def measured(self) -> list[Point]:
        return [point for point in self.points if point.is_measured]

    @property
    def common(self) -> list[Point]:
        return [point for point in self.measured if point.is_common and not point.is_refused]

    @property
    def refused(self) -> list[Point]:
        return [point for point in self.measured if point.is_common and point.is_refused]

    @property
    def apart(self) -> list[Point]:
        """Measured on other photos: a difference to the rest may come from these."""
        return [point for point in self.measured if not point.is_common]

    @property
    def unmeasured(self) -> list[Point]:
        return [point for point in self.points if not point.is_measured]


@dataclass(frozen=True, slots=True)
class Outlook:
    """What more boxes of a label promise. Gains are in average precision (0..1)."""

    label: str
    boxes: int
    map50_95: float
    per_doubling: float
    error: float | None
    """Standard error of the gain with each doubling; none from fewer than three versions."""
    versions: int
    """How many the gain was fitted over; 1: it is guessed."""

    @property
    def gain(self) -> float:
        """Expected from the next 50 boxes; never more than is missing to 1."""
        expected = self.per_doubling * math.log2((self.boxes + NEXT_BOXES) / max(1, self.boxes))
        return min(max(0.0, expected), 1 - self.map50_95)

    @property
    def margin(self) -> float:
        """Half of the 95 % interval of the gain with each doubling."""
        return 1.96 * (self.error or 0)

    @property
    def is_guessed(self) -> bool:
        return self.versions < 2


def curve(points: Sequence[Point]) -> Curve:
    return Curve(tuple(sorted(points, key=lambda point: (point.photos, point.version))))


def outlooks(points: Sequence[Point]) -> list[Outlook]:
    """Labels by what more photos of them promise, the most promising first.

    `points` were measured on the same test photos. Labels with fewer than five test boxes in the newest are left out.
    """
    if not points:
        return []
    newest = max(points, key=lambda point: point.version)
    found = []
    for label, now in newest.labels.items():
        if now.test_boxes < MIN_TEST_BOXES or not math.isfinite(now.map50_95):
            continue
        known = [point.labels[label] for point in points if label in point.labels]
        found.append(_outlook(label, now, [one for one in known if math.isfinite(one.map50_95)]))
    return sorted(found, key=lambda one: (-one.gain, one.boxes, one.label))


def _outlook(label: str, now: LabelQuality, known: Sequence[LabelQuality]) -> Outlook:
    learned = [one for one in known if one.training_boxes > 0]
    fewest = min((one.training_boxes for one in learned), default=0)
    most = max((one.training_boxes for one in learned), default=0)
    if len(learned) < 2 or most < fewest * _MIN_RATIO:
        guessed = (1 - now.map50_95) * _GUESSED_SHRINKING
        return Outlook(label, now.training_boxes, now.map50_95, guessed, None, 1)
    slope, error = fit([math.log2(one.training_boxes) for one in learned], [one.map50_95 for one in learned])
    return Outlook(label, now.training_boxes, now.map50_95, slope, error, len(learned))


def fit(x: Sequence[float], y: Sequence[float]) -> tuple[float, float | None]:
    """Slope of the least-squares line and its standard error (none for two points). `x` must not be all the same."""
    n = len(x)
    mean_x, mean_y = sum(x) / n, sum(y) / n
    spread = sum((one - mean_x) ** 2 for one in x)
    slope = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / spread
    if n < 3:
        return slope, None
    rest = sum((b - mean_y - slope * (a - mean_x)) ** 2 for a, b in zip(x, y, strict=True))
    return slope, math.sqrt(rest / (n - 2) / spread)


def advice(ranked: Sequence[Outlook], names: Mapping[str, str]) -> str:
    """One honest sentence or two in the reader's language; empty where nothing can be told."""
    if not ranked:
        return ""
    best = ranked[0]
    if best.gain < _NEGLIGIBLE:
        return _(
            "More photos of any one label promise little at present; other kinds of photos may help more."
        )
    close = [one for one in ranked[1:] if is_close(best, one)][:2]
    labels = [names.get(one.label, one.label) for one in (best, *close)]
    named = labels[0] if len(labels) == 1 else _(" or ").join([", ".join(labels[:-1]), labels[-1]])
    details = {
        "label": named,
        "boxes": best.boxes,
        "quality": number(best.map50_95, places=2),
        "gain": number(best.gain, places=2, signed=True),
        "step": number(best.per_doubling, places=2, signed=True),
        "versions": best.versions,
        "next": NEXT_BOXES,
        "error": number(best.margin, places=2),
    }
    if close:
        first = _("More photos of %(label)s would help most; the figures do not tell these apart.")
    else:
        first = _("More photos of %(label)s would help most.")
    return f"{first} {_basis(best)}" % details


def is_close(best: Outlook, other: Outlook) -> bool:
    """Whether the difference between the two lies within what is not known."""
    if best.is_guessed or other.is_guessed:
        return other.gain > best.gain * 0.8
    margin = math.hypot(
        *(one.error if one.error is not None else abs(one.per_doubling) / 2 for one in (best, other))
    )
    return best.per_doubling - other.per_doubling < margin and other.gain > best.gain / 2


def _basis(best: Outlook) -> str:
    if best.is_guessed:
        return _(
            "This is a guess from one version: its average precision of %(quality)s with %(boxes)s training boxes leaves "
            "most to gain; about %(gain)s from %(next)s more boxes."
        )
    if best.error is None:
        return _(
            "With %(boxes)s training boxes its average precision is %(quality)s; it changed by %(step)s with each doubling "
            "from one version to the other, which would give %(gain)s from %(next)s more boxes. Two versions are a weak basis."
        )
    return _(
        "With %(boxes)s training boxes its average precision is %(quality)s; over %(versions)s versions it changed by "
        "%(step)s with each doubling (± %(error)s), which would give %(gain)s from %(next)s more boxes."
    )

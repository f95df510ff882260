"""What earlier model versions said of the animals on a photo: "version 3 said A, version 4 says B"."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from apps.observations.models import Detection, Label, Photo
from apps.training.models import ModelVersion

SAME_ANIMAL_IOU: Final = 0.5
VERSIONS: Final = 5
"""So many versions before the shown one are told."""
_BOXES: Final = 10_000
_ANIMALS_SHOWN: Final = 60
_ROWS: Final = 256

Corners = tuple[float, float, float, float]


class Seen(NamedTuple):
    """A box of one version: pixels of the upright photo, origin top left; `label` is a key."""

    corners: Corners
    label: int
    score: float
    number: int = 0


@dataclass(frozen=True, slots=True)
class Said:
    """What one version said of an animal; no label: it did not see it."""

    version: ModelVersion
    label: Label | None
    score: float | None


@dataclass(frozen=True, slots=True)
class Animal:
    """An animal of the shown result, and what was said of it, oldest version first."""

    number: int
    label: Label
    score: float
    before: list[Said]


@dataclass(frozen=True, slots=True)
class Gone:
    """Boxes of an earlier version in whose place the shown one has none."""

    version: ModelVersion
    labels: list[tuple[Label, int]]

    @property
    def boxes(self) -> int:
        return sum(boxes for _label, boxes in self.labels)


@dataclass(frozen=True, slots=True)
class VersionHistory:
    shown: ModelVersion
    earlier: list[ModelVersion]
    """Oldest first. After a roll-back the shown version may be the older one."""
    changed: list[Animal] = field(default_factory=list)
    same: int = 0
    """Animals of which all versions say the same."""
    gone: list[Gone] = field(default_factory=list)
    left_out: int = 0

    @property
    def is_one_model(self) -> bool:
        """Then a version's number says which it is."""
        return len({version.registered_model_id for version in (self.shown, *self.earlier)}) == 1


def version_history(photo: Photo) -> VersionHistory | None:
    """None where only the shown version has seen animals. One query, or four; never more."""
    if photo.model_version_id is None:
        return None
    shown_boxes = Detection.objects.shown().filter(photo=photo)
    others = shown_boxes.exclude(model_version=photo.model_version_id).order_by("-model_version_id")
    keys = list(others.values_list("model_version_id", flat=True).distinct()[:VERSIONS])
    if not keys:
        return None
    found: dict[int, list[Seen]] = defaultdict(list)
    rows = shown_boxes.filter(model_version__in=[*keys, photo.model_version_id]).order_by(
        "model_version_id", "number"
    )
    for version, number, label, score, *corners in rows.values_list(
        "model_version", "number", "label", "score", "x_min", "y_min", "x_max", "y_max"
    )[:_BOXES]:
        found[version].append(Seen((corners[0], corners[1], corners[2], corners[3]), label, score, number))
    versions = ModelVersion.objects.select_related("registered_model").in_bulk(
        [*keys, photo.model_version_id]
    )
    labels = Label.objects.in_bulk({box.label for boxes in found.values() for box in boxes})
    return told(
        shown=versions[photo.model_version_id],
        earlier=[versions[key] for key in sorted(keys)],
        found=found,
        labels=labels,
    )


def told(
    *,
    shown: ModelVersion,
    earlier: Sequence[ModelVersion],
    found: Mapping[int, Sequence[Seen]],
    labels: Mapping[int, Label],
) -> VersionHistory:
    """Put together what versions found (by their keys), animal by animal of the shown one."""
    now = found.get(shown.pk, ())
    pairs = {
        version.pk: same_animals([box.corners for box in now], [b.corners for b in found[version.pk]])
        for version in earlier
    }
    changed: list[Animal] = []
    same = 0
    for place, box in enumerate(now):
        before = []
        for version in earlier:
            match = pairs[version.pk].get(place)
            earlier_box = found[version.pk][match] if match is not None else None
            before.append(
                Said(
                    version,
                    labels[earlier_box.label] if earlier_box else None,
                    earlier_box.score if earlier_box else None,
                )
            )
        if all(said.label is not None and said.label.pk == box.label for said in before):
            same += 1
        else:
            changed.append(Animal(box.number, labels[box.label], box.score, before))
    gone = []
    for version in earlier:
        matched = set(pairs[version.pk].values())
        left: dict[int, int] = defaultdict(int)
        for place, box in enumerate(found[version.pk]):
            if place not in matched:
                left[box.label] += 1
        if left:
            most_first = sorted(left.items(), key=lambda row: (-row[1], row[0]))
            gone.append(Gone(version, [(labels[label], boxes) for label, boxes in most_first]))
    return VersionHistory(
        shown, list(earlier), changed[:_ANIMALS_SHOWN], same, gone, max(0, len(changed) - _ANIMALS_SHOWN)
    )


def same_animals(now: Sequence[Corners], before: Sequence[Corners]) -> dict[int, int]:
    """Positions in `now` with the position in `before` of the box of the same animal.

    Boxes are (left, top, right, bottom) in pixels of the upright photo. The same animal: IoU of at least 0.5, the best pair
    first, each box once. No boxes give no pairs.
    """
    if not now or not before:
        return {}
    a, b = np.array(now, np.float64), np.array(before, np.float64)
    edges: list[tuple[float, int, int]] = []
    for start in range(0, len(a), _ROWS):
        ious = _ious(a[start : start + _ROWS], b)
        i, j = np.nonzero(ious >= SAME_ANIMAL_IOU)
        edges += zip((-ious[i, j]).tolist(), (i + start).tolist(), j.tolist(), strict=True)
    pairs: dict[int, int] = {}
    taken: set[int] = set()
    for _iou, first, second in sorted(edges):
        if first not in pairs and second not in taken:
            pairs[first] = second
            taken.add(second)
    return pairs


def _ious(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union of each of `a` (n, 4) with each of `b` (m, 4): (n, m), 0..1."""
    sides = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    shared = sides.clip(0).prod(axis=2)
    areas_a, areas_b = ((boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (a, b))
    ious: NDArray[np.float64] = shared / (areas_a[:, None] + areas_b[None, :] - shared)
    return ious

"""What boxes an answer may hold. Pure: from what a browser sent to clean boxes, or to everything that is wrong with them."""

import math
import unicodedata
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from apps.common.texts import BIDI_CONTROLS

MAX_BOXES: Final = 2_000
MAX_NOTE: Final = 500
MAX_LABEL_NAME: Final = 160
TOLERANCE_PX: Final = 0.5
"""A box may reach this far out of the picture and is clipped: browsers round."""
MIN_SIDE_PX: Final = 0.01
"""Anything thinner is a slip of the hand, or of the arithmetic."""
MAX_PROBLEMS: Final = 500

SIDES: Final = ("x_min", "y_min", "x_max", "y_max")
_FIELDS: Final = frozenset({*SIDES, "label", "proposal", "note", "is_uncertain", "proposed_label"})
_MAX_CODE: Final = 40
_MAX_NUMBER: Final = 2**31 - 1
_FARTHEST_PX: Final = 1e6
_KEPT_CONTROLS: Final = "\n\t"
_WITHOUT_BIDI: Final = dict.fromkeys(BIDI_CONTROLS)


@dataclass(frozen=True, slots=True)
class Wrong:
    """One thing wrong with an answer; `row` counts boxes from 0, None where it concerns no box."""

    field: str
    code: str
    detail: str
    row: int | None = None


class InvalidAnswerError(Exception):
    """Everything that is wrong, in the order of the boxes; `left_out` more were found than are listed."""

    def __init__(self, wrongs: list[Wrong], *, left_out: int = 0) -> None:
        super().__init__(f"{len(wrongs) + left_out} problems")
        self.wrongs = wrongs
        self.left_out = left_out


@dataclass(frozen=True, slots=True)
class Frame:
    """What the boxes are held against."""

    width_px: int
    height_px: int
    labels: Mapping[str, bool]
    """Codes of the survey's labels, and whether each is in use."""
    proposals: AbstractSet[int] | None
    """Numbers of the boxes that were there to start from; None: not known, so that they are not looked at."""


@dataclass(frozen=True, slots=True)
class CleanBox:
    """Pixels of the upright photo, within it, with an area; `label` is a code of the survey that is in use."""

    x_min: float
    y_min: float
    x_max: float
    y_max: float
    label: str
    proposal: int | None = None
    note: str = ""
    is_uncertain: bool = False
    proposed_label: str = ""

    @property
    def corners(self) -> tuple[float, float, float, float]:
        return self.x_min, self.y_min, self.x_max, self.y_max


def answer_boxes(raw: Any, frame: Frame) -> list[CleanBox]:
    """The boxes of an answer; raises `InvalidAnswerError`."""
    boxes, wrongs = _read(raw)
    used: dict[int, int] = {}
    for box in boxes:
        box.fit(frame)
        box.know_label(frame.labels)
        box.know_proposal(frame.proposals, used)
        wrongs += box.wrongs
    _raise_any(wrongs)
    return [box.clean() for box in boxes]


def draft_boxes(raw: Any) -> list[dict[str, Any]]:
    """The boxes of a draft as they came, only bounded and finite; raises `InvalidAnswerError`.

    Work half done may lie anywhere and need not have a label yet.
    """
    boxes, wrongs = _read(raw, is_draft=True)
    for box in boxes:
        wrongs += box.wrongs
    _raise_any(wrongs)
    return [asdict(box.clean()) for box in boxes]


def emptiness(*, boxes: int, is_empty: bool) -> list[Wrong]:
    """An answer without boxes says so on purpose; one with boxes is not empty."""
    if is_empty and boxes:
        detail = _("An answer that says that there is no animal cannot have boxes.")
        return [Wrong("is_empty", "not_empty", detail)]
    if not is_empty and not boxes:
        detail = _("There is no box. If there is no animal on the photo, confirm that it is empty.")
        return [Wrong("is_empty", "not_confirmed", detail)]
    return []


def _read(raw: Any, *, is_draft: bool = False) -> tuple[list["_Box"], list[Wrong]]:
    if not isinstance(raw, list):
        raise InvalidAnswerError([Wrong("boxes", "not_a_list", _("Give a list of boxes."))])
    if len(raw) > MAX_BOXES:
        detail = _("An answer may have %(most)s boxes; this one has %(count)s.") % {
            "most": f"{MAX_BOXES:,}",
            "count": f"{len(raw):,}",
        }
        raise InvalidAnswerError([Wrong("boxes", "too_many", detail)])
    wrongs: list[Wrong] = []
    boxes = []
    for row, item in enumerate(raw):
        if isinstance(item, dict):
            boxes.append(_Box(row, item, is_draft))
        else:
            wrongs.append(
                Wrong(f"boxes[{row}]", "not_a_box", _("A box is an object with its corners and label."), row)
            )
    return boxes, wrongs


def _raise_any(wrongs: list[Wrong]) -> None:
    if wrongs:
        wrongs.sort(key=lambda wrong: -1 if wrong.row is None else wrong.row)
        raise InvalidAnswerError(wrongs[:MAX_PROBLEMS], left_out=max(0, len(wrongs) - MAX_PROBLEMS))


@dataclass(slots=True)
class _Box:
    row: int
    raw: dict[str, Any]
    is_draft: bool
    wrongs: list[Wrong] = field(default_factory=list)
    corners: dict[str, float] = field(default_factory=dict)
    label: str = ""
    proposal: int | None = None
    note: str = ""
    is_uncertain: bool = False
    proposed_label: str = ""

    def __post_init__(self) -> None:
        for name in self.raw:
            if name not in _FIELDS:
                self.refuse(_printable(name), "unknown_field", _("There is no such field."))
        for name in SIDES:
            value = self._number(name)
            if value is not None:
                self.corners[name] = value
        self.label = self._text("label", _MAX_CODE, required=not self.is_draft)
        self.note = self._text("note", MAX_NOTE)
        self.proposed_label = " ".join(self._text("proposed_label", MAX_LABEL_NAME).split())
        self.is_uncertain = self._flag("is_uncertain")
        self.proposal = self._proposal()

    def refuse(self, name: str, code: str, detail: str) -> None:
        self.wrongs.append(Wrong(f"boxes[{self.row}].{name}", code, detail, self.row))

    def clean(self) -> CleanBox:
        return CleanBox(
            self.corners["x_min"],
            self.corners["y_min"],
            self.corners["x_max"],
            self.corners["y_max"],
            self.label,
            self.proposal,
            self.note,
            self.is_uncertain,
            self.proposed_label,
        )

    def _number(self, name: str) -> float | None:
        value = self.raw.get(name)
        if value is None:
            self.refuse(name, "required", _("A number of pixels is missing."))
        elif isinstance(value, bool) or not isinstance(value, int | float):
            self.refuse(name, "not_a_number", _("This is not a number."))
        elif isinstance(value, float) and not math.isfinite(value):
            self.refuse(name, "not_finite", _("This number is not finite."))
        elif not -_FARTHEST_PX <= value <= _FARTHEST_PX:
            self.refuse(name, "out_of_picture", _("This is far outside of the picture."))
        else:
            return float(value)
        return None

    def _text(self, name: str, longest: int, *, required: bool = False) -> str:
        value = self.raw.get(name)
        if value is None:
            value = ""
        if not isinstance(value, str):
            self.refuse(name, "not_a_text", _("This is not a text."))
            return ""
        if len(value) <= longest and value.isascii() and value.isprintable():
            text = value.strip()  # nearly all of them, and there are thousands
            if required and not text:
                self.refuse(name, "required", _("This box has no label yet."))
            return text
        text = unicodedata.normalize("NFC", value.replace("\r\n", "\n").translate(_WITHOUT_BIDI)).strip()
        if any(unicodedata.category(c) in ("Cc", "Cs") and c not in _KEPT_CONTROLS for c in text):
            self.refuse(name, "control", _("The text contains control characters."))
            return ""
        if len(text) > longest:
            detail = ngettext(
                "The text may have %(most)s character; this one has %(count)s.",
                "The text may have %(most)s characters; this one has %(count)s.",
                longest,
            ) % {"most": longest, "count": len(text)}
            self.refuse(name, "too_long", detail)
            return ""
        if required and not text:
            self.refuse(name, "required", _("This box has no label yet."))
        return text

    def _flag(self, name: str) -> bool:
        value = self.raw.get(name)
        if value is not None and not isinstance(value, bool):
            self.refuse(name, "not_a_boolean", _("This is neither true nor false."))
        return value is True

    def _proposal(self) -> int | None:
        value = self.raw.get("proposal")
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MAX_NUMBER:
            self.refuse(
                "proposal", "not_a_number", _("Give the number of one of the model's boxes, or null.")
            )
            return None
        return value

    def fit(self, frame: Frame) -> None:
        """Clip what is out by a rounding; refuse what is further out, turned round or without an area."""
        limits = {"x": frame.width_px, "y": frame.height_px}
        for name, value in self.corners.items():
            limit = limits[name[0]]
            if value < -TOLERANCE_PX:
                self.refuse(name, "negative", _("This is outside of the picture: it begins at 0."))
            elif value > limit + TOLERANCE_PX:
                detail = _("This is outside of the picture: it ends at %(limit)s.") % {"limit": limit}
                self.refuse(name, "out_of_picture", detail)
            else:
                self.corners[name] = min(max(value, 0.0), float(limit))
        if len(self.corners) == len(SIDES) and not self.wrongs:
            self._require_area("x_min", "x_max", _("The right edge is left of the left edge."))
            self._require_area("y_min", "y_max", _("The lower edge is above the upper edge."))

    def _require_area(self, low: str, high: str, turned: str) -> None:
        side = self.corners[high] - self.corners[low]
        if self.raw[high] < self.raw[low]:
            self.refuse(high, "reversed", turned)
        elif side < MIN_SIDE_PX:
            self.refuse(high, "no_area", _("This box has no area."))

    def know_label(self, labels: Mapping[str, bool]) -> None:
        if not self.label:
            return
        if self.label not in labels:
            detail = _("This survey has no label “%(code)s”.") % {"code": _printable(self.label)}
            self.refuse("label", "unknown_label", detail)
        elif not labels[self.label]:
            detail = _("The label “%(code)s” is no longer in use: choose another.") % {"code": self.label}
            self.refuse("label", "retired_label", detail)

    def know_proposal(self, proposals: AbstractSet[int] | None, used: dict[int, int]) -> None:
        if self.proposal is None or proposals is None:
            return
        if self.proposal not in proposals:
            detail = _("The model has no box #%(number)s on this photo.") % {"number": self.proposal}
            self.refuse("proposal", "unknown_proposal", detail)
        elif (first := used.setdefault(self.proposal, self.row)) != self.row:
            detail = _("Box #%(number)s of the model is used already, by boxes[%(row)s].") % {
                "number": self.proposal,
                "row": first,
            }
            self.refuse("proposal", "repeated_proposal", detail)


def _printable(name: Any) -> str:
    """A sender's own words as an answer may repeat them."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(name))[:60]


# --- What became of the model's boxes -------------------------------------------------------------------

SAME_IOU: Final = 0.999


@dataclass(frozen=True, slots=True)
class ModelBox:
    """A box that was there to start from."""

    number: int
    label: str
    score: float
    is_weak: bool
    corners: tuple[float, float, float, float]


def changes_of(proposals: Mapping[int, ModelBox], boxes: list[CleanBox]) -> dict[str, Any]:
    """What `Annotation.changes` holds. A weak box that was not taken up was not deleted: it was never shown."""
    began = {box.proposal: box for box in boxes if box.proposal is not None and box.proposal in proposals}
    moved = [n for n, box in sorted(began.items()) if iou(proposals[n].corners, box.corners) < SAME_IOU]
    relabelled = [n for n, box in sorted(began.items()) if proposals[n].label != box.label]
    return {
        "kept": sorted(set(began) - {*moved, *relabelled}),
        "moved": moved,
        "relabelled": relabelled,
        "deleted": sorted(n for n, proposal in proposals.items() if not proposal.is_weak and n not in began),
        "drawn": len(boxes) - len(began),
    }


def iou(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    """Intersection over union of two boxes (left, top, right, bottom), 0..1."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    area_a, area_b = (a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1])
    return shared / (area_a + area_b - shared)

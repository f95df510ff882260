"""What became of the model's boxes in an answer, in words for the person who took the photo. Pure but for translation."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from apps.observations.models import Label

NAMED = 12
"""More numbers than this are not read by anyone."""


class BoxStory(NamedTuple):
    """A box of an answer: the number of the model's box it began as, and its label."""

    proposal: int | None
    label: Label


@dataclass(slots=True)
class Story:
    """Numbers are those of the model's boxes that everybody sees; a weak one that was taken up counts as found."""

    is_empty: bool = False
    confirmed: list[int] = field(default_factory=list)
    moved: list[int] = field(default_factory=list)
    corrected: list[tuple[int, Label, Label]] = field(default_factory=list)
    removed: list[int] = field(default_factory=list)
    found: list[tuple[Label, int]] = field(default_factory=list)


def story_of(
    *,
    is_empty: bool,
    moved: Collection[int],
    proposals: Mapping[int, tuple[Label, bool]],
    boxes: Iterable[BoxStory],
) -> Story:
    """`proposals`: label and weakness of the model's boxes by number; `moved`: numbers of those drawn anew."""
    story = Story(is_empty=is_empty)
    found: Counter[Label] = Counter()
    seen = set()
    for box in sorted(boxes, key=lambda box: box.proposal or 0):
        number = box.proposal
        if number is None or number not in proposals or proposals[number][1]:
            found[box.label] += 1
            continue
        seen.add(number)
        label = proposals[number][0]
        if label.pk != box.label.pk:
            story.corrected.append((number, label, box.label))
        elif number in moved:
            story.moved.append(number)
        else:
            story.confirmed.append(number)
    story.removed = sorted(n for n, (_label, is_weak) in proposals.items() if not is_weak and n not in seen)
    story.found = found.most_common()
    return story


def sentences(story: Story) -> list[str]:
    """Short sentences in the reader's language, the best news first."""
    lines = []
    if story.is_empty:
        lines.append(_("There is no animal on this photo."))
    if story.confirmed:
        lines.append(_("Confirmed: %(numbers)s.") % {"numbers": _numbers(story.confirmed)})
    for number, before, after in story.corrected[:NAMED]:
        lines.append(
            _("Corrected: #%(number)s is %(after)s, not %(before)s.")
            % {"number": number, "after": after.name, "before": before.name}
        )
    if (more := len(story.corrected) - NAMED) > 0:
        lines.append(ngettext("%(n)s more was corrected.", "%(n)s more were corrected.", more) % {"n": more})
    if story.moved:
        lines.append(_("Confirmed, with a better outline: %(numbers)s.") % {"numbers": _numbers(story.moved)})
    for label, animals in story.found[:NAMED]:
        lines.append(
            ngettext(
                "Found as well: %(n)s animal, %(label)s.", "Found as well: %(n)s animals, %(label)s.", animals
            )
            % {"n": animals, "label": label.name}
        )
    if story.removed:
        lines.append(
            ngettext("No animal: %(numbers)s.", "No animals: %(numbers)s.", len(story.removed))
            % {"numbers": _numbers(story.removed)}
        )
    return lines


def _numbers(numbers: list[int]) -> str:
    named = ", ".join(f"#{number}" for number in numbers[:NAMED])
    more = len(numbers) - NAMED
    if more <= 0:
        return named
    return ngettext("%(named)s and %(n)s more", "%(named)s and %(n)s more", more) % {
        "named": named,
        "n": more,
    }

"""One answer out of several: which animals most experts saw, where, and what they called them.

1. Each pair of experts is matched (`matching`).
2. Matched pairs are joined, the best overlaps first, as long as nobody would have two boxes in one group: an animal is a group
   with at most one box of each expert.
3. An animal that more than half of the experts drew is there; one that less than half drew is not; exactly half is a
   disagreement, and so is an animal without a label that more than half of those who drew it chose.
4. The box is the median of each coordinate (of two experts: the mean), which one bad box of three does not move.

With two experts every difference is a disagreement; with three the majority decides all but three different names.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations

import numpy as np

from apps.annotation.agreement.boxes import Corners, LabelledBoxes, iou_rows
from apps.annotation.agreement.matching import match


class Verdict(StrEnum):
    """What the answers together say of one animal."""

    AGREED = "agreed"
    DROPPED = "dropped"
    """Fewer than half of the experts drew it."""
    PRESENCE = "presence"
    """Exactly half of them drew it."""
    LABEL = "label"
    """It is there, but no name has a majority."""


@dataclass(frozen=True, slots=True)
class Member:
    """Whose box: the positions of the answer and of the box in it."""

    answer: int
    box: int


@dataclass(frozen=True, slots=True)
class Animal:
    members: tuple[Member, ...]
    """By answer."""
    box: Corners
    votes: dict[str, int]
    """Experts by label code, the commonest first."""
    verdict: Verdict
    label: str
    """The commonest; of equally common ones the first in the alphabet, and then the verdict is no agreement."""
    agreement: float
    """Share of all experts that saw it under `label`."""
    mean_iou: float
    """Of the members' boxes with `box`."""
    uncertainty: float
    """Entropy of the votes, "not there" among them, over the most that so many experts can have: 0..1."""

    @property
    def is_disputed(self) -> bool:
        return self.verdict in (Verdict.PRESENCE, Verdict.LABEL)


@dataclass(frozen=True, slots=True)
class Consensus:
    animals: tuple[Animal, ...]
    """Top to bottom, then left to right by the box's upper left corner."""
    answers: int
    empty_answers: int

    @property
    def agreed(self) -> tuple[Animal, ...]:
        return tuple(animal for animal in self.animals if animal.verdict == Verdict.AGREED)

    @property
    def disputed(self) -> tuple[Animal, ...]:
        return tuple(animal for animal in self.animals if animal.is_disputed)

    @property
    def is_empty(self) -> bool:
        """Nothing is there, and more than half of the experts confirm it."""
        return not self.agreed and not self.disputed and 2 * self.empty_answers > self.answers

    @property
    def is_settled(self) -> bool:
        """Nothing is left for a curator to decide. Three experts who each saw another animal have not agreed on none."""
        return not self.disputed and bool(self.agreed or self.is_empty)


def find_consensus(answers: Sequence[LabelledBoxes], *, min_iou: float) -> Consensus:
    """What `answers`, one of each expert, say together; their order makes no difference. Raises `ValueError` for none."""
    if not answers:
        message = "a consensus needs an answer"
        raise ValueError(message)
    animals = [_animal(members, answers) for members in _groups(answers, min_iou)]
    animals.sort(key=lambda animal: (animal.box[1], animal.box[0], animal.box, animal.label))
    return Consensus(
        animals=tuple(animals),
        answers=len(answers),
        empty_answers=sum(1 for answer in answers if not len(answer)),
    )


def _groups(answers: Sequence[LabelledBoxes], min_iou: float) -> list[tuple[Member, ...]]:
    """Boxes of one animal; a box that nobody else has is a group of its own."""
    keys = [answer.keys() for answer in answers]
    links = []
    # In an order of the answers' own, so that what ties in all else (two boxes of one expert at the same place) is
    # joined alike whoever comes first.
    ranked = sorted(range(len(answers)), key=lambda answer: sorted(keys[answer]))
    for a, b in combinations(ranked, 2):
        for pair in match(answers[a], answers[b], min_iou=min_iou):
            ends = sorted(
                (
                    (keys[a][pair.first], Member(a, pair.first)),
                    (keys[b][pair.second], Member(b, pair.second)),
                ),
                key=lambda end: end[0],
            )
            links.append((-pair.iou, ends[0][0], ends[1][0], ends[0][1], ends[1][1]))
    links.sort(key=lambda link: link[:3])
    group_of = {
        Member(answer, box): {answer: Member(answer, box)}
        for answer, boxes in enumerate(answers)
        for box in range(len(boxes))
    }
    for *_order, one, other in links:
        left, right = group_of[one], group_of[other]
        if left is not right and not left.keys() & right.keys():
            left.update(right)
            for member in right.values():
                group_of[member] = left
    distinct = {id(group): group for group in group_of.values()}
    return [tuple(group[answer] for answer in sorted(group)) for group in distinct.values()]


def _animal(members: tuple[Member, ...], answers: Sequence[LabelledBoxes]) -> Animal:
    boxes = np.stack([answers[member.answer].xyxy_px[member.box] for member in members])
    median = np.median(boxes, axis=0)
    counted = Counter(answers[member.answer].labels[member.box] for member in members)
    votes = dict(sorted(counted.items(), key=lambda vote: (-vote[1], vote[0])))
    label, most = next(iter(votes.items()))
    return Animal(
        members=members,
        box=tuple(median.tolist()),
        votes=votes,
        verdict=_verdict(len(members), most, len(answers)),
        label=label,
        agreement=most / len(answers),
        mean_iou=min(1.0, float(iou_rows(boxes, median[None]).mean())),
        uncertainty=_uncertainty(votes, len(answers)),
    )


def _verdict(seen: int, most: int, experts: int) -> Verdict:
    if 2 * seen < experts:
        return Verdict.DROPPED
    if 2 * seen == experts:
        return Verdict.PRESENCE
    return Verdict.AGREED if 2 * most > seen else Verdict.LABEL


def _uncertainty(votes: dict[str, int], experts: int) -> float:
    if experts < 2:
        return 0.0
    unseen = experts - sum(votes.values())
    shares = [n / experts for n in (*votes.values(), unseen) if n]
    return abs(sum(share * math.log(share) for share in shares)) / math.log(experts)

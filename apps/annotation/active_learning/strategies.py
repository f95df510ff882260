"""Which photo teaches the detector most: per box the least margin, per photo an aggregate of its boxes.

Higher scores come first. Every strategy is a pure function of the boxes, of one uniform draw per photo and of the
options, so that the order of a queue can be computed again by anyone. Sources:

- Scheffer, Decomain & Wrobel 2001, "Active hidden Markov models for information extraction": margin sampling.
- Settles 2009, "Active Learning Literature Survey", section 3.1: margin sampling for any probabilistic classifier.
- Brust, Käding & Denzler 2019, "Active Learning for Deep Object Detection", VISAPP: from boxes to a picture by sum,
  average and maximum. They square the 1-vs-2 value of a box; here it stays linear, as the users specified it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
EmptyPhotos = Literal["as_one_box", "first", "last"]

EMPTY_FIRST: Final = 1e9
"""Score of a photo without a box where such photos come first: above any sum of margins."""
EMPTY_LAST: Final = -1.0
"""Score of a photo without a box where such photos come last: scores of boxes are never negative."""
_HASH_BITS: Final = (1 << 64) - 1
_FEWEST_BITS: Final = 8


@dataclass(frozen=True, slots=True)
class BoxScores:
    """The boxes of P photos, one photo after the other. Raises ValueError for values that cannot be scores."""

    p1: Floats
    """(N,) score of the best label, 0..1."""
    p2: Floats
    """(N,) score of the second best label (with one label: of the background, `1 - p1`), 0..1."""
    offsets: NDArray[np.intp]
    """(P + 1,) photo i has the rows `offsets[i]:offsets[i + 1]`; equal neighbours are a photo without a box."""

    def __post_init__(self) -> None:
        p1, p2 = np.asarray(self.p1, np.float64), np.asarray(self.p2, np.float64)
        offsets = np.asarray(self.offsets, np.intp)
        for name, values in (("p1", p1), ("p2", p2), ("offsets", offsets)):
            object.__setattr__(self, name, values)
        if p1.ndim != 1 or p1.shape != p2.shape:
            raise ValueError(f"p1 and p2 must be (N,) of one length, not {p1.shape} and {p2.shape}")
        if offsets.ndim != 1 or not len(offsets) or offsets[0] != 0 or offsets[-1] != len(p1):
            raise ValueError(f"offsets must run from 0 to the number of boxes, {len(p1)}")
        if (np.diff(offsets) < 0).any():
            raise ValueError("offsets must not fall")
        for name, values in (("p1", p1), ("p2", p2)):
            # Written so that NaN fails too.
            if not ((values >= 0) & (values <= 1)).all():
                raise ValueError(f"{name} has values outside 0..1")

    @property
    def photos(self) -> int:
        return len(self.offsets) - 1

    @property
    def counts(self) -> NDArray[np.intp]:
        """(P,) boxes of each photo."""
        return np.diff(self.offsets)

    @property
    def margins(self) -> Floats:
        """(N,) `least_margin` of each box."""
        return least_margin(self.p1, self.p2)


@dataclass(frozen=True, slots=True)
class Options:
    """What a survey can choose. Raises ValueError for a choice that does not exist."""

    top_k: int = 5
    """`margin_top_k`: how many of a photo's most uncertain boxes count."""
    doubtful_below: float = 0.40
    """`many_doubtful`: a box scored lower than this is doubtful."""
    doubtful_more_than: int = 3
    """`many_doubtful`: a photo with more doubtful boxes than this comes first."""
    empty_photos: EmptyPhotos = "as_one_box"
    """Where photos without a box go: as if they had one box of u = 1 (a tie of two labels), first, or last."""

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise ValueError("top_k must be at least 1")
        if not 0 <= self.doubtful_below <= 1:
            raise ValueError("doubtful_below must be between 0 and 1")
        if self.doubtful_more_than < 0:
            raise ValueError("doubtful_more_than must not be negative")
        if self.empty_photos not in {"as_one_box", "first", "last"}:
            raise ValueError(f"no such place for empty photos: {self.empty_photos!r}")


def least_margin(p1: ArrayLike, p2: ArrayLike) -> Floats:
    """The uncertainty u = 1 - (P1 - P2), (N,) float64: 0 for a certain box, 1 where the two best labels tie.

    Settles 2009, section 3.1 (after Scheffer et al. 2001), turned round so that more means more uncertain. With one
    label P2 is the background's share 1 - P1, so that u = 2 - 2·P1 and goes up to 2: such a box is more likely
    background than animal.
    """
    return 1.0 - (np.asarray(p1, np.float64) - np.asarray(p2, np.float64))


def top_two(class_scores: ArrayLike) -> tuple[Floats, Floats]:
    """P1 and P2, each (N,) float64, of scores (N, C) in any order of labels.

    With C = 1 P2 is `1 - P1`. Raises ValueError for no label at all or for values outside 0..1.
    """
    scores = np.asarray(class_scores, np.float64)
    if scores.ndim != 2 or not scores.shape[1]:
        raise ValueError(f"class scores must be (N, C) with at least one label, not {scores.shape}")
    if not ((scores >= 0) & (scores <= 1)).all():
        raise ValueError("class scores have values outside 0..1")
    if scores.shape[1] == 1:
        return scores[:, 0].copy(), 1.0 - scores[:, 0]
    best = np.partition(scores, -2, axis=1)
    return best[:, -1].copy(), best[:, -2].copy()


@dataclass(frozen=True, slots=True)
class Strategy:
    """One way to order photos; `score` is the same for the same arguments, whatever ran before."""

    key: str
    _score_boxes: Callable[[BoxScores, Options], Floats] | None
    """(P,) scores of photos, all >= 0; those without a box are given their place afterwards."""
    _empty_as_one_box: float = 1.0
    """What one box of u = 1 alone would score."""

    def score(self, boxes: BoxScores, draws: ArrayLike, options: Options | None = None) -> Floats:
        """(P,) float64, higher first, never NaN. `draws` are (P,) uniform in [0, 1), see `draw`."""
        options = options or Options()
        drawn = np.asarray(draws, np.float64)
        if drawn.shape != (boxes.photos,) or not ((drawn >= 0) & (drawn < 1)).all():
            raise ValueError(f"draws must be ({boxes.photos},) within [0, 1)")
        if self._score_boxes is None:
            return drawn.copy()
        empty = {"as_one_box": self._empty_as_one_box, "first": EMPTY_FIRST, "last": EMPTY_LAST}
        return np.where(boxes.counts > 0, self._score_boxes(boxes, options), empty[options.empty_photos])

    def order(self, boxes: BoxScores, draws: ArrayLike, options: Options | None = None) -> NDArray[np.intp]:
        """(P,) photos from first to last; ties keep the order they came in."""
        return np.argsort(-self.score(boxes, draws, options), kind="stable")


def margin_sum(boxes: BoxScores, _options: Options) -> Floats:
    """Sum: s = Σ u over the boxes of a photo. Brust et al. 2019, "Sum": photos with much to correct come first.

    It prefers photos with many boxes, which also take an expert longer; the authors note it as well.
    """
    return _sums(boxes, boxes.margins)


def margin_mean(boxes: BoxScores, _options: Options) -> Floats:
    """Mean: s = (1/n) Σ u. Brust et al. 2019, "Average": how crowded a photo is does not matter."""
    return _sums(boxes, boxes.margins) / np.maximum(boxes.counts, 1)


def margin_max(boxes: BoxScores, _options: Options) -> Floats:
    """Maximum: s = max u. Brust et al. 2019, "Maximum": one box in doubt is enough, robust to many easy ones."""
    maxima = np.zeros(boxes.photos)
    filled = boxes.counts > 0
    if filled.any():
        maxima[filled] = np.maximum.reduceat(boxes.margins, boxes.offsets[:-1][filled])
    return maxima


def margin_top_k(boxes: BoxScores, options: Options) -> Floats:
    """Mean of the top k: s = mean of the min(k, n) largest u: between maximum (k = 1) and average (k >= n) of Brust et al. 2019."""
    margins = boxes.margins
    photo = np.repeat(np.arange(boxes.photos), boxes.counts)
    largest_first = np.lexsort((-margins, photo))
    # After the sort a photo's rows still are offsets[i]:offsets[i + 1], so that the place in it is a subtraction.
    place = np.arange(len(margins)) - np.repeat(boxes.offsets[:-1], boxes.counts)
    counted = np.where(place < options.top_k, margins[largest_first], 0.0)
    return _sums(boxes, counted) / np.clip(boxes.counts, 1, options.top_k)


def many_doubtful(boxes: BoxScores, options: Options) -> Floats:
    """Count: s = d if d > 3, else 0, with d the number of boxes of P1 < 0.40 (both are options).

    The simple rule in use before margins: photos with more than three doubtful detections come first, here those
    with most of them; all others tie at 0 and keep the order they came in. No published source.
    """
    doubtful = _sums(boxes, (boxes.p1 < options.doubtful_below).astype(np.float64))
    return np.where(doubtful > options.doubtful_more_than, doubtful, 0.0)


def _sums(boxes: BoxScores, values: Floats) -> Floats:
    """(P,) the sum of (N,) `values` per photo, 0 for a photo without a box."""
    sums = np.zeros(boxes.photos)
    filled = boxes.counts > 0
    if filled.any():
        # reduceat gives an empty slice the value of its neighbour, so that it only sees photos with boxes.
        sums[filled] = np.add.reduceat(values, boxes.offsets[:-1][filled])
    return sums


DEFAULT_STRATEGY: Final = "margin_sum"
STRATEGIES: Final[dict[str, Strategy]] = {
    strategy.key: strategy
    for strategy in (
        Strategy("margin_sum", margin_sum),
        Strategy("margin_mean", margin_mean),
        Strategy("margin_max", margin_max),
        Strategy("margin_top_k", margin_top_k),
        Strategy("many_doubtful", many_doubtful, _empty_as_one_box=0.0),
        # Chance must not look at the boxes, not even whether there are any, or it is no control.
        Strategy("random", None),
    )
}
"""By the key that surveys and the command line name them with."""


def draw(seed: int, key: str) -> float:
    """A number in [0, 1) that depends on nothing but seed and key: the first 53 bits of SHA-256 of "seed:key".

    Unlike the next number of a generator it does not depend on what was drawn before, so that a choice recorded by
    its seed can be repeated photo by photo.
    """
    digest = hashlib.sha256(f"{seed}:{key}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / (1 << 53)


def hamming(a: int, b: int) -> int:
    """Bits that differ between two 64-bit perceptual hashes, signed (as PostgreSQL keeps them) or not."""
    return ((a ^ b) & _HASH_BITS).bit_count()


def is_telling(perceptual_hash: int | None) -> bool:
    """Whether there is a hash and it says anything about a picture. About half of the 64 bits are set; nearly none or nearly all is a
    blank picture, and all blank pictures would be one another's near-duplicates.
    """
    if perceptual_hash is None:
        return False
    return _FEWEST_BITS <= (perceptual_hash & _HASH_BITS).bit_count() <= 64 - _FEWEST_BITS

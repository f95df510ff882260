"""What a comparison with the ground truth leaves: enough to compute any mean over any sample of the pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

IOU_THRESHOLDS: Final[NDArray[np.float64]] = np.linspace(0.5, 0.95, 10)
"""COCO's ten."""


@dataclass(frozen=True, slots=True)
class MatchTable:
    """The matches of one detector's D boxes on P pictures with L labels, by COCO's rule (greedy, by score, one label).

    Matching is done within a picture, so that a sample of pictures (with repetition, too) has the matches of its
    pictures: average precision over the sample needs this table alone.
    """

    labels: tuple[str, ...]
    picture: NDArray[np.int64]
    """(D,) 0..P-1."""
    label: NDArray[np.int64]
    """(D,) 0..L-1."""
    score: NDArray[np.float32]
    """(D,) 0..1, uncalibrated."""
    is_match: NDArray[np.bool_]
    """(D, 10) whether the box found an animal at each of `IOU_THRESHOLDS`."""
    truths: NDArray[np.int64]
    """(P, L) number of animals of each label on each picture."""

    @property
    def pictures(self) -> int:
        return len(self.truths)

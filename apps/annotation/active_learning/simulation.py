"""Does asking for uncertain photos help? Rounds of select, train, evaluate on a dataset whose answers are known.

Every seed has its own test part and start set, the same for all strategies; the start set is trained on once. From
there each strategy goes its own way. What a cell (strategy, seed, round) gave is one file, so that a simulation that
was interrupted goes on, and every choice can be computed again from what the detector saw.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from apps.annotation.active_learning.learner import Learner
from apps.annotation.active_learning.replay import Parts, ReplayError, is_plate, near_duplicates, part
from apps.annotation.active_learning.strategies import STRATEGIES, BoxScores, Options, draw
from apps.training.engine.labelled import LabelledPicture, LabelledPictures

START: Final = "start"
"""In place of a strategy: the training on the start set, which all strategies share."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is simulated. Raises ValueError for what cannot be."""

    strategies: tuple[str, ...]
    seeds: tuple[int, ...]
    rounds: int
    """Times that photos are selected after the start."""
    start: int
    step: int
    test_share: float = 0.25
    options: Options = field(default_factory=Options)

    def __post_init__(self) -> None:
        if unknown := [key for key in self.strategies if key not in STRATEGIES]:
            raise ValueError(f"no such strategy: {', '.join(unknown)} (there are {', '.join(STRATEGIES)})")
        if not self.strategies or not self.seeds:
            raise ValueError("at least one strategy and one seed are needed")
        for name in ("rounds", "start", "step"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if not 0 < self.test_share < 1:
            raise ValueError("the test share must lie between 0 and 1")

    def cells(self) -> list[Cell]:
        """Seed by seed and in it round by round, so that whatever ran when it is stopped can be compared."""
        return [
            Cell(strategy, seed, number)
            for seed in self.seeds
            for number in range(self.rounds + 1)
            for strategy in (self.strategies if number else (START,))
        ]

    def photos(self, number: int) -> int:
        """Annotated photos in a round."""
        return self.start + number * self.step


@dataclass(frozen=True, slots=True)
class Cell:
    strategy: str
    seed: int
    round: int

    @property
    def name(self) -> str:
        return f"{self.strategy}_seed{self.seed}_round{self.round}"

    @property
    def before(self) -> Cell:
        return Cell(self.strategy if self.round > 1 else START, self.seed, self.round - 1)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a cell gave, as it is kept."""

    strategy: str
    seed: int
    round: int
    annotated: tuple[str, ...]
    """Names of the pictures, in the order they were chosen in."""
    boxes: int
    """Boxes on them: what an expert had to draw or confirm."""
    map50: float
    map50_95: float
    seconds: float
    pool: tuple[str, ...]
    """Names of the pictures that were left to choose from."""
    pool_offsets: tuple[int, ...]
    pool_p1: tuple[float, ...]
    pool_p2: tuple[float, ...]

    @property
    def photos(self) -> int:
        return len(self.annotated)

    @property
    def pool_boxes(self) -> BoxScores:
        return BoxScores(np.array(self.pool_p1), np.array(self.pool_p2), np.array(self.pool_offsets))


@dataclass(frozen=True, slots=True)
class Progress:
    outcome: Outcome
    done: int
    cells: int
    seconds_left: float


def select(outcome: Outcome, *, strategy: str, count: int, options: Options) -> tuple[str, ...]:
    """The `count` photos of the pool that a strategy asks for after a cell, first to last."""
    draws = np.array([draw(outcome.seed, f"{outcome.round}:{name}") for name in outcome.pool])
    order = STRATEGIES[strategy].order(outcome.pool_boxes, draws, options)
    return tuple(outcome.pool[index] for index in order[:count])


class Simulation:
    """A plan on a dataset, with what is known of it in `folder`."""

    def __init__(
        self,
        plan: Plan,
        labelled: LabelledPictures,
        *,
        learner: Learner,
        folder: Path,
        groups: Sequence[Hashable] | None = None,
    ) -> None:
        """`groups` are those of the pictures that must stay together; left out, they are near-duplicates."""
        self.plan = plan
        self._labelled = labelled
        self._learner = learner
        self._cells = folder / "cells"
        self._work = folder / "work"
        if groups is None:
            groups = [] if is_plate(labelled) else near_duplicates(labelled.pictures)
        self._parts = {
            seed: part(labelled, groups, seed=seed, test_share=plan.test_share) for seed in plan.seeds
        }
        for seed, parts in self._parts.items():
            if (last := plan.photos(plan.rounds)) > len(parts.pool.pictures):
                raise ReplayError(
                    f"{last} photos would be annotated in the end, but with seed {seed} the pool has"
                    f" {len(parts.pool.pictures)} of the {len(labelled.pictures)}: use fewer rounds or a smaller step"
                )

    def parts(self, seed: int) -> Parts:
        return self._parts[seed]

    def outcomes(self) -> list[Outcome]:
        """Those known so far, in the order of the plan."""
        return [outcome for cell in self.plan.cells() if (outcome := self._known(cell))]

    def run(self, *, on_cell: Callable[[Progress], None] | None = None) -> list[Outcome]:
        """Run every cell that is not known yet."""
        cells = self.plan.cells()
        waiting = [cell for cell in cells if not self._known(cell)]
        ran: list[Outcome] = []
        for number, cell in enumerate(waiting, start=1):
            outcome = self._run(cell)
            self._keep(cell, outcome)
            ran.append(outcome)
            per_photo = sum(each.seconds for each in ran) / sum(each.photos for each in ran)
            left = sum(self.plan.photos(each.round) for each in waiting[number:]) * per_photo
            if on_cell:
                on_cell(Progress(outcome, len(cells) - len(waiting) + number, len(cells), left))
        return self.outcomes()

    def _run(self, cell: Cell) -> Outcome:
        parts = self._parts[cell.seed]
        chosen = self._chosen(cell)
        by_name = {picture.path.name: picture for picture in parts.pool.pictures}
        left = tuple(name for name in by_name if name not in set(chosen))
        annotated = self._pictures(by_name[name] for name in chosen)
        lesson = self._learner.learn(
            annotated=annotated,
            test=parts.test,
            pool=self._pictures(by_name[name] for name in left),
            seed=cell.seed,
            folder=self._work / cell.name,
        )
        return Outcome(
            **asdict(cell),
            annotated=chosen,
            boxes=sum(len(picture.labels) for picture in annotated.pictures),
            map50=lesson.map50,
            map50_95=lesson.map50_95,
            seconds=round(lesson.seconds, 1),
            pool=left,
            pool_offsets=tuple(lesson.pool.offsets.tolist()),
            pool_p1=tuple(lesson.pool.p1.tolist()),
            pool_p2=tuple(lesson.pool.p2.tolist()),
        )

    def _chosen(self, cell: Cell) -> tuple[str, ...]:
        if cell.round == 0:
            return start_set(self._parts[cell.seed].pool.pictures, self.plan.start)
        before = self._known(cell.before)
        assert before, "cells run in the order of the plan"
        return before.annotated + select(
            before, strategy=cell.strategy, count=self.plan.step, options=self.plan.options
        )

    def _pictures(self, pictures: Iterator[LabelledPicture]) -> LabelledPictures:
        return LabelledPictures(self._labelled.labels, tuple(pictures))

    def _known(self, cell: Cell) -> Outcome | None:
        try:
            document: dict[str, Any] = json.loads((self._cells / f"{cell.name}.json").read_text())
        except FileNotFoundError:
            return None
        known: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in document.items()}
        return Outcome(**known)

    def _keep(self, cell: Cell, outcome: Outcome) -> None:
        self._cells.mkdir(parents=True, exist_ok=True)
        write_whole(self._cells / f"{cell.name}.json", json.dumps(asdict(outcome)) + "\n")


def start_set(pool: Sequence[LabelledPicture], count: int) -> tuple[str, ...]:
    """The first of the pool, which has a drawn order already; the last of them gives way if none shows an animal."""
    first = [picture.path.name for picture in pool[:count]]
    if not any(len(picture.labels) for picture in pool[:count]):
        first[-1] = next(picture.path.name for picture in pool if len(picture.labels))
    return tuple(first)


def claim_folder(folder: Path, settings: dict[str, Any]) -> None:
    """Write down what a folder's results were made with, or raise ValueError if that differs.

    Strategies, seeds and rounds are not part of it: more of them may be added to what is there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "settings.json"
    if not path.exists():
        write_whole(path, json.dumps(settings, indent=1) + "\n")
        return
    known = json.loads(path.read_text())
    if differing := sorted(key for key in settings if settings[key] != known.get(key)):
        key = differing[0]
        raise ValueError(
            f"{folder} holds a simulation with another {key} ({known.get(key)}, not {settings[key]}):"
            " choose another --output, or remove that folder"
        )


def write_whole(path: Path, text: str) -> None:
    """Never leave half a file where a finished one is expected."""
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)

"""Learning curves as numbers, as a picture, and in words that claim no more than was measured."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from apps.annotation.active_learning.simulation import START, Outcome, Plan, write_whole

CHANCE: Final = "random"
COLUMNS: Final = ("strategy", "seed", "round", "photos", "boxes", "mAP50", "mAP50_95", "seconds")
# Okabe and Ito's colours, told apart by colour-blind readers too; chance is grey and dashed.
_COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS: Final = "os^Dvp"

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Curve:
    """One strategy over R rounds and S seeds."""

    strategy: str
    photos: Floats
    """(R,) annotated photos."""
    boxes: Floats
    """(S, R) boxes on them."""
    map50: Floats
    """(S, R)"""
    map50_95: Floats
    """(S, R)"""

    @property
    def areas(self) -> Floats:
        """(S,) the mean height of the mAP50 curve over the photos, by trapezoids: 0..1."""
        return area(self.photos, self.map50)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The curves of the seeds that every strategy has finished, so that each is compared with chance in pairs."""

    seeds: tuple[int, ...]
    curves: tuple[Curve, ...]

    @property
    def chance(self) -> Curve | None:
        return next((curve for curve in self.curves if curve.strategy == CHANCE), None)


def area(photos: Floats, heights: Floats) -> Floats:
    """Trapezoids over the last axis, divided by the width. Of one point: its height."""
    if len(photos) == 1:
        return heights[..., 0]
    areas: Floats = np.trapezoid(heights, photos, axis=-1) / (photos[-1] - photos[0])
    return areas


def reached(costs: Floats, heights: Floats, level: float) -> float | None:
    """The cost at which a curve first reaches `level`, between two points linearly; None if it does not."""
    above = np.flatnonzero(heights >= level)
    if not len(above):
        return None
    index = int(above[0])
    if index == 0:
        return float(costs[0])
    share = (level - heights[index - 1]) / (heights[index] - heights[index - 1])
    return float(costs[index - 1] + share * (costs[index] - costs[index - 1]))


def compare(plan: Plan, outcomes: Sequence[Outcome]) -> Comparison | None:
    """None before the first seed is finished."""
    known = {(each.strategy, each.seed, each.round): each for each in outcomes}

    def row(strategy: str, seed: int) -> list[Outcome] | None:
        keys = [(strategy if number else START, seed, number) for number in range(plan.rounds + 1)]
        found = [known[key] for key in keys if key in known]
        return found if len(found) == len(keys) else None

    rows = {(strategy, seed): row(strategy, seed) for strategy in plan.strategies for seed in plan.seeds}
    seeds = tuple(seed for seed in plan.seeds if all(rows[strategy, seed] for strategy in plan.strategies))
    if not seeds:
        return None

    def curve(strategy: str) -> Curve:
        per_seed = [rows[strategy, seed] or [] for seed in seeds]

        def values(name: str) -> Floats:
            return np.array([[getattr(each, name) for each in line] for line in per_seed], np.float64)

        return Curve(strategy, values("photos")[0], values("boxes"), values("map50"), values("map50_95"))

    return Comparison(seeds, tuple(curve(strategy) for strategy in plan.strategies))


def write_csv(path: Path, plan: Plan, outcomes: Sequence[Outcome]) -> None:
    """One row per strategy, seed and round; the shared start is a row of each strategy."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for each in outcomes:
        for strategy in plan.strategies if each.strategy == START else (each.strategy,):
            quality = (f"{each.map50:.4f}", f"{each.map50_95:.4f}", f"{each.seconds:.1f}")
            writer.writerow((strategy, each.seed, each.round, each.photos, each.boxes, *quality))
    write_whole(path, buffer.getvalue())


def draw_curves(comparison: Comparison, *paths: Path) -> None:
    """Write the picture to each path, in the format of its suffix."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # The same numbers give the same SVG, so that a repository only sees real changes.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "podura", "font.size": 10}):
        figure = Figure(figsize=(10, 4.6), layout="constrained")
        FigureCanvasAgg(figure)
        by_photos, by_boxes = figure.subplots(1, 2, sharey=True)
        colours = iter(_COLOURS * len(comparison.curves))
        markers = iter(_MARKERS * len(comparison.curves))
        for curve in comparison.curves:
            is_chance = curve.strategy == CHANCE
            style: dict[str, Any] = {
                "color": "#555555" if is_chance else next(colours),
                "linestyle": "--" if is_chance else "-",
                "marker": "x" if is_chance else next(markers),
                "markersize": 5,
            }
            mean = curve.map50.mean(axis=0)
            by_photos.plot(curve.photos, mean, label=curve.strategy, **style)
            by_photos.fill_between(
                curve.photos,
                curve.map50.min(axis=0),
                curve.map50.max(axis=0),
                color=style["color"],
                alpha=0.13,
                linewidth=0,
            )
            by_boxes.plot(curve.boxes.mean(axis=0), mean, **style)
        by_photos.set_xticks(comparison.curves[0].photos)
        by_photos.set(xlabel="annotated photos", ylabel="mAP50 on the test part")
        by_boxes.set(xlabel="boxes on them (mean of the seeds)")
        for axes in (by_photos, by_boxes):
            axes.grid(alpha=0.25)
            axes.spines[["top", "right"]].set_visible(False)
        seeds = len(comparison.seeds)
        by_photos.legend(
            title=f"mean of {seeds} seeds; shaded: lowest to highest" if seeds > 1 else "1 seed",
            frameon=False,
        )
        for path in paths:
            figure.savefig(path, dpi=130, metadata={"Date": None} if path.suffix == ".svg" else None)


def summarise(comparison: Comparison, plan: Plan, *, about: Sequence[str] = ()) -> str:
    """The comparison as Markdown; `about` are lines on dataset and training for its head."""
    chance = comparison.chance
    level = float(chance.map50[:, -1].mean()) if chance else float("nan")
    seeds = len(comparison.seeds)
    first, last = plan.photos(0), plan.photos(plan.rounds)
    lines = ["# Does active learning help here?", "", *(f"- {line}" for line in about)]
    lines += [
        (
            f"- {first} photos at the start, then {plan.rounds} times {plan.step} more, up to {last};"
            f" {seeds} seed{'s' if seeds > 1 else ''} finished of {len(plan.seeds)} planned. ± is the standard deviation of the seeds."
        ),
        "",
        "| strategy | mean mAP50 over the curve | mAP50 at the end | mAP50-95 at the end | boxes at the end |",
        "|---|---|---|---|---|",
    ]
    for curve in comparison.curves:
        cells = (curve.areas, curve.map50[:, -1], curve.map50_95[:, -1])
        values = " | ".join(_with_spread(values, 3) for values in cells)
        lines.append(f"| `{curve.strategy}` | {values} | {_with_spread(curve.boxes[:, -1], 0)} |")
    if chance:
        lines += ["", *_costs(comparison, level), "", *_verdict(comparison, chance)]
    return "\n".join([*lines, ""])


def _with_spread(values: Floats, digits: int) -> str:
    spread = f" ± {values.std(ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{values.mean():.{digits}f}{spread}"


def _costs(comparison: Comparison, level: float) -> list[str]:
    lines = [
        f"To reach mAP50 {level:.3f}, where chance ends on average (on the mean curves, linear between points):",
        "",
        "| strategy | photos | boxes |",
        "|---|---|---|",
    ]
    for curve in comparison.curves:
        mean = curve.map50.mean(axis=0)
        costs = (reached(curve.photos, mean, level), reached(curve.boxes.mean(axis=0), mean, level))
        shown = " | ".join("not reached" if cost is None else f"{cost:.0f}" for cost in costs)
        lines.append(f"| `{curve.strategy}` | {shown} |")
    return lines


def _verdict(comparison: Comparison, chance: Curve) -> list[str]:
    seeds = len(comparison.seeds)
    lines = ["Against chance, seed by seed (difference of the mean mAP50 over the curve):", ""]
    for curve in comparison.curves:
        if curve is chance:
            continue
        differences = curve.areas - chance.areas
        better = int((differences > 0).sum())
        each = ", ".join(f"{difference:+.3f}" for difference in differences)
        lines.append(
            f"- `{curve.strategy}`: {differences.mean():+.3f} on average ({each}), above chance in {better} of {seeds};"
            f" sign test p = {sign_test(better, seeds):.2f}."
        )
    smallest = sign_test(seeds, seeds)
    lines += [
        "",
        f"With n = {seeds} the smallest p a two-sided sign test can give is {smallest:.2f}: "
        + (
            "no difference here is statistically significant, whatever it looks like."
            if smallest > 0.05
            else "a difference counts only if it is there in nearly every seed."
        ),
    ]
    return lines


def sign_test(better: int, of: int) -> float:
    """The two-sided exact p of `better` of `of` pairs being above, ties counted as not above."""
    extreme = min(better, of - better)
    ways = sum(math.comb(of, k) for k in range(extreme + 1))
    return min(1.0, ways / float(2 ** (of - 1)))

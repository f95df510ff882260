"""Replays a labelled dataset to show whether asking for uncertain photos beats chance."""

from __future__ import annotations

import hashlib
import logging
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.annotation.active_learning.curves import CHANCE, compare, draw_curves, summarise, write_csv
from apps.annotation.active_learning.frozen import fetch, find_dataset
from apps.annotation.active_learning.learner import FineTuning
from apps.annotation.active_learning.replay import read_folder
from apps.annotation.active_learning.simulation import Plan, Progress, Simulation, claim_folder, write_whole
from apps.annotation.active_learning.strategies import DEFAULT_STRATEGY, STRATEGIES, Options
from apps.training.engine.detector import DEFAULT_CONFIDENCE
from apps.training.engine.labelled import LabelledPictures
from apps.training.engine.letterbox import fitting_scale
from apps.training.engine.prepared import SMALLEST_VISIBLE_PX
from apps.training.engine.recipe import Recipe
from apps.training.engine.weights import WeightsError, file_sha256

DEFAULTS = {"rounds": 4, "start": 20, "step": 20, "seeds": 3, "epochs": 20, "image_size": 320}
QUICK = {"rounds": 2, "start": 4, "step": 2, "seeds": 1, "epochs": 1, "image_size": 64}


class Command(BaseCommand):
    help = (
        "Replay a fully labelled dataset: rounds of select, train and evaluate for each strategy and for chance."
        " Writes curves.csv, curves.png, curves.svg and summary.md. Start it again to go on after an interruption,"
        " or with more strategies, seeds or rounds."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--dataset",
            required=True,
            help="folder with coco.json and images/ or of YOLO's layout; or a frozen dataset: 12, springtails#3 or its identifier",
        )
        parser.add_argument(
            "--base", type=Path, required=True, help="weights to fine-tune; they must not know the dataset"
        )
        parser.add_argument("--output", type=Path, required=True, help="folder for the results")
        parser.add_argument(
            "--strategies",
            nargs="+",
            default=[DEFAULT_STRATEGY, "margin_mean", CHANCE],
            metavar="STRATEGY",
            help=f"of {', '.join(STRATEGIES)}; {CHANCE} always takes part",
        )
        texts = {
            "rounds": "times that photos are selected after the start",
            "start": "photos annotated at the start, drawn at random",
            "step": "photos annotated in each round",
            "seeds": "repetitions, each with its own test part and start",
            "epochs": "of each training",
            "image_size": "side of the net's input in pixels",
        }
        for name, text in texts.items():
            option = "--image-size" if name == "image_size" else f"--{name}"
            parser.add_argument(option, type=int, help=f"{text} (default: {DEFAULTS[name]})")
        parser.add_argument("--first-seed", type=int, default=1)
        parser.add_argument("--test-share", type=float, default=0.25, help="held out to measure on")
        parser.add_argument(
            "--confidence",
            type=float,
            default=DEFAULT_CONFIDENCE,
            help="lowest score of a box that a strategy sees",
        )
        parser.add_argument(
            "--empty-photos",
            choices=("as_one_box", "first", "last"),
            default="as_one_box",
            help="where photos without a box are queued",
        )
        parser.add_argument("--device", default="cpu", help="cpu, or the number of a CUDA device")
        parser.add_argument("--quick", action="store_true", help="tiny defaults, to see that all works")

    def handle(self, *args: Any, **options: Any) -> None:
        # The evaluator reports each of its steps, between the lines that matter here.
        logging.getLogger("faster_coco_eval").setLevel(logging.WARNING)
        sizes = QUICK if options["quick"] else DEFAULTS
        options |= {name: sizes[name] for name in sizes if options[name] is None}
        try:
            self.simulate(options)
        except (ValueError, WeightsError) as error:  # ReplayError is a ValueError
            raise CommandError(str(error)) from error

    def simulate(self, options: dict[str, Any]) -> None:
        plan, learner = _plan(options), _learner(options)
        output: Path = options["output"]
        labelled, groups = _dataset(options["dataset"], output)
        simulation = Simulation(plan, labelled, learner=learner, folder=output, groups=groups)
        claim_folder(output, _settings(plan, learner, labelled))
        self.stdout.write(
            f"{len(labelled.pictures)} pictures; {len(plan.cells())} trainings,"
            f" {len(simulation.outcomes())} of them known already"
        )
        self._warn_of_windows(labelled, options["image_size"])

        def report(progress: Progress) -> None:
            self._report(progress)
            self._write(simulation, plan, options, labelled)

        simulation.run(on_cell=report)
        self._write(simulation, plan, options, labelled)
        self.stdout.write(f"curves.csv, curves.png, curves.svg and summary.md are in {output}")

    def _warn_of_windows(self, labelled: LabelledPictures, size_px: int) -> None:
        scales = [fitting_scale(p.width_px, p.height_px, size_px) for p in labelled.pictures]
        scale, native_px = statistics.median(scales), labelled.typical_object_px()
        if scale < 1 and native_px * scale < SMALLEST_VISIBLE_PX:
            self.stderr.write(
                f"At {size_px} px a typical animal of {native_px:.0f} px would be {native_px * scale:.0f} px long: pictures"
                " will be cut into windows, which takes many times longer. A larger --image-size shrinks them less."
            )

    def _report(self, progress: Progress) -> None:
        outcome = progress.outcome
        self.stdout.write(
            f"{progress.done} of {progress.cells}: {outcome.strategy}, seed {outcome.seed}, round {outcome.round},"
            f" {outcome.photos} photos, {outcome.boxes} boxes, mAP50 {outcome.map50:.3f}, {outcome.seconds:.0f} s;"
            f" about {progress.seconds_left / 60:.0f} min left"
        )
        self.stdout.flush()

    def _write(
        self, simulation: Simulation, plan: Plan, options: dict[str, Any], labelled: LabelledPictures
    ) -> None:
        """After every training, so that a run that is stopped leaves what it found."""
        output: Path = options["output"]
        outcomes = simulation.outcomes()
        write_csv(output / "curves.csv", plan, outcomes)
        comparison = compare(plan, outcomes)
        if comparison:
            draw_curves(comparison, output / "curves.png", output / "curves.svg")
            about = _about(options, simulation, plan, labelled)
            write_whole(output / "summary.md", summarise(comparison, plan, about=about))


def _dataset(name: str, output: Path) -> tuple[LabelledPictures, Sequence[str] | None]:
    if Path(name).is_dir() or "/" in name:
        return read_folder(Path(name)), None
    return fetch(find_dataset(name), output / "pictures")


def _plan(options: dict[str, Any]) -> Plan:
    if options["seeds"] < 1:
        raise CommandError("--seeds must be at least 1.")
    strategies = list(dict.fromkeys([*options["strategies"], CHANCE]))
    return Plan(
        strategies=tuple(strategies),
        seeds=tuple(range(options["first_seed"], options["first_seed"] + options["seeds"])),
        rounds=options["rounds"],
        start=options["start"],
        step=options["step"],
        test_share=options["test_share"],
        options=Options(empty_photos=options["empty_photos"]),
    )


def _learner(options: dict[str, Any]) -> FineTuning:
    if not options["base"].is_file():
        raise CommandError(f"--base: no such file: {options['base']}")
    if options["epochs"] < 1:
        raise CommandError("--epochs must be at least 1.")
    if options["image_size"] < 32 or options["image_size"] % 32:
        raise CommandError("--image-size must be a multiple of 32.")
    if not 0 < options["confidence"] < 1:
        raise CommandError("--confidence must lie between 0 and 1.")
    epochs = options["epochs"]
    recipe = Recipe(
        epochs=epochs, image_size=options["image_size"], epochs_without_mosaic=min(10, epochs // 3)
    )
    return FineTuning(options["base"], recipe, options["confidence"], options["device"])


def _settings(plan: Plan, learner: FineTuning, labelled: LabelledPictures) -> dict[str, Any]:
    """What may not change between the runs that fill one folder."""
    dataset = hashlib.sha256()
    for picture in labelled.pictures:
        dataset.update(f"{picture.path.name} {picture.path.stat().st_size}".encode())
        dataset.update(picture.boxes_xyxy_px.tobytes() + picture.labels.tobytes())
    recipe = learner.recipe.as_record()
    del recipe["seed"]
    return {
        "dataset": dataset.hexdigest(),
        "base": file_sha256(learner.base),
        "start": plan.start,
        "step": plan.step,
        "test_share": plan.test_share,
        "options": asdict(plan.options),
        "confidence": learner.confidence,
        "recipe": recipe,
    }


def _about(
    options: dict[str, Any], simulation: Simulation, plan: Plan, labelled: LabelledPictures
) -> list[str]:
    boxes = sum(len(picture.labels) for picture in labelled.pictures)
    parts = [simulation.parts(seed) for seed in plan.seeds]
    test = sorted({len(part.test.pictures) for part in parts})
    left_out = sorted({len(part.left_out) for part in parts})
    return [
        (
            f"{len(labelled.pictures)} pictures with {boxes} boxes of {len(labelled.labels)} label(s); test part"
            f" {_span(test)} pictures, {_span(left_out)} left out because they share an animal with it"
        ),
        (
            f"each training: {options['epochs']} epochs from `{options['base'].name}` at {options['image_size']} px,"
            f" from the beginning in every round; strategies see boxes from score {options['confidence']}"
        ),
    ]


def _span(values: list[int]) -> str:
    return str(values[0]) if len(values) == 1 else f"{values[0]} to {values[-1]}"

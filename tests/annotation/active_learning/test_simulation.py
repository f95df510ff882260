"""Active learning is only believed where it was replayed: fair parts, repeatable choices, honest summaries."""

import csv
import itertools
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from django.core.management import CommandError, call_command
from PIL import Image

from apps.annotation.active_learning.curves import (
    area,
    compare,
    draw_curves,
    reached,
    sign_test,
    summarise,
    write_csv,
)
from apps.annotation.active_learning.learner import Lesson
from apps.annotation.active_learning.replay import ReplayError
from apps.annotation.active_learning.simulation import (
    Plan,
    Simulation,
    claim_folder,
    select,
)
from apps.annotation.active_learning.strategies import BoxScores, Options


def names(labelled):
    return [picture.path.name for picture in labelled.pictures]


# Rounds


@dataclass
class CountingLearner:
    """Learns nothing: quality grows with the boxes it was given, and every picture has a box as sure as its name."""

    asked: list = field(default_factory=list)
    stops_after: int = 10_000

    def learn(self, *, annotated, test, pool, seed, folder: Path) -> Lesson:
        if len(self.asked) == self.stops_after:
            raise KeyboardInterrupt
        self.asked.append((names(annotated), names(test), names(pool), seed, folder))
        p1 = np.array([0.5 + int(Path(name).stem) / 100 for name in names(pool)])
        boxes = sum(len(picture.labels) for picture in annotated.pictures)
        return Lesson(boxes / 40, boxes / 80, BoxScores(p1, 1 - p1, np.arange(len(p1) + 1)), 2.0)


PLAN = Plan(strategies=("margin_sum", "random"), seeds=(1, 2), rounds=2, start=3, step=2)


def simulate(labelled, folder, *, plan=PLAN, learner=None):
    learner = learner or CountingLearner()
    simulation = Simulation(plan, labelled, learner=learner, folder=folder)
    return simulation.run(), learner


def test_strategies_share_the_start_and_every_round_adds_to_the_last(labelled, tmp_path):
    outcomes, learner = simulate(labelled, tmp_path)
    assert len(learner.asked) == len(outcomes) == 2 * (1 + 2 * 2)
    for seed in (1, 2):
        own = {(o.strategy, o.round): o for o in outcomes if o.seed == seed}
        for strategy in ("margin_sum", "random"):
            line = [own["start", 0], own[strategy, 1], own[strategy, 2]]
            assert [outcome.photos for outcome in line] == [3, 5, 7]
            for before, after in itertools.pairwise(line):
                assert after.annotated[: before.photos] == before.annotated
                assert set(after.annotated) <= set(before.annotated) | set(before.pool)
                assert set(after.pool) == set(before.pool) - set(after.annotated)


def test_the_test_part_of_a_seed_is_the_same_for_all_and_never_trained_on(labelled, tmp_path):
    _, learner = simulate(labelled, tmp_path)
    for seed in (1, 2):
        tests = {tuple(test) for _, test, _, asked_seed, _ in learner.asked if asked_seed == seed}
        assert len(tests) == 1
    for annotated, test, pool, _, _ in learner.asked:
        assert not set(test) & (set(annotated) | set(pool))


def test_the_most_uncertain_photos_are_taken_in_their_order(labelled, tmp_path):
    outcomes, _ = simulate(labelled, tmp_path)
    chosen = next(o for o in outcomes if o.strategy == "margin_sum" and o.round == 1).annotated[3:]
    pool = outcomes[0].pool
    assert list(chosen) == sorted(pool)[:2]  # the lowest names are the least sure


def test_chance_can_be_repeated_and_differs_from_round_to_round(labelled, tmp_path):
    first, _ = simulate(labelled, tmp_path / "a")
    again, _ = simulate(labelled, tmp_path / "b")
    assert [o.annotated for o in first] == [o.annotated for o in again]
    start = first[0]
    later = replace(start, round=1)
    many = [select(o, strategy="random", count=6, options=Options()) for o in (start, later)]
    assert many[0] != many[1]


def test_an_interrupted_simulation_goes_on_without_repeating_a_training(labelled, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        simulate(labelled, tmp_path, learner=CountingLearner(stops_after=4))
    outcomes, learner = simulate(labelled, tmp_path)
    assert len(learner.asked) == 10 - 4
    whole, _ = simulate(labelled, tmp_path / "whole")
    assert outcomes == whole


def test_seeds_and_strategies_can_be_added_later(labelled, tmp_path):
    simulate(labelled, tmp_path)
    more = replace(PLAN, seeds=(1, 2, 3), strategies=("margin_sum", "random", "margin_max"))
    outcomes, learner = simulate(labelled, tmp_path, plan=more)
    assert len(outcomes) == 3 * (1 + 3 * 2)
    assert len(learner.asked) == len(outcomes) - 10


def test_progress_says_how_long_it_will_take(labelled, tmp_path):
    seen = []
    simulation = Simulation(PLAN, labelled, learner=CountingLearner(), folder=tmp_path)
    simulation.run(on_cell=seen.append)
    assert [progress.done for progress in seen] == list(range(1, 11))
    assert seen[0].seconds_left > seen[-2].seconds_left > seen[-1].seconds_left == 0


def test_a_pool_that_is_too_small_is_refused_before_any_training(labelled, tmp_path):
    with pytest.raises(ReplayError, match="fewer rounds"):
        Simulation(replace(PLAN, rounds=5), labelled, learner=CountingLearner(), folder=tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"strategies": ("guess",)}, "no such strategy: guess"),
        ({"strategies": ()}, "at least one"),
        ({"seeds": ()}, "at least one"),
        ({"rounds": 0}, "rounds"),
        ({"start": 0}, "start"),
        ({"step": -1}, "step"),
        ({"test_share": 1.0}, "test share"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(PLAN, **change)


def test_results_of_other_settings_are_not_mixed(tmp_path):
    claim_folder(tmp_path, {"epochs": 3, "start": 4})
    claim_folder(tmp_path, {"epochs": 3, "start": 4})
    with pytest.raises(ValueError, match=r"another epochs \(3, not 5\)"):
        claim_folder(tmp_path, {"epochs": 5, "start": 4})


# Curves


def test_the_area_is_the_mean_height():
    photos = np.array([10.0, 20.0, 40.0])
    assert area(photos, np.array([[0.5, 0.5, 0.5], [0.0, 1.0, 1.0]])) == pytest.approx([0.5, 25 / 30])
    assert area(photos[:1], np.array([[0.3]])) == pytest.approx([0.3])


def test_the_cost_to_reach_a_level_lies_between_two_points():
    costs, heights = np.array([10.0, 20.0, 30.0]), np.array([0.2, 0.6, 0.5])
    assert reached(costs, heights, 0.4) == pytest.approx(15)
    assert reached(costs, heights, 0.1) == 10
    assert reached(costs, heights, 0.7) is None


@pytest.mark.parametrize(("better", "of", "p"), [(3, 3, 0.25), (5, 5, 0.0625), (6, 6, 0.03125), (2, 4, 1.0)])
def test_the_sign_test_is_exact(better, of, p):
    assert sign_test(better, of) == pytest.approx(p)
    assert sign_test(of - better, of) == pytest.approx(p)


def test_the_csv_has_a_row_per_strategy_seed_and_round(labelled, tmp_path):
    outcomes, _ = simulate(labelled, tmp_path)
    write_csv(tmp_path / "curves.csv", PLAN, outcomes)
    with (tmp_path / "curves.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 2 * 3
    assert list(rows[0]) == ["strategy", "seed", "round", "photos", "boxes", "mAP50", "mAP50_95", "seconds"]
    assert {(row["strategy"], row["round"], row["photos"]) for row in rows} == {
        (strategy, str(number), str(3 + 2 * number)) for strategy in PLAN.strategies for number in range(3)
    }


def test_only_seeds_that_every_strategy_has_finished_are_compared(labelled, tmp_path):
    outcomes, _ = simulate(labelled, tmp_path)
    assert compare(PLAN, outcomes[:3]) is None
    assert compare(PLAN, outcomes[:-1]).seeds == (1,)
    comparison = compare(PLAN, outcomes)
    assert comparison.seeds == (1, 2)
    assert [curve.strategy for curve in comparison.curves] == ["margin_sum", "random"]
    assert comparison.curves[0].map50.shape == (2, 3)


def test_the_summary_says_how_little_few_seeds_can_show(labelled, tmp_path):
    outcomes, _ = simulate(labelled, tmp_path)
    text = summarise(compare(PLAN, outcomes), PLAN, about=["twelve scenes"])
    assert "- twelve scenes" in text
    assert "2 seeds finished of 2 planned" in text
    assert "With n = 2 the smallest p a two-sided sign test can give is 0.50" in text
    assert "no difference here is statistically significant" in text
    assert "above chance in" in text


@pytest.mark.slow
def test_the_same_curves_give_the_same_svg(labelled, tmp_path):
    outcomes, _ = simulate(labelled, tmp_path)
    comparison = compare(PLAN, outcomes)
    draw_curves(comparison, tmp_path / "a.svg", tmp_path / "a.png")
    draw_curves(comparison, tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width > 1000


# The command


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    """Weights of a net small enough to train in seconds, of one label that the scenes do not have."""
    from apps.training.engine.environment import import_ultralytics
    from tests.training.engine.conftest import TINY_ARCHITECTURE, tiny_metadata

    import_ultralytics()
    import torch
    from ultralytics.nn.tasks import DetectionModel

    from apps.training.engine.weights import save_weights

    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("base") / "tiny.podura"
    save_weights(path, DetectionModel(TINY_ARCHITECTURE, ch=3, nc=2, verbose=False), tiny_metadata())
    return path


def test_a_size_that_would_cut_pictures_into_windows_is_pointed_out(labelled, capsys):
    from apps.annotation.management.commands.simulate_active_learning import Command

    Command()._warn_of_windows(labelled, 64)
    Command()._warn_of_windows(labelled, 32)
    said = capsys.readouterr().err
    assert "At 32 px a typical animal of 23 px would be 12 px long" in said
    assert "At 64" not in said


@pytest.mark.slow
def test_the_command_trains_for_real_and_does_not_train_again(scenes, base, tmp_path, capsys):
    arguments = {
        "dataset": str(scenes),
        "base": base,
        "output": tmp_path / "out",
        "strategies": ["margin_sum", "random"],
        "quick": True,
    }
    call_command("simulate_active_learning", **arguments)
    said = capsys.readouterr().out
    assert "5 of 5: random, seed 1, round 2, 8 photos" in said
    assert "min left" in said
    with (tmp_path / "out" / "curves.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["photos"] for row in rows if row["strategy"] == "margin_sum"] == ["4", "6", "8"]
    assert all(0 <= float(row["mAP50_95"]) <= float(row["mAP50"]) <= 1 for row in rows)
    for name in ("curves.png", "curves.svg", "summary.md"):
        assert (tmp_path / "out" / name).stat().st_size > 300
    assert not list((tmp_path / "out" / "work").iterdir())  # checkpoints are large and not needed again
    before = (tmp_path / "out" / "curves.csv").read_bytes()

    call_command("simulate_active_learning", **arguments)
    assert "5 trainings, 5 of them known already" in capsys.readouterr().out
    assert (tmp_path / "out" / "curves.csv").read_bytes() == before

    with pytest.raises(CommandError, match="another recipe"):
        call_command("simulate_active_learning", **arguments, epochs=2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset": "/nowhere"}, "no such"),
        ({"dataset": "nowhere"}, "neither a folder nor a frozen dataset"),
        ({"base": Path("/nowhere.pt")}, "--base: no such file"),
        ({"strategies": ["guess"]}, "no such strategy: guess"),
        ({"seeds": 0}, "--seeds"),
        ({"epochs": 0}, "--epochs"),
        ({"image_size": 100}, "multiple of 32"),
        ({"confidence": 0.0}, "--confidence"),
        ({"confidence": float("nan")}, "--confidence"),
        ({"test_share": 2.0}, "test share"),
        ({"rounds": 50}, "fewer rounds"),
        ({"rounds": 0}, "rounds"),
    ],
)
def test_the_command_refuses_what_cannot_be_simulated(scenes, tmp_path, change, message):
    weights = tmp_path / "base.podura"
    weights.write_bytes(b"not read before the arguments are judged")
    arguments = {"dataset": str(scenes), "base": weights, "output": tmp_path / "out", "quick": True}
    with pytest.raises(CommandError, match=message):
        call_command("simulate_active_learning", **(arguments | change))
    assert not (tmp_path / "out").exists()

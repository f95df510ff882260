"""Active learning is only believed where it was replayed: fair parts, repeatable choices, honest summaries."""

import csv
import hashlib
import itertools
import json
import uuid
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from django.core.files.base import ContentFile
from django.core.management import CommandError, call_command
from PIL import Image, ImageDraw

from apps.annotation.active_learning.curves import (
    area,
    compare,
    draw_curves,
    reached,
    sign_test,
    summarise,
    write_csv,
)
from apps.annotation.active_learning.frozen import fetch, find_dataset
from apps.annotation.active_learning.learner import Lesson
from apps.annotation.active_learning.replay import ReplayError, near_duplicates, part, read_folder
from apps.annotation.active_learning.simulation import (
    Plan,
    Simulation,
    claim_folder,
    select,
    start_set,
)
from apps.annotation.active_learning.strategies import BoxScores, Options
from apps.training.models.versions import private_storage
from apps.training.services.datasets import FrozenBox, FrozenItem, create_dataset, mark_withdrawn

COUNT = 12


@pytest.fixture(scope="session")
def scenes(tmp_path_factory):
    """Twelve pictures of discs and bars on noise, two of them empty, with a COCO file."""
    folder = tmp_path_factory.mktemp("scenes")
    (folder / "images").mkdir()
    rng = np.random.default_rng(8)
    document = {
        "images": [],
        "annotations": [],
        "categories": [{"id": 1, "name": "disc"}, {"id": 2, "name": "bar"}],
    }
    for number in range(COUNT):
        name = f"{number:02}.png"
        picture = Image.fromarray(rng.integers(60, 120, (8, 8, 3), np.uint8)).resize((64, 64))
        pen = ImageDraw.Draw(picture)
        for kind in (1, 2) if number % 6 else ():
            x, y = rng.integers(2, 34, 2).tolist()
            width, height = (20, 20) if kind == 1 else (26, 8)
            shape = pen.ellipse if kind == 1 else pen.rectangle
            shape((x, y, x + width, y + height), fill=(230, 60, 60) if kind == 1 else (60, 60, 230))
            document["annotations"].append(
                {
                    "id": 2 * number + kind,
                    "image_id": number,
                    "category_id": kind,
                    "bbox": [x, y, width, height],
                }
            )
        picture.save(folder / "images" / name)
        document["images"].append({"id": number, "file_name": name, "width": 64, "height": 64})
    (folder / "coco.json").write_text(json.dumps(document))
    return folder


@pytest.fixture
def labelled(scenes):
    return read_folder(scenes)


@pytest.fixture
def broken(scenes, tmp_path):
    """Write the scenes' COCO file with a change."""

    def write(change):
        document = json.loads((scenes / "coco.json").read_text())
        change(document)
        (tmp_path / "coco.json").write_text(json.dumps(document))
        (tmp_path / "images").symlink_to(scenes / "images")
        return tmp_path

    return write


def as_plate(labelled):
    """The same pictures as tiles of a plate, 4 columns by 3 rows; neighbours in a row share an animal."""
    tiles = []
    for number, picture in enumerate(labelled.pictures):
        column, row = number % 4, number // 4
        names = tuple(f"r{row}c{column // 2}_{index}" for index in range(len(picture.labels)))
        tiles.append(replace(picture, place_px=(64 * column, 64 * row), individuals=names))
    return replace(labelled, pictures=tuple(tiles))


def names(labelled):
    return [picture.path.name for picture in labelled.pictures]


# The dataset that is replayed


def test_a_coco_folder_is_read_with_its_empty_pictures(labelled):
    assert labelled.labels == ("disc", "bar")
    assert len(labelled.pictures) == COUNT
    assert sum(not len(picture.labels) for picture in labelled.pictures) == 2


def test_a_yolo_folder_gives_the_same_boxes(labelled, scenes, tmp_path):
    (tmp_path / "images").symlink_to(scenes / "images")
    (tmp_path / "labels").mkdir()
    (tmp_path / "data.yaml").write_text("names:\n  0: disc\n  1: bar\n")
    for picture in labelled.pictures:
        lines = []
        for (x1, y1, x2, y2), label in zip(
            picture.boxes_xyxy_px.tolist(), picture.labels.tolist(), strict=True
        ):
            lines.append(f"{label} {(x1 + x2) / 128} {(y1 + y2) / 128} {(x2 - x1) / 64} {(y2 - y1) / 64}\n")
        if lines:  # an empty picture may have no file at all
            (tmp_path / "labels" / f"{picture.path.stem}.txt").write_text("".join(lines))
    again = read_folder(tmp_path)
    assert again.labels == labelled.labels
    for here, there in zip(labelled.pictures, again.pictures, strict=True):
        assert here.boxes_xyxy_px == pytest.approx(there.boxes_xyxy_px, abs=1e-3)
        assert here.labels.tolist() == there.labels.tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["annotations"][3].update(category_id=9), r"annotations\[3\] is of a category"),
        (lambda d: d["annotations"][3].update(image_id=99), r"annotations\[3\] is of an image"),
        (lambda d: d["annotations"][0].update(bbox=[60, 0, 30, 5]), r"01\.png: box 1 .* does not lie"),
        (lambda d: d["annotations"][1].update(bbox=[5, 5, 0, 5]), r"01\.png: box 2 .* does not lie"),
        (lambda d: d["annotations"][1].update(bbox=[5, 5, float("nan"), 5]), r"01\.png: box 2"),
        (lambda d: d["annotations"][1].update(bbox=[5, 5]), "not a COCO"),
        (lambda d: d["images"][1].update(id=0), "id is used twice"),
        (lambda d: d["images"][1].update(file_name="00.png"), "two pictures have the name"),
        (lambda d: d["images"][1].update(file_name="gone.png"), r"gone\.png: the picture is missing"),
        (lambda d: d.pop("images"), "not a COCO"),
    ],
)
def test_a_dataset_with_a_mistake_is_refused_with_its_place(broken, change, message):
    with pytest.raises(ReplayError, match=message):
        read_folder(broken(change))


@pytest.mark.parametrize(
    "line", ["0 0.5 0.5 0.1", "x 0.5 0.5 0.1 0.1", "0 0.5 nan 0.1 0.1", "0 5 5 1 1", "0.5 0 0 0 0"]
)
def test_a_wrong_yolo_line_is_named(scenes, tmp_path, line):
    (tmp_path / "images").symlink_to(scenes / "images")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "03.txt").write_text(f"0 0.5 0.5 0.1 0.1\n{line}\n")
    with pytest.raises(ReplayError, match=r"03\.txt: line 2"):
        read_folder(tmp_path)


def test_a_folder_without_ground_truth_is_refused(tmp_path):
    with pytest.raises(ReplayError, match="neither"):
        read_folder(tmp_path)
    with pytest.raises(ReplayError, match="no such folder"):
        read_folder(tmp_path / "nowhere")


# A frozen dataset


@pytest.fixture
def frozen(labelled, db):
    """The scenes as a frozen dataset, two pictures to a group."""
    storage = private_storage()
    items = []
    for number, picture in enumerate(labelled.pictures):
        content = picture.path.read_bytes()
        boxes = zip(picture.boxes_xyxy_px.tolist(), picture.labels.tolist(), strict=True)
        items.append(
            FrozenItem(
                photo=str(uuid.UUID(int=number)),
                annotation=str(uuid.uuid4()),
                split="train",
                group=f"group {number // 2}",
                file=storage.save(f"originals/scene{number}.png", ContentFile(content)),
                file_sha256=hashlib.sha256(content).hexdigest(),
                width_px=64,
                height_px=64,
                licence="CC0-1.0",
                attribution="",
                boxes=tuple(FrozenBox(*box, label=("CER", "LEP")[label]) for box, label in boxes),
            )
        )
    return create_dataset(name="scenes", labels=["CER", "LEP"], items=items)


def test_a_frozen_dataset_is_found_by_each_of_its_names(frozen):
    for name in (str(frozen.pk), f"scenes#{frozen.number}", str(frozen.public_id)):
        assert find_dataset(name) == frozen


@pytest.mark.parametrize("name", ["999999", "scenes#2", "scenes#x", "scenes", str(uuid.UUID(int=1))])
def test_a_dataset_that_is_not_there_is_refused(frozen, name):
    with pytest.raises(ReplayError, match="neither a folder nor"):
        find_dataset(name)


def test_a_frozen_dataset_is_replayed_as_it_was_frozen(frozen, labelled, tmp_path):
    fetched, groups = fetch(frozen, tmp_path)
    assert fetched.labels == ("CER", "LEP")
    assert groups == [f"group {number // 2}" for number in range(COUNT)]
    for here, there in zip(fetched.pictures, labelled.pictures, strict=True):
        assert here.path.read_bytes() == there.path.read_bytes()
        assert here.boxes_xyxy_px.tolist() == there.boxes_xyxy_px.tolist()
        assert here.labels.tolist() == there.labels.tolist()
    assert fetch(frozen, tmp_path)[0].pictures[0].path == fetched.pictures[0].path
    simulation = Simulation(PLAN, fetched, learner=CountingLearner(), folder=tmp_path, groups=groups)
    parts = simulation.parts(1)
    number_of = {name: int(name[-6:-4], 16) // 2 for name in names(fetched)}
    assert not {number_of[n] for n in names(parts.pool)} & {number_of[n] for n in names(parts.test)}


def test_withdrawn_photos_are_not_replayed(frozen, tmp_path):
    mark_withdrawn(photos=[uuid.UUID(int=3)])
    fetched, groups = fetch(frozen, tmp_path)
    assert len(fetched.pictures) == len(groups) == COUNT - 1
    assert f"{uuid.UUID(int=3)}.png" not in names(fetched)


def test_an_original_that_is_missing_or_another_is_refused(frozen, tmp_path):
    storage = private_storage()
    name = frozen.items.get(photo=uuid.UUID(int=5)).file
    storage.delete(name)
    with pytest.raises(ReplayError, match=r"photo .*5: its original .* is missing"):
        fetch(frozen, tmp_path)
    assert storage.save(name, ContentFile(b"another")) == name
    with pytest.raises(ReplayError, match=r"photo .*5: its original .* is not the one"):
        fetch(frozen, tmp_path)


# Pool and test part


@pytest.mark.parametrize("seed", range(8))
def test_no_picture_is_in_both_parts_and_none_is_lost(labelled, seed):
    groups = list(range(COUNT))
    parts = part(labelled, groups, seed=seed, test_share=0.25)
    assert len(parts.test.pictures) == 3
    assert sorted(names(parts.pool) + names(parts.test)) == sorted(names(labelled))
    assert names(part(labelled, groups, seed=seed, test_share=0.25).pool) == names(parts.pool)


def test_seeds_differ_in_test_part_and_order(labelled):
    seen = {tuple(names(part(labelled, range(COUNT), seed=seed, test_share=0.25).pool)) for seed in range(8)}
    assert len(seen) == 8


@pytest.mark.parametrize("seed", range(8))
def test_a_group_is_never_torn(labelled, seed):
    groups = [number // 3 for number in range(COUNT)]
    parts = part(labelled, groups, seed=seed, test_share=0.3)
    group_of = dict(zip(names(labelled), groups, strict=True))
    assert not {group_of[name] for name in names(parts.pool)} & {group_of[name] for name in names(parts.test)}


@pytest.mark.parametrize("seed", range(8))
def test_tiles_of_a_plate_are_parted_in_one_piece_without_a_shared_animal(labelled, seed):
    plate = as_plate(labelled)
    parts = part(plate, [0] * COUNT, seed=seed, test_share=0.25)
    animals = [{name for p in each.pictures for name in p.individuals} for each in (parts.pool, parts.test)]
    assert not animals[0] & animals[1]
    assert len(parts.pool.pictures) + len(parts.test.pictures) + len(parts.left_out) == COUNT
    # In one piece: no tile of the pool lies inside the box of the test tiles' centres in all directions.
    test = np.array([p.place_px for p in parts.test.pictures])
    pool = np.array([p.place_px for p in parts.pool.pictures])
    directions = np.array([[np.cos(a), np.sin(a)] for a in np.linspace(0, 2 * np.pi, 360)])
    assert any((test @ d).max() < (pool @ d).min() for d in directions)


def test_a_test_part_without_an_animal_is_refused(labelled):
    empty = replace(labelled, pictures=tuple(p for p in labelled.pictures if not len(p.labels)) * 2)
    with pytest.raises(ReplayError, match="no animal"):
        part(empty, [0, 1, 2, 3], seed=1, test_share=0.5)


def test_near_duplicates_are_one_group(labelled, tmp_path):
    with Image.open(labelled.pictures[3].path) as picture:
        picture.save(tmp_path / "again.jpg", quality=70)
    copy = replace(labelled.pictures[3], path=tmp_path / "again.jpg")
    groups = near_duplicates([*labelled.pictures, copy], bits=2)
    assert groups[-1] == groups[3]
    assert groups.count(groups[3]) == 2


def test_a_start_without_an_animal_gets_one(labelled):
    ordered = sorted(labelled.pictures, key=lambda picture: len(picture.labels))
    chosen = start_set(ordered, 2)
    assert chosen == (ordered[0].path.name, ordered[2].path.name)
    assert start_set(ordered, 3) == tuple(p.path.name for p in ordered[:3])


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

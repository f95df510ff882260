"""What a simulation replays: datasets read without a silent mistake, and a test part that nothing of the pool is on."""

import hashlib
import json
import uuid
from dataclasses import replace

import numpy as np
import pytest
from django.core.files.base import ContentFile
from PIL import Image

from apps.annotation.active_learning.frozen import fetch, find_dataset
from apps.annotation.active_learning.replay import ReplayError, near_duplicates, part, read_folder
from apps.annotation.active_learning.simulation import start_set
from apps.training.models.versions import private_storage
from apps.training.services.datasets import FrozenBox, FrozenItem, create_dataset, mark_withdrawn
from tests.annotation.active_learning.conftest import COUNT


def names(labelled):
    return [picture.path.name for picture in labelled.pictures]


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
    parts = part(fetched, groups, seed=1, test_share=0.25)
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


def test_blank_pictures_are_nobody_s_duplicates(labelled, tmp_path):
    blank = []
    for shade in (40, 200):
        Image.new("RGB", (64, 64), (shade,) * 3).save(tmp_path / f"{shade}.png")
        blank.append(replace(labelled.pictures[0], path=tmp_path / f"{shade}.png"))
    assert near_duplicates(blank) == [0, 1]


def test_a_start_without_an_animal_gets_one(labelled):
    ordered = sorted(labelled.pictures, key=lambda picture: len(picture.labels))
    chosen = start_set(ordered, 2)
    assert chosen == (ordered[0].path.name, ordered[2].path.name)
    assert start_set(ordered, 3) == tuple(p.path.name for p in ordered[:3])

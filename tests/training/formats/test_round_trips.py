"""Written, read and written again, every archive has the same bytes; what is read is what was written."""

import io
import itertools
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.training.formats import LabelledBox, LabelledImage, LabelledSet, read_set
from apps.training.formats.model import GRID, on_grid, pixels, steps
from apps.training.formats.tables import plain_cell, safe_cell
from tests.support.examples import examples
from tests.training.formats.support import files, sets, small_set, written

KINDS = ("yolo", "coco", "voc")
many = settings(max_examples=examples(60), deadline=None, suppress_health_check=list(HealthCheck))


def read(content, kind):
    return read_set(io.BytesIO(content), kind).labelled


@pytest.mark.parametrize("kind", KINDS)
@many
@given(data=st.data())
def test_export_import_export_gives_the_same_bytes(kind, data):
    labelled = data.draw(sets(with_scores=kind == "coco"))
    first = written(labelled, kind)
    found = read(first, kind)
    assert written(found, kind) == first
    assert found == labelled.in_order()


@pytest.mark.parametrize("kind", ["label_studio", "csv"])
@many
@given(labelled=sets(with_scores=True))
def test_what_is_only_written_has_the_same_bytes_each_time(kind, labelled):
    assert written(labelled, kind) == written(labelled.in_order(), kind)


@pytest.mark.parametrize(("first", "second"), list(itertools.permutations(KINDS, 2)))
@settings(max_examples=examples(12), deadline=None, suppress_health_check=list(HealthCheck))
@given(labelled=sets())
def test_going_through_another_format_changes_nothing(first, second, labelled):
    there = read(written(labelled, first), first)
    assert written(read(written(there, second), second), first) == written(labelled, first)


@given(st.integers(0, 30_000 * GRID))
def test_the_grid_holds_its_numbers_exactly(number):
    assert steps(pixels(number)) == number
    assert len(f"{pixels(number):.6f}".split(".")[1]) == 6
    assert float(f"{pixels(number):.6f}") == pixels(number)


@given(st.floats(0, 30_000))
def test_the_grid_moves_an_edge_by_no_more_than_half_a_millionth(value):
    assert abs(pixels(steps(value)) - value) <= 0.5 / GRID + 1e-11


def test_a_box_thinner_than_the_grid_keeps_an_area():
    for box in (LabelledBox(0, 0, 1e-9, 5, 0), LabelledBox(7, 3, 7.0000000001, 4, 0)):
        kept = on_grid(box)
        assert kept.x_max > kept.x_min >= 0


@pytest.mark.parametrize("kind", KINDS)
def test_classes_keep_their_order_and_unused_ones_their_place(kind):
    labelled = small_set(labels=("zebra", "ant", "unused", "bee"))
    assert read(written(labelled, kind), kind).labels == ("zebra", "ant", "unused", "bee")


@pytest.mark.parametrize("kind", KINDS)
def test_a_set_of_empty_pictures_comes_back(kind):
    images = tuple(LabelledImage(f"{n}.png", 5, 9, split="train") for n in range(3))
    found = read(written(LabelledSet(("a",), images), kind), kind)
    assert found.images == images


def test_yolo_rows_are_shares_that_give_the_edges_back():
    rows = files(written(small_set(), "yolo"))["labels/train/a.txt"].decode()
    assert rows == "0 0.5 0.5 1.0 1.0\n1 0.38125 0.5375 0.2375 0.925\n"
    assert files(written(small_set(), "yolo"))["labels/val/b.txt"] == b""


def test_yolo_writes_no_exponents():
    image = LabelledImage("a.png", 29_999, 3, (LabelledBox(0, 0, 0.000003, 0.000001, 0),), "train")
    text = files(written(LabelledSet(("a",), (image,)), "yolo"))["labels/train/a.txt"].decode()
    assert "e" not in text
    assert read(written(LabelledSet(("a",), (image,)), "yolo"), "yolo").images == (image,)


def test_coco_keeps_pictures_without_boxes_and_the_order_of_categories():
    document = json.loads(files(written(small_set(), "coco"))["annotations/instances_val.json"])
    assert [image["file_name"] for image in document["images"]] == ["b.png"]
    assert document["annotations"] == []
    assert [(c["id"], c["name"]) for c in document["categories"]] == [(1, "CER"), (2, "LEP")]
    assert document["licenses"][document["images"][0]["license"] - 1]["name"] == "CC-BY-NC-4.0"


def test_voc_counts_pixels_from_one():
    xml = files(written(small_set(), "voc"))["Annotations/a.xml"].decode()
    first = xml.split("<bndbox>")[1].split("</bndbox>")[0].split()
    assert first == ["<xmin>1</xmin>", "<ymin>1</ymin>", "<xmax>40</xmax>", "<ymax>30</ymax>"]


@pytest.mark.parametrize("kind", ["yolo", "coco", "voc", "label_studio", "csv"])
def test_every_archive_says_whose_pictures_they_are(kind):
    entries = files(written(small_set(), kind))
    assert b"CC-BY-NC-4.0" in entries["LICENCES.csv"]
    assert "Ada: 1 picture, [CC-BY-4.0]" in entries["ATTRIBUTION.md"].decode()


def test_pictures_not_free_for_profit_can_be_left_out():
    kept = small_set().without_noncommercial()
    assert [image.file_name for image in kept.images] == ["a.png"]


@given(st.text(max_size=10))
def test_a_cell_is_never_a_formula_and_comes_back(text):
    cell = safe_cell(text)
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert plain_cell(cell) == text


def test_csv_has_a_row_for_each_box_and_one_for_an_empty_picture():
    labelled = small_set(labels=("=CMD()", "LEP"))
    rows = files(written(labelled, "csv"))["boxes.csv"].decode().split("\r\n")
    assert rows[1].startswith("images/train/a.png,train,40,30,1,'=CMD(),0,0.0,0.0,40.0,30.0,,CC-BY-4.0,")
    assert rows[3].startswith("images/val/b.png,val,33,17,,,,,,,,,CC-BY-NC-4.0,")
    assert len(rows) == 5


def test_label_studio_tasks_have_the_documented_shape():
    labelled = small_set(
        images=(
            LabelledImage("a b.png", 40, 30, (LabelledBox(10, 15, 30, 30, 1),), "train"),
            LabelledImage("c.png", 40, 30, (LabelledBox(0, 0, 4, 3, 0, 0.5),)),
            LabelledImage("d.png", 40, 30),
        )
    )
    entries = files(written(labelled, "label_studio"))
    answered, predicted, empty = json.loads(entries["tasks.json"])
    region = answered["annotations"][0]["result"][0]
    assert answered["data"]["image"] == "/data/local-files/?d=images/train/a%20b.png"
    assert region["value"] == {
        "x": 25.0, "y": 50.0, "width": 50.0, "height": 50.0, "rotation": 0, "rectanglelabels": ["LEP"],
    }  # fmt: skip
    assert (region["type"], region["original_width"], region["original_height"]) == (
        "rectanglelabels",
        40,
        30,
    )
    assert predicted["annotations"] == []
    assert predicted["predictions"][0]["result"][0]["score"] == 0.5
    assert empty["annotations"][0]["result"] == []
    names = {region["from_name"], region["to_name"]}
    assert all(f'name="{name}"' in entries["label_config.xml"].decode() for name in names)

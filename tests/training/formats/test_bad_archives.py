"""Archives that are wrong: everything that is wrong is said at once, with file, field and row."""

import contextlib
import io
import json
import zipfile

import pytest

from apps.training.formats import FormatError, ReadLimits, read_set
from apps.training.formats.problems import MESSAGES
from tests.training.formats.support import changed, files, png, small_set, written, zipped


def problems(stream, kind, **options):
    stream = io.BytesIO(stream) if isinstance(stream, bytes) else stream
    with pytest.raises(FormatError) as caught:
        read_set(stream, kind, **options)
    for problem in caught.value.problems:
        assert "%(" not in problem.message
        json.dumps(problem.as_json())
    return [(p.code, p.field, p.row) for p in caught.value.problems]


def yolo(rows=None, **changes):
    if rows is not None:
        changes["labels__train__a_txt"] = rows
    return changed(written(small_set(), "yolo"), **changes)


def coco(change):
    content = written(small_set(), "coco")
    document = json.loads(files(content)["annotations/instances_train.json"])
    change(document)
    return changed(content, annotations__instances_train_json=json.dumps(document))


def voc(old, new):
    content = written(small_set(), "voc")
    xml = files(content)["Annotations/a.xml"].decode()
    assert old in xml
    return changed(content, Annotations__a_xml=xml.replace(old, new, 1))


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ("0 nan 0.5 0.1 0.1", ("not_finite", "x_centre", 2)),
        ("0 0.5 inf 0.1 0.1", ("not_finite", "y_centre", 2)),
        ("0 0.5 0.5 -0.1 0.1", ("negative", "width", 2)),
        ("0 0.5 0.5 0 0.1", ("zero_area", "x_max", 2)),
        ("0 0.5 0.5 1.2 0.1", ("outside", "x_min", 2)),
        ("0 500 500 10 10", ("outside", "x_min", 2)),
        ("7 0.5 0.5 0.1 0.1", ("unknown_class", "class", 2)),
        ("-1 0.5 0.5 0.1 0.1", ("unknown_class", "class", 2)),
        ("0.5 0.5 0.5 0.1 0.1", ("unknown_class", "class", 2)),
        ("0 0.5 0.5 0.1", ("columns", "", 2)),
        ("0 0.1 0.1 0.2 0.2 0.3 0.3", ("columns", "", 2)),
        ("0 x 0.5 0.1 0.1", ("not_a_number", "x_centre", 2)),
        ("0 1e300 0.5 0.1 0.1", ("outside", "x_centre", 2)),
    ],
)
def test_a_wrong_yolo_row_is_named(row, found):
    assert found in problems(yolo(f"0 0.5 0.5 0.1 0.1\n{row}\n"), "yolo")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("names: [a, b", "not_yaml"),
        ("names: &x [a]\nmore: *x", "yaml_alias"),
        ("- a", "not_an_object"),
        ("train: images", "no_labels"),
        ("names: []", "no_labels"),
        ("names: [a, a]", "label_twice"),
        ("names: {0: a, 2: b}", "missing_value"),
        ("names: !!python/object/apply:os.system ['true']", "not_yaml"),
        ("names: " + "[" * 5_000, "too_deep"),
        ("names: [' ', b]", "bad_label"),
        ("names: [a, no]", "bad_label"),
        ("names: [a, ~]", "bad_label"),
        ("names: {0: a, 0: b}", "id_twice"),
        ("names: !!bool x", "not_yaml"),
        ("names: !!int ''", "not_yaml"),
        ("names: !!float ''", "not_yaml"),
        ("names: !!timestamp x", "not_yaml"),
        ("names: !!map [a]", "not_yaml"),
        ("names: 2026-99-99", "not_yaml"),
    ],
)
def test_a_wrong_yolo_description_is_refused(text, code):
    assert code in [found[0] for found in problems(yolo(data_yaml=text), "yolo")]


def test_a_download_address_in_a_description_is_not_followed():
    text = "download: https://example.org/x.sh\ntrain: images/train\nval: images/val\nnames: [CER, LEP]\n"
    assert len(read_set(yolo(data_yaml=text), "yolo").labelled.images) == 2


def test_a_yolo_label_file_without_its_picture_is_named():
    assert problems(yolo(images__train__a_png=None), "yolo") == [("missing_image", "", None)]


def test_a_yolo_picture_without_a_label_file_shows_no_animal():
    found = read_set(yolo(labels__train__a_txt=None), "yolo").labelled
    assert [len(image.boxes) for image in found.images] == [0, 0]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (
            lambda d: d["annotations"][1].update(bbox=[1, 2, float("nan"), 4]),
            ("not_finite", "annotations.bbox.width", 2),
        ),
        (lambda d: d["annotations"][1].update(bbox=[1, 2, -3, 4]), ("negative", "annotations.bbox.width", 2)),
        (lambda d: d["annotations"][1].update(bbox=[1, 2, 0, 4]), ("zero_area", "annotations.bbox.x_max", 2)),
        (lambda d: d["annotations"][1].update(bbox=[-1, 2, 5, 4]), ("outside", "annotations.bbox.x_min", 2)),
        (lambda d: d["annotations"][1].update(bbox=[1, 2, 500, 4]), ("outside", "annotations.bbox.x_max", 2)),
        (lambda d: d["annotations"][1].update(bbox=[1, 2, 3]), ("missing_value", "annotations.bbox", 2)),
        (lambda d: d["annotations"][1].update(bbox="all"), ("missing_value", "annotations.bbox", 2)),
        (
            lambda d: d["annotations"][1].update(bbox=[1, 2, None, 4]),
            ("missing_value", "annotations.bbox.width", 2),
        ),
        (
            lambda d: d["annotations"][1].update(bbox=[1, 2, True, 4]),
            ("not_a_number", "annotations.bbox.width", 2),
        ),
        (
            lambda d: d["annotations"][1].update(bbox=[1, 2, 10**400, 4]),
            ("outside", "annotations.bbox.width", 2),
        ),
        (
            lambda d: d["annotations"][1].update(category_id=9),
            ("unknown_class", "annotations.category_id", 2),
        ),
        (lambda d: d["annotations"][1].update(image_id=9), ("unknown_image", "annotations.image_id", 2)),
        (lambda d: d["annotations"][1].update(id=1), ("id_twice", "annotations.id", 2)),
        (lambda d: d["annotations"][1].update(id="x"), ("not_a_number", "annotations.id", 2)),
        (lambda d: d["images"][0].update(width=float("nan")), ("not_finite", "images.width", 1)),
        (lambda d: d["images"][0].update(width="40"), ("not_a_number", "images.width", 1)),
        (
            lambda d: d["annotations"][1].update(bbox=["1", 2, 3, 4]),
            ("not_a_number", "annotations.bbox.x", 2),
        ),
        (lambda d: d["annotations"][1].update(id="2"), ("not_a_number", "annotations.id", 2)),
        (lambda d: d["annotations"][1].update(image_id="1"), ("not_a_number", "annotations.image_id", 2)),
        (lambda d: d["annotations"][1].update(score="0.5"), ("not_a_number", "annotations.score", 2)),
        (lambda d: d["categories"][1].update(id="2"), ("not_a_number", "categories.id", 2)),
        (lambda d: d["annotations"][1].update(iscrowd=1), ("crowd", "annotations.iscrowd", 2)),
        (lambda d: d["annotations"][1].update(score=2), ("outside", "annotations.score", 2)),
        (lambda d: d["annotations"].append(3), ("not_an_object", "annotations", 3)),
        (lambda d: d["images"].append(d["images"][0]), ("id_twice", "images.id", 2)),
        (lambda d: d["images"].append(d["images"][0] | {"id": 9}), ("image_twice", "", None)),
        (lambda d: d["images"][0].update(width=41), ("wrong_size", "images.width", 1)),
        (lambda d: d["images"][0].update(file_name="none.png"), ("missing_image", "images.file_name", 1)),
        (
            lambda d: d["images"][0].update(file_name="../../etc/passwd"),
            ("missing_image", "images.file_name", 1),
        ),
        (lambda d: d["images"][0].pop("file_name"), ("missing_value", "images.file_name", 1)),
        (lambda d: d["categories"].append(d["categories"][0]), ("id_twice", "categories.id", 3)),
        (lambda d: d["categories"][1].update(name="CER"), ("label_twice", "categories", 2)),
        (lambda d: d.pop("categories"), ("missing_value", "categories", None)),
        (lambda d: d.update(images={}), ("not_a_list", "images", None)),
    ],
)
def test_a_wrong_coco_entry_is_named(change, found):
    assert found in problems(coco(change), "coco")


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        ('"image_id": 1', '"image_id": 2, "image_id": 1', ("name_twice", "annotations.image_id", 1)),
        (
            '"file_name": "a.png"',
            '"file_name": "b", "file_name": "a.png"',
            ("name_twice", "images.file_name", 1),
        ),
        ('"categories"', '"categories": [], "categories"', ("name_twice", "categories", None)),
        ('"info": {', '"info": {"year": 1, "year": 2, ', ("name_twice", "info.year", None)),
    ],
)
def test_a_name_that_is_there_twice_in_coco_is_told_by_its_row(before, after, found):
    content = written(small_set(), "coco")
    text = json.dumps(json.loads(files(content)["annotations/instances_train.json"]))
    assert before in text
    stream = changed(content, annotations__instances_train_json=text.replace(before, after, 1))
    assert problems(stream, "coco") == [found]


@pytest.mark.parametrize(
    ("text", "code"),
    [("{", "not_json"), ("[]", "not_an_object"), ("[" * 100_000, "too_deep"), ("\xff", "not_json")],
)
def test_coco_that_is_no_json_is_refused(text, code):
    stream = changed(written(small_set(), "coco"), annotations__instances_train_json=text)
    assert code in [found[0] for found in problems(stream, "coco")]


def test_coco_splits_must_have_the_same_categories_in_the_same_order():
    stream = coco(lambda document: document["categories"].reverse())
    assert ("label_order", "categories", None) in problems(stream, "coco")


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("<xmin>1</xmin>", "<xmin>nan</xmin>", ("not_finite", "object.bndbox.xmin", 1)),
        ("<xmin>1</xmin>", "<xmin>-4</xmin>", ("outside", "object.bndbox.x_min", 1)),
        ("<xmin>1</xmin>", "", ("missing_value", "object.bndbox.xmin", 1)),
        ("<xmax>40</xmax>", "<xmax>41</xmax>", ("outside", "object.bndbox.x_max", 1)),
        ("<xmin>1</xmin>", "<xmin>40</xmin><a>", ("not_xml", "", None)),
        ("<xmax>40</xmax>", "<xmax>0</xmax>", ("zero_area", "object.bndbox.x_max", 1)),
        ("<xmin>11.5</xmin>", "<xmin>31.5</xmin>", ("reversed", "object.bndbox.x_max", 2)),
        ("<name>LEP</name>", "<name>FLY</name>", ("unknown_class", "object.name", 2)),
        ("<width>40</width>", "<width>41</width>", ("wrong_size", "size", None)),
        ("<width>40</width>", "", ("missing_value", "size.width", None)),
        ("<filename>a.png</filename>", "<filename>x.png</filename>", ("missing_image", "filename", None)),
        ("<annotation>", '<!DOCTYPE a [<!ENTITY x "y">]><annotation>', ("xml_doctype", "", None)),
        ("</annotation>", "", ("not_xml", "", None)),
        ("<annotation>", '<?xml version="1.0" encoding="none"?><annotation>', ("not_xml", "", None)),
    ],
)
def test_a_wrong_voc_document_is_named(old, new, found):
    assert found in problems(voc(old, new), "voc")


def test_a_voc_picture_whose_document_cannot_be_read_is_not_told_to_have_none():
    found = problems(voc("</annotation>", ""), "voc")
    assert [code for code, _field, _row in found] == ["not_xml"]


def test_voc_lists_that_contradict_each_other_are_named():
    content = written(small_set(), "voc")
    stream = changed(content, ImageSets__Main__val_txt="a\nb\n")
    assert ("split_twice", "", 1) in problems(stream, "voc")


@pytest.mark.parametrize("kind", ["yolo", "coco", "voc"])
def test_all_problems_are_listed_up_to_a_hundred(kind):
    rows = "".join("9 0.5 0.5 0.1 0.1\n" for _row in range(300))
    assert len(problems(yolo(rows), "yolo")) == 100
    assert len(problems(yolo("9 0.5 0.5 0.1 0.1\n" * 3, labels__val__b_txt="0 1\n"), "yolo")) == 4


@pytest.mark.parametrize("kind", ["yolo", "coco", "voc"])
@pytest.mark.parametrize("content", [b"", b"PK", b"not a zip", b"\x00" * 5_000])
def test_what_is_no_zip_is_refused(kind, content):
    assert problems(content, kind) == [("not_a_zip", "", None)]


@pytest.mark.parametrize("kind", ["yolo", "coco", "voc"])
def test_every_cut_of_an_archive_is_refused_and_never_breaks(kind):
    content = written(small_set(), kind)
    for end in range(0, len(content) - 1, 97):
        problems(content[:end], kind)


@pytest.mark.parametrize("kind", ["yolo", "coco", "voc"])
def test_every_damaged_byte_is_refused_or_harmless(kind):
    content = written(small_set(), kind)
    for place in range(0, len(content), 41):
        damaged = content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :]
        with contextlib.suppress(FormatError):
            read_set(io.BytesIO(damaged), kind)


@pytest.mark.parametrize("kind", ["yolo", "coco", "voc"])
def test_an_archive_without_annotations_says_what_it_wants(kind):
    assert problems(zipped({"a.png": png(3, 3), "b/c.png": png(3, 3)}), kind)[0][0] == "no_annotations"


@pytest.mark.parametrize("name", ["../x.png", "/etc/x.png", "C:/x.png", "a/../../x.png", "a\nb.png"])
def test_a_name_that_points_outside_is_refused(name):
    assert (
        problems(zipped(files(written(small_set(), "yolo")) | {name: b"x"}), "yolo")[0][0] == "entry_unsafe"
    )


def test_a_link_in_an_archive_is_refused():
    stream = yolo()
    with zipfile.ZipFile(stream, "a") as archive:
        link = zipfile.ZipInfo("images/train/z.png")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    assert problems(stream, "yolo") == [("entry_link", "", None)]


def test_a_file_that_unpacks_to_far_more_is_refused():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("annotations/instances_train.json", " " * 3_000_000)
    assert problems(out, "coco") == [("zip_bomb", "", None)]


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        (ReadLimits(entries=2), "too_many_files"),
        (ReadLimits(total_bytes=100), "too_many_bytes"),
        (ReadLimits(boxes=1), "too_many_boxes"),
        (ReadLimits(picture_bytes=10), "too_many_bytes"),
    ],
)
@pytest.mark.parametrize("kind", ["yolo", "coco", "voc"])
def test_limits_hold(kind, limits, code):
    assert code in [found[0] for found in problems(written(small_set(), kind), kind, limits=limits)]


def test_two_files_of_one_name_are_refused():
    stream = yolo()
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(stream, "a") as archive:
        archive.writestr("labels/train/a.txt", "")
    assert problems(stream, "yolo") == [("entry_twice", "", None)]


def test_a_picture_that_is_none_is_named():
    assert problems(yolo(images__train__a_png=b"GIF89a"), "yolo") == [("bad_picture", "", None)]


def test_boxes_on_the_border_written_with_six_decimals_are_taken():
    stream = yolo("0 0.049999 0.499999 0.100001 1.000000\n")
    box = read_set(stream, "yolo").labelled.images[0].boxes[0]
    assert (box.x_min, box.y_min, box.y_max) == (0.0, 0.0, pytest.approx(30, abs=1e-3))


def test_roboflows_layout_and_a_folder_around_it_are_read():
    entries = {
        "set/data.yaml": "train: ../train/images\nval: ../valid/images\nnc: 1\nnames: ['a']\n",
        "set/train/images/x.png": png(10, 10),
        "set/train/labels/x.txt": "0 0.5 0.5 0.2 0.2",
        "set/valid/images/y.png": png(10, 10),
        "set/valid/labels/y.txt": "",
        "__MACOSX/set/._data.yaml": "x",
    }
    found = read_set(zipped(entries), "yolo").labelled
    assert [(i.file_name, i.split, len(i.boxes)) for i in found.images] == [
        ("x.png", "train", 1),
        ("y.png", "validation", 0),
    ]


def test_a_list_of_classes_in_place_of_a_description_is_read():
    content = {"classes.txt": "b\na\n", "images/x.png": png(10, 10), "labels/x.txt": "1 0.5 0.5 0.2 0.2\n"}
    found = read_set(zipped(content | {"labels/classes.txt": "b\na\n"}), "yolo").labelled
    assert found.labels == ("b", "a")
    assert [box.label for box in found.images[0].boxes] == [1]


def test_coco_beside_its_pictures_is_read():
    document = json.loads(files(written(small_set(), "coco"))["annotations/instances_train.json"])
    content = {"train/_annotations.coco.json": json.dumps(document), "train/a.png": png(40, 30)}
    stream = zipped(content | {"README.txt": "x"})
    found = read_set(stream, "coco").labelled
    assert [(image.file_name, image.split, len(image.boxes)) for image in found.images] == [
        ("a.png", "train", 2)
    ]


def test_every_code_has_a_sentence():
    assert all(message.endswith((".", "?")) for message in MESSAGES.values())

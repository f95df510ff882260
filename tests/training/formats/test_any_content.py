"""Whatever stands in an annotation file, it is read or refused with a list of problems, and never breaks the reader."""

import contextlib
import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.training.formats import FormatError, read_set
from tests.support.examples import examples
from tests.training.formats.support import changed, files, small_set, written

some = settings(max_examples=examples(150), deadline=None, suppress_health_check=list(HealthCheck))
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from(
        [10**400, -1, 0, 2**63, 1e308, float("inf"), float("nan"), "", "\x00", "\ud800", "../x", "1"]
    ),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)
COCO = written(small_set(), "coco")
YOLO = written(small_set(), "yolo")
VOC = written(small_set(), "voc")


def places(value, path=()):
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield from places(each, (*path, key))


def with_value(document, path, value):
    if not path:
        return value
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return document


def read(stream, kind):
    with contextlib.suppress(FormatError):
        read_set(stream, kind)
        return
    try:
        read_set(stream, kind)
    except FormatError as error:
        for problem in error.problems:
            assert problem.message
            text = json.dumps(problem.as_json(), ensure_ascii=False)
            text.encode()
            assert "\\u0000" not in text


@some
@given(data=st.data(), value=ODD)
def test_any_value_anywhere_in_coco(data, value):
    document = json.loads(files(COCO)["annotations/instances_train.json"])
    path = data.draw(st.sampled_from(list(places(document))))
    text = json.dumps(with_value(document, path, value))
    read(changed(COCO, annotations__instances_train_json=text), "coco")


@some
@given(value=st.one_of(ODD, st.recursive(ODD, st.lists, max_leaves=5)))
def test_any_names_in_yolo(value):
    text = json.dumps({"train": value, "val": "images/val", "names": value})  # JSON is YAML
    read(changed(YOLO, data_yaml=text), "yolo")


@some
@given(text=st.text(st.characters(codec="utf-8"), max_size=60))
def test_any_text_in_yolo(text):
    read(changed(YOLO, data_yaml=text), "yolo")
    read(changed(YOLO, labels__train__a_txt=text), "yolo")


@some
@given(data=st.data(), text=st.text(st.characters(codec="utf-8"), max_size=8))
def test_any_text_anywhere_in_voc(data, text):
    xml = files(VOC)["Annotations/a.xml"].decode()
    start = data.draw(st.integers(0, len(xml)))
    end = data.draw(st.integers(start, min(len(xml), start + 30)))
    read(changed(VOC, Annotations__a_xml=xml[:start] + text + xml[end:]), "voc")

"""Sets for the tests of formats, with real (tiny) pictures."""

import functools
import io
import zipfile

from hypothesis import strategies as st
from PIL import Image

from apps.training.formats import LabelledBox, LabelledImage, LabelledSet, write_set
from apps.training.formats.model import GRID, is_file_name, is_label, is_plain_text


@functools.cache
def png(width_px, height_px):
    out = io.BytesIO()
    Image.new("L", (width_px, height_px), 200).save(out, "PNG")
    return out.getvalue()


def picture(image):
    return png(image.width_px, image.height_px)


def written(labelled, kind):
    out = io.BytesIO()
    write_set(labelled, kind, out, picture)
    return out.getvalue()


def files(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(entries):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    out.seek(0)
    return out


def changed(content, **changes):
    """An archive with other content for some files (None: without it); `__` in a name stands for `/`."""
    entries = files(content)
    for name, value in changes.items():
        path = next(path for path in entries if path.replace("/", "__").replace(".", "_") == name)
        if value is None:
            del entries[path]
        else:
            entries[path] = value
    return zipped(entries)


def small_set(**fields):
    """Two labels, one picture with two boxes and one without."""
    boxes = (LabelledBox(0, 0, 40, 30, 0), LabelledBox(10.5, 2.25, 20, 30, 1))
    values = {
        "labels": ("CER", "LEP"),
        "images": (
            LabelledImage("a.png", 40, 30, boxes, "train", "CC-BY-4.0", "Ada", "one"),
            LabelledImage("b.png", 33, 17, (), "validation", "CC-BY-NC-4.0", "Bo", "two"),
        ),
        "title": "Springtails",
    }
    return LabelledSet(**values | fields)


_SIZES = st.sampled_from([(2, 2), (3, 7), (640, 640), (997, 13), (29_999, 3), (1, 30_000), (4_001, 2_667)])
_SIZES = _SIZES.filter(lambda size: min(size) >= 2)
_CHARACTERS = st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp"))
LABELS = st.lists(
    st.one_of(
        st.from_regex(r"[A-Z]{3}_[a-z]{1,5}", fullmatch=True), st.text(_CHARACTERS, min_size=1, max_size=12)
    )
    .map(str.strip)
    .filter(is_label),
    min_size=1,
    max_size=6,
    unique=True,
)
_STEMS = st.one_of(
    st.from_regex(r"[a-z]{1,6}(/[a-z]{1,4})?", fullmatch=True), st.text(_CHARACTERS, max_size=8)
)
FILE_NAMES = st.builds(lambda stem, suffix: stem + suffix, _STEMS, st.sampled_from([".png", ".PNG", ".jpg"]))
FILE_NAMES = FILE_NAMES.filter(is_file_name)
CREDITS = st.one_of(
    st.sampled_from(["", "=1+1", "'=x", "-", "@a", "Ada Lovelace", 'a,"b"', "''+"]),
    st.text(_CHARACTERS, max_size=15).filter(is_plain_text),
)


@st.composite
def edges(draw, side_px):
    """Two edges: on the border, on whole pixels, on the grid, or any float."""
    value = st.one_of(
        st.sampled_from([0.0, float(side_px)]),
        st.integers(0, side_px).map(float),
        st.integers(0, side_px * GRID).map(lambda n: n / GRID),
        st.floats(0, side_px),
    )
    low, high = sorted((draw(value), draw(value)))
    if high - low < 2 / GRID:
        low, high = (0.0, high + 0.25) if high < 1 else (high - 0.25, high)
    return low, high


@st.composite
def sets(draw, *, with_scores=False, splits=("train", "validation", "test", None)):
    labels = tuple(draw(LABELS))
    names = draw(st.lists(FILE_NAMES, min_size=1, max_size=5, unique_by=lambda name: name.rsplit(".", 1)[0]))
    images = []
    for name in names:
        width, height = draw(_SIZES)
        boxes = []
        for _number in range(draw(st.integers(0, 4))):
            (x_min, x_max), (y_min, y_max) = draw(edges(width)), draw(edges(height))
            score = draw(st.one_of(st.none(), st.floats(0, 1))) if with_scores else None
            boxes.append(
                LabelledBox(x_min, y_min, x_max, y_max, draw(st.integers(0, len(labels) - 1)), score)
            )
        images.append(
            LabelledImage(
                name,
                width,
                height,
                tuple(boxes),
                draw(st.sampled_from(splits)),
                draw(st.sampled_from(["", "CC0-1.0", "CC-BY-4.0", "CC-BY-NC-4.0"])),
                draw(CREDITS),
                draw(CREDITS),
            )
        )
    title = draw(st.sampled_from(["", "Springtails 3", "Été =1"]))
    return LabelledSet(labels, tuple(images), title)

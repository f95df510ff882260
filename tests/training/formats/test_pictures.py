"""What is given away has the pixels that were frozen, upright, and nothing of its metadata."""

import io

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from apps.training.engine.pictures import decode_upright_rgb, inspect
from apps.training.formats.pictures import clean_picture, suffix_of

SECRET = b"N 48.8584 E 2.2945"


def pixels(width=40, height=24, seed=1):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8))


def exif(orientation=1):
    values = Image.Exif()
    values[0x0112] = orientation
    values[0x010E] = SECRET.decode()
    values.get_ifd(0x8825).update({1: "N", 2: (48.0, 51.0, 30.0), 3: "E", 4: (2.0, 17.0, 40.0)})
    return values


def encoded(kind, picture=None, **options):
    out = io.BytesIO()
    (picture or pixels()).save(out, kind, **options)
    return out.getvalue()


def array(content):
    return np.asarray(decode_upright_rgb(content))


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"subsampling": 0, "restart_marker_blocks": 2}]
)
def test_a_jpeg_loses_its_metadata_and_no_pixel(options):
    content = encoded("JPEG", exif=exif(), comment=SECRET, **options) + b"\0trailer " + SECRET
    clean = clean_picture(content, suffix=".jpg")
    assert SECRET not in clean
    assert b"Exif" not in clean
    assert clean.endswith(b"\xff\xd9")
    assert (array(clean) == array(content)).all()
    assert not Image.open(io.BytesIO(clean)).getexif()


def test_the_second_picture_of_a_phone_is_left_behind():
    second = encoded("JPEG", comment=SECRET)
    clean = clean_picture(encoded("JPEG") + second, suffix=".jpg")
    assert len(clean) < len(encoded("JPEG")) + 10


def test_a_png_loses_its_metadata_and_no_pixel():
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", SECRET.decode())
    content = encoded("PNG", pnginfo=info, exif=exif())
    clean = clean_picture(content, suffix=".png")
    assert SECRET not in clean
    assert b"eXIf" not in clean
    assert (array(clean) == array(content)).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_turned_picture_is_written_upright(kind, orientation):
    content = encoded(kind, exif=exif(orientation))
    clean = clean_picture(content, suffix=".png" if kind == "PNG" else ".jpg")
    header = inspect(clean)
    assert header.orientation == 1
    assert (header.width_px, header.height_px) == array(content).shape[1::-1]
    assert abs(array(clean).astype(int) - array(content)).mean() < (1e-9 if kind == "PNG" else 12)
    assert SECRET not in clean


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_profile_of_another_space_is_applied_and_srgb_left_out(kind):
    suffix = ".png" if kind == "PNG" else ".jpg"
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    plain = clean_picture(encoded(kind, icc_profile=srgb), suffix=suffix)
    assert "icc_profile" not in Image.open(io.BytesIO(plain)).info
    assert (array(plain) == array(encoded(kind, icc_profile=srgb))).all()


def test_cmyk_is_converted():
    content = encoded("JPEG", pixels().convert("CMYK"))
    assert Image.open(io.BytesIO(clean_picture(content, suffix=".jpg"))).mode == "RGB"


@pytest.mark.parametrize(("kind", "name", "suffix"), [("WEBP", "x.webp", ".jpg"), ("TIFF", "x.tif", ".png")])
def test_other_formats_are_written_as_jpeg_or_png(kind, name, suffix):
    assert suffix_of(name) == suffix
    content = encoded(kind, exif=exif())
    clean = clean_picture(content, suffix=suffix)
    assert inspect(clean).extension == suffix[1:]
    assert SECRET not in clean


def test_cleaning_twice_changes_nothing():
    for kind, suffix in (("JPEG", ".jpg"), ("PNG", ".png")):
        once = clean_picture(encoded(kind, exif=exif()), suffix=suffix)
        assert clean_picture(once, suffix=suffix) == once

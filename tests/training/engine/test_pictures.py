"""The one decoder, against real files of every kind that people and attackers send."""

import contextlib
import io
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from apps.training.engine.pictures import PictureError, PictureLimits, decode_upright_rgb, inspect

pillow_heif.register_heif_opener()
RED_WITH_GREEN_CORNER = Image.new("RGB", (60, 40), (200, 30, 10))
RED_WITH_GREEN_CORNER.paste((0, 220, 0), (40, 0, 60, 16))
FORMATS = ["JPEG", "PNG", "WEBP", "TIFF", "HEIF"]


def encoded(picture: Image.Image, picture_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, picture_format, **options)
    return buffer.getvalue()


def refusal(data: bytes | Path, **options: object) -> str:
    with pytest.raises(PictureError) as refused:
        decode_upright_rgb(data, **options)
    return refused.value.code


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_of(width: int, height: int, *, rows: bytes = b"", extra: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = (
        png_chunk(b"IHDR", header) + extra + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    )
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("picture_format", FORMATS)
def test_it_decodes_each_accepted_format(picture_format):
    data = encoded(RED_WITH_GREEN_CORNER, picture_format)
    header = inspect(data)
    picture = decode_upright_rgb(data)
    assert (header.format, header.width_px, header.height_px) == (picture_format, 60, 40)
    assert (header.frames, header.bytes) == (1, len(data))
    assert (picture.mode, picture.size, picture.info) == ("RGB", (60, 40), {})
    assert np.allclose(picture.getpixel((5, 35)), (200, 30, 10), atol=8)
    assert np.allclose(picture.getpixel((55, 5)), (0, 220, 0), atol=8)


@pytest.mark.parametrize("picture_format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_it_turns_the_picture_upright_and_announces_that_size(picture_format, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    inverse = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # what a camera held that way stores
    stored = RED_WITH_GREEN_CORNER
    if orientation > 1:
        stored = stored.transpose(Image.Transpose(inverse[orientation]))
    data = encoded(stored, picture_format, exif=exif)
    header, picture = inspect(data), decode_upright_rgb(data)
    assert (header.width_px, header.height_px) == picture.size == (60, 40)
    assert np.allclose(picture.getpixel((55, 4)), (0, 220, 0), atol=12)
    assert np.allclose(picture.getpixel((5, 4)), (200, 30, 10), atol=12)


def test_a_rotated_heic_of_a_phone_comes_out_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = RED_WITH_GREEN_CORNER.transpose(Image.Transpose.ROTATE_90)
    data = encoded(stored, "HEIF", exif=exif)
    header, picture = inspect(data), decode_upright_rgb(data)
    assert (header.width_px, header.height_px) == picture.size
    reference = Image.open(io.BytesIO(data))
    assert picture.size == reference.size


@pytest.mark.parametrize("picture_format", FORMATS)
@pytest.mark.parametrize("scale", [2, 4, 8])
def test_a_reduced_picture_has_the_rounded_up_size_and_the_same_content(picture_format, scale):
    data = encoded(RED_WITH_GREEN_CORNER.resize((333, 222)), picture_format)
    picture = decode_upright_rgb(data, scale=scale)
    assert picture.size == (-(-333 // scale), -(-222 // scale))
    assert np.allclose(picture.getpixel((picture.width - 3, 2)), (0, 220, 0), atol=12)


def test_a_reduced_picture_is_turned_as_well():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(RED_WITH_GREEN_CORNER.resize((333, 222)), "JPEG", exif=exif)
    assert decode_upright_rgb(data, scale=4).size == (56, 84)


def test_another_scale_is_a_mistake_of_the_programmer():
    with pytest.raises(ValueError, match="scale"):
        decode_upright_rgb(encoded(RED_WITH_GREEN_CORNER, "PNG"), scale=3)


def test_it_reads_a_file_as_well_as_bytes(tmp_path):
    path = tmp_path / "no-telling-name"
    path.write_bytes(encoded(RED_WITH_GREEN_CORNER, "PNG"))
    assert inspect(path).format == "PNG"
    assert decode_upright_rgb(path).size == (60, 40)


def test_a_phones_mpo_counts_as_the_photo_in_it():
    data = encoded(RED_WITH_GREEN_CORNER, "MPO", save_all=True, append_images=[Image.new("RGB", (9, 9))])
    header = inspect(data)
    assert (header.format, header.frames, header.width_px) == ("JPEG", 1, 60)
    assert decode_upright_rgb(data).size == (60, 40)
    assert decode_upright_rgb(data, scale=2).size == (30, 20)


@pytest.mark.parametrize(
    ("mode", "picture_format"),
    [("L", "JPEG"), ("CMYK", "JPEG"), ("CMYK", "TIFF"), ("1", "PNG"), ("L", "PNG"), ("P", "PNG"), ("LA", "PNG"),
     ("RGBA", "PNG"), ("RGBA", "WEBP"), ("RGBA", "TIFF"), ("P", "TIFF"), ("1", "TIFF"), ("YCbCr", "TIFF")],
)  # fmt: skip
def test_every_mode_becomes_rgb_of_the_same_colours(mode, picture_format):
    grey = Image.new("RGB", (20, 20), (255, 255, 255))
    grey.paste((0, 0, 0), (0, 0, 10, 20))
    picture = decode_upright_rgb(encoded(grey.convert(mode), picture_format))
    assert picture.mode == "RGB"
    assert np.allclose(picture.getpixel((2, 9)), (0, 0, 0), atol=6)
    assert np.allclose(picture.getpixel((17, 9)), (255, 255, 255), atol=6)


def test_transparent_parts_are_white_whatever_colour_hides_there():
    hidden = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    hidden.putpixel((0, 0), (0, 0, 255, 255))
    picture = decode_upright_rgb(encoded(hidden, "PNG"))
    assert picture.getpixel((5, 5)) == (255, 255, 255)
    assert picture.getpixel((0, 0)) == (0, 0, 255)


def test_a_16_bit_png_uses_the_whole_range():
    values = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    picture = decode_upright_rgb(encoded(Image.fromarray(values), "PNG"))
    assert np.array_equal(np.asarray(picture)[..., 0].ravel(), np.arange(256))


def test_a_12_bit_microscope_tiff_is_not_black():
    values = np.linspace(0, 4095, 400).astype(np.uint16).reshape(20, 20)
    picture = np.asarray(decode_upright_rgb(encoded(Image.fromarray(values), "TIFF")))
    assert picture.max() == 255
    assert picture.min() == 0


@pytest.mark.parametrize("high", [1.0, 255.0, 1e6])
def test_a_floating_point_tiff_is_stretched(high):
    values = np.linspace(0, high, 400, dtype=np.float32).reshape(20, 20)
    values[3, 3] = np.nan
    picture = np.asarray(decode_upright_rgb(encoded(Image.fromarray(values), "TIFF")))
    assert (picture.min(), picture.max()) == (0, 255)


def test_colours_in_another_space_are_converted_to_srgb():
    from PIL import ImageCms

    lab = ImageCms.profileToProfile(
        RED_WITH_GREEN_CORNER, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    picture = decode_upright_rgb(encoded(lab, "TIFF"))
    assert np.allclose(picture.getpixel((5, 35)), (200, 30, 10), atol=6)


def test_a_damaged_colour_profile_leaves_the_colours_as_they_are():
    data = encoded(RED_WITH_GREEN_CORNER, "PNG", icc_profile=b"nonsense" * 20)
    assert decode_upright_rgb(data).getpixel((5, 35)) == (200, 30, 10)


def test_damaged_exif_is_no_reason_to_refuse_a_sound_picture():
    data = encoded(RED_WITH_GREEN_CORNER, "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff" + b"\x00" * 9)
    assert decode_upright_rgb(data).size == (60, 40)
    assert inspect(data).orientation == 1


# Refusals, each with its own code.


def test_nothing_is_empty():
    assert refusal(b"") == "empty"


def test_too_many_bytes_are_refused_without_reading_on(tmp_path):
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(10_000_000_000)  # a hole: reading it all would fill the memory
    assert refusal(path) == "too_many_bytes"
    assert refusal(encoded(RED_WITH_GREEN_CORNER, "PNG"), limits=PictureLimits(bytes=100)) == "too_many_bytes"


@pytest.mark.parametrize(
    "data", [b"hello", b"<html><script>", b"PK\x03\x04" + b"\0" * 50, b"\0" * 100, b"\xff\xd8"]
)
def test_what_is_no_picture_is_called_so(data):
    assert refusal(data) == "not_a_picture"


@pytest.mark.parametrize(
    "data",
    [
        b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"%PDF-1.7\n",
        encoded(RED_WITH_GREEN_CORNER, "GIF"),
        encoded(RED_WITH_GREEN_CORNER, "BMP"),
        encoded(RED_WITH_GREEN_CORNER, "AVIF"),
        encoded(RED_WITH_GREEN_CORNER, "JPEG2000"),
        b"II*\x00\x10\x00\x00\x00CR\x02\x00" + b"\0" * 40,
    ],
    ids=["svg", "eps", "pdf", "gif", "bmp", "avif", "jpeg2000", "canon raw"],
)
def test_other_kinds_of_pictures_are_not_opened_under_any_name(tmp_path, data):
    path = tmp_path / "holiday.jpg"
    path.write_bytes(data)
    assert refusal(path) == "unsupported_format"


def test_the_preview_inside_a_raw_file_is_not_taken_for_the_photo():
    assert refusal(encoded(RED_WITH_GREEN_CORNER, "TIFF", tiffinfo={254: 1})) == "unsupported_format"
    dng = encoded(RED_WITH_GREEN_CORNER, "TIFF", tiffinfo={50706: b"\x01\x04\x00\x00"})
    assert refusal(dng) == "unsupported_format"


@pytest.mark.parametrize("size", [(1, 1), (1, 20_000), (20_000, 1)])
def test_a_line_or_a_point_is_too_small(size):
    assert refusal(encoded(Image.new("RGB", size), "PNG")) == "too_small"


def test_a_legal_but_extreme_shape_is_decoded():
    assert decode_upright_rgb(encoded(Image.new("RGB", (2, 20_000)), "PNG")).size == (2, 20_000)


def test_a_side_beyond_the_limit_is_refused_from_the_header():
    assert refusal(png_of(30_001, 10)) == "too_long_side"


def test_a_pixel_bomb_is_refused_before_it_is_decoded():
    started = time.perf_counter()
    assert refusal(png_of(20_000, 20_000)) == "too_many_pixels"
    assert refusal(png_of(12_000, 10_001)) == "too_many_pixels"
    assert time.perf_counter() - started < 0.5


def test_a_webp_bomb_is_refused_although_its_opener_would_allocate_the_canvas():
    canvas = (16_383).to_bytes(3, "little") * 2
    body = b"WEBPVP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + canvas
    assert refusal(b"RIFF" + struct.pack("<I", len(body)) + body) == "too_many_pixels"


def test_a_whole_plate_of_108_megapixels_passes_the_header():
    assert inspect(png_of(10_408, 10_338)).width_px == 10_408


def test_limits_can_be_set_lower():
    data = encoded(RED_WITH_GREEN_CORNER, "JPEG")
    assert refusal(data, limits=PictureLimits(pixels=2399)) == "too_many_pixels"
    assert refusal(data, limits=PictureLimits(side_px=59)) == "too_long_side"
    assert refusal(data, limits=PictureLimits(min_side_px=41)) == "too_small"


@pytest.mark.parametrize("picture_format", ["PNG", "WEBP", "TIFF"])
def test_moving_or_many_page_pictures_are_refused(picture_format):
    other = RED_WITH_GREEN_CORNER.transpose(Image.Transpose.ROTATE_180)
    data = encoded(RED_WITH_GREEN_CORNER, picture_format, save_all=True, append_images=[other])
    assert refusal(data) == "animated"


def test_a_heic_sequence_is_refused():
    other = RED_WITH_GREEN_CORNER.transpose(Image.Transpose.ROTATE_180)
    data = encoded(RED_WITH_GREEN_CORNER, "HEIF", save_all=True, append_images=[other])
    assert refusal(data) == "animated"
    assert refusal(b"\x00\x00\x00\x18ftypmsf1\0\0\0\0msf1iso8") == "animated"


@pytest.mark.parametrize("picture_format", FORMATS)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_cut_file_is_truncated_or_corrupt_never_half_a_picture(picture_format, share):
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (80, 90, 3), np.uint8))
    data = encoded(noise, picture_format)
    code = refusal(data[: int(len(data) * share)])
    assert code in ("truncated", "corrupt")
    if picture_format in ("JPEG", "PNG", "WEBP"):
        assert code == "truncated"


@pytest.mark.parametrize("picture_format", FORMATS)
def test_a_header_followed_by_garbage_is_refused(picture_format):
    data = encoded(RED_WITH_GREEN_CORNER, picture_format)
    assert refusal(data[:30] + b"\xa5" * 400) in ("corrupt", "truncated", "too_many_pixels", "too_long_side",
                                                  "decoder_limit")  # fmt: skip


def test_a_png_with_a_text_bomb_meets_the_decoders_limit():
    bomb = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"A" * 70_000_000))
    assert refusal(png_of(4, 4, rows=b"\0" * 52, extra=bomb)) in ("decoder_limit", "corrupt")


def test_a_jpeg_of_hundreds_of_scans_meets_the_decoders_limit():
    data = encoded(RED_WITH_GREEN_CORNER, "JPEG", progressive=True)
    assert (
        refusal(data[:-2] + b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00" * 300 + b"\xff\xd9")
        == "decoder_limit"
    )


def test_a_polyglot_is_the_picture_that_its_first_bytes_say_and_nothing_else_survives():
    data = (
        encoded(RED_WITH_GREEN_CORNER, "JPEG", comment=b"<script>alert(1)</script>") + b"PK\x03\x04<?php evil"
    )
    picture = decode_upright_rgb(data)
    assert picture.size == (60, 40)
    assert b"script" not in encoded(picture, "JPEG")


def test_pillows_own_limit_is_restored_after_ultralytics_switched_it_off():
    Image.MAX_IMAGE_PIXELS = None
    inspect(encoded(RED_WITH_GREEN_CORNER, "PNG"))
    assert PictureLimits().pixels == Image.MAX_IMAGE_PIXELS


def test_a_thousand_flipped_bytes_never_raise_anything_but_a_picture_error():
    rng = np.random.default_rng(7)
    for picture_format in FORMATS:
        whole = np.frombuffer(encoded(RED_WITH_GREEN_CORNER, picture_format), np.uint8)
        for _ in range(60):
            damaged = whole.copy()
            damaged[rng.integers(0, len(whole), 6)] = rng.integers(0, 256, 6)
            with contextlib.suppress(PictureError):
                assert decode_upright_rgb(damaged.tobytes()).mode == "RGB"


def test_a_stable_code_and_its_numbers_fill_a_sentence():
    with pytest.raises(PictureError) as refused:
        inspect(png_of(12_000, 10_001))
    assert refused.value.code == "too_many_pixels"
    assert refused.value.params == {"width": 12_000, "height": 10_001, "limit": 120_000_000}

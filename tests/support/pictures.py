"""Real picture files for tests: sound ones, odd ones that must be taken, and hostile ones that must be refused."""

import io
import random
import struct
import zipfile
import zlib
from typing import Any

from PIL import Image, ImageDraw


def picture(width: int = 96, height: int = 64, *, seed: int = 0, mode: str = "RGB") -> Image.Image:
    """A plate with a few dark animals on it; another seed gives other bytes."""
    dice = random.Random(seed)
    plate = Image.new("RGB", (width, height), (dice.randint(180, 250), dice.randint(180, 250), 200))
    draw = ImageDraw.Draw(plate)
    for _animal in range(4):
        x, y = dice.randrange(width), dice.randrange(height)
        draw.ellipse(
            (x, y, x + max(2, width // 8), y + max(2, height // 12)), fill=(dice.randint(0, 90),) * 3
        )
    return plate.convert(mode)


def saved(image: Image.Image, format: str, **options: Any) -> bytes:  # noqa: A002 (Pillow's own word)
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def jpeg(*, seed: int = 0, width: int = 96, height: int = 64, **options: Any) -> bytes:
    return saved(picture(width, height, seed=seed), "JPEG", **options)


def png(*, seed: int = 0, mode: str = "RGB", **options: Any) -> bytes:
    return saved(picture(seed=seed, mode=mode), "PNG", **options)


def heic(*, seed: int = 0) -> bytes:
    import pillow_heif

    pillow_heif.register_heif_opener()
    return saved(picture(seed=seed), "HEIF")


def png_of_size(width: int, height: int) -> bytes:
    """A few bytes that say they are a huge picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(b"\0" * 1_000_000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def jpeg_of_size(width: int, height: int) -> bytes:
    """A sound small JPEG whose frame header was changed."""
    content = bytearray(jpeg())
    at = content.index(b"\xff\xc0")
    content[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(content)


def with_exif(tags: dict[int, Any], gps: dict[int, Any] | None = None, *, seed: int = 0) -> bytes:
    exif = Image.Exif()
    for tag, value in tags.items():
        exif[tag] = value
    if gps:
        exif.get_ifd(0x8825).update(gps)
    return jpeg(seed=seed, exif=exif.tobytes())


def zip_of(**files: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


def taken_pictures() -> dict[str, bytes]:
    """Odd but sound: each must be stored."""
    mpo = io.BytesIO()
    picture(seed=20).save(mpo, "MPO", save_all=True, append_images=[picture(seed=21)])
    return {
        "plain.jpg": jpeg(seed=1),
        "progressive.jpg": jpeg(seed=2, progressive=True),
        "grey.jpg": saved(picture(seed=3, mode="L"), "JPEG"),
        "cmyk.jpg": saved(picture(seed=4, mode="CMYK"), "JPEG"),
        "phone.mpo": mpo.getvalue(),
        "turned.jpg": with_exif({0x0112: 6}, seed=5),
        "plain.png": png(seed=6),
        "palette.png": png(seed=7, mode="P"),
        "transparent.png": png(seed=8, mode="RGBA"),
        "bilevel.png": png(seed=9, mode="1"),
        "sixteen-bit.png": png(seed=10, mode="I;16") if _can_16_bit() else png(seed=10, mode="I"),
        "plain.webp": saved(picture(seed=11), "WEBP"),
        "plain.tif": saved(picture(seed=12), "TIFF"),
        "compressed.tif": saved(picture(seed=13), "TIFF", compression="tiff_lzw"),
        "phone.heic": heic(seed=14),
        "really-a-png.jpg": png(seed=15),
        "really-a-jpeg.svg": jpeg(seed=16),
        "no extension": jpeg(seed=17),
        "with-a-zip-behind.jpg": jpeg(seed=18) + zip_of(a=b"x"),
        "with-html-behind.png": png(seed=19) + b"<script>alert(1)</script>",
        "hostile-exif.jpg": with_exif(
            {0x010F: "NUL\0maker", 0x0110: "=cmd|' /C calc'!A0", 0x0132: "0000:00:00 00:00:00"},
            {1: "N", 2: (0.0, 0.0, 0.0), 3: "E", 4: (999.0, 99.0, 99.0)},
            seed=22,
        ),
        "date-in-the-future.jpg": with_exif({0x0132: "2999:01:01 00:00:00"}, seed=23),
        "long.jpg": jpeg(seed=24, width=2, height=4000),
    }


def _can_16_bit() -> bool:
    try:
        picture(mode="I;16")
    except ValueError:
        return False
    return True


def refused_pictures() -> dict[str, bytes]:
    """Each must be refused with a reason, and nothing of it kept."""
    dice = random.Random(7)
    frames = [picture(seed=seed) for seed in range(3)]
    whole_jpeg, whole_png = jpeg(width=400, height=300), png()
    return {
        "empty.jpg": b"",
        "one-byte.jpg": b"\xff",
        "text.jpg": b"Dear springtail,\n",
        "noise.jpg": dice.randbytes(5000),
        "zeros.png": b"\0" * 5000,
        "only-a-header.jpg": b"\xff\xd8\xff\xe0",
        "only-a-header.png": b"\x89PNG\r\n\x1a\n",
        "truncated.jpg": whole_jpeg[: len(whole_jpeg) // 2],
        "truncated.png": whole_png[: len(whole_png) // 2],
        "truncated.webp": saved(frames[0], "WEBP")[:100],
        "truncated.tif": saved(frames[0], "TIFF")[:200],
        "truncated.heic": heic()[:300],
        "jpeg-start-then-noise.jpg": whole_jpeg[:200] + dice.randbytes(3000),
        "pixel-bomb.png": png_of_size(60_000, 60_000),
        "pixel-bomb-2.png": png_of_size(2_147_483_647, 2_147_483_647),
        "many-pixels.png": png_of_size(20_000, 10_000),
        "long-side.png": png_of_size(30_001, 10),
        "pixel-bomb.jpg": jpeg_of_size(65_000, 65_000),
        "one-pixel.png": saved(picture(1, 1), "PNG"),
        "one-by-20000.png": saved(picture(1, 20_000), "PNG"),
        "animated.gif": saved(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "animated.webp": saved(frames[0], "WEBP", save_all=True, append_images=frames[1:]),
        "animated.png": saved(frames[0], "PNG", save_all=True, append_images=frames[1:]),
        "pages.tif": saved(frames[0], "TIFF", save_all=True, append_images=frames[1:]),
        "still.gif": saved(frames[0], "GIF"),
        "windows.bmp": saved(frames[0], "BMP"),
        "icon.ico": saved(frames[0], "ICO"),
        "drawing.svg": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
        "drawing.jpg": b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>',
        "page.jpg": b"<!doctype html><script>alert(1)</script>",
        "page-behind-a-signature.gif": b"GIF89a/*<script>alert(1)</script>",
        "postscript.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
        "document.jpg": b"%PDF-1.7\n",
        "program.jpg": b"MZ" + b"\0" * 200,
        "program.png": b"\x7fELF" + b"\0" * 200,
        "archive.jpg": zip_of(a=jpeg()),
        "pickle.jpg": b"\x80\x04\x95\x10\0\0\0\0\0\0\0\x8c\x05posix\x94.",
    }

"""Pictures as they are given away: upright, in sRGB, and without metadata - the place where a photo was taken above all.

A JPEG or PNG that is upright and in sRGB already is copied without its metadata, segment by segment, so its pixels are
those the model was trained on, to the bit. Anything else is decoded and written anew.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Final

from PIL import Image, ImageCms

from apps.training.engine.pictures import (
    DEFAULT_LIMITS,
    PictureError,
    PictureLimits,
    decode_upright_rgb,
    detect_format,
    inspect,
)

_KEPT_CHUNKS: Final = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
_PNG_START: Final = b"\x89PNG\r\n\x1a\n"
_STAND_ALONE: Final = {0x01, *range(0xD0, 0xD8)}
_ADOBE: Final = 0xEE
_JFIF_BYTES: Final = 16
"""Of an APP0 segment without a thumbnail."""


def suffix_of(stored_name: str) -> str:
    """Of the picture given away, known from the original's name alone: JPEG for what a camera makes, else PNG."""
    return ".png" if PurePosixPath(stored_name).suffix.lower() in (".png", ".tif", ".tiff") else ".jpg"


def clean_picture(content: bytes, *, suffix: str, limits: PictureLimits = DEFAULT_LIMITS) -> bytes:
    """The picture as JPEG or PNG, as `suffix` says. Raises `PictureError` for one that cannot be read."""
    header = inspect(content, limits=limits)
    kind = detect_format(content)
    if header.orientation == 1 and _is_srgb(content, kind):
        if kind == "JPEG" and suffix == ".jpg":
            return b"".join(_jpeg_parts(content))
        if kind == "PNG" and suffix == ".png":
            return b"".join(_png_parts(content))
    picture = decode_upright_rgb(content, limits=limits)
    out = io.BytesIO()
    if suffix == ".png":
        picture.save(out, "PNG")
    else:
        picture.save(out, "JPEG", quality=95, subsampling=0)
    return out.getvalue()


def _is_srgb(content: bytes, kind: str) -> bool:
    """Whether its numbers mean sRGB to a reader that knows nothing of profiles."""
    if kind not in ("JPEG", "PNG"):
        return False
    try:
        with Image.open(io.BytesIO(content), formats=(kind,)) as picture:
            profile = picture.info.get("icc_profile")
            if picture.mode not in ("RGB", "L", "P", "1", "RGBA", "LA"):
                return False
        if not profile:
            return True
        name = ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile.profile_description or ""
        return "srgb" in name.lower()
    except Exception:  # noqa: BLE001  (Pillow leaks whatever damaged data provoked; then it is decoded instead)
        return False


def _jpeg_parts(content: bytes) -> Iterator[bytes]:
    """What decoding needs: neither application segments nor comments, nothing behind the end of the first picture."""
    yield content[:2]
    at = 2
    while True:
        at = _marker_at(content, at)
        marker = content[at + 1]
        if marker == 0xD9:
            yield b"\xff\xd9"
            return
        if marker in _STAND_ALONE:
            yield content[at : at + 2]
            at += 2
            continue
        end = at + 2 + int.from_bytes(content[at + 2 : at + 4], "big")
        if not at + 4 <= end <= len(content):
            raise PictureError("truncated")
        yield _kept_segment(marker, content[at:end])
        at = end
        if marker == 0xDA:
            at = _scan_end(content, end)
            yield content[end:at]


def _marker_at(content: bytes, at: int) -> int:
    if content[at : at + 1] != b"\xff":
        raise PictureError("corrupt")
    while content[at + 1 : at + 2] == b"\xff":  # fill bytes
        at += 1
    if at + 1 >= len(content):
        raise PictureError("truncated")
    return at


def _kept_segment(marker: int, segment: bytes) -> bytes:
    if marker == 0xE0:
        is_jfif = segment[4:9] == b"JFIF\0"
        return b"\xff\xe0\x00\x10" + segment[4:_JFIF_BYTES] + b"\0\0" if is_jfif else b""
    if marker == _ADOBE and segment[4:9] == b"Adobe":
        return segment  # says how the colours are coded
    return b"" if 0xE1 <= marker <= 0xEF or marker == 0xFE else segment


def _scan_end(content: bytes, at: int) -> int:
    """Where the next marker stands; in a scan, FF 00 is data and FF D0-D7 are restarts."""
    while True:
        at = content.find(b"\xff", at)
        if at < 0 or at + 1 >= len(content):
            raise PictureError("truncated")
        if content[at + 1] == 0 or 0xD0 <= content[at + 1] <= 0xD7:
            at += 2
        elif content[at + 1] == 0xFF:
            at += 1
        else:
            return at


def _png_parts(content: bytes) -> Iterator[bytes]:
    yield _PNG_START
    at = len(_PNG_START)
    while at + 12 <= len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        kind = content[at + 4 : at + 8]
        end = at + 12 + length
        if end > len(content):
            break
        if kind in _KEPT_CHUNKS:
            yield content[at:end]
        if kind == b"IEND":
            return
        at = end
    raise PictureError("truncated")

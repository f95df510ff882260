"""The one decoder of pictures, for intake and for inference: hostile bytes in, an upright 8-bit sRGB picture out.

Content decides what a file is, never its name or declared type: the first bytes choose one of five formats,
and Pillow is then allowed that one opener only, so nothing can reach EPS, SVG or any of its other plugins.
Every limit is checked on the header, before a pixel is decoded.
"""

from __future__ import annotations

import io
import struct
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from PIL import Image

from apps.training.engine.colours import to_srgb

PictureFormat = Literal["JPEG", "PNG", "WEBP", "TIFF", "HEIF"]
PictureErrorCode = Literal[
    "empty",
    "too_many_bytes",
    "not_a_picture",
    "unsupported_format",
    "too_many_pixels",
    "too_long_side",
    "too_small",
    "animated",
    "truncated",
    "corrupt",
    "decoder_limit",
]
PictureSource = bytes | Path

MEDIA_TYPES: Final[dict[PictureFormat, str]] = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "TIFF": "image/tiff",
    "HEIF": "image/heic",
}
EXTENSIONS: Final[dict[PictureFormat, str]] = {
    "JPEG": "jpg",
    "PNG": "png",
    "WEBP": "webp",
    "TIFF": "tif",
    "HEIF": "heic",
}

MAX_JPEG_SCANS: Final = 100
"""Each scan of a progressive JPEG is a pass over the whole picture; encoders write about ten. Hundreds of them
in a small file are an attack on the decoder's time (libjpeg's own fuzzers stop at 500)."""

_ORIENTATION_TAG: Final = 0x0112
_TRANSPOSE_BY_ORIENTATION: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_NEW_SUBFILE_TYPE_TAG: Final = 254
_DNG_VERSION_TAG: Final = 50706

_HEIF_STILL_BRANDS: Final = {b"heic", b"heix", b"heim", b"heis", b"mif1"}
_HEIF_SEQUENCE_BRANDS: Final = {b"hevc", b"hevx", b"hevm", b"hevs", b"msf1"}
_OTHER_PICTURE_SIGNATURES: Final = (
    b"GIF87a", b"GIF89a", b"BM", b"%!PS", b"\xc5\xd0\xd3\xc6", b"%PDF", b"8BPS", b"\x00\x00\x01\x00",
    b"\x00\x00\x00\x0cjP  ", b"\xff\x4f\xff\x51", b"\xff\x0a", b"\x00\x00\x00\x0cJXL ", b"II\x2b\x00", b"MM\x00\x2b",
    b"II\xbc\x01", b"IIRO", b"IIU\x00", b"FUJIFILMCCD-RAW", b"<svg", b"\x76\x2f\x31\x01", b"SIMPLE  =",
)  # fmt: skip

_heif_lock = threading.Lock()
_heif_is_registered = False


class PictureError(Exception):
    """A picture that is refused. `code` is stable and meant for programs; `params` fill a translated sentence."""

    def __init__(self, code: PictureErrorCode, **params: int | str) -> None:
        super().__init__(f"{code} {params}" if params else code)
        self.code: PictureErrorCode = code
        self.params = params


@dataclass(frozen=True, slots=True)
class PictureLimits:
    """What is refused from the header alone. A whole springtail plate has 108 megapixels, hence 120."""

    bytes: int = 50 * 1024 * 1024
    pixels: int = 120_000_000
    side_px: int = 30_000
    frames: int = 1
    min_side_px: int = 2


DEFAULT_LIMITS: Final = PictureLimits()


@dataclass(frozen=True, slots=True)
class PictureHeader:
    """What a picture says of itself before it is decoded."""

    format: PictureFormat
    width_px: int
    """Of the upright picture: the EXIF orientation is already taken into account."""
    height_px: int
    frames: int
    orientation: int
    """EXIF orientation 1..8 that was still to be applied to the stored pixels; 1 means none."""
    bytes: int

    @property
    def media_type(self) -> str:
        return MEDIA_TYPES[self.format]

    @property
    def extension(self) -> str:
        return EXTENSIONS[self.format]


def inspect(data: PictureSource, *, limits: PictureLimits = DEFAULT_LIMITS) -> PictureHeader:
    """Read the header of `data` and hold it against `limits`, without decoding a pixel.

    Raises `PictureError`. A header that passes does not promise that the pixels can be decoded: only
    `decode_upright_rgb` finds a file that was cut or damaged.
    """
    content = _content(data, limits)
    with _open(content, limits) as (header, _):
        return header


def decode_upright_rgb(
    data: PictureSource, *, scale: int = 1, limits: PictureLimits = DEFAULT_LIMITS
) -> Image.Image:
    """Decode the whole picture: upright, mode "RGB", 8 bits, sRGB, without any metadata.

    `scale` 2, 4 or 8 gives a picture of `ceil(side / scale)`; a JPEG is then decoded at that scale from the
    start, which costs a fraction of the time and memory. Transparent parts become white.

    Raises `PictureError` for everything that is not a whole, sound picture within `limits`.
    """
    if scale not in (1, 2, 4, 8):
        raise ValueError(f"scale must be 1, 2, 4 or 8, not {scale}")
    content = _content(data, limits)
    with _open(content, limits) as (header, picture):
        try:
            return _upright_rgb(picture, header, scale)
        except PictureError:
            raise
        except Exception as error:
            # Pillow's plugins leak whatever the damaged data provoked (OSError, SyntaxError, KeyError,
            # struct.error, ZeroDivisionError ...), so that no narrower list is complete.
            raise _as_picture_error(error, content, header.format) from error


def detect_format(content: bytes) -> PictureFormat:
    """The format that the first bytes announce; raises `PictureError` for any that is not accepted."""
    if content.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "WEBP"
    if content[:4] in (b"II*\x00", b"MM\x00*"):
        if content[8:10] == b"CR":  # Canon raw: Pillow would open the small preview in it
            raise PictureError("unsupported_format")
        return "TIFF"
    if content[4:8] == b"ftyp":
        return _detect_heif(content)
    if content.startswith(_OTHER_PICTURE_SIGNATURES):
        raise PictureError("unsupported_format")
    raise PictureError("not_a_picture")


def _detect_heif(content: bytes) -> PictureFormat:
    box_bytes = min(int.from_bytes(content[:4], "big"), 256, len(content))
    major = content[8:12]
    brands = {major} | {content[at : at + 4] for at in range(16, box_bytes - 3, 4)}
    if major in _HEIF_SEQUENCE_BRANDS:
        raise PictureError("animated")
    if brands & {b"avif", b"avis"} or not brands & _HEIF_STILL_BRANDS:
        raise PictureError("unsupported_format")
    return "HEIF"


def _content(data: PictureSource, limits: PictureLimits) -> bytes:
    """The bytes of the file, never more than one above the limit, so that a growing file cannot fill memory."""
    if isinstance(data, Path):
        with data.open("rb") as file:
            content = file.read(limits.bytes + 1)
    else:
        content = data
    if not content:
        raise PictureError("empty")
    if len(content) > limits.bytes:
        raise PictureError("too_many_bytes", limit=limits.bytes)
    return content


class _open:  # noqa: N801 - used as a context manager, like contextlib's own
    """Opens the header of a picture that has passed every limit."""

    def __init__(self, content: bytes, limits: PictureLimits) -> None:
        self._content = content
        self._limits = limits

    def __enter__(self) -> tuple[PictureHeader, Image.Image]:
        content, limits = self._content, self._limits
        picture_format = detect_format(content)
        if picture_format == "JPEG" and content.count(b"\xff\xda") > MAX_JPEG_SCANS:
            raise PictureError("decoder_limit")
        if picture_format == "WEBP":
            _check_size(*_webp_canvas_px(content), limits)
        if picture_format == "HEIF":
            _register_heif()
        # Ultralytics switches this process-wide guard off; it only backs up the checks below, which run first
        # for every format whose opener does not allocate pixels.
        Image.MAX_IMAGE_PIXELS = max(DEFAULT_LIMITS.pixels, limits.pixels)
        try:
            self._picture = Image.open(io.BytesIO(content), formats=(picture_format,))
            header = _header(self._picture, picture_format, content, limits)
        except PictureError:
            raise
        except Exception as error:
            raise _as_picture_error(error, content, picture_format) from error
        return header, self._picture

    def __exit__(self, *_: object) -> None:
        self._picture.close()


def _header(
    picture: Image.Image, picture_format: PictureFormat, content: bytes, limits: PictureLimits
) -> PictureHeader:
    width, height = picture.size
    _check_size(width, height, limits)
    frames = _frames(picture, picture_format)
    if frames > limits.frames:
        raise PictureError("animated", frames=frames)
    orientation = 1
    if picture_format == "TIFF":
        _refuse_raw_preview(picture)
        # Pillow turns a TIFF by itself while loading and announces the size of the result beforehand.
    elif picture_format != "HEIF":  # libheif has applied the rotation that the container states
        orientation = _orientation(picture)
    if orientation >= 5:
        width, height = height, width
    return PictureHeader(picture_format, width, height, frames, orientation, len(content))


def _check_size(width: int, height: int, limits: PictureLimits) -> None:
    if width < limits.min_side_px or height < limits.min_side_px:
        raise PictureError("too_small", width=width, height=height, limit=limits.min_side_px)
    if max(width, height) > limits.side_px:
        raise PictureError("too_long_side", width=width, height=height, limit=limits.side_px)
    if width * height > limits.pixels:
        raise PictureError("too_many_pixels", width=width, height=height, limit=limits.pixels)


def _frames(picture: Image.Image, picture_format: PictureFormat) -> int:
    if picture_format == "JPEG":
        return 1  # a phone's "MPO" holds the photo and by-products of it (depth, preview): the first is the photo
    if picture_format == "TIFF":
        try:  # counting every page of a hostile chain would take as long as it pleases
            picture.seek(1)
        except EOFError:
            return 1
        finally:
            picture.seek(0)
        return 2
    return int(getattr(picture, "n_frames", 1))


def _refuse_raw_preview(picture: Image.Image) -> None:
    """Raw files of cameras are TIFFs whose first picture is a thumbnail: not what the person meant to send."""
    tags = getattr(picture, "tag_v2", {})
    if _DNG_VERSION_TAG in tags or (tags.get(_NEW_SUBFILE_TYPE_TAG) or 0) & 1:
        raise PictureError("unsupported_format")


def _orientation(picture: Image.Image) -> int:
    try:
        value = picture.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # noqa: BLE001
        return 1  # damaged metadata is no reason to refuse a sound picture
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _webp_canvas_px(content: bytes) -> tuple[int, int]:
    """Width and height of a WebP, read here because Pillow's opener already allocates the whole canvas."""
    chunk, body = content[12:16], content[20:30]
    if len(body) < 10:
        raise PictureError("truncated")
    if chunk == b"VP8X":
        return int.from_bytes(body[4:7], "little") + 1, int.from_bytes(body[7:10], "little") + 1
    if chunk == b"VP8L" and body[0] == 0x2F:
        (bits,) = struct.unpack("<I", body[1:5])
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if chunk == b"VP8 " and body[3:6] == b"\x9d\x01\x2a":
        width, height = struct.unpack("<HH", body[6:10])
        return width & 0x3FFF, height & 0x3FFF
    raise PictureError("corrupt")


def _register_heif() -> None:
    global _heif_is_registered  # noqa: PLW0603
    with _heif_lock:
        if not _heif_is_registered:
            import pillow_heif  # loads a 10 MB library that most processes never need

            pillow_heif.register_heif_opener(thumbnails=False)
            _heif_is_registered = True


def _upright_rgb(picture: Image.Image, header: PictureHeader, scale: int) -> Image.Image:
    if scale > 1 and header.format == "JPEG":
        stored_width, stored_height = picture.size
        picture.draft(None, (max(1, stored_width // scale), max(1, stored_height // scale)))
    picture.load()
    profile = picture.info.get("icc_profile")
    upright = to_srgb(
        picture,
        profile=profile if isinstance(profile, bytes) else None,
        may_be_dim=header.format == "TIFF",
    )
    if header.orientation != 1:
        upright = upright.transpose(_TRANSPOSE_BY_ORIENTATION[header.orientation])
    wanted = (-(-header.width_px // scale), -(-header.height_px // scale))
    if upright.size != wanted:
        upright = upright.reduce(max(1, round(upright.width / wanted[0])))
    upright.info.clear()
    return upright


def _as_picture_error(error: Exception, content: bytes, picture_format: PictureFormat) -> PictureError:
    text = str(error).lower()
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return PictureError("too_many_pixels", limit=DEFAULT_LIMITS.pixels)
    if isinstance(error, MemoryError) or "decompressed data too large" in text or "security limit" in text:
        return PictureError("decoder_limit")
    if "truncated" in text or "end of file" in text or _looks_cut(content, picture_format):
        return PictureError("truncated")
    return PictureError("corrupt")


def _looks_cut(content: bytes, picture_format: PictureFormat) -> bool:
    """Whether the end that its format prescribes is missing."""
    if picture_format == "JPEG":
        return b"\xff\xd9" not in content[2:]
    if picture_format == "PNG":
        return b"IEND" not in content[-64:]
    if picture_format == "WEBP":
        return int.from_bytes(content[4:8], "little") + 8 > len(content)
    return False

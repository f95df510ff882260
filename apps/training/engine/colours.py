"""Any kind of samples - 16-bit, floating, palette, CMYK, Lab, with alpha or a profile - as 8-bit sRGB."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms


def to_srgb(picture: Image.Image, *, profile: bytes | None, may_be_dim: bool) -> Image.Image:
    """An 8-bit RGB copy of a loaded picture of any mode, in sRGB if `profile` (ICC) says it is in another space.

    Transparent parts become white. `may_be_dim`: 16-bit samples may use fewer bits than 16, as a microscope
    camera's do, and are then stretched by the smallest power of two that holds the brightest of them.
    """
    picture = _eight_bit(picture, may_be_dim=may_be_dim)
    picture = _without_alpha(picture)
    if picture.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(picture, lab, srgb, outputMode="RGB")
        return _plain(converted or picture)
    if profile and picture.mode in ("L", "RGB", "CMYK"):
        managed = _colour_managed(picture, profile)
        if managed is not None:
            return managed
    return _plain(picture)


def _plain(picture: Image.Image) -> Image.Image:
    """A plain RGB `Image` without the file behind it, so that closing the file does not take the pixels along.

    A copy would do as well, but of a plate that is another 430 MB.
    """
    if picture.mode != "RGB":
        return picture.convert("RGB")
    return picture._new(picture.im)  # noqa: SLF001


def _eight_bit(picture: Image.Image, *, may_be_dim: bool) -> Image.Image:
    if picture.mode.startswith("I"):
        return _from_integers(np.asarray(picture), may_be_dim=may_be_dim)
    if picture.mode == "F":
        return _from_floats(np.array(picture, np.float32))
    return picture


def _from_integers(values: NDArray[np.integer[Any]], *, may_be_dim: bool) -> Image.Image:
    """(H, W) samples of 16 or 32 bits; beyond 0..65535 they are cut off. No copy wider than the samples."""
    bits = 16
    if may_be_dim:
        # Microscope cameras store 10, 12 or 14 bits in 16: without this the picture would be black.
        brightest = int(values.max())
        bits = next((b for b in (8, 10, 12, 14) if brightest < 1 << b), 16)
    if values.dtype.itemsize > 2:
        values = values.clip(0, 65535)
    return Image.fromarray((values >> (bits - 8)).astype(np.uint8))


def _from_floats(values: NDArray[np.float32]) -> Image.Image:
    """(H, W) samples, stretched from 0..1 or 0..255 if they keep to it, else from the darkest to the brightest.

    Changes `values`, which would otherwise need several copies of half a gigabyte for a plate.
    """
    np.nan_to_num(values, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    if low >= 0 and high <= 255:
        low, high = 0.0, 1.0 if high <= 1 else 255.0
    values -= low
    values *= 255.0 / max(high - low, 1e-12)
    return Image.fromarray(np.rint(values, out=values).astype(np.uint8))


def _without_alpha(picture: Image.Image) -> Image.Image:
    if picture.mode in ("RGB", "L", "CMYK", "LAB"):
        return picture
    if picture.mode in ("RGBA", "LA", "PA", "RGBa", "La", "RGBX") or "transparency" in picture.info:
        if picture.mode == "RGBX":
            return picture.convert("RGB")
        rgba = picture.convert("RGBA")
        white = Image.new("RGB", rgba.size, "white")
        white.paste(rgba, mask=rgba.getchannel("A"))
        return white
    return picture.convert("L" if picture.mode == "1" else "RGB")


def _colour_managed(picture: Image.Image, profile: bytes) -> Image.Image | None:
    """`picture` converted from its ICC profile to sRGB, or None where the profile is sRGB, damaged or unfit."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in (source.profile.profile_description or "").lower() and picture.mode == "RGB":
            return None
        target = ImageCms.createProfile("sRGB")
        intent = ImageCms.Intent.PERCEPTUAL
        return ImageCms.profileToProfile(picture, source, target, renderingIntent=intent, outputMode="RGB")
    except Exception:  # noqa: BLE001
        return None  # a profile that cannot be read leaves the colours as they are

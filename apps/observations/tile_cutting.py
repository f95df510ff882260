"""Cuts one large picture into tiles, in a process of its own with bounded memory and time.

The picture was decoded soundly once, at intake; a hostile one may still be hostile. The parent names the size it knows
and writes only tiles that belong to a picture of that size, so whatever the child says, nothing else is stored.

Run as `python -m apps.observations.tile_cutting` this module is such a child. It imports no Django.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, BinaryIO, Final

from PIL import Image

from apps.observations.decoding import ROOT, limit_time, read_exactly
from apps.observations.pyramid import levels_of
from apps.training.engine.pictures import PictureError, PictureLimits, decode_upright_rgb

QUALITY: Final = 88
_FRAME: Final = struct.Struct("<BHHI")  # level, column, row, length
_END: Final = 255
"""In the place of a level: no more tiles; what follows is an empty object, or why there are none."""
_MAX_FRAME_BYTES: Final = 4 * 1024 * 1024
"""A tile of pure noise has less than 1 MB."""
_SILENCE_S: Final = 120
"""A child whose parent takes no tile for so long ends by itself."""
_CPU_FACTOR: Final = 6
"""Cutting and encoding every level takes this many times what decoding may; measured: 3 times."""


@dataclass(frozen=True, slots=True)
class Tile:
    level: int
    column: int
    row: int
    jpeg: bytes


def cut_tiles(
    file: BinaryIO,
    *,
    size_bytes: int,
    width_px: int,
    height_px: int,
    limits: PictureLimits,
    seconds: float,
    memory_bytes: int,
) -> Iterator[Tile]:
    """The tiles of the picture in `file`, largest level first, each as soon as it is encoded.

    `seconds` is for decoding; between two tiles the same may pass again. Raises `PictureError`: after it, or when the
    caller stops early, what was handed out is not a whole pyramid.
    """
    cpu_s = int(seconds * _CPU_FACTOR)
    numbers = (
        memory_bytes, cpu_s, limits.bytes, limits.pixels, limits.side_px, size_bytes, width_px, height_px,
    )  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "apps.observations.tile_cutting", *(str(number) for number in numbers)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
        # Nothing of the site's secrets is in reach of a decoder.
        env={"PATH": os.environ.get("PATH", ""), "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1"},
    )
    assert process.stdin is not None and process.stdout is not None  # noqa: PT018  (both are pipes)
    feeder = threading.Thread(target=_feed, args=(process.stdin, file, size_bytes), daemon=True)
    feeder.start()
    try:
        yield from _received(process.stdout, width_px, height_px, seconds)
    except (OSError, EOFError, TimeoutError, ValueError) as error:
        raise PictureError("decoder_limit") from error
    finally:
        process.kill()
        process.wait()
        feeder.join()
        process.stdout.close()


def _feed(stdin: IO[bytes], file: BinaryIO, size_bytes: int) -> None:
    """In a thread: a child that refuses early stops reading, and nobody may wait for it."""
    with contextlib.suppress(OSError, ValueError):
        file.seek(0)
        left = size_bytes
        while left and (chunk := file.read(min(left, 1 << 20))):
            stdin.write(chunk)
            left -= len(chunk)
    with contextlib.suppress(OSError):
        stdin.close()


def _received(stdout: IO[bytes], width_px: int, height_px: int, seconds: float) -> Iterator[Tile]:
    awaited = [
        (level.level, column, row)
        for level in reversed(levels_of(width_px, height_px))
        for column, row in level.tiles()
    ]
    for place in [*awaited, None]:
        deadline = time.monotonic() + seconds
        level, column, row, length = _FRAME.unpack(read_exactly(stdout, _FRAME.size, deadline))
        if length > _MAX_FRAME_BYTES:
            raise ValueError("too long a tile")
        content = read_exactly(stdout, length, deadline)
        if level == _END:
            if refusal := json.loads(content):
                raise PictureError(refusal["code"], **refusal["params"])
            if place is None:
                return
        if (level, column, row) != place or not content.startswith(b"\xff\xd8\xff"):
            raise ValueError("not the tile that comes next")
        yield Tile(level, column, row, content)


# --- the child --------------------------------------------------------------------------------------------------


def _write_levels(picture: Image.Image, sink: BinaryIO) -> None:
    for level in reversed(levels_of(*picture.size)):
        if picture.size != (level.width, level.height):
            picture = picture.reduce(2)
        for column, row in level.tiles():
            buffer = io.BytesIO()
            # What Pillow is not given it does not write: no metadata.
            picture.crop(level.box(column, row)).save(buffer, "JPEG", quality=QUALITY)
            signal.alarm(_SILENCE_S)
            sink.write(_FRAME.pack(level.level, column, row, buffer.tell()) + buffer.getvalue())
            sink.flush()


def _serve(source: BinaryIO, sink: BinaryIO, size_bytes: int, expected: tuple[int, int], limits: Any) -> None:
    refusal: dict[str, Any] = {}
    try:
        picture = decode_upright_rgb(source.read(size_bytes), limits=limits)
        if picture.size == expected:
            _write_levels(picture, sink)
        else:
            refusal = {"code": "corrupt", "params": {}}
    except PictureError as error:
        refusal = {"code": error.code, "params": error.params}
    except MemoryError:
        refusal = {"code": "decoder_limit", "params": {}}
    except OSError:
        return  # the parent is gone
    except Exception:  # noqa: BLE001
        refusal = {"code": "corrupt", "params": {}}
    text = json.dumps(refusal).encode()
    sink.write(_FRAME.pack(_END, 0, 0, len(text)) + text)
    sink.flush()


if __name__ == "__main__":
    memory, cpu_seconds, *rest = (int(value) for value in sys.argv[1:])
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    os.nice(10)  # what people wait for goes first
    limit_time(cpu_seconds)
    Image.preinit()
    _serve(
        sys.stdin.buffer,
        sys.stdout.buffer,
        rest[3],
        (rest[4], rest[5]),
        PictureLimits(bytes=rest[0], pixels=rest[1], side_px=rest[2]),
    )

"""Pictures are decoded in a process of their own, with bounded memory and time.

A hostile file can exhaust or crash its decoder; then that process ends, its sender is told, and the site goes on.
Children are started clean (no fork of a process with threads), wait for one picture at a time on their standard
input, and are replaced after a large picture, so that their memory goes back.

Run as `python -m apps.observations.decoding` this module is such a child. It imports no Django.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import queue
import resource
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, BinaryIO, Final

from apps.observations.renditions import PreparedPicture, prepare_picture
from apps.training.engine.pictures import PictureError, PictureLimits

_CHILDREN: Final = 2
_PICTURES_A_CHILD: Final = 200
_GRACE_S: Final = 5
_LARGE_PIXELS: Final = 25_000_000
_MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
_LENGTHS: Final = struct.Struct("<QQQ")
ROOT: Final = Path(__file__).resolve().parent.parent.parent


class DecodingPool:
    """At most two decoding processes for this process; safe to use from several threads."""

    def __init__(self, *, limits: PictureLimits, seconds: float, memory_bytes: int) -> None:
        self._limits, self._seconds, self._memory_bytes = limits, seconds, memory_bytes
        self._idle: queue.LifoQueue[_Child | None] = queue.LifoQueue()
        for _place in range(_CHILDREN):
            self._idle.put(None)

    def prepare(self, file: BinaryIO, *, size_bytes: int) -> PreparedPicture:
        """Everything kept of the picture in `file` (read from its start). Raises `PictureError`."""
        child = self._idle.get()
        try:
            if child is None or not child.is_fit or child.has_died:
                if child is not None:
                    child.end()
                child = _Child(self._limits, self._memory_bytes, self._seconds)
            return child.prepare(file, size_bytes=size_bytes, seconds=self._seconds)
        finally:
            self._idle.put(child)

    def close(self) -> None:
        for _place in range(_CHILDREN):
            child = self._idle.get()
            if child is not None:
                child.end()
            self._idle.put(None)


class _Child:
    def __init__(self, limits: PictureLimits, memory_bytes: int, seconds: float) -> None:
        self._pictures = 0
        self.is_fit = True
        numbers = (memory_bytes, int(seconds) + _GRACE_S, limits.bytes, limits.pixels, limits.side_px)
        arguments = [str(number) for number in numbers]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "apps.observations.decoding", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=ROOT,
            # Nothing of the site's secrets is in reach of a decoder.
            env={"PATH": os.environ.get("PATH", ""), "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1"},
        )

    @property
    def has_died(self) -> bool:
        """While it waited: that is no fault of the next picture."""
        return self._process.poll() is not None

    def prepare(self, file: BinaryIO, *, size_bytes: int, seconds: float) -> PreparedPicture:
        try:
            answer = self._ask(file, size_bytes, seconds)
        except (OSError, EOFError, TimeoutError, ValueError, TypeError) as error:
            self.end()
            raise PictureError("decoder_limit") from error
        self._pictures += 1
        if isinstance(answer, PreparedPicture):
            large = answer.width_px * answer.height_px > _LARGE_PIXELS
            self.is_fit = not large and self._pictures < _PICTURES_A_CHILD
            return answer
        code, params = answer
        if code == "decoder_limit":
            self.is_fit = False
        raise PictureError(code, **params)

    def _ask(
        self, file: BinaryIO, size_bytes: int, seconds: float
    ) -> PreparedPicture | tuple[Any, dict[str, Any]]:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None  # noqa: PT018  (both are pipes)
        stdin.write(struct.pack("<Q", size_bytes))
        file.seek(0)
        left = size_bytes
        while left:
            chunk = file.read(min(left, 1 << 20))
            if not chunk:
                raise EOFError
            stdin.write(chunk)
            left -= len(chunk)
        stdin.flush()
        deadline = time.monotonic() + seconds
        return _unpacked(
            read_exactly(stdout, _LENGTHS.size, deadline), lambda n: read_exactly(stdout, n, deadline)
        )

    def end(self) -> None:
        self.is_fit = False
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def _packed(answer: PreparedPicture | PictureError) -> bytes:
    """Plain data, never a pickle: a decoder that was taken over must not reach the site through its answers."""
    if isinstance(answer, PictureError):
        fields: dict[str, Any] = {"code": answer.code, "params": answer.params}
        display = thumbnail = b""
    else:
        fields = asdict(answer)
        display, thumbnail = fields.pop("display"), fields.pop("thumbnail")
    text = json.dumps(fields).encode()
    return _LENGTHS.pack(len(text), len(display), len(thumbnail)) + text + display + thumbnail


def _unpacked(lengths: bytes, read: Callable[[int], bytes]) -> PreparedPicture | tuple[Any, dict[str, Any]]:
    sizes = _LENGTHS.unpack(lengths)
    if sum(sizes) > _MAX_ANSWER_BYTES:
        raise ValueError("too long an answer")
    text, display, thumbnail = (read(size) for size in sizes)
    fields = json.loads(text)
    if "code" in fields:
        return fields["code"], fields["params"]
    return PreparedPicture(**fields, display=display, thumbnail=thumbnail)


def read_exactly(pipe: IO[bytes], length: int, deadline: float) -> bytes:
    parts: list[bytes] = []
    while length:
        if not select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise TimeoutError
        part = os.read(pipe.fileno(), min(length, 1 << 20))
        if not part:
            raise EOFError
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


def limit_time(seconds: int) -> None:
    """From now on: so much processor time, and so much time by the clock."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    processor_s = math.ceil(used.ru_utime + used.ru_stime) + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (processor_s, resource.RLIM_INFINITY))
    signal.alarm(seconds)


def _serve(limits: PictureLimits, seconds: int) -> None:
    """The child's loop: a length and a picture in, an answer out; the end of input ends it.

    The alarm ends a child whose site was killed while it decoded, and nobody is left to do so.
    """
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    while header := source.read(8):
        (size_bytes,) = struct.unpack("<Q", header)
        content = source.read(size_bytes)
        limit_time(seconds)
        answer: PreparedPicture | PictureError
        try:
            answer = prepare_picture(content, limits=limits)
        except PictureError as error:
            answer = error
        except MemoryError:
            answer = PictureError("decoder_limit")
        except Exception:  # noqa: BLE001
            # Whatever a damaged file provoked beyond the decoder's own errors: refused, and never a crash.
            answer = PictureError("corrupt")
        signal.alarm(0)
        sink.write(_packed(answer))
        sink.flush()
        del content, answer


if __name__ == "__main__":
    memory, seconds, *numbers = (int(value) for value in sys.argv[1:])
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    _serve(PictureLimits(bytes=numbers[0], pixels=numbers[1], side_px=numbers[2]), seconds)

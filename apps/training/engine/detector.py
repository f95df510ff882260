"""The detector: pictures in, boxes with the whole class distribution out."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from apps.training.engine.letterbox import letterbox
from apps.training.engine.pictures import (
    DEFAULT_LIMITS,
    PictureError,
    PictureHeader,
    PictureLimits,
    PictureSource,
    decode_upright_rgb,
    inspect,
)
from apps.training.engine.runtimes import OpenVinoRuntime, Runtime, TorchRuntime
from apps.training.engine.suppression import Candidates, select
from apps.training.engine.tiling import (
    BORDER_PX,
    OVERLAP_IN_ANIMALS,
    TilePlan,
    Window,
    WindowResult,
    merge,
    plan_tiles,
    windows_of,
)
from apps.training.engine.types import DetectedBoxes
from apps.training.engine.weights import (
    WeightsError,
    WeightsMetadata,
    file_sha256,
    load_torch_model,
    read_metadata,
)

DEFAULT_CONFIDENCE: Final = 0.25
DEFAULT_IOU: Final = 0.45
MAX_PIXELS_IN_FLIGHT: Final = 130_000_000
"""Decoded pixels that may wait for the net at once: one whole plate, or a dozen phone photos."""
MAX_PICTURES_IN_FLIGHT: Final = 8
GPU_BATCH: Final = 16

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32"]


@dataclass(frozen=True, slots=True)
class _Decoded:
    """Pixels, possibly reduced, of a picture whose native size is kept."""

    pixels: NDArray[np.uint8]
    width_px: int
    height_px: int
    plan: TilePlan


@dataclass(slots=True)
class _Pending:
    """A picture some of whose windows may still be in the net."""

    decoded_size_px: tuple[int, int]
    native_size_px: tuple[int, int]
    is_tiled: bool
    windows: int
    started: float
    results: list[WindowResult] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Square:
    """Where the square that was given to the net lies on its picture."""

    window: Window
    to_picture: Callable[[NDArray[np.float32]], NDArray[np.float32]]
    scale: float


class Detector:
    """One version of a model, loaded and ready. May be shared by threads."""

    def __init__(self, runtime: Runtime, metadata: WeightsMetadata) -> None:
        self._runtime = runtime
        self._metadata = metadata

    @property
    def labels(self) -> tuple[str, ...]:
        return self._metadata.labels

    @property
    def runtime(self) -> str:
        """Library and precision, e.g. "openvino-bf16" or "torch-cuda"."""
        return self._runtime.name

    @property
    def metadata(self) -> WeightsMetadata:
        return self._metadata

    def detect(
        self,
        pictures: Sequence[NDArray[np.uint8]],
        *,
        confidence: float = DEFAULT_CONFIDENCE,
        iou: float = DEFAULT_IOU,
        object_size_px: float | None = None,
    ) -> list[DetectedBoxes]:
        """Detect on upright (H, W, 3) uint8 RGB arrays; one result for each, in their order.

        `object_size_px` is the long side of a typical animal on these pictures, where it is known to differ
        from the training pictures': it decides whether they are tiled (`tiling.plan_tiles`).
        """
        for picture in pictures:
            if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or not picture.size:
                raise ValueError(f"not an (H, W, 3) uint8 picture: {picture.shape} {picture.dtype}")

        def decoded() -> Iterator[_Decoded]:
            for pixels in pictures:
                height, width = pixels.shape[:2]
                yield _Decoded(pixels, width, height, self._plan(width, height, object_size_px))

        return [
            found for found in self._stream(decoded(), confidence, iou) if isinstance(found, DetectedBoxes)
        ]

    def detect_files(
        self,
        paths: Iterable[Path],
        *,
        confidence: float = DEFAULT_CONFIDENCE,
        iou: float = DEFAULT_IOU,
        object_size_px: float | None = None,
        limits: PictureLimits = DEFAULT_LIMITS,
    ) -> Iterator[DetectedBoxes | PictureError]:
        """Detect on files, decoding the next ones while the net runs; one outcome for each, in their order.

        A file that is refused yields its `PictureError` (not raised), and the rest go on. A file that is missing
        raises OSError.
        """
        return self._detect_sources(paths, confidence, iou, object_size_px, limits)

    def detect_encoded(
        self,
        contents: Iterable[bytes],
        *,
        confidence: float = DEFAULT_CONFIDENCE,
        iou: float = DEFAULT_IOU,
        object_size_px: float | None = None,
        limits: PictureLimits = DEFAULT_LIMITS,
    ) -> Iterator[DetectedBoxes | PictureError]:
        """As `detect_files`, for files held in memory."""
        return self._detect_sources(contents, confidence, iou, object_size_px, limits)

    def _detect_sources(
        self,
        sources: Iterable[PictureSource],
        confidence: float,
        iou: float,
        object_size_px: float | None,
        limits: PictureLimits,
    ) -> Iterator[DetectedBoxes | PictureError]:
        def decode(source: bytes, header: PictureHeader, plan: TilePlan) -> _Decoded:
            picture = decode_upright_rgb(source, scale=_decoding_scale(plan), limits=limits)
            return _Decoded(np.asarray(picture), header.width_px, header.height_px, plan)

        def plan(header: PictureHeader) -> TilePlan:
            return self._plan(header.width_px, header.height_px, object_size_px)

        decoded = _decode_ahead(sources, plan, decode, limits)
        try:
            yield from self._stream(decoded, confidence, iou)
        finally:
            decoded.close()

    def _plan(self, width_px: int, height_px: int, object_size_px: float | None) -> TilePlan:
        if object_size_px is not None and not (np.isfinite(object_size_px) and object_size_px > 0):
            raise ValueError(f"object_size_px must be a positive number of pixels, not {object_size_px}")
        return plan_tiles(
            width_px,
            height_px,
            input_size_px=self._metadata.image_size,
            object_size_px=object_size_px or self._metadata.object_size_px,
            trained_size_px=self._metadata.trained_size_px,
        )

    def _stream(
        self, pictures: Iterable[_Decoded | PictureError], confidence: float, iou: float
    ) -> Iterator[DetectedBoxes | PictureError]:
        """Feed the windows of all pictures through the net in one flow and put the pictures together again."""
        pending: deque[_Pending | PictureError] = deque()
        squares: deque[_Square] = deque()

        def reduce(raw: NDArray[np.float32]) -> Candidates:
            return select(raw, confidence=confidence, iou=iou)

        def feed() -> Iterator[NDArray[np.uint8]]:
            for picture in pictures:
                if isinstance(picture, PictureError):
                    pending.append(picture)
                    continue
                state, places = self._windows(picture)
                pending.append(state)
                for window, scale in places:
                    left, top, right, bottom = window
                    crop = picture.pixels[top:bottom, left:right]
                    square, placement = letterbox(crop, self._metadata.image_size, scale=scale)
                    squares.append(_Square(window, placement.to_picture, placement.scale))
                    yield square

        for found in self._runtime.run(feed(), reduce):
            yield from _finished(pending, len(self.labels))
            state = pending[0]
            assert isinstance(state, _Pending)
            state.results.append(_window_result(squares.popleft(), found))
            yield from _finished(pending, len(self.labels))
        yield from _finished(pending, len(self.labels))

    def _windows(self, picture: _Decoded) -> tuple[_Pending, list[tuple[Window, float | None]]]:
        """The windows of a picture in its decoded pixels, each with the scale at which it enters the net."""
        height, width = picture.pixels.shape[:2]
        places: list[tuple[Window, float | None]] = [((0, 0, width, height), None)]
        if picture.plan.is_tiled:
            scale = picture.plan.scale * picture.width_px / width
            side = round(self._metadata.image_size / scale)
            overlap = round(OVERLAP_IN_ANIMALS * self._metadata.trained_size_px / scale)
            windows = windows_of(width, height, side_px=side, overlap_px=overlap)
            places = [(window, scale) for window in windows]
        native = (picture.width_px, picture.height_px)
        state = _Pending((width, height), native, picture.plan.is_tiled, len(places), time.perf_counter())
        return state, places


def _window_result(square: _Square, found: Candidates) -> WindowResult:
    left, top, right, bottom = square.window
    boxes = square.to_picture(found.boxes_xyxy_px)
    boxes[:, 0::2] = boxes[:, 0::2].clip(0, right - left) + left
    boxes[:, 1::2] = boxes[:, 1::2].clip(0, bottom - top) + top
    return WindowResult(square.window, replace(found, boxes_xyxy_px=boxes), BORDER_PX / square.scale)


def _finished(pending: deque[_Pending | PictureError], labels: int) -> Iterator[DetectedBoxes | PictureError]:
    while pending:
        first = pending[0]
        if isinstance(first, PictureError):
            pending.popleft()
            yield first
        elif len(first.results) == first.windows:
            pending.popleft()
            yield _detected(first, labels)
        else:
            return


def _detected(state: _Pending, labels: int) -> DetectedBoxes:
    width, height = state.decoded_size_px
    if state.is_tiled:
        found = merge(state.results, width_px=width, height_px=height, labels=labels)
    else:
        found = state.results[0].found
    native_width, native_height = state.native_size_px
    boxes = found.boxes_xyxy_px
    if (native_width, native_height) != (width, height):
        boxes = boxes * np.array([native_width / width, native_height / height] * 2, np.float32)
    return DetectedBoxes(
        boxes_xyxy_px=boxes.astype(np.float32, copy=False),
        scores=found.scores,
        labels=found.labels,
        class_scores=found.class_scores,
        width_px=native_width,
        height_px=native_height,
        duration_ms=(time.perf_counter() - state.started) * 1000,
    )


def _decoding_scale(plan: TilePlan) -> int:
    """The largest reduction in the decoder that still gives the net every pixel it will look at."""
    return next(scale for scale in (8, 4, 2, 1) if scale == 1 or scale * plan.scale <= 1)


def _decode_ahead(
    sources: Iterable[PictureSource],
    plan: Callable[[PictureHeader], TilePlan],
    decode: Callable[[bytes, PictureHeader, TilePlan], _Decoded],
    limits: PictureLimits,
) -> Generator[_Decoded | PictureError, None, None]:
    """Decode in a second thread a few pictures ahead, within a budget of pixels, in the order of `sources`."""
    waiting: deque[tuple[Future[_Decoded] | PictureError, int]] = deque()
    budget = MAX_PIXELS_IN_FLIGHT

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="decode") as pool:
        try:
            for source in sources:
                try:
                    content = _read(source, limits)
                    header = inspect(content, limits=limits)
                except PictureError as error:
                    waiting.append((error, 0))
                else:
                    tiles = plan(header)
                    pixels = header.width_px * header.height_px // _decoding_scale(tiles) ** 2
                    while waiting and (pixels > budget or len(waiting) >= MAX_PICTURES_IN_FLIGHT):
                        item, freed = waiting.popleft()
                        yield _outcome(item)
                        budget += freed
                    budget -= pixels
                    waiting.append((pool.submit(decode, content, header, tiles), pixels))
                while waiting and _is_ready(waiting[0][0]):
                    item, freed = waiting.popleft()
                    yield _outcome(item)
                    budget += freed
            while waiting:
                yield _outcome(waiting.popleft()[0])
        finally:
            for item, _ in waiting:
                if isinstance(item, Future):
                    item.cancel()


def _read(source: PictureSource, limits: PictureLimits) -> bytes:
    if isinstance(source, bytes):
        return source
    with source.open("rb") as file:
        return file.read(limits.bytes + 1)


def _is_ready(item: Future[_Decoded] | PictureError) -> bool:
    return isinstance(item, PictureError) or item.done()


def _outcome(item: Future[_Decoded] | PictureError) -> _Decoded | PictureError:
    if isinstance(item, PictureError):
        return item
    try:
        return item.result()
    except PictureError as error:
        return error


def load_detector(
    weights: Path,
    *,
    sha256: str,
    cache_dir: Path,
    device: Device = "auto",
    samples: Path | None = None,
    precision: Precision = "auto",
) -> Detector:
    """Load a model version, checked against the digest that was recorded for it.

    On a CPU the net runs converted, from `cache_dir`; the first load converts it in another process, which is
    the only one to import PyTorch, and decides there which precision this machine may use (`conversion.py`).
    `samples` is a folder of pictures with a `coco.json` that this decision is measured on;
    with `precision="fp32"` a CPU runs in single precision whatever was decided.

    Raises `WeightsError` for a wrong digest or a file that is not sound.
    """
    check_digest(weights, sha256)
    if device == "cuda" or (device == "auto" and _has_cuda()):
        model, metadata = load_torch_model(weights)
        return Detector(TorchRuntime(model, device="cuda", batch=GPU_BATCH), metadata)
    from apps.training.engine.conversion import converted_model

    metadata = read_metadata(weights)
    converted = converted_model(weights, sha256=sha256, cache_dir=cache_dir, samples=samples)
    chosen = converted.precision if precision == "auto" else precision
    return Detector(OpenVinoRuntime(converted.model, precision=chosen), metadata)


def check_digest(weights: Path, sha256: str) -> None:
    """Raise `WeightsError` unless `weights` is the very file that `sha256` was computed from."""
    try:
        found = file_sha256(weights)
    except OSError as error:
        raise WeightsError(f"the weights cannot be read: {error}") from error
    if found != sha256.lower():
        raise WeightsError(f"the weights have digest {found}, not {sha256}")


def _has_cuda() -> bool:
    """Whether there is an NVIDIA driver, asked without importing PyTorch into a process that may not need it."""
    if not Path("/proc/driver/nvidia/version").exists() and not Path("/dev/nvidiactl").exists():
        return False
    import torch

    return bool(torch.cuda.is_available())

"""The two ways to run a net: OpenVINO on a CPU, PyTorch on a GPU. Both take squares and give raw head outputs."""

from __future__ import annotations

import copy
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from apps.training.engine.environment import prepare_environment

if TYPE_CHECKING:
    from ultralytics.nn.tasks import DetectionModel

Result = TypeVar("Result")

CPU_STREAMS: Final = 2
"""Measured on two cores: two streams of single pictures beat one batch of eight."""


class Runtime(Protocol):
    """Something that runs one net."""

    name: str

    def run(
        self, squares: Iterable[NDArray[np.uint8]], reduce: Callable[[NDArray[np.float32]], Result]
    ) -> Iterator[Result]:
        """`reduce` of the raw (4 + C, A) output for each (S, S, 3) RGB square, in their order.

        Squares are drawn as they are needed, so that making the next ones overlaps with the running of the net.
        `reduce` must copy what it keeps.
        """


# A compiled model is never freed: its destructor waits, holding the interpreter lock, for a stream thread that may be
# waiting for that lock to let go of a callback. Seen on busy machines: conversion stood still for ever (OpenVINO 2026.4).
_KEPT: list[Any] = []


class OpenVinoRuntime:
    """Runs a converted model (`convert.py`) in a process without PyTorch."""

    def __init__(self, model: Path, *, precision: str, streams: int = CPU_STREAMS) -> None:
        prepare_environment()
        import openvino

        core = openvino.Core()
        settings = {
            # Left alone, OpenVINO chooses bf16 by itself wherever the processor has it.
            "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],
            "PERFORMANCE_HINT": "THROUGHPUT" if streams > 1 else "LATENCY",
            "NUM_STREAMS": str(streams),
            # Pinned, two workers on one machine would share the first cores and leave the others idle.
            "ENABLE_CPU_PINNING": False,
        }
        self._compiled = core.compile_model(core.read_model(model), "CPU", settings)
        self._in_flight = streams + 1  # one is always ready when a stream becomes free
        self._idle: list[Any] = []
        self.name = f"openvino-{precision}"

    def run(
        self, squares: Iterable[NDArray[np.uint8]], reduce: Callable[[NDArray[np.float32]], Result]
    ) -> Iterator[Result]:
        # Not OpenVINO's AsyncInferQueue: its Python callbacks run in foreign threads, and in tests a process
        # hung or ended in std::terminate when one of them met the interpreter's lock at the wrong moment.
        running: deque[Any] = deque()
        try:
            for square in squares:
                done = []
                if len(running) == self._in_flight:
                    done.append(self._finish(running[0], reduce))
                    self._idle.append(running.popleft())
                request = self._request()
                request.start_async({0: square[None]})
                running.append(request)
                yield from done
            while running:
                done = [self._finish(running[0], reduce)]
                self._idle.append(running.popleft())
                yield from done
        finally:
            for request in running:
                request.wait()
                self._idle.append(request)

    def _request(self) -> Any:
        try:
            return self._idle.pop()
        except IndexError:
            return self._compiled.create_infer_request()

    @staticmethod
    def _finish(request: Any, reduce: Callable[[NDArray[np.float32]], Result]) -> Result:
        request.wait()
        return reduce(request.get_output_tensor(0).data[0])


class TorchRuntime:
    """Runs the net with PyTorch in batches: for a GPU, and as the truth that conversions are checked against."""

    def __init__(self, model: DetectionModel, *, device: str, batch: int) -> None:
        import torch

        self._device = torch.device(device)
        if getattr(model.model[-1], "end2end", False):
            # A one-to-one head drops the class scores inside the net; its one-to-many twin gives them.
            model.model[-1].end2end = False
        self._model = model.fuse(verbose=False).eval().to(self._device)
        self._batch = batch
        self.name = "torch-cuda" if self._device.type == "cuda" else "torch"

    def exportable(self) -> Any:
        """The same net as a module whose one output is the raw (B, 4 + C, A) tensor, ready to be traced."""
        import torch
        from ultralytics.nn.modules.block import DFL

        class SummedDFL(torch.nn.Module):  # type: ignore[misc]
            """The expectation over the distances as a sum. As the convolution that Ultralytics writes it as it
            would run in bf16, and an eighth of a bit there is half a pixel in the picture.
            """

            def __init__(self, bins: int) -> None:
                super().__init__()
                self.bins = bins
                self.register_buffer("distances", torch.arange(bins, dtype=torch.float32).view(1, bins, 1, 1))

            def forward(self, logits: Any) -> Any:
                batch, _, anchors = logits.shape
                shares = logits.view(batch, 4, self.bins, anchors).transpose(2, 1).softmax(1)
                return (shares * self.distances).sum(1)

        model = copy.deepcopy(self._model)
        head = model.model[-1]
        head.export, head.format, head.dynamic = True, "openvino", False
        if isinstance(getattr(head, "dfl", None), DFL):
            head.dfl = SummedDFL(head.dfl.c1)
        return model

    def run(
        self, squares: Iterable[NDArray[np.uint8]], reduce: Callable[[NDArray[np.float32]], Result]
    ) -> Iterator[Result]:
        waiting = iter(squares)
        while batch := list(itertools.islice(waiting, self._batch)):
            yield from map(reduce, self._forward(np.stack(batch)))

    def _forward(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(B, S, S, 3) squares to (B, 4 + C, A) raw outputs."""
        import torch

        with torch.inference_mode():
            pictures = torch.from_numpy(batch).to(self._device).permute(0, 3, 1, 2).float() / 255
            output = self._model(pictures)
        raw = output[0] if isinstance(output, list | tuple) else output
        result: NDArray[np.float32] = raw.float().cpu().numpy()
        return result

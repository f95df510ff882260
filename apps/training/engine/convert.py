"""The process that converts weights to OpenVINO and decides on the precision. Started by `conversion.py` only.

    python -m apps.training.engine.convert WEIGHTS SHA256 OUTPUT [SAMPLES]

Writes `model.xml`, `model.bin` and `report.json` to OUTPUT.
"""

from __future__ import annotations

import json
import resource
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from apps.training.engine.detector import Detector, check_digest
from apps.training.engine.environment import import_ultralytics
from apps.training.engine.evaluate import Quality, evaluate
from apps.training.engine.labelled import LabelledPictures, read_coco
from apps.training.engine.letterbox import letterbox
from apps.training.engine.runtimes import OpenVinoRuntime, Runtime, TorchRuntime
from apps.training.engine.weights import WeightsError, WeightsMetadata, file_sha256, load_torch_model

MAX_BOX_DIFFERENCE_PX: Final = 1.0
MAX_SCORE_DIFFERENCE: Final = 0.01
MAX_MAP_LOSS: Final = 0.005
COMPARED_SCORE: Final = 0.05
"""Anchors below this score are background on which no box is ever drawn."""
COMPARED_PICTURES: Final = 6
MIN_SAMPLE_ANIMALS: Final = 30
"""With fewer labelled animals one of them moves mAP by more than the loss that is allowed."""
TIMED_ROUNDS: Final = 5
MAX_MEMORY_BYTES: Final = 8 * 1024**3
"""Beyond what the libraries reserve. The shipped net needs less than one gigabyte; the largest YOLO about six."""


def convert(weights: Path, sha256: str, output: Path, samples: Path | None) -> dict[str, Any]:
    """Convert, check, choose; returns the report that is also written. Raises `WeightsError`."""
    import_ultralytics()
    check_digest(weights, sha256)
    model, metadata = load_torch_model(weights)
    torch_runtime = TorchRuntime(model, device="cpu", batch=1)
    _export(torch_runtime, metadata, output / "model.xml")
    labelled = read_coco(samples, samples / "coco.json") if samples else None
    squares = _squares(labelled, metadata.image_size)

    fp32 = OpenVinoRuntime(output / "model.xml", precision="fp32")
    box_px, score = _largest_difference(torch_runtime, fp32, squares)
    if not (box_px <= MAX_BOX_DIFFERENCE_PX and score <= MAX_SCORE_DIFFERENCE):
        raise WeightsError(f"the converted model differs from PyTorch by {box_px:.2f} px, {score:.4f} score")
    report: dict[str, Any] = {"precision": "fp32", "fp32": {"box_px": box_px, "score": score}}
    if labelled is not None and _is_judge(labelled, metadata) and _has_bf16():
        report |= _choose(torch_runtime, fp32, output / "model.xml", metadata, labelled, squares)
    report["files"] = {name: file_sha256(output / name) for name in ("model.xml", "model.bin")}
    (output / "report.json").write_text(json.dumps(report, indent=1))
    return report


def _export(runtime: TorchRuntime, metadata: WeightsMetadata, path: Path) -> None:
    """Write the net as OpenVINO IR that takes (1, S, S, 3) uint8 RGB squares and gives (1, 4 + C, A)."""
    import openvino
    import torch
    from openvino.preprocess import PrePostProcessor

    net = runtime.exportable()
    size = metadata.image_size
    blank = torch.zeros(1, 3, size, size)
    with torch.inference_mode():
        net(blank)  # the head computes its anchors in the first pass, which must not end up in the trace
        traced = torch.jit.trace(net, blank, check_trace=False)
    converted = openvino.convert_model(traced, example_input=blank, input=[1, 3, size, size])
    steps = PrePostProcessor(converted)
    steps.input().tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
    steps.input().model().set_layout(openvino.Layout("NCHW"))
    steps.input().preprocess().convert_element_type(openvino.Type.f32).scale(255.0)
    prepared = steps.build()
    channels = prepared.output(0).partial_shape[1].get_length()
    if channels != 4 + len(metadata.labels):
        raise WeightsError(f"the head gives {channels} rows, not 4 + {len(metadata.labels)}")
    openvino.save_model(prepared, path, compress_to_fp16=False)


def _squares(labelled: LabelledPictures | None, size_px: int) -> list[NDArray[np.uint8]]:
    """Squares to compare the runtimes on: sample pictures, and one without any structure."""
    noise = np.random.default_rng(0).integers(0, 256, (size_px, size_px, 3), np.uint8)
    pictures = labelled.pictures if labelled else ()
    most_animals_first = sorted(pictures, key=lambda picture: -len(picture.labels))[:COMPARED_PICTURES]
    return [letterbox(picture.pixels(), size_px)[0] for picture in most_animals_first] + [noise]


def _largest_difference(
    truth: Runtime, candidate: Runtime, squares: Sequence[NDArray[np.uint8]]
) -> tuple[float, float]:
    """Largest difference of a corner in pixels and of a score, anchor by anchor where there is something."""
    box_px, score = 0.0, 0.0
    for expected, found in zip(truth.run(squares, np.copy), candidate.run(squares, np.copy), strict=True):
        scores = np.abs(expected[4:] - found[4:])
        score = max(score, float(scores.max()))
        there = expected[4:].max(axis=0) >= COMPARED_SCORE
        if there.any():
            moved = np.abs(expected[:2] - found[:2]) + np.abs(expected[2:4] - found[2:4]) / 2
            box_px = max(box_px, float(moved[:, there].max()))
    return (box_px, score) if np.isfinite(box_px + score) else (float("inf"), float("inf"))


def _is_judge(labelled: LabelledPictures, metadata: WeightsMetadata) -> bool:
    animals = sum(len(picture.labels) for picture in labelled.pictures)
    return labelled.labels == metadata.labels and animals >= MIN_SAMPLE_ANIMALS


def _has_bf16() -> bool:
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _choose(  # noqa: PLR0917
    truth: Runtime,
    fp32: Runtime,
    model: Path,
    metadata: WeightsMetadata,
    labelled: LabelledPictures,
    squares: Sequence[NDArray[np.uint8]],
) -> dict[str, Any]:
    """bf16 only if it finds as well as PyTorch does and is faster here."""
    bf16 = OpenVinoRuntime(model, precision="bf16")
    expected = evaluate(Detector(truth, metadata), labelled)
    found = evaluate(Detector(bf16, metadata), labelled)
    fp32_ms, bf16_ms = _milliseconds([fp32, bf16], squares)
    is_as_good = (
        found.map50 >= expected.map50 - MAX_MAP_LOSS and found.map50_95 >= expected.map50_95 - MAX_MAP_LOSS
    )
    return {
        "precision": "bf16" if is_as_good and bf16_ms < fp32_ms else "fp32",
        "torch": _record(expected),
        "bf16": _record(found),
        "milliseconds": {"fp32": fp32_ms, "bf16": bf16_ms},
    }


def _record(quality: Quality) -> dict[str, float]:
    return {"map50": quality.map50, "map50_95": quality.map50_95}


def _milliseconds(runtimes: Sequence[Runtime], squares: Sequence[NDArray[np.uint8]]) -> list[float]:
    """Median time of a picture in each runtime, taking turns, so that a busy moment meets all of them."""

    def pictures() -> Iterator[NDArray[np.uint8]]:
        yield from squares

    times: list[list[float]] = [[] for _ in runtimes]
    for _ in range(TIMED_ROUNDS):
        for runtime, seen in zip(runtimes, times, strict=True):
            started = time.perf_counter()
            for _ in runtime.run(pictures(), np.size):
                pass
            seen.append((time.perf_counter() - started) * 1000 / len(squares))
    return [statistics.median(seen) for seen in times]


def _limit_memory() -> None:
    """Make a net that is described as enormous fail here, instead of waking the machine's out-of-memory killer."""
    import_ultralytics()  # the libraries themselves reserve many gigabytes of addresses
    reserved = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    most = reserved + MAX_MEMORY_BYTES
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(
        resource.RLIMIT_AS, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard)
    )


def main() -> None:
    weights, sha256, output, *samples = sys.argv[1:]
    try:
        if Path("/proc/self/statm").exists():
            _limit_memory()
        convert(Path(weights), sha256, Path(output), Path(samples[0]) if samples else None)
    except WeightsError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()

"""The process that examines a weights file from outside. Started by `examination.py` only.

    python -m apps.training.engine.examine REQUEST.json

It writes `examined.podura` (what is used from then on) and `result.json` to the folder that the request names.
"""

from __future__ import annotations

import ctypes
import dataclasses
import hashlib
import json
import lzma
import math
import os
import signal
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from apps.training.engine.refusals import RefusedWeightsError, shown
from apps.training.engine.sandbox import forbid_programs, leave_network, limit, processor_time

if TYPE_CHECKING:
    import torch
    from ultralytics.nn.tasks import DetectionModel

    from apps.training.engine.weights import WeightsMetadata

MAX_MEMORY_BYTES: Final = 6 * 1024**3
MAX_CPU_SECONDS: Final = 900
MAX_READING_SECONDS: Final = 60
"""Of these, for the pickle: the largest nets take seconds, references to references would take years."""
MAX_SIDE_PX: Final = 1280
"""Of the picture for the trial: a net is not made sounder by more of it."""
_MOST_REMARKS: Final = 100
ASSUMED_OBJECT_SHARE: Final = 0.15
"""Typical object in its input where a file does not say; the middle of COCO's boxes."""


def examine(path: Path, folder: Path, options: dict[str, Any]) -> dict[str, Any]:
    """What the file is, and the same as a weights file of ours. Raises `RefusedWeightsError`."""
    from apps.training.engine.weights import WeightsError, save_weights

    kind = _kind(path)
    try:
        if kind == "checkpoint":
            model, metadata, notes = _from_checkpoint(path, options)
        else:
            model, metadata, notes = _from_own(path, kind, folder)
        if options.get("object_size_px"):
            metadata = _with(metadata, object_size_px=float(options["object_size_px"]), trained_size_px=0.0)
            notes = [note for note in notes if note != "object_size_assumed"]
        licence = str(options.get("licence") or "")
        if licence and licence not in metadata.licences:
            metadata = _with(metadata, licences=(*metadata.licences, licence))
        if options.get("note") and not metadata.attribution:
            metadata = _with(metadata, attribution=str(options["note"])[:500])
        sha256 = save_weights(folder / "examined.podura", model, metadata)
    except RefusedWeightsError:
        raise
    except WeightsError as error:
        raise _named(error) from error
    parameters = sum(parameter.numel() for parameter in model.parameters())
    milliseconds = _try(model, metadata)
    return {
        "kind": kind,
        "labels": list(metadata.labels),
        "layers": len(model.model),
        "head": type(model.model[-1]).__name__,
        "scale": str(metadata.architecture.get("scale") or ""),
        "parameters": parameters,
        "image_size_px": metadata.image_size,
        "object_size_px": metadata.object_size_px,
        "licences": list(metadata.licences),
        "milliseconds": milliseconds,
        "notes": notes,
        "sha256": sha256,
        "bytes": (folder / "examined.podura").stat().st_size,
    }


def _kind(path: Path) -> str:
    from apps.training.engine.checkpoint_file import name_what_it_is

    with path.open("rb") as file:
        start = file.read(16)
        size = file.seek(0, 2)
    if not size:
        raise RefusedWeightsError("empty")
    if start.startswith(b"PK\x03\x04"):
        return "checkpoint"
    if start.startswith(b"\xfd7zXZ\x00"):
        return "podura"
    if start[8:9] == b"{" and 2 <= int.from_bytes(start[:8], "little") <= size - 8:
        return "safetensors"
    name_what_it_is(path)
    raise RefusedWeightsError("not_weights")


def _from_checkpoint(
    path: Path, options: dict[str, Any]
) -> tuple[DetectionModel, WeightsMetadata, list[str]]:
    from apps.training.engine.checkpoint_file import read_checkpoint
    from apps.training.engine.weights import WeightsMetadata, build_model, is_stored

    with processor_time(MAX_READING_SECONDS):
        checkpoint = read_checkpoint(path)
    described = checkpoint.architecture.get("nc")
    if described is not None and described != len(checkpoint.labels):
        raise RefusedWeightsError("label_count_differs", labels=len(checkpoint.labels), outputs=described)
    metadata = WeightsMetadata(
        architecture={**checkpoint.architecture, "nc": len(checkpoint.labels)},
        labels=checkpoint.labels,
        image_size=checkpoint.image_size,
        object_size_px=round(checkpoint.image_size * ASSUMED_OBJECT_SHARE, 1),
        name=str(options.get("name") or "")[:200],
        licences=(checkpoint.licence,) if checkpoint.licence else (),
    )
    tensors = {name: _sound(name, value) for name, value in checkpoint.tensors.items() if is_stored(name)}
    return build_model(metadata, tensors, is_half=False), metadata, ["object_size_assumed"]


def _from_own(path: Path, kind: str, folder: Path) -> tuple[DetectionModel, WeightsMetadata, list[str]]:
    from apps.training.engine.weights import MAX_METADATA_BYTES, load_torch_model

    notes: list[str] = []
    if kind == "safetensors":
        content = path.read_bytes()
        header_bytes = int.from_bytes(content[:8], "little")
        if header_bytes > MAX_METADATA_BYTES * 8:
            raise RefusedWeightsError("damaged", detail="header")
        try:
            header = json.loads(content[8 : 8 + header_bytes])
        except (ValueError, RecursionError):
            raise RefusedWeightsError("damaged", detail="header") from None
        known = header.get("__metadata__") if isinstance(header, dict) else None
        if not isinstance(known, dict) or "podura" not in known:
            raise RefusedWeightsError("no_metadata")
        content = _halved(content, known)
        packed = folder / "received.podura"
        packed.write_bytes(lzma.compress(content, preset=0))
        path = packed
    model, metadata = load_torch_model(path)
    return model, _modest(metadata), notes


def _modest(metadata: WeightsMetadata) -> WeightsMetadata:
    """What a file tells of itself for people, as short printable texts: its makers may have written anything there."""
    recipe = metadata.recipe if isinstance(metadata.recipe, dict) else {}
    plain = {
        str(shown(name)): shown(value)
        for name, value in list(recipe.items())[:_MOST_REMARKS]
        if isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value))
    }
    return _with(
        metadata,
        name=str(shown(metadata.name)),
        recipe=plain,
        metrics={},  # a claim, not a measurement
        licences=tuple(str(shown(licence)) for licence in metadata.licences[:_MOST_REMARKS]),
        attribution=str(shown(metadata.attribution)),
    )


def _halved(content: bytes, known: dict[str, Any]) -> bytes:
    """Half precision, as every weights file of ours: other programs write safetensors in single."""
    from safetensors import SafetensorError
    from safetensors.torch import load, save

    try:
        tensors = load(content)
    except (SafetensorError, ValueError, KeyError, OverflowError) as error:
        raise RefusedWeightsError("damaged", detail=f"{error}") from error
    halves = {name: _sound(name, value) for name, value in tensors.items()}
    return bytes(save(halves, metadata={key: str(value) for key, value in known.items()}))


def _sound(name: str, value: torch.Tensor) -> torch.Tensor:
    import torch

    if not value.is_floating_point():
        raise RefusedWeightsError("tensors_differ", name=name)
    half = value.to(torch.float16)
    if not torch.isfinite(half).all():
        raise RefusedWeightsError("not_finite", name=name)
    return half


def _with(metadata: WeightsMetadata, **changes: Any) -> WeightsMetadata:
    return dataclasses.replace(metadata, **changes)


_SAID: Final = (
    ("does not belong", "tensors_differ"),
    ("are missing", "tensors_missing"),
    ("not finite", "not_finite"),
    ("half precision", "not_finite"),
    ("not a weights file", "not_weights"),
    ("damaged", "damaged"),
    ("cut", "damaged"),
    ("unpacks to more", "too_large_unpacked"),
    ("unknown kind", "no_metadata"),
    ("metadata", "damaged"),
    ("header", "damaged"),
    ("label", "labels"),
)


def _named(error: Exception) -> RefusedWeightsError:
    """The code of what reading a weights file of ours refused."""
    text = str(error)
    code = next((code for words, code in _SAID if words in text), "architecture")
    return RefusedWeightsError(code, detail=text)


def _try(model: DetectionModel, metadata: WeightsMetadata) -> float:
    """One picture without anything and one of noise through the net, as a worker would run it."""
    import time

    import numpy as np

    from apps.training.engine.runtimes import TorchRuntime

    side = min(metadata.image_size, MAX_SIDE_PX)
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    squares = [np.full((side, side, 3), 114, np.uint8), noise]
    try:
        runtime = TorchRuntime(model, device="cpu", batch=1)
        next(iter(runtime.run(squares[:1], np.copy)))
        started = time.perf_counter()
        outputs = list(runtime.run(squares, np.copy))
        milliseconds = (time.perf_counter() - started) * 1000 / len(squares)
    except MemoryError:
        raise
    except Exception as error:
        raise RefusedWeightsError("does_not_run", detail=f"{type(error).__name__}: {error}") from error
    for output in outputs:
        if output.ndim != 2 or output.shape[0] != 4 + len(metadata.labels) or not output.shape[1]:
            rows = output.shape[0] - 4 if output.ndim == 2 else 0
            raise RefusedWeightsError("label_count_differs", labels=len(metadata.labels), outputs=rows)
        if not np.isfinite(output).all():
            raise RefusedWeightsError("output_not_finite")
        if float(output[4:].min()) < 0 or float(output[4:].max()) > 1:
            raise RefusedWeightsError("output_not_finite")
    return round(milliseconds, 1) if math.isfinite(milliseconds) else 0.0


def _digest_matches(path: Path, expected: str) -> bool:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == expected


def _is_out_of_memory(error: BaseException) -> bool:
    return (
        isinstance(error, MemoryError) or "not enough memory" in str(error) or "can't allocate" in str(error)
    )


def main() -> int:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: it ends with the worker
    request = json.loads(Path(sys.argv[1]).read_text())
    path, folder = Path(request["file"]), Path(request["folder"])
    fences = ["network"] if leave_network() else []
    from apps.training.engine.environment import import_ultralytics

    import_ultralytics()
    import numpy as np
    import torch

    torch.set_num_threads(1)
    _warm_up(np, torch)
    limit(memory_bytes=MAX_MEMORY_BYTES, seconds=MAX_CPU_SECONDS, file_bytes=1024**3)
    if forbid_programs():
        fences.append("programs")
    if request.get("is_fence_test"):
        return _try_the_fence(folder)
    try:
        if not _digest_matches(path, request["sha256"]):
            raise RefusedWeightsError("wrong_digest")  # noqa: TRY301 - beside what it checks
        result: dict[str, Any] = {"findings": examine(path, folder, request["options"]) | {"fences": fences}}
    except RefusedWeightsError as error:
        result = {"code": error.code, "details": error.details}
    except zipfile.BadZipFile as error:
        result = {"code": "damaged", "details": {"detail": str(error)[:200]}}
    except (Exception, RecursionError) as error:  # noqa: BLE001 - a file that breaks the examination is refused
        code = "too_much_memory" if _is_out_of_memory(error) else "examination_failed"
        detail = "".join(c for c in f"{type(error).__name__}: {error}"[:200] if c.isprintable())
        result = {"code": code, "details": {"detail": detail}}
    (folder / "result.json").write_text(json.dumps(result, allow_nan=False))
    return 0


def _warm_up(np: Any, torch: Any) -> None:
    """What the libraries load or start late is there before the fence is closed."""
    import safetensors.torch
    import torchvision  # noqa: F401

    assert safetensors.torch is not None
    torch.nn.Conv2d(1, 1, 1)(torch.zeros(1, 1, 4, 4))
    np.random.default_rng(0).integers(0, 2, 2)


def _try_the_fence(folder: Path) -> int:
    """For a test: what a file that did get code to run could not do."""
    import socket
    import subprocess

    def fails(attempt: Any) -> bool:
        try:
            attempt()
        except OSError:
            return True
        return False

    held = {
        "program": fails(lambda: subprocess.run(["/bin/true"], check=False)),
        "fork": fails(os.fork),
        "socket": fails(socket.socket),
        "shell": os.system("true") != 0,  # noqa: S605 - that it fails is what is told
    }
    (folder / "result.json").write_text(json.dumps({"held": held}))
    return 0


if __name__ == "__main__":
    sys.exit(main())

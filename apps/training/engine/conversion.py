"""Weights become a model that a CPU runs fast, once per version and machine. No PyTorch in this process.

The conversion itself (`convert.py`) runs in a process of its own, which also checks the result against PyTorch
and measures which precision this machine may use. What it leaves in the cache is checked before every use.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from apps.training.engine.environment import FLAGS
from apps.training.engine.weights import WeightsError, file_sha256

CONVERTER_VERSION: Final = 1
"""Raise it when the converted model or the checks of it change: caches of older versions are then not used."""

CONVERSION_SECONDS: Final = 900
SHIPPED_SAMPLES: Final = Path(__file__).parents[3] / "models" / "springtails" / "samples"

_PASSED_ON: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "YOLO_CONFIG_DIR", "OMP_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class ConvertedModel:
    model: Path
    """OpenVINO IR, its weights beside it."""
    precision: str
    """The fastest that passed: "fp32" or "bf16"."""
    report: dict[str, Any]
    """What was measured: agreement with PyTorch, mAP and milliseconds of each precision."""


def converted_model(
    weights: Path, *, sha256: str, cache_dir: Path, samples: Path | None = None
) -> ConvertedModel:
    """The converted form of `weights`, made now if this machine has none yet. Raises `WeightsError`.

    Workers that start together wait for the one that converts. `samples` (a folder of pictures with a
    `coco.json`) is what a lower precision is judged on; left out, it is the folder `samples` beside the weights,
    else the shipped one. Where its labels are not those of the weights the precision stays fp32.
    """
    cache_dir.mkdir(parents=True, exist_ok=True)
    folder = cache_dir / _cache_key(sha256, samples)
    with (cache_dir / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        known = _read_cache(folder)
        if known is None:
            shutil.rmtree(folder, ignore_errors=True)
            _convert(weights, sha256, folder, samples or _default_samples(weights))
            known = _read_cache(folder)
    if known is None:
        raise WeightsError("the converted model was damaged while it was written")
    return known


def _default_samples(weights: Path) -> Path | None:
    return next(
        (p for p in (weights.parent / "samples", SHIPPED_SAMPLES) if (p / "coco.json").is_file()), None
    )


def _cache_key(sha256: str, samples: Path | None) -> str:
    """Differs for other weights, converter, OpenVINO, processor and samples: each may change the outcome."""
    parts = [str(CONVERTER_VERSION), version("openvino"), version("torch"), platform.machine(), _processor()]
    if samples is not None and (samples / "coco.json").is_file():
        parts.append(file_sha256(samples / "coco.json"))
    return f"{sha256.lower()[:24]}-{hashlib.sha256('|'.join(parts).encode()).hexdigest()[:16]}"


def _processor() -> str:
    """Name and instruction sets of the processor: a cache may be shared by different machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return "|".join(next((line for line in lines if line.startswith(k)), "") for k in ("model name", "flags"))


def _read_cache(folder: Path) -> ConvertedModel | None:
    """The cached model if it is complete and unaltered, else None."""
    try:
        report = json.loads((folder / "report.json").read_text())
        sound = all(file_sha256(folder / name) == digest for name, digest in report["files"].items())
        converted = ConvertedModel(folder / "model.xml", report["precision"], report)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    complete = set(report["files"]) == {"model.xml", "model.bin"} and converted.precision in ("fp32", "bf16")
    return converted if sound and complete else None


def _convert(weights: Path, sha256: str, folder: Path, samples: Path | None) -> None:
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        command = [sys.executable, "-m", "apps.training.engine.convert", str(weights.resolve()), sha256]
        command += [str(unfinished.resolve())] + ([str(samples.resolve())] if samples else [])
        # The child gets no address or password of this process: it reads a file that was uploaded.
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ} | FLAGS
        finished = subprocess.run(
            command,
            cwd=Path(__file__).parents[3],
            env=environment,
            capture_output=True,
            text=True,
            timeout=CONVERSION_SECONDS,
            check=False,
        )
        if finished.returncode:
            reason = (finished.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise WeightsError(f"the weights cannot be converted: {reason[:500]}")
        unfinished.replace(folder)
    except subprocess.TimeoutExpired as error:
        raise WeightsError(f"the conversion took more than {CONVERSION_SECONDS} seconds") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)

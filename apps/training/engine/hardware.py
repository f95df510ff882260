"""What the machine has that trains or detects: kept with every run, and what defaults depend on."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

_CGROUP: Final = Path("/sys/fs/cgroup")
_ULTRALYTICS: Final = ("ultralytics", "ultralytics-opencv-headless")
"""The same package under two names, the second without a window system."""


@dataclass(frozen=True, slots=True)
class Gpu:
    name: str
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Hardware:
    cpu: str
    cores: int
    """Those that this process may use."""
    memory_bytes: int
    """Of the machine or of its container, whichever is smaller."""
    gpus: tuple[Gpu, ...] = ()
    """Only known to a process that has imported PyTorch; the web process never does."""
    versions: Mapping[str, str] | None = None

    @classmethod
    def here(cls) -> Hardware:
        gpus, cuda = _gpus()
        packages = {"torch": _version("torch"), "ultralytics": _version(*_ULTRALYTICS)}
        versions = {name: found for name, found in {**packages, "cuda": cuda}.items() if found}
        versions["python"] = platform.python_version()
        return cls(_cpu_model(), len(os.sched_getaffinity(0)), _memory_bytes(), gpus, versions)

    def only(self, device: str) -> Hardware:
        """What a training on `device` ("cpu", "0", "0,1") may count on."""
        if "cpu" in device:
            return Hardware(self.cpu, self.cores, self.memory_bytes, (), self.versions)
        chosen = tuple(self.gpus[int(number)] for number in device.split(","))
        return Hardware(self.cpu, self.cores, self.memory_bytes, chosen, self.versions)

    def as_record(self) -> dict[str, Any]:
        record = asdict(self)
        record["gpus"] = list(record["gpus"])
        record["versions"] = dict(record["versions"] or {})
        return record


def describe_hardware() -> dict[str, Any]:
    """`{"cpu", "cores", "memory_bytes", "gpus": [{"name", "memory_bytes"}], "versions": {...}}`, for JSON."""
    return Hardware.here().as_record()


def _version(*packages: str) -> str:
    for package in packages:
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    return ""


def _gpus() -> tuple[tuple[Gpu, ...], str]:
    torch: Any = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return (), ""
    found = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return tuple(Gpu(str(gpu.name), int(gpu.total_memory)) for gpu in found), str(torch.version.cuda or "")


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = next((line for line in lines if line.startswith("model name")), "")
    return named.partition(":")[2].strip() or platform.processor() or platform.machine()


def _memory_bytes() -> int:
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
    except OSError:
        return machine
    return min(machine, int(limit)) if limit.isdigit() else machine

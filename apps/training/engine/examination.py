"""A weights file from outside is examined in a process that can do nothing else. No PyTorch in this one."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from apps.training.engine.environment import FLAGS
from apps.training.engine.refusals import RefusedWeightsError

SECONDS: Final = 1200
PULSE_S: Final = 1.0
_MAX_RESULT_BYTES: Final = 8 * 1024 * 1024
_PASSED_ON: Final = ("PATH", "LANG", "LC_ALL")


def examine_weights(
    path: Path,
    *,
    sha256: str,
    folder: Path,
    options: Mapping[str, Any] | None = None,
    between: Callable[[], None] = lambda: None,
) -> tuple[Path, dict[str, Any]]:
    """The file as a weights file of ours in `folder`, and what was found. Raises `RefusedWeightsError`.

    `between` is called about every second and may raise to end the examination.
    """
    folder.mkdir(parents=True, exist_ok=True)
    examined, told = folder / "examined.podura", folder / "result.json"
    for leftover in (examined, told):
        leftover.unlink(missing_ok=True)
    request = folder / "request.json"
    content = {"file": str(path.resolve()), "sha256": sha256, "folder": str(folder.resolve())}
    request.write_text(json.dumps(content | {"options": dict(options or {})}))
    status = run_examiner(request, folder, between=between)
    result = _result(told, status)
    if "code" in result:
        raise RefusedWeightsError(str(result["code"]), **result.get("details", {}))
    return examined, result["findings"]


def run_examiner(request: Path, folder: Path, *, between: Callable[[], None] = lambda: None) -> int:
    """Its exit status. Raises `RefusedWeightsError` when the time is over."""
    (folder / "tmp").mkdir(exist_ok=True)
    # No address or password of this process: the other one reads a file that was sent.
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ} | FLAGS
    environment |= dict.fromkeys(("HOME", "TMPDIR", "YOLO_CONFIG_DIR"), str((folder / "tmp").resolve()))
    environment |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    environment |= {"PYTHONDONTWRITEBYTECODE": "1", "MALLOC_ARENA_MAX": "2"}
    process = subprocess.Popen(
        [sys.executable, "-m", "apps.training.engine.examine", str(request.resolve())],
        cwd=Path(__file__).parents[3],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=(folder / "errors.txt").open("wb"),
        start_new_session=True,
    )
    try:
        for _second in range(int(SECONDS / PULSE_S)):
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(PULSE_S)
            between()
        raise RefusedWeightsError("took_too_long", seconds=SECONDS)
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)


def _result(path: Path, status: int) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MAX_RESULT_BYTES:
            raise RefusedWeightsError("examination_failed", detail="result")
        result = json.loads(path.read_text())
    except (OSError, ValueError):
        if status in (-signal.SIGXCPU, -signal.SIGKILL):
            raise RefusedWeightsError("too_much_time_or_memory") from None
        raise RefusedWeightsError("examination_failed", detail=f"exit status {status}") from None
    return result if isinstance(result, dict) else {}

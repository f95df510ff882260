"""One process a device: started together, ended together."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from apps.training.engine.events import Listener, TrainingError
from apps.training.engine.fitting import FitPlan

_POLL_SECONDS: Final = 0.2
_TOLD: Final = 3


class AlreadyToldError(TrainingError):
    """One of the processes has said why."""

    is_told = True


class FitInProcesses:
    """Ultralytics' distributed training, told by the environment as torchrun tells it.

    Ultralytics itself would pickle the trainer into a script in the user's home and run that, which needs a package
    of its own and loses the pipe for the events.
    """

    def __init__(self, events_fd: int) -> None:
        self._events_fd = events_fd

    def __call__(self, plan: FitPlan, listener: Listener) -> None:
        del listener  # the first process tells the events itself
        devices = plan.device.split(",")
        path = Path(plan.folder) / "plan.json"
        path.write_text(json.dumps(self._shared(plan, devices).as_record()))
        port = str(_free_port())
        command = [sys.executable, "-m", "apps.training.engine.job", str(path), "--fit-only"]
        command += ["--events-fd", str(self._events_fd), "--parent", str(os.getpid())]
        processes = [
            subprocess.Popen(
                command,
                cwd=Path(__file__).parents[3],
                env=os.environ
                | {
                    "RANK": str(rank),
                    "LOCAL_RANK": str(rank),
                    "WORLD_SIZE": str(len(devices)),
                    "MASTER_ADDR": "127.0.0.1",
                    "MASTER_PORT": port,
                },
                pass_fds=(self._events_fd,),
            )
            for rank in range(len(devices))
        ]
        try:
            _wait(processes)
        finally:
            for process in processes:
                process.kill()
                process.wait()

    @staticmethod
    def _shared(plan: FitPlan, devices: list[str]) -> FitPlan:
        """The batch is divided evenly; "cpu,cpu" is two processes on one processor."""
        record = plan.as_record()
        record["batch"] = max(1, plan.batch // len(devices)) * len(devices)
        record["device"] = "cpu" if "cpu" in devices else plan.device
        return FitPlan.from_record(record)


def _wait(processes: list[subprocess.Popen[bytes]]) -> None:
    """Until all have ended well; the first that does not is an error, and the others would wait for it for hours."""
    while True:
        statuses = [process.poll() for process in processes]
        bad = [status for status in statuses if status]
        if -signal.SIGKILL in bad:  # whatever the others say of its being gone
            raise TrainingError("out_of_memory", "the system killed one of the training processes")
        if _TOLD in bad:
            raise AlreadyToldError("error")
        if bad:
            raise TrainingError("error", f"one of the training processes ended with {bad[0]}")
        if all(status == 0 for status in statuses):
            return
        time.sleep(_POLL_SECONDS)


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
    return port

"""The training's own process: started without secrets, listened to, and ended with all that it started."""

import contextlib
import json
import os
import re
import selectors
import signal
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import structlog
from django.conf import settings

logger = structlog.get_logger(__name__)

MARK: Final = "PODURA_RUN"
"""In the environment of the job and of all it starts: by it they are found again."""
_HANDED_ON: Final = frozenset(
    {"PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "USER", "LOGNAME", "LD_LIBRARY_PATH", "VIRTUAL_ENV",
     "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES"}
)  # fmt: skip
_HANDED_ON_PREFIXES: Final = (
    "CUDA_",
    "NCCL_",
    "GLOO_",
    "OMP_",
    "MKL_",
    "OPENBLAS_",
    "TORCH_",
    "PYTORCH_",
    "KMP_",
)
_SECRET = re.compile(r"SECRET|TOKEN|PASSW|CREDENTIAL|_KEY|API")
_COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_LONGEST_LINE_BYTES: Final = 1 << 20
_AT_ONCE_BYTES: Final = 1 << 16


def job_environment(*, mark: str, scratch: Path) -> dict[str, str]:
    """What a training needs of the surroundings. Not among it: addresses and keys of database, queue and storage."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if (name in _HANDED_ON or name.startswith(_HANDED_ON_PREFIXES)) and not _SECRET.search(name)
    }
    own = {
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": str(settings.BASE_DIR),
        "TMPDIR": str(scratch),
        MARK: mark,
    }
    return kept | own


class JobProcess:
    """One run of the training command. A context: leaving it ends whatever of the job still lives."""

    def __init__(self, job_file: Path, *, mark: str) -> None:
        self.mark = mark
        scratch = job_file.parent / "tmp"
        scratch.mkdir(exist_ok=True)
        events, theirs = os.pipe()
        try:
            self.process = subprocess.Popen(
                [*settings.TRAINING_COMMAND, str(job_file), "--events-fd", str(theirs)],
                cwd=settings.BASE_DIR,
                env=job_environment(mark=mark, scratch=scratch),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(theirs,),
                start_new_session=True,
            )
        except BaseException:
            os.close(events)
            raise
        finally:
            os.close(theirs)
        assert self.process.stdout is not None
        self._events, self._words = _Lines(events), _Lines(self.process.stdout.fileno())
        self._open = selectors.DefaultSelector()
        for lines in (self._events, self._words):
            os.set_blocking(lines.fd, False)
            self._open.register(lines.fd, selectors.EVENT_READ, lines)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self._open.close()
        os.close(self._events.fd)
        if self.process.stdout:
            self.process.stdout.close()

    def listen(self, *, seconds: float) -> tuple[list[dict[str, Any]], list[str]]:
        """What the job has told since, and what the trainer has printed; waits that long at most."""
        if self._open.get_map():
            for key, _mask in self._open.select(seconds):
                if not key.data.read():
                    self._open.unregister(key.fd)
        else:
            time.sleep(min(seconds, 0.05))
        events = (_event(line) for line in self._events.take())
        words = (_COLOURS.sub("", line.decode(errors="replace")) for line in self._words.take())
        # A progress bar writes over itself: what it said last counts.
        said = [line.rstrip("\r\n").rpartition("\r")[2].strip() for line in words]
        return [event for event in events if event], [line for line in said if line]

    @property
    def exit_status(self) -> int | None:
        """None while it runs; negative: the signal that ended it."""
        return self.process.poll()

    def kill(self) -> None:
        """End the job and all that it started, at once: a checkpoint is never half written."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        end_marked(self.mark)
        self.process.wait(30)


class _Lines:
    """Whole lines out of a pipe."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._rest = b""
        self._lines: list[bytes] = []

    def read(self) -> bool:
        """Take in what is there; False at the end of the pipe."""
        try:
            content = os.read(self.fd, _AT_ONCE_BYTES)
        except BlockingIOError:
            return True
        if not content:
            self._lines += [self._rest] if self._rest else []
            self._rest = b""
            return False
        *whole, self._rest = (self._rest + content).split(b"\n")
        self._lines += whole
        if len(self._rest) > _LONGEST_LINE_BYTES:
            self._rest = b""
        return True

    def take(self) -> Iterable[bytes]:
        lines, self._lines = self._lines, []
        return lines


def _event(line: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:
        logger.warning("event_of_training_unreadable", line=line[:200].decode(errors="replace"))
        return None
    return event if isinstance(event, dict) else None


def end_marked(mark: str) -> int:
    """End every process with this run's mark, also one that left the job's session; gives how many."""
    ended = 0
    wanted = f"{MARK}={mark}".encode()
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                os.kill(int(folder.name), signal.SIGKILL)
                ended += 1
    return ended


def killed_by(status: int | None, number: int) -> bool:
    """Whether this signal ended a process, seen directly or through a shell."""
    return status in (-number, 128 + number)


def shown_status(status: int) -> str:
    """An exit status for the log."""
    return signal.Signals(-status).name if status < 0 else f"exit status {status}"

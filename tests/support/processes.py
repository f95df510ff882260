"""Real processes for tests that kill: a web server, a Celery worker, a Redis without persistence."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from django.conf import settings
from django.db import connection

CHECKOUT = Path(__file__).resolve().parents[2]


def wait_until(condition: Callable[[], object], *, seconds: float = 30, what: str = "") -> None:
    """Poll until the condition holds, else fail the test with the reason."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what or condition}")
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def children_of(pid: int) -> list[int]:
    """Process ids of the direct children (Linux)."""
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if (
                folder.name.isdigit()
                and int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == pid
            ):
                found.append(int(folder.name))
    return found


class RealProcess:
    """A process in a session of its own; its output is kept in a file for the message of a failing test."""

    def __init__(self, argv: list[str], *, env: dict[str, str] | None = None) -> None:
        self.argv = argv
        self.env = os.environ | (env or {})
        self.output = tempfile.TemporaryFile()  # noqa: SIM115  (read until the test ends)
        self.process = subprocess.Popen(
            argv, cwd=CHECKOUT, env=self.env, stdin=subprocess.DEVNULL, stdout=self.output,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    @property
    def pid(self) -> int:
        return self.process.pid

    def text(self) -> str:
        self.output.seek(0)
        return self.output.read().decode(errors="replace")

    def is_alive(self) -> bool:
        return self.process.poll() is None

    def terminate(self, *, seconds: float = 30) -> int:
        """Ask it to end, as an operator does."""
        self.process.terminate()
        return self.process.wait(seconds)

    def kill(self) -> None:
        """kill -9 of it and of everything it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait(10)

    def kill_only_itself(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def kill_children(self) -> int:
        """kill -9 of its children only, as the kernel does when memory runs out; gives how many."""
        children = children_of(self.pid)
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        return len(children)


def site_environment(*, redis_url: str | None = None) -> dict[str, str]:
    """What a process needs to work on the test's own database and files."""
    database = connection.settings_dict
    host = database["HOST"]
    place = f"//{host.lstrip('/')}" if host.startswith("/") else f"{host}:{database['PORT'] or 5432}"
    login = database["USER"] + (f":{database['PASSWORD']}" if database["PASSWORD"] else "")
    return {
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "DATABASE_URL": f"postgis://{login}@{place}/{database['NAME']}",
        "PODURA_DB_NAME": str(database["NAME"]),
        "REDIS_URL": redis_url or settings.REDIS_URL,
        "STORAGE_URL": settings.STORAGE_URL,
        "PYTHONPATH": str(CHECKOUT),
    }


class ThrowawayRedis:
    """A Redis of one test, without persistence: killing it loses every message, as the worst case does."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="podura-redis-"))
        self.socket = self.folder / "redis.sock"
        self.url = f"unix://{self.socket}"
        self.process: RealProcess | None = None

    def start(self) -> None:
        self.socket.unlink(missing_ok=True)
        self.process = RealProcess(
            ["redis-server", "--port", "0", "--unixsocket", str(self.socket), "--dir", str(self.folder),
             "--save", "", "--appendonly", "no"]
        )  # fmt: skip
        wait_until(self.answers, seconds=10, what="the test's Redis answers")

    def answers(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(1)
                client.connect(str(self.socket))
                client.sendall(b"PING\r\n")
                return client.recv(16).startswith(b"+PONG")
        except OSError:
            return False

    def kill(self) -> None:
        if self.process:
            self.process.kill()

    def end(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def celery_worker(
    *, queues: str, redis_url: str, concurrency: int = 1, env: dict[str, str] | None = None
) -> Iterator[RealProcess]:
    """A Celery worker on the test's database (use `transactional_db`: it sees committed rows only)."""
    worker = RealProcess(
        [sys.executable, "-m", "celery", "-A", "project", "worker", "--loglevel", "INFO", "-Q", queues,
         "-c", str(concurrency), "--without-gossip", "--without-mingle", "-n", f"test{free_port()}@%h"],
        env=site_environment(redis_url=redis_url) | {"LOG_LEVEL": "INFO"} | (env or {}),
    )  # fmt: skip
    try:
        wait_until(
            lambda: " ready." in worker.text() or not worker.is_alive(),
            seconds=60,
            what="the worker is ready",
        )
        assert worker.is_alive(), worker.text()
        yield worker
    finally:
        worker.kill()

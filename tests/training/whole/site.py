"""Web server, workers and scheduler on a test's database: self-contained, or with services that variables name."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests

from apps.accounts.api.tokens import give_tokens
from apps.accounts.models import User
from tests.support.object_store import empty_bucket
from tests.support.processes import CHECKOUT, RealProcess, free_port, site_environment, wait_until

NAMED = ("DATABASE_URL", "REDIS_URL")
HERE = Path(__file__).parent
WORKERS = {"inference": "inference", "training": "training", "default": "default,mail"}


class Site:
    def __init__(self, folder: Path, environment: dict[str, str], *, without: tuple[str, ...] = ()) -> None:
        self.prefix = ["env", *(part for name in without for part in ("-u", name))]
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.folder = folder
        self.environment = environment | {
            "PODURA_TEST_DETECTOR": "apps.training.engine.detector.load_detector",
            "TRAINING_COMMAND": f"{sys.executable} {HERE / 'short_job.py'}",
            "TRAINING_DIR": str(folder / "training"),
            "MODEL_CACHE_DIR": str(folder / "models"),
            "JOB_SWEEP_SECONDS": "2",
            "LOG_LEVEL": "INFO",
            "THROTTLE_UPLOAD": "10000/hour",
            "THROTTLE_USER": "10000/min",
        }
        self.parts: dict[str, RealProcess] = {}

    def run(self, *arguments: str) -> str:
        """A command of the operator, to its end."""
        done = subprocess.run(
            [*self.prefix, sys.executable, *arguments],
            cwd=CHECKOUT,
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self) -> None:
        celery = [sys.executable, "-m", "celery", "-A", "project"]
        worker = [*celery, "worker", "--loglevel", "INFO", "-c", "1", "--without-gossip", "--without-mingle"]
        commands = {
            name: [*worker, "-Q", queues, "-n", f"{name}{self.port}@%h"] for name, queues in WORKERS.items()
        }
        commands["beat"] = [*celery, "beat", "-s", str(self.folder / "beat"), "--pidfile="]
        bind = ["--bind", f"127.0.0.1:{self.port}"]
        commands["web"] = [sys.executable, "-m", "gunicorn", "project.wsgi", *bind]
        for name, command in commands.items():
            self.parts[name] = RealProcess([*self.prefix, *command], env=self.environment)
        wait_until(self._is_up, seconds=300, what="the site is up")

    def _is_up(self) -> bool:
        for name, part in self.parts.items():
            assert part.is_alive(), f"{name}: {part.text()}"
        if not all(" ready." in self.parts[name].text() for name in WORKERS):
            return False
        with contextlib.suppress(requests.ConnectionError):
            return requests.get(f"{self.url}/healthz", timeout=5).status_code == 200
        return False

    def end(self) -> None:
        for part in self.parts.values():
            with contextlib.suppress(ProcessLookupError):
                part.process.terminate()
        for part in self.parts.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                part.process.wait(20)
            part.kill()

    def wait(self, condition: Any, *, seconds: float, what: str) -> None:
        """As `wait_until`, and a failure shows what the parts have said last."""
        try:
            wait_until(condition, seconds=seconds, what=what)
        except AssertionError as error:
            said = "\n".join(f"--- {name}\n{part.text()[-3000:]}" for name, part in self.parts.items())
            raise AssertionError(f"{error}\n{said}") from None


class Caller:
    """Somebody who uses the API over HTTP."""

    def __init__(self, site: Site, user: User) -> None:
        self.site = site
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"Bearer {give_tokens(user=user).access}"

    def post(self, path: str, *, status: tuple[int, ...] = (200, 201, 202), **content: Any) -> dict[str, Any]:
        answer = self.session.post(f"{self.site.url}/api/v1/{path}", timeout=60, **content)
        assert answer.status_code in status, answer.text
        body: dict[str, Any] = answer.json()
        return body


@contextlib.contextmanager
def self_contained(folder: Path) -> Iterator[Site]:
    """No variable names a service: the private ones of the checkout, and a folder."""
    environment = site_environment() | {"STORAGE_URL": f"file://{folder / 'media'}"}
    for name in NAMED:
        del environment[name]
    with _ended(Site(folder, environment, without=NAMED)) as site:
        yield site


@contextlib.contextmanager
def with_services(folder: Path, redis_url: str) -> Iterator[Site]:
    """Database and broker by their addresses, files in an S3 bucket."""
    with empty_bucket() as bucket:
        environment = site_environment(redis_url=redis_url) | {"STORAGE_URL": bucket.url}
        with _ended(Site(folder, environment)) as site:
            yield site


@contextlib.contextmanager
def _ended(site: Site) -> Iterator[Site]:
    try:
        yield site
    finally:
        site.end()

"""`make run` as a newcomer meets it: one address, everything restarted that dies, nothing left after Ctrl-C."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.support.processes import CHECKOUT, RealProcess, free_port, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.serial, pytest.mark.timeout(600)]
OTHERS = {"DATABASE_URL", "REDIS_URL", "STORAGE_URL", "PODURA_DB_NAME", "SECRET_KEY", "DEMO", "DEBUG", "HTTPS",
          "SITE_URL", "LOG_LEVEL", "STATIC_MANIFEST", "DJANGO_SETTINGS_MODULE", "PODURA_TEST_KEY_PREFIX"}  # fmt: skip


@pytest.fixture(scope="module")
def checkout():
    """What a clone holds, in a folder of its own, with this environment's packages."""
    folder = Path(tempfile.mkdtemp(prefix="podura-clone-"))
    folder.chmod(0o755)
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=CHECKOUT, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    for name in listed.stdout.split("\0"):
        if name and (CHECKOUT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(CHECKOUT / name, folder / name)
    (folder / ".venv").symlink_to(CHECKOUT / ".venv")
    yield folder
    subprocess.run([folder / "bin" / "services", "clean"], check=False, env=clean_environment())
    shutil.rmtree(folder, ignore_errors=True)


def clean_environment(**more):
    return {k: v for k, v in os.environ.items() if k not in OTHERS} | more


class Run(RealProcess):
    def __init__(self, checkout, **env):
        self.port = free_port()
        self.checkout = checkout
        super().__init__(["make", "-C", str(checkout), "run", f"PORT={self.port}"])

    def ready(self, seconds=300):
        wait_until(
            lambda: "Podura is ready" in self.text() or not self.is_alive(), seconds=seconds, what="ready"
        )
        assert "Podura is ready" in self.text(), self.text()
        return self

    def get(self, path):
        try:
            with urllib.request.urlopen(f"http://localhost:{self.port}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def is_well(self):
        try:
            return self.get("/readyz")[0] == 200
        except OSError:
            return False


def processes_of(checkout):
    """Process ids of everything that was started from this folder."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            where = str((entry / "cwd").readlink())
        except OSError:
            continue
        if where.startswith(str(checkout)) or str(checkout) in command:
            found[int(entry.name)] = command
    return found


@pytest.fixture(scope="module")
def _own_environment():
    before = dict(os.environ)
    for name in OTHERS:
        os.environ.pop(name, None)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.usefixtures("_own_environment")
def test_one_command_starts_everything_heals_what_is_killed_and_leaves_nothing(checkout):
    first = Run(checkout)
    try:
        first.ready()
        text = first.text()
        assert text.count(f"http://localhost:{first.port}") == 1
        for account in ("contributor", "expert", "curator"):
            assert f"{account}@podura.example" in text
        password = re.search(r"password: (\S+)", text)[1]
        assert first.get("/")[0] == 200
        checks = json.loads(first.get("/readyz")[1])["checks"]
        assert all(check["ok"] for check in checks.values())

        again = Run(checkout)
        assert again.process.wait(60) != 0
        assert "already runs" in again.text()

        # What could die, dies.
        running = processes_of(checkout)
        victims = [
            pid
            for pid, command in running.items()
            if re.search(r"(inference|training|default)@|redis-server|bin/postgres -D", command)
        ]
        for part in ("inference@", "training@", "default@", "redis-server"):
            assert any(part in running[pid] for pid in victims), f"{part} was not started"
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        time.sleep(1)
        try:
            wait_until(first.is_well, seconds=180, what="well again")
        except AssertionError as error:
            pytest.fail(f"{error}\n{first.text()[-4000:]}")
        assert "starting it again" in first.text()
        wait_until(
            lambda: all(
                any(part in command for pid, command in processes_of(checkout).items() if pid not in victims)
                for part in ("inference@", "training@", "default@")
            ),
            seconds=60,
            what="each worker runs again",
        )
    finally:
        supervisor = [p for p, c in processes_of(checkout).items() if "bin/up" in c and "make" not in c]
        began = time.monotonic()
        for pid in supervisor:
            os.kill(pid, signal.SIGINT)
        first.process.wait(60)
    assert time.monotonic() - began < 35
    wait_until(
        lambda: not processes_of(checkout), seconds=5, what=f"no process left: {processes_of(checkout)}"
    )
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", first.port)) != 0

    began = time.monotonic()
    second = Run(checkout).ready(seconds=60)
    assert time.monotonic() - began < 40  # some seconds on an idle machine
    assert f"password: {password}" in second.text()
    assert "migrations" not in second.text()
    # As when the terminal is closed or the machine kills the parent: the rest must not stay behind for ever.
    parent = next(p for p, c in processes_of(checkout).items() if "bin/up" in c and "make" not in c)
    os.kill(parent, signal.SIGKILL)
    wait_until(
        lambda: not [c for c in processes_of(checkout).values() if "gunicorn" in c or "celery" in c],
        seconds=40,
        what="web and workers end with their parent",
    )
    third = Run(checkout).ready(seconds=60)
    third.process.terminate()
    third.process.wait(60)
    wait_until(lambda: not processes_of(checkout), seconds=40, what="TERM to make ends everything too")


@pytest.mark.usefixtures("_own_environment")
def test_a_taken_or_senseless_port_is_told_in_one_line(checkout):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            ["make", "run", f"PORT={port}"], cwd=checkout, capture_output=True, text=True, check=False
        )
        assert done.returncode != 0
        assert f"Port {port} is already taken" in done.stdout
    done = subprocess.run(
        ["make", "run", "PORT=http"], cwd=checkout, capture_output=True, text=True, check=False
    )
    assert "is not a port number" in done.stdout
    assert not processes_of(checkout)


@pytest.mark.usefixtures("_own_environment")
def test_clean_removes_what_run_made(checkout):
    subprocess.run([checkout / "bin" / "services", "start"], check=True)
    (checkout / ".venv").unlink()  # the link, so that clean cannot reach our own environment
    subprocess.run(["make", "clean"], cwd=checkout, check=True)
    assert not (checkout / ".podura").exists()
    assert not processes_of(checkout)

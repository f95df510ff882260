"""bin/services: a private PostgreSQL and Redis per checkout, whatever happened before."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
import redis

from tests.support.processes import CHECKOUT, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.serial]


class Checkout:
    """A checkout in a folder of its own, whose servers are ended by their process ids."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def services(self, action: str, *, check: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
        clean = {
            k: v for k, v in os.environ.items() if k not in ("DATABASE_URL", "REDIS_URL", "PODURA_DB_NAME")
        }
        return subprocess.run(
            [sys.executable, CHECKOUT / "bin" / "services", action],
            env=clean | {"PODURA_CHECKOUT": str(self.folder)} | env,
            capture_output=True, text=True, check=check, timeout=120,
        )  # fmt: skip

    @property
    def record(self) -> dict[str, str]:
        return json.loads((self.folder / ".podura" / "services.json").read_text())

    @property
    def postgres_pid(self) -> int:
        return int((Path(self.record["data"]) / "postgres" / "postmaster.pid").read_text().split()[0])

    @property
    def redis_pid(self) -> int:
        return int((Path(self.record["data"]) / "redis" / "redis.pid").read_text())

    def query(self, sql: str, database: str = "podura") -> list[tuple[object, ...]]:
        with psycopg.connect(host=self.record["run"], user="podura", dbname=database) as connection:
            cursor = connection.execute(sql)
            return cursor.fetchall() if cursor.description else []


@pytest.fixture
def checkout():
    # Not pytest's tmp_path: its parents are closed to the account that PostgreSQL runs as for root.
    folder = Path(tempfile.mkdtemp(prefix="podura-checkout-"))
    folder.chmod(0o755)
    checkout = Checkout(folder)
    yield checkout
    checkout.services("clean", check=False)
    shutil.rmtree(folder, ignore_errors=True)


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_start_opens_no_port_survives_a_second_start_and_keeps_data_over_a_stop(checkout):
    checkout.services("start")
    pids = checkout.postgres_pid, checkout.redis_pid
    assert checkout.query("SHOW listen_addresses") == [("",)]
    assert checkout.query("SELECT 1 FROM pg_extension WHERE extname = 'postgis'") == [(1,)]
    client = redis.Redis.from_url(checkout.record["redis_url"])
    assert client.config_get("port") == {"port": "0"}
    assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    checkout.query("CREATE TABLE kept AS SELECT 7 AS n")
    client.set("kept", "7")

    checkout.services("start")
    assert (checkout.postgres_pid, checkout.redis_pid) == pids

    assert checkout.services("status").returncode == 0
    checkout.services("stop")
    assert all(is_gone(pid) for pid in pids)
    assert checkout.services("status", check=False).returncode == 3
    checkout.services("stop")

    checkout.services("start")
    assert checkout.query("SELECT n FROM kept") == [(7,)]
    assert client.get("kept") == b"7"


def test_a_crash_is_recovered_from_even_when_the_process_numbers_are_somebody_elses_now(checkout):
    checkout.services("start")
    checkout.query("CREATE TABLE kept AS SELECT 7 AS n")
    for pid in (checkout.postgres_pid, checkout.redis_pid):
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda pid=pid: is_gone(pid), what="killed")
    data = Path(checkout.record["data"])
    # As after a restart of the machine: the numbers in the pid files belong to a living stranger.
    stranger = str(os.getpid())
    for path in (data / "postgres" / "postmaster.pid", data / "redis" / "redis.pid"):
        lines = path.read_text().splitlines()
        path.write_text("\n".join([stranger, *lines[1:]]) + "\n")
    checkout.services("start")
    assert checkout.query("SELECT n FROM kept") == [(7,)]
    assert redis.Redis.from_url(checkout.record["redis_url"]).ping()


def test_a_creation_that_was_broken_off_starts_afresh(checkout):
    checkout.services("start")
    checkout.services("stop")
    (Path(checkout.record["data"]) / "postgres" / "podura.made").unlink()
    assert "starts afresh" in checkout.services("start").stderr
    assert checkout.query("SELECT 1") == [(1,)]


def test_four_starts_at_once_give_one_server_each(checkout):
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: checkout.services("start"), range(4)))
    assert [r.returncode for r in results] == [0, 0, 0, 0]
    assert sum("PostgreSQL started" in r.stderr for r in results) == 1


def test_another_database_name_is_made_and_a_dangerous_one_refused(checkout):
    checkout.services("start", PODURA_DB_NAME="podura_other")
    assert checkout.query("SELECT current_database()", "podura_other") == [("podura_other",)]
    assert "/podura_other'" in checkout.services("env", PODURA_DB_NAME="podura_other").stdout
    refused = checkout.services("start", check=False, PODURA_DB_NAME="x'; DROP DATABASE podura; --")
    assert refused.returncode == 1
    assert "not a plain" in refused.stderr


def test_release_leaves_servers_that_a_person_started_and_stops_those_of_a_run(checkout):
    checkout.services("start")
    checkout.services("release")
    assert checkout.services("status", check=False).returncode == 0
    checkout.services("stop")
    checkout.services("acquire")
    checkout.services("release")
    assert checkout.services("status", check=False).returncode == 3


def test_a_checkout_with_a_long_and_odd_path_gets_a_short_socket_folder(checkout):
    deep = Checkout(checkout.folder / ("very-long-name-" * 8) / "it's, odd")
    try:
        deep.services("start")
        assert len(deep.record["run"]) < 80
        assert deep.query("SELECT 1") == [(1,)]
        assert redis.Redis.from_url(deep.record["redis_url"]).ping()
        deep.services("stop")
        deep.services("start")
        assert deep.query("SELECT 1") == [(1,)]
    finally:
        run = Path(deep.record["run"])
        deep.services("clean")
    assert not run.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="about root's own folders")
def test_roots_checkout_in_a_closed_folder_keeps_its_data_where_postgresql_may_go(checkout):
    closed = checkout.folder / "closed"
    closed.mkdir(mode=0o700)
    inner = Checkout(closed / "podura")
    result = inner.services("start")
    data = Path(inner.record["data"])
    assert data.is_relative_to("/var/lib/podura")
    assert str(data) in result.stderr
    assert inner.query("SELECT 1") == [(1,)]
    inner.services("clean")
    assert not data.exists()
    assert not (inner.folder / ".podura").exists()


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="root can become somebody else")
def test_it_works_as_a_plain_user(checkout):
    shutil.chown(checkout.folder, "nobody", "nogroup")
    script = checkout.folder / "services"
    shutil.copy(CHECKOUT / "bin" / "services", script)
    script.chmod(0o755)

    def as_nobody(action: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "/usr/bin/python3", script, action],
            env={"PATH": os.environ["PATH"], "PODURA_CHECKOUT": str(checkout.folder)},
            capture_output=True, text=True, check=False, timeout=120, cwd="/",
        )  # fmt: skip

    started = as_nobody("start")
    assert started.returncode == 0, started.stderr
    assert checkout.query("SELECT 1") == [(1,)]
    assert as_nobody("stop").returncode == 0

    # Root may start them once; the data stays the user's, who can go on afterwards.
    checkout.services("start")
    assert checkout.query("SELECT 1") == [(1,)]
    checkout.services("stop")
    assert as_nobody("start").returncode == 0
    assert as_nobody("stop").returncode == 0


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="root can become somebody else")
def test_a_user_is_told_that_the_data_is_roots(checkout):
    checkout.services("start")
    checkout.services("stop")
    done = subprocess.run(
        ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "/usr/bin/python3",
         CHECKOUT / "bin" / "services", "start"],
        env={"PATH": os.environ["PATH"], "PODURA_CHECKOUT": str(checkout.folder)},
        capture_output=True, text=True, check=False, timeout=60, cwd="/",
    )  # fmt: skip
    assert done.returncode == 1
    assert "belongs to another user" in done.stderr


def test_what_is_not_installed_is_named(checkout):
    script = f"""
import importlib.machinery, importlib.util, sys
loader = importlib.machinery.SourceFileLoader("s", {str(CHECKOUT / "bin" / "services")!r})
sys.dont_write_bytecode = True
s = importlib.util.module_from_spec(importlib.util.spec_from_loader("s", loader)); sys.modules["s"] = s
loader.exec_module(s)
s.shutil.which = lambda name: None
s.postgres_programs = lambda version=None: (_ for _ in ()).throw(s.ServiceError("PostgreSQL is not installed"))
sys.argv = ["services", "start"]
sys.exit(s.main())
"""
    done = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | {"PODURA_CHECKOUT": str(checkout.folder)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "PostgreSQL is not installed" in done.stderr

"""What tests of runs look at: rows, folders, processes."""

import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from django.core.files.storage import storages
from django.db import connection

from apps.training.services.run_worker import continue_next_run
from apps.training.services.run_worker.folder import runs_folder
from tests.support.processes import CHECKOUT

STAND_IN = [sys.executable, str(CHECKOUT / "tests" / "training" / "stand_in.py")]


def in_background(test):
    """Workers in threads see committed rows only."""
    return pytest.mark.slow(pytest.mark.django_db(transaction=True)(test))


def folder_of(run) -> Path:
    return runs_folder() / str(run.public_id)


def stored_checkpoints(run) -> list[str]:
    try:
        return storages["default"].listdir(f"checkpoints/{run.public_id}")[1]
    except FileNotFoundError:
        return []


def log_codes(run) -> list[str]:
    return [line.code for line in run.log_lines.all() if line.code]


def worked_off(run):
    assert continue_next_run()
    run.refresh_from_db()
    return run


@contextmanager
def in_the_background():
    """A worker in a thread, until its run is worked off."""

    def work():
        try:
            continue_next_run()
        finally:
            connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    yield thread
    thread.join(30)
    assert not thread.is_alive()


def assert_nothing_is_left(run):
    assert not folder_of(run).exists()
    assert stored_checkpoints(run) == []
    assert processes_of(run) == []
    run.refresh_from_db()
    assert not run.checkpoint
    assert run.lease_token is None


def processes_of(run) -> list[str]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"PODURA_RUN={run.public_id}".encode() in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_text())
    return found

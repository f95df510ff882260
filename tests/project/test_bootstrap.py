"""bin/bootstrap on a machine where something is missing: it installs it, or says in one message what to do."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.support.processes import CHECKOUT

TOOLS = ("bash", "env", "dirname", "id", "sed", "grep", "cut", "sort", "tail", "cat", "sha256sum", "tee", "chmod",
         "mkdir", "rm", "mktemp", "setpriv", "sudo-not-there")  # fmt: skip
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        os.geteuid() != 0 or not shutil.which("setpriv"), reason="root can become somebody else"
    ),
]


@pytest.fixture
def machine():
    """A PATH without redis-server, and a checkout whose environment is installed already."""
    folder = Path(tempfile.mkdtemp(prefix="podura-machine-"))
    folder.chmod(0o755)
    programs = folder / "programs"
    programs.mkdir()
    for tool in TOOLS:
        if found := shutil.which(tool):
            (programs / tool).symlink_to(found)
    (programs / "msgfmt").symlink_to("/bin/true")
    checkout = folder / "checkout"
    (checkout / "bin").mkdir(parents=True)
    shutil.copy(CHECKOUT / "bin" / "bootstrap", checkout / "bin")
    for name in ("requirements.txt", "requirements-dev.txt"):
        (checkout / name).write_text("")
    (checkout / ".venv").symlink_to(CHECKOUT / ".venv")
    yield folder
    shutil.rmtree(folder)


def bootstrap(machine, *before):
    return subprocess.run(
        [*before, "bash", machine / "checkout" / "bin" / "bootstrap"],
        env={"PATH": str(machine / "programs"), "DATABASE_URL": "elsewhere"},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def add_program(machine, name, text):
    path = machine / "programs" / name
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)


AS_NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


def test_elsewhere_than_on_debian_it_names_what_is_missing(machine):
    done = bootstrap(machine)
    assert done.returncode == 1
    assert "Missing on this machine: redis-server" in done.stderr
    assert "Debian and Ubuntu only" in done.stderr


def test_a_user_without_sudo_is_told_that_root_installs(machine):
    add_program(machine, "apt-get", "exit 99")
    done = bootstrap(machine, *AS_NOBODY)
    assert done.returncode == 1
    assert "redis-server" in done.stderr
    assert "installed by root" in done.stderr


def test_sudo_that_asks_for_a_password_without_a_terminal_is_not_waited_for(machine):
    add_program(machine, "apt-get", "exit 99")
    add_program(machine, "sudo", "exit 1")
    done = bootstrap(machine, *AS_NOBODY)
    assert done.returncode == 1
    assert "there is no terminal" in done.stderr


def test_root_installs_what_is_missing_and_a_failure_is_told(machine):
    log = machine / "apt.log"
    add_program(machine, "apt-get", f'echo "$@" >> {log}; [ "$1" = update ] || exit 100')
    done = bootstrap(machine)
    assert done.returncode == 1
    assert "could not install redis-server" in done.stderr
    assert log.read_text().splitlines()[0].startswith("update")
    assert "install -y -q --no-install-recommends redis-server" in log.read_text()

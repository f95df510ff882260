"""The private PostgreSQL and Redis for a test run, and a folder for its files."""

import atexit
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]


@cache
def throwaway_folder() -> Path:
    """One folder a process, gone at its end."""
    folder = Path(tempfile.mkdtemp(prefix="podura-tests-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def ensure_services() -> None:
    """Start what no variable names; servers that already run are used and stay."""
    if os.environ.get("DATABASE_URL") and os.environ.get("REDIS_URL"):
        return
    state = CHECKOUT / ".podura"
    state.mkdir(mode=0o711, exist_ok=True)
    users = (state / "in-use").open("a")
    fcntl.flock(users, fcntl.LOCK_SH)
    command = [sys.executable, str(CHECKOUT / "bin" / "services")]
    subprocess.run([*command, "acquire"], check=True)

    def release() -> None:
        users.close()
        subprocess.run([*command, "release"], check=False, stderr=subprocess.DEVNULL)

    # Parallel test processes end before the one that started them: the last one stops the servers.
    atexit.register(release)

"""In a checkout with its own database, `manage.py` works beside the running site without any variable."""

import os
import subprocess
import sys

import pytest
from django.conf import settings


@pytest.mark.slow
@pytest.mark.skipif(
    not (settings.STATE_DIR / "services.json").exists(), reason="the tests run on somebody else's database"
)
def test_manage_py_needs_no_variable() -> None:
    bare = {
        "PATH": os.environ["PATH"],
        "HOME": "/nonexistent",
        "SECRET_KEY": "made-once-by-make-run-made-once-by-make-run",
    }
    answer = subprocess.run(
        [sys.executable, "manage.py", "check", "--fail-level", "WARNING"],
        cwd=settings.BASE_DIR,
        env=bare,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr


def test_a_site_on_its_own_servers_is_strict_about_https() -> None:
    given = {
        "PATH": os.environ["PATH"],
        "SECRET_KEY": "x" * 60,
        "DATABASE_URL": "postgis://somewhere/podura",
    }
    code = "from project import settings; print(settings.HTTPS)"
    answer = subprocess.run(
        [sys.executable, "-c", code],
        cwd=settings.BASE_DIR,
        env=given,
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.strip() == "True"

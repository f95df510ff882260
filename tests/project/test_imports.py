"""What may be imported where, beyond what import-linter sees."""

import subprocess
import sys

from tests.support.processes import CHECKOUT


def test_the_web_process_does_not_load_the_machine_learning_libraries():
    """They cost half a gigabyte a process and seconds of start."""
    code = (
        "import sys, project.wsgi, project.urls\n"
        "from django.urls import get_resolver\n"
        "get_resolver().url_patterns\n"
        "print(sorted({'torch', 'torchvision', 'ultralytics', 'openvino'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip().splitlines()[-1:] == ["[]"], done.stdout + done.stderr

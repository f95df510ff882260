"""What a training says of itself, and that every end has its own word."""

import errno
import os
import subprocess
import sys

import pytest

from apps.training.engine.events import LOG_TEXTS, LogLine, TrainingError, failure_of
from apps.training.engine.job import Events
from apps.training.engine.pictures import PictureError
from apps.training.engine.processes import _wait
from apps.training.engine.weights import WeightsError


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MemoryError(), "out_of_memory"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "out_of_memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."), "out_of_memory"),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
            "out_of_memory",
        ),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"), "out_of_memory"),
        (OSError(errno.ENOSPC, "No space left on device"), "disk_full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "disk_full"),
        (OSError(errno.EACCES, "Permission denied"), "error"),
        (WeightsError("not weights"), "unusable_base"),
        (PictureError("truncated"), "picture_unreadable"),
        (TrainingError("diverged", "epoch 3"), "diverged"),
        (ValueError("whatever"), "error"),
    ],
)
def test_every_failure_has_its_code(error, code):
    assert failure_of(error).code == code


def test_the_reason_is_found_behind_what_a_library_made_of_it():
    full = OSError(errno.ENOSPC, "No space left on device")
    wrapped = RuntimeError("Dataset error")
    wrapped.__cause__ = full
    assert failure_of(wrapped).code == "disk_full"
    wanting = WeightsError("the net cannot be built")
    wanting.__cause__ = MemoryError()
    assert failure_of(wanting).code == "out_of_memory"


def test_every_line_of_the_log_has_a_sentence():
    line = LogLine("head_extended", {"known": ["disc", "bar"], "new": []})
    assert line.text == "Labels carried over from the base: disc, bar. New labels: none."
    details = {"pictures": 1, "windows": 9, "side_px": 640, "architecture": "yolo11n", "known": [], "new": []}
    details |= {"device": "cpu", "batch": 8, "epoch": 3, "name": "last.pt", "patience": 2, "best_epoch": 1}
    for code in LOG_TEXTS:
        assert "{" not in LogLine(code, details).text


def test_a_long_event_is_one_line():
    reading, writing = os.pipe()
    Events(writing).tell("log", text="x" * 20_000)
    os.close(writing)
    with os.fdopen(reading) as lines:
        assert len(lines.readlines()) == 1


def test_of_processes_that_end_together_the_one_that_the_system_killed_is_the_reason():
    """The others lose their connection to it, and say that."""
    told = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
    killed = subprocess.Popen([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"])
    for process in (told, killed):
        process.wait()
    with pytest.raises(TrainingError) as caught:
        _wait([told, killed])
    assert failure_of(caught.value).code == "out_of_memory"
    assert not getattr(caught.value, "is_told", False)

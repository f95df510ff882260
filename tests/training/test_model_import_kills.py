"""A worker is killed while it examines weights: another goes on, and nothing is there twice."""

import os
import signal
import time
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.files.base import ContentFile
from django.utils import timezone

from apps.training.models import ModelImport, ModelVersion
from apps.training.services.model_imports import accept_import, examine_next_import
from tests.training.checkpoints import tiny_checkpoint
from tests.training.test_model_imports import sent

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]


@pytest.fixture(autouse=True)
def _own_folder(settings, tmp_path):
    settings.TRAINING_DIR = tmp_path / "training"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return tiny_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny.pt")


def examiners():
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                words = (folder / "cmdline").read_bytes()
                state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if b"apps.training.engine.examine" in words and state != "Z":
                found.append((int(folder.name), words))
    return found


def test_the_examining_process_ends_with_its_killed_worker_and_another_goes_on(checkpoint, settings):
    row = sent(checkpoint)
    child = os.fork()
    if child == 0:  # a worker of its own, on a connection of its own
        from django.db import connections

        connections["default"].connection = None
        try:
            examine_next_import()
        finally:
            os._exit(0)
    mine = str(settings.TRAINING_DIR).encode()
    deadline = time.monotonic() + 60
    while not any(mine in words for _pid, words in examiners()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(1)  # it has asked to end with its parent
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    time.sleep(1)
    assert not any(mine in words for _pid, words in examiners())

    row.refresh_from_db()
    assert row.status == "processing"
    assert not examine_next_import(), "the lease of the dead one still holds"
    ModelImport.objects.filter(pk=row.pk).update(lease_until=timezone.now() - timedelta(minutes=5))
    assert examine_next_import()
    row.refresh_from_db()
    assert (row.status, row.decision, row.findings["labels"]) == ("done", "open", ["disc", "bar"])


def test_what_a_killed_worker_left_of_a_file_is_not_taken(checkpoint):
    row = sent(checkpoint)
    storage = row.file.storage
    left = storage.save(f"quarantine/{row.public_id}.8a4f2f0e.podura", ContentFile(b"half of it"))
    ModelImport.objects.filter(pk=row.pk).update(
        status="processing",
        attempts=1,
        lease_token="8a4f2f0e-5d6c-4b8e-9a61-000000000002",
        lease_until=timezone.now() - timedelta(minutes=5),
    )
    assert examine_next_import()
    row.refresh_from_db()
    kept = row.file.name
    assert kept.startswith(f"quarantine/{row.public_id}.")
    assert kept != left
    version = accept_import(model_import=row)
    assert ModelVersion.objects.get() == version
    assert not storage.exists(kept)
    assert not storage.exists(f"quarantine/{row.public_id}.received")

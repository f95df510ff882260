"""kill -9 of the worker, of its child, of the training; a deploy; another machine: the run goes on from its last epoch.

Real Celery workers and a real beat on the test's database and a Redis of its own. The trainings are stand-ins with the
engine's promises, so that an epoch lasts as long as the test needs; `test_run_training.py` has real ones.
"""

import os
import shlex
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from django.core.files.storage import storages

from apps.training.models import Dataset, ModelVersion, RunStatus, TrainingRun
from apps.training.services.runs import cancel_run, request_run
from apps.training.tasks.runs import continue_runs
from project.storage_url import storages_from_url
from tests.factories import RegisteredModelFactory
from tests.support.object_store import empty_bucket
from tests.support.processes import CHECKOUT, RealProcess, children_of, site_environment, wait_until
from tests.training.frozen import frozen_scenes

pytestmark = [pytest.mark.slow, pytest.mark.serial, pytest.mark.django_db(transaction=True)]
EPOCHS = 8


def stand_in(*options) -> str:
    return shlex.join(
        [sys.executable, str(CHECKOUT / "tests" / "training" / "stand_in.py"), *map(str, options)]
    )


def environment(folder: Path, *options, **more) -> dict[str, str]:
    """A machine with a folder of its own."""
    return {
        "JOB_LEASE_SECONDS": "3",
        "JOB_SWEEP_SECONDS": "1",
        "TRAINING_DIR": str(folder / "training"),
        "MODEL_CACHE_DIR": str(folder / "models"),
        "TRAINING_COMMAND": stand_in("--seconds", 0.4, "--child", *options),
        **more,
    }


@pytest.fixture
def beat(throwaway_broker, tmp_path):
    scheduler = RealProcess(
        [sys.executable, "-m", "celery", "-A", "project", "beat", "-s", str(tmp_path / "beat"), "--pidfile="],
        env=site_environment(redis_url=throwaway_broker.url) | environment(tmp_path),
    )
    yield scheduler
    scheduler.kill()


@pytest.fixture
def machine(start_worker, tmp_path):
    """`machine("a")`: a worker for trainings (and sweeps) with the folder `a`; the same name is the same machine."""

    def start(name="a", *options, **more):
        return start_worker(queues="training,default", env=environment(tmp_path / name, *options, **more))

    return start


def ask(**parameters) -> TrainingRun:
    model = RegisteredModelFactory()
    dataset = frozen_scenes(model, splits={"train": 3, "validation": 2, "test": 2})
    chosen = {"epochs": EPOCHS, "batch": 8, "image_size": 64} | parameters
    run = request_run(registered_model=model, dataset=dataset, parameters=chosen, trigger="curator")
    continue_runs.delay()
    return run


def now(run) -> TrainingRun:
    return TrainingRun.objects.get(pk=run.pk)


def wait_for_epochs(run, epochs, worker):
    wait_until(
        lambda: now(run).epochs_done >= epochs, seconds=60, what=f"{epochs} epochs: {worker.text()[-3000:]}"
    )


def wait_for_end(run, worker, seconds=90):
    wait_until(
        lambda: not now(run).is_open, seconds=seconds, what=f"the end of {run}: {worker.text()[-3000:]}"
    )


def jobs_of(run) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"PODURA_RUN={run.public_id}".encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
    return found


def trainer_of(run) -> int:
    """The training itself, not what it started."""
    return next(pid for pid in jobs_of(run) if b"stand_in" in Path(f"/proc/{pid}/cmdline").read_bytes())


def resumed_after(run) -> list[int]:
    lines = run.log_lines.filter(code="resumed")
    return [line.details["epoch"] for line in lines]


def assert_done_once(run):
    run = now(run)
    lines = list(run.log_lines.values_list("code", "details", "text"))
    assert run.status == RunStatus.SUCCEEDED, (run.failure_reason, lines)
    assert [row.epoch for row in run.epoch_rows.all()] == list(range(1, EPOCHS + 1))
    assert ModelVersion.objects.filter(registered_model=run.registered_model).count() == 1
    assert run.lease_token is None
    wait_until(lambda: not now(run).checkpoint, seconds=10, what="no checkpoint is left")
    wait_until(lambda: jobs_of(run) == [], seconds=5, what="nothing of the training is left")


def test_the_worker_is_killed_with_everything_it_started_and_another_goes_on(machine, beat):
    run = ask()
    first = machine()
    wait_for_epochs(run, 2, first)
    first.kill()
    second = machine()
    wait_for_end(run, second)
    assert_done_once(run)
    assert resumed_after(run)[0] >= 2
    assert now(run).attempts <= 2


def test_the_child_is_killed_and_its_training_ends_with_it(machine, beat):
    run = ask()
    worker = machine()
    wait_for_epochs(run, 2, worker)
    trainer = trainer_of(run)
    assert worker.kill_children() >= 1
    wait_until(
        lambda: not Path(f"/proc/{trainer}").exists(), seconds=5, what="the training ended with its parent"
    )
    wait_for_end(run, worker)
    assert worker.is_alive()
    assert_done_once(run)
    assert resumed_after(run)[0] >= 2


def test_the_parent_alone_is_killed_and_the_run_is_done_once(machine, beat):
    run = ask()
    first = machine()
    wait_for_epochs(run, 2, first)
    orphans = children_of(first.pid)
    first.kill_only_itself()
    second = machine()
    try:
        wait_for_end(run, second)
        assert_done_once(run)
    finally:
        for pid in orphans:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def test_the_training_alone_is_killed_and_goes_on_with_a_smaller_batch(machine, beat):
    run = ask()
    worker = machine()
    wait_for_epochs(run, 2, worker)
    os.kill(trainer_of(run), signal.SIGKILL)
    wait_for_end(run, worker)
    assert_done_once(run)
    assert now(run).batch == 4
    assert resumed_after(run)[0] >= 2


def test_a_worker_that_is_told_to_stop_ends_soon_and_costs_no_attempt(machine, beat):
    run = ask()
    first = machine()
    wait_for_epochs(run, 2, first)
    began = time.monotonic()
    assert first.terminate(seconds=25) == 0
    assert time.monotonic() - began < 20
    assert jobs_of(run) == []
    waiting = now(run)
    assert (waiting.status, waiting.attempts) == (RunStatus.QUEUED, 0)
    second = machine()
    wait_for_end(run, second)
    assert_done_once(run)
    assert resumed_after(run)[0] >= 2


def test_killed_again_and_again_it_still_ends_with_one_version(machine, beat):
    run = ask()
    for epochs in (1, 2, 4):
        worker = machine()
        wait_for_epochs(run, epochs, worker)
        worker.kill()
    last = machine()
    wait_for_end(run, last)
    assert_done_once(run)


def test_cancelling_reaches_a_real_worker_within_seconds(machine, beat, tmp_path):
    run = ask()
    worker = machine()
    wait_for_epochs(run, 1, worker)
    began = time.monotonic()
    cancel_run(run)
    wait_until(lambda: now(run).status == RunStatus.CANCELLED, seconds=5, what="cancelled")
    assert time.monotonic() - began < 5
    wait_until(lambda: jobs_of(run) == [], seconds=5, what="nothing of the training is left")
    wait_until(
        lambda: list((tmp_path / "a" / "training" / "runs").iterdir()) == [],
        seconds=5,
        what="the folder is removed",
    )


@pytest.fixture
def store(settings, monkeypatch):
    """An empty bucket that the test and its workers share, and nothing else."""
    with empty_bucket() as bucket:
        settings.STORAGES = {
            **settings.STORAGES,
            "default": storages_from_url(bucket.url, static_backend="unused")["default"],
        }
        settings.STORAGE_URL = bucket.url
        for model, field in ((Dataset, "manifest"), (TrainingRun, "checkpoint"), (ModelVersion, "weights")):
            monkeypatch.setattr(model._meta.get_field(field), "storage", storages["default"])
        yield bucket


def test_another_machine_goes_on_from_the_checkpoint_in_the_storage(store, machine, beat, tmp_path):
    run = ask()
    first = machine("a")
    wait_for_epochs(run, 2, first)
    wait_until(lambda: now(run).checkpoint_epoch >= 2, what="a checkpoint in the storage")
    first.kill()
    assert [key for key in store.file_names() if "checkpoints" in key]
    second = machine("b")
    wait_for_end(run, second)
    assert_done_once(run)
    assert resumed_after(run)[0] >= 2
    assert not [key for key in store.file_names() if "checkpoints" in key]
    assert [key for key in store.file_names() if key.endswith(".podura")]
    assert (tmp_path / "b" / "training" / "pictures").is_dir()

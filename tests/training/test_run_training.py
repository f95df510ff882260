"""Runs with real trainings of a tiny net: from the request to a version that detects, killed, short of memory and disk."""

import subprocess
import sys

import pytest

from apps.common.leased import LeasedWorkQuerySet
from apps.training.engine.detector import load_detector
from apps.training.inference import local_weights
from apps.training.models import ModelVersion, RunStatus, TrainingRun
from apps.training.run_texts import failure_text, log_text
from apps.training.services import promote
from apps.training.services.run_worker import continue_next_run, outcome
from apps.training.services.run_worker.folder import runs_folder
from apps.training.services.runs import request_run
from apps.training.tasks.runs import continue_runs
from tests.factories import RegisteredModelFactory
from tests.support.processes import CHECKOUT, wait_until
from tests.training.frozen import frozen_scenes

pytestmark = [pytest.mark.slow, pytest.mark.serial, pytest.mark.timeout(900)]
SMALL = {
    "image_size": 64, "batch": 8, "epochs": 3, "mosaic": 0.0, "epochs_without_mosaic": 0, "architecture": "yolo11n",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _own_folders(settings, tmp_path):
    settings.TRAINING_DIR = tmp_path / "training"
    settings.MODEL_CACHE_DIR = tmp_path / "models"


def ask(model=None, dataset=None, **parameters):
    model = model or RegisteredModelFactory()
    dataset = dataset or frozen_scenes(model)
    chosen = SMALL | parameters
    return request_run(registered_model=model, dataset=dataset, parameters=chosen, trigger="curator")


def worked_off(run):
    assert continue_next_run()
    run.refresh_from_db()
    return run


def told(run):
    return [(line.code, line.details, line.text) for line in run.log_lines.all()]


@pytest.mark.django_db
def test_a_run_makes_a_version_that_detects_and_the_next_one_learns_a_label_more(tmp_path):
    run = worked_off(ask())
    assert run.status == RunStatus.SUCCEEDED, told(run)
    assert [row.epoch for row in run.epoch_rows.all()] == [1, 2, 3]
    curves = {"box_loss", "cls_loss", "dfl_loss", "val_box_loss", "map50", "map50_95", "precision", "recall"}
    assert curves | {"learning_rate"} <= set(run.epoch_rows.first().metrics)
    assert run.hardware["versions"]["torch"]
    weights = local_weights(run.version)
    detector = load_detector(weights, sha256=run.version.weights_sha256, cache_dir=tmp_path / "converted")
    assert detector.labels == ("disc", "bar")
    assert not list(runs_folder().iterdir())
    promote(version=run.version)
    model = run.registered_model
    more = worked_off(ask(model, frozen_scenes(model, labels=("cross", "disc", "bar"), seed=2)))
    assert more.status == RunStatus.SUCCEEDED, told(more)
    assert (more.version.parent, more.version.labels) == (run.version, ["cross", "disc", "bar"])
    assert "head_extended" in more.log_lines.values_list("code", flat=True)
    assert all(log_text(line) for line in more.log_lines.all())


@pytest.mark.django_db(transaction=True)
def test_a_killed_worker_loses_no_epoch_of_a_real_training(start_worker, tmp_path):
    run = ask(epochs=5)
    env = {
        "JOB_LEASE_SECONDS": "3",
        "TRAINING_DIR": str(tmp_path / "a"),
        "MODEL_CACHE_DIR": str(tmp_path / "models"),
    }
    first = start_worker(queues="training", env=env)
    continue_runs.delay()
    done = lambda: TrainingRun.objects.get(pk=run.pk).checkpoint_epoch  # noqa: E731
    wait_until(lambda: done() >= 2, seconds=200, what=f"two epochs: {first.text()[-3000:]}")
    first.kill()
    before = done()
    # Another machine: it has the checkpoint in the storage only.
    second = start_worker(queues="training", env=env | {"TRAINING_DIR": str(tmp_path / "b")})
    rows: LeasedWorkQuerySet = TrainingRun.objects.all()
    wait_until(lambda: rows.claimable().exists(), seconds=10, what="the lease ended")
    continue_runs.delay()
    wait_until(
        lambda: not TrainingRun.objects.get(pk=run.pk).is_open,
        seconds=300,
        what=f"the end: {second.text()[-3000:]}",
    )
    run.refresh_from_db()
    assert run.status == RunStatus.SUCCEEDED, told(run)
    assert [row.epoch for row in run.epoch_rows.all()] == list(range(1, 6))
    (resumed,) = run.log_lines.filter(code="resumed")
    assert resumed.details["epoch"] >= before
    assert ModelVersion.objects.filter(registered_model=run.registered_model).count() == 1


@pytest.mark.django_db
def test_a_worker_that_dies_before_the_version_is_registered_finds_the_training_done(monkeypatch):
    run = ask(epochs=2)

    def die(*_args, **_kwargs):
        raise KeyboardInterrupt  # as a kill, caught by nobody

    with monkeypatch.context() as broken:
        broken.setattr(outcome, "register_model_version", die)
        with pytest.raises(KeyboardInterrupt):
            continue_next_run()
    run.refresh_from_db()
    assert run.stage == TrainingRun.Stage.SAVING
    TrainingRun.objects.all().release(run.lease_token)
    worked_off(run)
    assert run.status == RunStatus.SUCCEEDED, told(run)
    assert [row.epoch for row in run.epoch_rows.all()] == [1, 2]
    assert ModelVersion.objects.filter(registered_model=run.registered_model).count() == 1


@pytest.mark.django_db
def test_too_little_memory_at_the_allocator_halves_the_batch_and_says_so(settings):
    settings.TRAINING_COMMAND = [
        sys.executable,
        str(CHECKOUT / "tests" / "training" / "short_of_memory.py"),
        "4",
    ]
    run = worked_off(ask(epochs=1))
    assert run.status == RunStatus.SUCCEEDED, told(run)
    assert run.batch == 4
    said = [log_text(line) for line in run.log_lines.filter(code="out_of_memory")]
    assert said == ["The memory does not suffice for a batch of 8: it goes on with 4"]


@pytest.fixture
def small_disk(settings, tmp_path):
    """The training's folder on a file system of 9 MB."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=9m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a file system can only be mounted by root")
    settings.TRAINING_DIR = place
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.django_db
def test_a_full_disk_fails_the_run_cleanly_and_it_can_be_asked_for_again(small_disk, settings, tmp_path):
    run = worked_off(ask())
    assert (run.status, run.failure_reason) == (RunStatus.FAILED, "disk_full"), told(run)
    assert "full" in failure_text(run)
    assert not list(runs_folder().iterdir())
    assert not ModelVersion.objects.exists()
    settings.TRAINING_DIR = tmp_path / "roomy"
    assert worked_off(ask(run.registered_model, run.dataset, epochs=1)).status == RunStatus.SUCCEEDED

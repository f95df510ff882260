"""A run worked off with a stand-in for the training: what is written down, every way it ends, nothing left behind."""

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from django.core.files.storage import storages
from django.db import connection

from apps.common import leased
from apps.common.leased import LeaseLostError
from apps.training.models import Comparison, DatasetItem, ModelVersion, RunStatus, TrainingRun
from apps.training.run_texts import failure_text, log_text
from apps.training.services.run_worker import continue_next_run, discard_checkpoints, flow, outcome
from apps.training.services.run_worker.ends import readable
from apps.training.services.run_worker.flow import code_commit
from apps.training.services.run_worker.folder import runs_folder
from apps.training.services.runs import cancel_run, request_run
from apps.training.signals import run_ended
from tests.factories import RegisteredModelFactory
from tests.support.processes import CHECKOUT, wait_until
from tests.support.stub_detector import stub_version
from tests.training.frozen import frozen_scenes

pytestmark = pytest.mark.django_db


def in_background(test):
    """Workers in threads see committed rows only."""
    return pytest.mark.slow(pytest.mark.django_db(transaction=True)(test))


STAND_IN = [sys.executable, str(CHECKOUT / "tests" / "training" / "stand_in.py")]


@pytest.fixture(autouse=True)
def _own_folders(settings, tmp_path):
    settings.TRAINING_DIR = tmp_path / "training"
    settings.MODEL_CACHE_DIR = tmp_path / "models"
    settings.TRAINING_COMMAND = STAND_IN
    yield
    leased._stopping[0] = 0


@pytest.fixture
def model():
    return RegisteredModelFactory()


@pytest.fixture
def dataset(model):
    return frozen_scenes(model, splits={"train": 3, "validation": 2, "test": 2})


@pytest.fixture
def asked(model, dataset):
    """`asked(epochs=3)`: a run that waits."""

    def ask(**parameters):
        chosen = {"epochs": 3, "batch": 8, "image_size": 64} | parameters
        return request_run(registered_model=model, dataset=dataset, parameters=chosen, trigger="curator")

    return ask


@pytest.fixture
def misbehaving(settings):
    """`misbehaving("--how", "crash")`: the training does."""

    def choose(*options):
        settings.TRAINING_COMMAND = [*STAND_IN, *map(str, options)]

    return choose


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


def test_a_run_becomes_a_version_with_curves_log_hardware_commit_and_minutes(
    model, asked, settings, django_capture_on_commit_callbacks
):
    settings.CODE_COMMIT = "c" * 40
    base = stub_version(model, "disc")
    ended = []
    run_ended.connect(lambda run, **_: ended.append(run.status), weak=False, dispatch_uid="test")
    with django_capture_on_commit_callbacks(execute=True):
        run = worked_off(asked())
    run_ended.disconnect(dispatch_uid="test")
    assert run.status == RunStatus.SUCCEEDED, list(run.log_lines.values_list("code", "details", "text"))
    version = run.version
    assert (version.origin, version.parent, version.stage) == ("trained", base, "candidate")
    assert version.labels == ["disc", "bar"]
    assert version.metrics == {"map50": 0.03, "map50_95": 0.015, "epoch": 3}
    assert (run.epochs_done, run.epochs, run.batch) == (3, 3, 8)
    assert [row.metrics["map50"] for row in run.epoch_rows.all()] == [0.01, 0.02, 0.03]
    assert run.hardware["cpu"] == "a stand-in"
    assert run.hardware["machine"] == os.uname().nodename
    assert run.code_commit == "c" * 40
    assert 0 < run.minutes_spent < 1
    assert ended == [RunStatus.SUCCEEDED]
    said = [log_text(line) for line in run.log_lines.all()]
    assert f"Finished: {version}" in said
    assert "5 photos fetched" in said
    assert "words" in said  # the trainer's own, without colours and what a progress bar wrote over
    assert_nothing_is_left(run)
    assert not continue_next_run()


def test_a_checkout_knows_its_commit_by_itself_and_an_image_is_told(settings, tmp_path):
    settings.CODE_COMMIT = ""
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.example"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
    settings.BASE_DIR = tmp_path
    assert len(code_commit()) == 40
    settings.BASE_DIR = tmp_path / "no checkout"
    assert code_commit() == ""
    settings.CODE_COMMIT = "told"
    assert code_commit() == "told"


def test_what_came_out_is_compared_with_the_version_in_production(asked):
    run = worked_off(asked())
    assert Comparison.objects.get().challenger == run.version
    assert Comparison.objects.get().run == run


def test_the_training_sees_no_secret(asked, monkeypatch, misbehaving, settings):
    secrets = {
        "DATABASE_URL": "postgis://u:hidden@db/x",
        "SECRET_KEY": "hidden-key",
        "AWS_SECRET_ACCESS_KEY": "hidden-aws",
        "STORAGE_URL": "s3://k:hidden@h/b",
        "REDIS_URL": "redis://:hidden@h",
        "SENTRY_DSN": "https://hidden@sentry",
        "TORCH_HUB_TOKEN": "hidden-too",
    }
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    seen = {}
    real = outcome.succeed

    def look(record, **found):
        path = folder_of(record.run) / "work" / "environment.json"
        seen.update(json.loads(path.read_text()))
        return real(record, **found)

    monkeypatch.setattr(outcome, "succeed", look)
    worked_off(asked())
    assert seen["CUDA_VISIBLE_DEVICES"] == "0"
    assert "hidden" not in json.dumps(seen)
    assert not set(seen) & set(secrets)


@in_background
def test_a_running_run_is_cancelled_within_seconds_and_keeps_its_curves(asked, misbehaving):
    misbehaving("--seconds", 0.3, "--child")
    run = asked(epochs=100)
    with in_the_background():
        wait_until(lambda: run.epoch_rows.count() >= 2, what="two epochs")
        assert len(processes_of(run)) == 2
        began = time.monotonic()
        assert cancel_run(run)
        wait_until(lambda: TrainingRun.objects.get(pk=run.pk).status == RunStatus.CANCELLED, what="cancelled")
        assert time.monotonic() - began < 5
    assert run.epoch_rows.count() >= 2
    assert_nothing_is_left(run)
    assert not ModelVersion.objects.exists()


@in_background
def test_a_worker_that_is_told_to_stop_gives_the_run_back_and_another_goes_on(
    asked, misbehaving, settings, tmp_path
):
    misbehaving("--seconds", 0.3, "--child")
    run = asked(epochs=6)
    with in_the_background():
        wait_until(lambda: run.epoch_rows.count() >= 2, what="two epochs")
        began = time.monotonic()
        leased.ask_to_stop()
    assert time.monotonic() - began < 5
    leased._stopping[0] = 0
    run.refresh_from_db()
    assert (run.status, run.attempts, run.lease_token) == (RunStatus.QUEUED, 0, None)
    assert processes_of(run) == []
    done = run.epochs_done
    assert run.checkpoint_epoch >= done >= 2
    settings.TRAINING_DIR = tmp_path / "another machine"
    misbehaving()
    worked_off(run)
    assert run.status == RunStatus.SUCCEEDED
    assert [row.epoch for row in run.epoch_rows.all()] == [1, 2, 3, 4, 5, 6]
    assert "resumed" in log_codes(run)
    assert {"worker_stopped", "continued"} <= set(log_codes(run))
    assert_nothing_is_left(run)


@pytest.mark.parametrize(("how", "code"), [("", "out_of_memory"), ("killed", "killed_by_system")])
def test_too_little_memory_halves_the_batch_and_goes_on(asked, misbehaving, how, code, settings):
    misbehaving("--memory", 2, "--how", how)
    run = worked_off(asked())
    assert run.status == RunStatus.SUCCEEDED
    assert [(row.epoch, row.batch) for row in run.epoch_rows.all()] == [(1, 8), (2, 2), (3, 2)]
    said = [log_text(line) for line in run.log_lines.filter(code=code)]
    assert len(said) == 2
    assert "8" in said[0]
    assert "4" in said[0]
    assert run.attempts == 1
    assert run.batch == 2


def test_too_little_memory_for_a_single_photo_fails_with_a_sentence(asked, misbehaving):
    misbehaving("--memory", -1)
    run = worked_off(asked(batch=2))
    assert run.status == RunStatus.FAILED
    assert failure_text(run).startswith("The memory does not suffice, not even for one photo")
    assert_nothing_is_left(run)


@pytest.mark.parametrize(
    "code", ["disk_full", "unusable_base", "no_boxes", "picture_unreadable", "diverged", "error"]
)
def test_a_training_that_failed_for_good_says_why_and_can_be_asked_for_again(asked, misbehaving, code):
    misbehaving("--fail", code)
    run = worked_off(asked())
    assert (run.status, run.failure_reason) == (RunStatus.FAILED, code)
    assert failure_text(run) in {log_text(line) for line in run.log_lines.filter(level="error")}
    assert [row.epoch for row in run.epoch_rows.all()] == [1]
    assert_nothing_is_left(run)
    misbehaving()
    assert worked_off(asked()).status == RunStatus.SUCCEEDED


def test_a_training_that_breaks_without_a_word_is_tried_again_from_where_it_was_and_then_given_up(
    asked, misbehaving, settings
):
    misbehaving("--how", "crash", "--at", 2)
    run = asked()
    worked_off(run)
    assert run.status == RunStatus.QUEUED
    assert folder_of(run).exists()
    worked_off(run)
    worked_off(run)
    assert run.status == RunStatus.FAILED
    assert "Segmentation of the worm failed" in run.failure_reason
    assert "exit status 7" in failure_text(run)
    assert_nothing_is_left(run)


def test_a_training_that_hangs_is_ended_and_tried_again(asked, misbehaving, settings):
    settings.TRAINING_SILENCE_SECONDS = 1
    misbehaving("--how", "hang")
    run = worked_off(asked())
    assert run.status == RunStatus.QUEUED
    assert processes_of(run) == []
    misbehaving()
    assert worked_off(run).status == RunStatus.SUCCEEDED


@in_background
def test_a_run_whose_lease_somebody_else_holds_is_left_at_once(asked, misbehaving):
    misbehaving("--seconds", 0.2)
    run = asked(epochs=100)
    with in_the_background():
        wait_until(lambda: run.epoch_rows.count() >= 1, what="an epoch")
        TrainingRun.objects.filter(pk=run.pk).update(lease_token="1" * 32)
    assert processes_of(run) == []
    run.refresh_from_db()
    assert str(run.lease_token) == "11111111-1111-1111-1111-111111111111"
    assert not ModelVersion.objects.exists()


def test_photos_deleted_since_the_freeze_are_left_out_and_counted(asked, dataset):
    DatasetItem.objects.filter(pk=dataset.items.filter(split="train").first().pk).update(is_withdrawn=True)
    run = worked_off(asked())
    assert run.status == RunStatus.SUCCEEDED
    said = [log_text(line) for line in run.log_lines.all()]
    assert "1 photo that was deleted meanwhile is left out" in said
    assert "4 photos fetched" in said


def test_an_altered_original_fails_the_run(asked, dataset):
    name = dataset.items.filter(split="train").first().file
    Path(storages["default"].path(name)).write_bytes(b"another picture")
    run = worked_off(asked())
    assert (run.status, failure_text(run)) == (RunStatus.FAILED, "The dataset's files are damaged or gone.")


def test_a_damaged_checkpoint_in_the_storage_means_starting_over_and_is_said(
    asked, misbehaving, settings, tmp_path
):
    misbehaving("--how", "crash", "--at", 3)
    run = worked_off(asked())
    assert run.checkpoint_epoch == 2
    Path(storages["default"].path(run.checkpoint.name)).write_bytes(b"torn")
    settings.TRAINING_DIR = tmp_path / "another machine"
    misbehaving()
    worked_off(run)
    assert run.status == RunStatus.SUCCEEDED
    assert "checkpoint_unusable" in log_codes(run)
    assert "resumed" not in log_codes(run)


@pytest.mark.parametrize("place", ["register_model_version", "tell_ended", "clear", "_ask_for_comparison"])
def test_a_worker_that_dies_at_the_end_leaves_one_version_after_the_next_attempt(asked, monkeypatch, place):
    run = asked()

    def die(*_args, **_kwargs):
        raise KeyboardInterrupt  # as a kill, caught by nobody

    with monkeypatch.context() as broken:
        broken.setattr(outcome, place, die)
        with pytest.raises(KeyboardInterrupt):
            continue_next_run()
    run.refresh_from_db()
    if place == "clear":  # the end was committed; what is left is swept
        assert run.status == RunStatus.SUCCEEDED
        assert folder_of(run).exists()
        discard_checkpoints()
        continue_next_run()
    else:
        assert run.status == RunStatus.RUNNING
        assert not ModelVersion.objects.exists()
        TrainingRun.objects.all().release(run.lease_token)
        worked_off(run)
        assert run.status == RunStatus.SUCCEEDED
    assert ModelVersion.objects.count() == 1
    assert len(storages["default"].listdir("weights")[1]) >= 1
    assert_nothing_is_left(run)


def test_a_worker_that_lost_its_lease_at_the_end_registers_nothing(asked, monkeypatch):
    run = asked()
    before = set(weights_files())

    def lose(*_args, **_kwargs):
        raise LeaseLostError

    monkeypatch.setattr(TrainingRun, "finish", lose)
    continue_next_run()
    assert not ModelVersion.objects.exists()
    assert set(weights_files()) == before
    assert run.log_lines.filter(code="succeeded").count() == 0


def weights_files() -> list[str]:
    try:
        return storages["default"].listdir("weights")[1]
    except FileNotFoundError:
        return []


def test_a_full_disk_of_the_worker_itself_fails_the_run_cleanly(asked, monkeypatch):

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(flow, "fetch_pictures", full)
    run = worked_off(asked())
    assert (run.status, run.failure_reason) == (RunStatus.FAILED, "disk_full")
    assert_nothing_is_left(run)


def test_a_storage_that_refuses_checkpoints_does_not_end_the_training(asked, monkeypatch, misbehaving):
    from apps.training.services.run_worker.checkpoints import CheckpointKeeper

    def full(*_args):
        raise OSError(28, "No space left on device")

    misbehaving("--seconds", 0.3)
    monkeypatch.setattr(CheckpointKeeper, "_store", full)
    run = worked_off(asked())
    assert run.status == RunStatus.SUCCEEDED
    assert "checkpoint_not_kept" in log_codes(run)


def test_what_a_killed_worker_left_on_this_machine_is_tidied_and_open_runs_are_spared(asked, settings):
    run = asked()
    folder_of(run).mkdir(parents=True)
    foreign = runs_folder() / "00000000-0000-0000-0000-000000000001"
    foreign.mkdir()
    old = runs_folder() / "not-a-run"
    old.mkdir()
    os.utime(old, (0, 0))
    TrainingRun.objects.filter(pk=run.pk).update(status=RunStatus.FAILED)
    continue_next_run()
    assert not folder_of(run).exists()
    assert not old.exists()
    assert foreign.exists()  # of another site on this machine


def test_a_job_that_outlived_its_worker_is_ended_before_the_next_begins(asked, misbehaving):
    run = asked()
    orphan = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(100)"],
        env={"PODURA_RUN": str(run.public_id)},
        start_new_session=True,
    )
    assert worked_off(run).status == RunStatus.SUCCEEDED
    assert orphan.wait(5) == -9


@in_background
def test_a_training_goes_on_while_the_database_comes_and_goes(asked, misbehaving):
    misbehaving("--seconds", 0.2)
    run = asked(epochs=8)
    with in_the_background() as worker, connection.cursor() as cursor:
        while worker.is_alive():
            time.sleep(0.3)
            if run.epoch_rows.exists():
                cursor.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid() AND %s < 6",
                    [TrainingRun.objects.get(pk=run.pk).epochs_done],
                )
    run.refresh_from_db()
    assert run.status == RunStatus.SUCCEEDED, list(run.log_lines.values_list("code", "details"))
    assert [row.epoch for row in run.epoch_rows.all()] == list(range(1, 9))
    assert "resumed" not in log_codes(run)
    assert_nothing_is_left(run)


def test_a_machine_with_a_gpu_decides_what_nobody_chose(asked, model, dataset, monkeypatch, tmp_path):
    found = {
        "cpu": "x",
        "cores": 8,
        "memory_bytes": 1 << 36,
        "gpus": [{"name": "H200", "memory_bytes": 1 << 37}],
        "versions": {"torch": "2"},
    }
    monkeypatch.setattr(flow, "_GPU_DRIVER", tmp_path)
    monkeypatch.setattr(flow, "_ASK_FOR_GPUS", f"print('warning'); print({json.dumps(found)!r})")
    run = request_run(registered_model=model, dataset=dataset, parameters={"epochs": 2}, trigger="curator")
    assert run.parameters["architecture"] == "yolo11n"
    worked_off(run)
    assert (run.parameters["architecture"], run.epochs, run.status) == ("yolo11s", 2, RunStatus.SUCCEEDED)


def test_words_that_the_database_cannot_hold_do_not_end_a_run():
    assert readable({"a\x00": ["\ud800x", float("nan"), float("inf"), 1.5]}) == {"a": ["?x", None, None, 1.5]}

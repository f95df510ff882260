"""Every way a run can end other than well, and how it goes on where it can."""

from pathlib import Path

import pytest
from django.core.files import File
from django.core.files.storage import storages

from apps.common.leased import LeaseLostError
from apps.training.models import ModelVersion, RunStatus, TrainingRun
from apps.training.run_texts import failure_text, log_text
from apps.training.services import registry
from apps.training.services.run_worker import continue_next_run, discard_checkpoints, flow, outcome
from apps.training.services.run_worker.checkpoints import CheckpointKeeper
from apps.training.services.run_worker.folder import RunFolder
from apps.training.services.runs import cancel_run
from tests.training.runs.helpers import (
    assert_nothing_is_left,
    folder_of,
    log_codes,
    processes_of,
    worked_off,
)

pytestmark = pytest.mark.django_db


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


def test_a_batch_that_the_machine_chose_is_halved_and_a_step_learns_from_as_many_pictures(
    asked, misbehaving, monkeypatch
):
    jobs = []
    write_job = RunFolder.write_job

    def kept(folder, job):
        jobs.append(dict(job))
        return write_job(folder, job)

    monkeypatch.setattr(RunFolder, "write_job", kept)
    misbehaving("--memory", 2, "--at", 1)
    run = worked_off(asked(batch=0))
    assert run.status == RunStatus.SUCCEEDED
    assert [(job["batch"], job["recipe"]["batch"]) for job in jobs] == [(None, 0), (4, 8), (2, 8)]
    assert (run.parameters["batch"], run.batch, run.chosen["batch"]) == (8, 2, 0)


def test_of_several_processes_the_one_without_memory_is_believed(asked, misbehaving):
    misbehaving("--how", "orphan")
    run = worked_off(asked(batch=2))
    assert (run.status, run.failure_reason) == (RunStatus.FAILED, "out_of_memory")
    halved = run.log_lines.get(code="out_of_memory", level="warning")
    assert (halved.details["batch"], halved.details["next"]) == (2, 1)


def test_a_training_that_is_killed_before_it_holds_a_batch_is_tried_again_with_the_same(asked, misbehaving):
    misbehaving("--how", "killed")
    run = worked_off(asked())
    assert (run.status, run.batch) == (RunStatus.QUEUED, None)
    misbehaving()
    assert worked_off(run).status == RunStatus.SUCCEEDED


def test_a_run_that_is_cancelled_while_it_is_saved_leaves_no_version(asked, monkeypatch):
    run = asked()
    before = set(weights_files())
    register = outcome.register_model_version

    def cancelled_meanwhile(**wanted):
        version = register(**wanted)
        cancel_run(TrainingRun.objects.get(pk=run.pk))
        return version

    monkeypatch.setattr(outcome, "register_model_version", cancelled_meanwhile)
    assert worked_off(run).status == RunStatus.CANCELLED
    assert not ModelVersion.objects.exists()
    assert set(weights_files()) == before
    assert run.epoch_rows.count() == 3
    assert_nothing_is_left(run)


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
    (last,) = [log_text(line) for line in run.log_lines.filter(level="error")]
    assert last == f"{failure_text(run)} (as the test wished)"
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
    assert (run.status, run.failure_reason) == (RunStatus.FAILED, "job_ended")
    assert failure_text(run) == "The training ended without a result; the log has its last words."
    broke, again, last = [log_text(line) for line in run.log_lines.filter(code__in=("broke", "job_ended"))]
    assert "tried again" in broke
    assert "tried again" in again
    assert "tried again" not in last
    assert "exit status 7: " in last
    assert "Segmentation of the worm failed" in last
    assert_nothing_is_left(run)


def test_a_training_that_hangs_is_ended_and_tried_again(asked, misbehaving, settings):
    settings.TRAINING_SILENCE_SECONDS = 1
    misbehaving("--how", "hang")
    run = worked_off(asked())
    assert run.status == RunStatus.QUEUED
    assert processes_of(run) == []
    misbehaving()
    assert worked_off(run).status == RunStatus.SUCCEEDED


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


def test_a_storage_that_is_full_at_the_end_fails_the_run_and_keeps_no_half_of_the_weights(asked, monkeypatch):
    class Half(File):
        def chunks(self, chunk_size=None):
            yield b"half of it"
            raise OSError(28, "No space left on device")

    before = set(weights_files())
    monkeypatch.setattr(registry, "File", Half)
    run = worked_off(asked())
    assert (run.status, run.failure_reason) == (RunStatus.FAILED, "disk_full")
    assert not ModelVersion.objects.exists()
    assert set(weights_files()) == before
    assert_nothing_is_left(run)


def test_a_storage_that_refuses_checkpoints_does_not_end_the_training(asked, monkeypatch, misbehaving):
    def full(*_args):
        raise OSError(28, "No space left on device")

    misbehaving("--seconds", 0.3)
    monkeypatch.setattr(CheckpointKeeper, "_store", full)
    run = worked_off(asked())
    assert run.status == RunStatus.SUCCEEDED
    assert "checkpoint_not_kept" in log_codes(run)

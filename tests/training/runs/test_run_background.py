"""A worker that is spoken to while it works: cancelled, stopped, robbed of its lease or of the database."""

import time

import pytest
from django.db import connection

from apps.common import leased
from apps.training.models import ModelVersion, RunStatus, TrainingRun
from apps.training.services.run_worker.folder import RunFolder
from apps.training.services.runs import cancel_run
from tests.support.processes import wait_until
from tests.training.runs.helpers import (
    assert_nothing_is_left,
    in_background,
    in_the_background,
    log_codes,
    processes_of,
    worked_off,
)

pytestmark = pytest.mark.django_db


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
        wait_until(lambda: RunFolder(run).checkpoint_epoch >= 2, what="two checkpoints")
        began = time.monotonic()
        leased.ask_to_stop()
    assert time.monotonic() - began < 5
    leased._stopping[0] = 0
    run.refresh_from_db()
    assert (run.status, run.attempts, run.lease_token) == (RunStatus.QUEUED, 0, None)
    assert processes_of(run) == []
    # An epoch is told before its checkpoint: the training may have been ended between the two.
    assert run.checkpoint_epoch == RunFolder(run).checkpoint_epoch >= max(2, run.epochs_done - 1)
    settings.TRAINING_DIR = tmp_path / "another machine"
    misbehaving()
    worked_off(run)
    assert run.status == RunStatus.SUCCEEDED
    assert [row.epoch for row in run.epoch_rows.all()] == [1, 2, 3, 4, 5, 6]
    assert "resumed" in log_codes(run)
    assert {"worker_stopped", "continued"} <= set(log_codes(run))
    assert_nothing_is_left(run)


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

"""A run worked off: what comes out, what is written down, what is left out, nothing left behind."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest

from apps.training.models import Comparison, DatasetItem, RunStatus, TrainingRun
from apps.training.run_texts import log_text
from apps.training.services.datasets import read_manifest
from apps.training.services.run_worker import continue_next_run, flow, outcome
from apps.training.services.run_worker.ends import readable
from apps.training.services.run_worker.flow import _remaining, code_commit
from apps.training.services.run_worker.folder import runs_folder
from apps.training.services.run_worker.record import RunRecord
from apps.training.services.runs import request_run
from apps.training.signals import run_ended
from tests.support.stub_detector import stub_version
from tests.training.runs.helpers import (
    assert_nothing_is_left,
    folder_of,
    worked_off,
)

pytestmark = pytest.mark.django_db


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


def test_photos_deleted_since_the_freeze_are_left_out_and_counted(asked, dataset):
    DatasetItem.objects.filter(pk=dataset.items.filter(split="train").first().pk).update(is_withdrawn=True)
    run = worked_off(asked())
    assert run.status == RunStatus.SUCCEEDED
    said = [log_text(line) for line in run.log_lines.all()]
    assert "1 photo that was deleted meanwhile is left out" in said
    assert "4 photos fetched" in said


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


def test_labels_that_no_photo_shows_share_one_line_of_the_log(asked, dataset):
    run = asked()
    manifest = read_manifest(dataset)
    _remaining(RunRecord(run), replace(manifest, labels=(*manifest.labels, "CER", "POD")))
    assert run.log_lines.get(code="label_never_seen").details == {"label": "CER, POD"}

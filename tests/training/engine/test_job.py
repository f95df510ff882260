"""A training as a process: what it tells, and that neither kill -9, a torn file, a full disk nor want of memory spoils it."""

import hashlib
import json
import resource
import time
from pathlib import Path

import pytest

from apps.training.engine.weights import file_sha256, load_torch_model, read_metadata
from tests.training.engine.drawn import draw_scenes, job_content, run_job, start_job

pytestmark = pytest.mark.slow
KINDS = ("disc", "bar")
EPOCHS = 25


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return draw_scenes(tmp_path_factory.mktemp("scenes"), 80, KINDS)


@pytest.fixture(scope="module")
def content(scenes, tiny_weights):
    """JOB.json for a folder: short, from the untrained tiny net."""

    def make(folder, *, pictures=16, **more):
        options = {"base": tiny_weights} | more
        return job_content(
            folder, labels=KINDS, training=scenes[:pictures], validation=scenes[64:], **options
        )

    return make


@pytest.fixture(scope="module")
def learned(tmp_path_factory, content):
    """A job that ran undisturbed until the net knew discs and bars."""
    folder = tmp_path_factory.mktemp("learned")
    job = run_job(content(folder, pictures=64, recipe={"epochs": EPOCHS, "learning_rate": 0.01}))
    assert job.status == 0, (folder / "run" / "output.log").read_text()[-3000:]
    return folder, job


def maps(job):
    return [event["metrics"]["map50"] for event in job.named("epoch")]


def tensors(path):
    return load_torch_model(path)[0].state_dict()


def same(one, other):
    import torch

    return all(torch.equal(value, other[name]) for name, value in one.items())


def test_it_tells_its_hardware_each_epoch_and_the_weights(learned):
    folder, job = learned
    assert [event["event"] for event in job.events[:2]] == ["hardware", "prepared"]
    assert job.events[1] == {"event": "prepared", "training": 64, "validation": 16}
    epochs = job.named("epoch")
    assert [event["epoch"] for event in epochs] == list(range(1, EPOCHS + 1))
    assert {
        *("box_loss", "cls_loss", "dfl_loss", "val_box_loss", "val_cls_loss", "val_dfl_loss"),
        *("map50", "map50_95", "precision", "recall", "learning_rate"),
    } == set(epochs[0]["metrics"])
    assert epochs[0]["batch"] == 8
    assert 0 < epochs[0]["seconds"] < 300
    assert epochs[1]["metrics"]["learning_rate"] > epochs[-1]["metrics"]["learning_rate"]
    finished = job.events[-1]
    assert finished["event"] == "finished"
    assert file_sha256(Path(finished["weights"])) == finished["sha256"]
    best = max(epochs, key=lambda e: 0.1 * e["metrics"]["map50"] + 0.9 * e["metrics"]["map50_95"])
    assert finished["best_epoch"] == pytest.approx(best["epoch"], abs=1)
    assert read_metadata(folder / "new.podura").licences == ("CC0",)


def test_it_learns(learned):
    _, job = learned
    assert max(maps(job)) > 0.7


def test_checkpoints_are_whole_and_the_older_ones_go(learned):
    folder, job = learned
    kept = sorted((folder / "run" / "checkpoints").glob("*"))
    assert 1 <= len(kept) <= 3
    told = {Path(event["path"]).name: event["sha256"] for event in job.named("checkpoint")}
    assert all(hashlib.sha256(path.read_bytes()).hexdigest() == told[path.name] for path in kept)


def test_nothing_but_what_was_asked_is_written(learned):
    folder, _ = learned
    names = {path.name for path in (folder / "run" / "run").rglob("*") if path.is_file()}
    assert names == {"args.yaml", "results.csv", "last.pt", "best.pt", "ended"}
    assert "http" not in (folder / "run" / "output.log").read_text().replace("https://docs", "")


def test_a_new_label_is_learned_and_the_old_ones_are_not_forgotten(learned, tmp_path):
    """The order of the labels differs as well."""
    folder, _ = learned
    labels = ("cross", "bar", "disc")
    scenes = draw_scenes(tmp_path / "scenes", 64, labels, seed=7, side=96)
    job = run_job(
        job_content(
            tmp_path,
            labels=labels,
            training=scenes[:48],
            validation=scenes[48:],
            base=folder / "new.podura",
            recipe={"epochs": 20, "learning_rate": 0.01, "image_size": 96},
        )
    )
    assert job.status == 0
    extended = next(event for event in job.named("log") if event["code"] == "head_extended")
    assert extended["details"] == {"known": ["bar", "disc"], "new": ["cross"]}
    assert max(maps(job)) > 0.8  # a mean over the three, of which two would give at most 0.67
    assert read_metadata(tmp_path / "new.podura").labels == labels


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(content, tmp_path):
    weights = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        # Mosaic and colours draw random numbers, too.
        recipe = {"seed": seed, "mosaic": 1.0, "epochs": 2}
        job = run_job(content(tmp_path / name, recipe=recipe))
        assert job.status == 0
        weights.append(tensors(tmp_path / name / "new.podura"))
    assert same(weights[0], weights[1])
    assert not same(weights[0], weights[2])


def test_it_goes_on_after_kill_9_with_a_smaller_batch(content, tmp_path):
    """Killed between epochs and at once after the next began; on a third machine from the copy alone."""
    recipe = {"epochs": 6, "learning_rate": 0.01}
    killed = start_job(content(tmp_path, recipe=recipe, pictures=64))
    killed.until("epoch", epoch=2)
    copy = killed.until("checkpoint")
    killed.kill()
    assert not (tmp_path / "new.podura").exists()
    moved = tmp_path / "copy.tar"
    moved.write_bytes(Path(copy["path"]).read_bytes())

    again = start_job(content(tmp_path, recipe=recipe, pictures=64))
    resumed = again.until("log", code="resumed")
    first = again.until("epoch")
    assert first["epoch"] == resumed["details"]["epoch"] + 1 >= 3
    again.kill()

    elsewhere = content(tmp_path / "elsewhere", recipe=recipe, pictures=64, checkpoint=str(moved), batch=4)
    job = run_job(elsewhere)
    assert job.status == 0
    epochs = job.named("epoch")
    assert [event["epoch"] for event in epochs] == list(range(copy["epoch"] + 1, 7))
    assert {event["epochs"] for event in epochs} == {6}
    assert {event["batch"] for event in epochs} == {4}
    losses = [event["metrics"]["cls_loss"] for event in epochs]
    before = killed.named("epoch")[0]["metrics"]["cls_loss"]
    assert max(losses) < before * 1.2  # it has not begun anew
    assert (tmp_path / "elsewhere" / "new.podura").exists()


def test_a_torn_checkpoint_gives_way_to_the_copy_before_it(content, tmp_path):
    recipe = {"epochs": 4}
    killed = start_job(content(tmp_path, recipe=recipe))
    killed.until("checkpoint", epoch=3)
    killed.kill()
    weights = tmp_path / "run" / "run" / "weights"
    (weights / "last.pt").write_bytes((weights / "last.pt").read_bytes()[:50_000])
    copies = sorted((tmp_path / "run" / "checkpoints").glob("*.tar"))
    copies[-1].write_bytes(copies[-1].read_bytes()[:-300_000])
    job = run_job(content(tmp_path, recipe=recipe))
    assert job.status == 0
    codes = [event["code"] for event in job.named("log")]
    assert codes.count("checkpoint_unreadable") == 2
    assert [event["epoch"] for event in job.named("epoch")][-1] == 4
    assert job.named("epoch")[0]["epoch"] == int(copies[-2].stem) + 1


def test_with_no_readable_checkpoint_it_begins_anew(content, tmp_path):
    torn = tmp_path / "torn.tar"
    torn.write_bytes(b"not an archive")
    job = run_job(content(tmp_path, recipe={"epochs": 1}, checkpoint=str(torn)))
    assert job.status == 0
    assert [event["epoch"] for event in job.named("epoch")] == [1]


def test_a_job_that_had_ended_only_writes_its_weights_again(learned, content):
    folder, before = learned
    weights = tensors(folder / "new.podura")
    (folder / "new.podura").unlink()
    job = run_job(content(folder, pictures=64, recipe={"epochs": EPOCHS, "learning_rate": 0.01}))
    assert job.status == 0
    assert job.named("epoch") == []
    assert job.events[-1]["best_epoch"] == before.events[-1]["best_epoch"]
    # Not by the file's digest: safetensors writes its metadata in any order.
    assert same(weights, tensors(folder / "new.podura"))


def test_it_ends_early_when_nothing_gets_better(learned, content, tmp_path):
    """Steps that change nothing, from weights that know it already: they are not forgotten either."""
    folder, before = learned
    recipe = {"epochs": 30, "patience": 2, "learning_rate": 1e-7}
    job = run_job(content(tmp_path, base=folder / "new.podura", recipe=recipe))
    assert job.status == 0
    assert len(job.named("epoch")) < 30
    assert job.named("log")[-1]["code"] == "stopped_early"
    assert min(maps(job)) > max(maps(before)) - 0.05


def test_want_of_memory_is_told(content, scenes, tmp_path):
    recipe = {"epochs": 1, "image_size": 2048, "batch": 64}
    job = run_job(
        content(tmp_path, recipe=recipe, base=None, pictures=64),
        limit=(resource.RLIMIT_AS, (6 << 30, 6 << 30)),
    )
    assert job.status == 3
    assert job.events[-1]["event"] == "failed"
    assert job.events[-1]["code"] == "out_of_memory"
    assert not (tmp_path / "new.podura").exists()


def test_a_full_disk_is_told_and_nothing_is_left_half_written(content, tmp_path):
    job = run_job(content(tmp_path), limit=(resource.RLIMIT_FSIZE, (200_000, 200_000)))
    assert job.status == 3
    assert job.events[-1]["code"] == "disk_full"
    assert not list(tmp_path.glob("new.podura*"))
    assert not list((tmp_path / "run" / "run").rglob("*.part"))


def test_it_ends_with_the_process_that_started_it(content, tmp_path):
    import subprocess
    import sys

    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "job.json").write_text(json.dumps(content(tmp_path, recipe={"epochs": 500})))
    program = (
        "import subprocess, sys, os, time\n"
        f"p = subprocess.Popen([sys.executable, '-m', 'apps.training.engine.job', {str(folder / 'job.json')!r},"
        " '--events-fd', '1', '--parent', str(os.getpid())])\n"
        "print(p.pid, flush=True)\ntime.sleep(1000)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    pid = int(parent.stdout.readline())
    while '"prepared"' not in parent.stdout.readline():
        pass
    parent.kill()
    parent.wait()
    for _ in range(50):
        if not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2]:
            return
        time.sleep(0.1)
    pytest.fail("it lives on")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"validation": []}, "no_validation"),
        ({"training": []}, "no_boxes"),
        ({"base": {"weights": "/nowhere/base.podura"}}, "unusable_base"),
        ({"recipe": {"epochs": 0}}, "error"),
    ],
)
def test_a_job_that_cannot_be_done_says_why(content, tmp_path, change, code):
    job = run_job(content(tmp_path) | change)
    assert job.status == 3
    assert job.events[-1]["code"] == code


def test_pictures_and_bases_that_cannot_be_read_are_named(content, tmp_path):
    broken = content(tmp_path)
    torn = tmp_path / "torn.png"
    torn.write_bytes(Path(broken["training"][0]["path"]).read_bytes()[:60])
    broken["training"][0]["path"] = str(torn)
    job = run_job(broken)
    assert job.events[-1]["code"] == "picture_unreadable"
    assert "torn.png" in job.events[-1]["detail"]
    base = tmp_path / "base.podura"
    base.write_bytes(b"not weights")
    job = run_job(content(tmp_path / "other", base=base))
    assert job.events[-1]["code"] == "unusable_base"


def test_two_processes_train_one_net(content, tmp_path):
    """As on two GPUs, over gloo on one processor: Ultralytics' own distributed training."""
    more = {"labels": [*KINDS, "cross"]}
    job = run_job(content(tmp_path, recipe={"epochs": 2}, device="cpu,cpu") | more)
    assert job.status == 0, (tmp_path / "run" / "output.log").read_text()[-3000:]
    assert [line["code"] for line in job.named("log")] == ["device", "head_extended"]
    assert [event["epoch"] for event in job.named("epoch")] == [1, 2]
    assert job.events[-1]["event"] == "finished"
    assert (tmp_path / "new.podura").exists()

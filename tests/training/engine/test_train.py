"""Fine-tuning on drawn scenes: it learns, it resumes after it was stopped, and it writes what it promised."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageDraw

from apps.training.engine.events import Listener, TrainingError
from apps.training.engine.labelled import read_coco
from apps.training.engine.recipe import Recipe
from apps.training.engine.train import train_detector
from apps.training.engine.weights import WeightsError, file_sha256, load_torch_model, read_metadata

pytestmark = pytest.mark.slow
RECIPE = Recipe(epochs=2, image_size=64, batch=8, mosaic=0.0, epochs_without_mosaic=0)


@pytest.fixture(autouse=True)
def one_core():
    """Threads of PyTorch wait for each other in a loop: on a busy machine two are far slower than one."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    yield
    os.sched_setaffinity(0, cores)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Discs and bars on grey, 64 px, with their COCO file."""
    folder = tmp_path_factory.mktemp("scenes")
    rng = np.random.default_rng(4)
    document = {
        "images": [],
        "annotations": [],
        "categories": [{"id": 1, "name": "disc"}, {"id": 2, "name": "bar"}],
    }
    for number in range(20):
        picture = Image.new("RGB", (64, 64), (90, 90, 90))
        draw = ImageDraw.Draw(picture)
        for kind in (1, 2):
            x, y = rng.integers(2, 34, 2).tolist()
            width, height = (20, 20) if kind == 1 else (26, 8)
            shape = draw.ellipse if kind == 1 else draw.rectangle
            shape((x, y, x + width, y + height), fill=(230, 60, 60) if kind == 1 else (60, 60, 230))
            document["annotations"].append(
                {
                    "id": 2 * number + kind,
                    "image_id": number,
                    "category_id": kind,
                    "bbox": [x, y, width, height],
                }
            )
        picture.save(folder / f"{number:02}.png")
        document["images"].append({"id": number, "file_name": f"{number:02}.png", "width": 64, "height": 64})
    (folder / "coco.json").write_text(json.dumps(document))
    labelled = read_coco(folder, folder / "coco.json")
    held_out = [f"{number:02}.png" for number in range(16, 20)]
    return labelled.without(held_out), labelled.only(held_out)


def test_it_trains_reports_each_epoch_and_writes_weights(scenes, tiny_weights, tmp_path):
    training, validation = scenes
    reports = []
    trained = train_detector(
        training=training,
        validation=validation,
        base=tiny_weights,
        output=tmp_path / "new.podura",
        folder=tmp_path / "run",
        recipe=RECIPE,
        name="scenes",
        licences=["CC0"],
        on_epoch=reports.append,
    )
    assert [report.epoch for report in reports] == [1, 2]
    assert {"map50", "map50_95", "box_loss", "val_cls_loss", "learning_rate"} <= set(reports[0].metrics)
    metadata = read_metadata(trained.weights)
    assert metadata.labels == ("disc", "bar")
    assert metadata.recipe["epochs"] == 2
    assert metadata.licences == ("CC0",)
    assert metadata.image_size == 64
    assert metadata.object_size_px == metadata.trained_size_px == pytest.approx(23, abs=3)
    assert file_sha256(trained.weights) == trained.sha256
    before, after = load_torch_model(tiny_weights)[0], load_torch_model(trained.weights)[0]
    assert not np.allclose(before.model[0].conv.weight.detach(), after.model[0].conv.weight.detach())


class StoppedError(Exception):
    pass


def test_a_run_that_was_stopped_goes_on_where_it_was(scenes, tiny_weights, tmp_path):
    training, validation = scenes
    epochs = []

    def stop_after_the_first(report):
        epochs.append(report.epoch)
        if len(epochs) == 2:
            raise StoppedError

    options = {
        "training": training,
        "validation": validation,
        "base": tiny_weights,
        "output": tmp_path / "new.podura",
        "folder": tmp_path / "run",
        "recipe": replace(RECIPE, epochs=3),
    }
    with pytest.raises(StoppedError):
        train_detector(**options, on_epoch=stop_after_the_first)
    assert not (tmp_path / "new.podura").exists()
    continued = []
    train_detector(**options, on_epoch=lambda report: continued.append(report.epoch))
    assert continued == [3]
    assert (tmp_path / "new.podura").exists()
    # A third start finds the run finished and only writes the weights again.
    again = []
    train_detector(**options, on_epoch=lambda report: again.append(report.epoch))
    assert again == []


def test_pictures_with_other_labels_are_refused(scenes, tiny_weights, tmp_path):
    training, validation = scenes
    with pytest.raises(ValueError, match="different labels"):
        train_detector(
            training=training,
            validation=replace(validation, labels=("bar", "disc")),
            base=tiny_weights,
            output=tmp_path / "new.podura",
            folder=tmp_path / "run",
        )


def test_a_base_that_is_no_checkpoint_is_refused(scenes, tmp_path):
    training, validation = scenes
    base = tmp_path / "base.pt"
    base.write_bytes(b"not a checkpoint")
    with pytest.raises(WeightsError):
        train_detector(
            training=training,
            validation=validation,
            base=base,
            output=tmp_path / "new.podura",
            folder=tmp_path / "run",
            recipe=RECIPE,
        )


class Log(Listener):
    def __init__(self):
        self.codes = []
        self.epochs = []

    def log(self, line):
        self.codes.append(line.code)

    def epoch(self, report):
        self.epochs.append(report)


@pytest.fixture
def spoil(monkeypatch):
    """Make the pictures of some epochs no numbers, as a broken GPU would."""
    from apps.training.engine.trainer import FineTuning

    original = FineTuning.preprocess_batch

    def spoil(is_spoilt):
        def preprocess_batch(self, batch):
            batch = original(self, batch)
            if self.model.training and is_spoilt(self):
                batch["img"] = batch["img"] * float("nan")
            return batch

        monkeypatch.setattr(FineTuning, "preprocess_batch", preprocess_batch)

    return spoil


def test_an_epoch_whose_loss_is_no_number_is_done_again_from_the_checkpoint(
    scenes, tiny_weights, tmp_path, spoil
):
    done = []

    def is_spoilt(trainer):
        return trainer.epoch == 1 and not done.append(trainer.epoch) and len(done) <= 2

    spoil(is_spoilt)
    log = Log()
    train_detector(
        training=scenes[0],
        validation=scenes[1],
        base=tiny_weights,
        output=tmp_path / "new.podura",
        folder=tmp_path / "run",
        recipe=replace(RECIPE, epochs=3),
        listener=log,
    )
    assert log.codes.count("recovered") == 1
    assert [report.epoch for report in log.epochs] == [1, 2, 3]
    assert all(len(report.metrics) == 11 for report in log.epochs)  # each of them a finite number


@pytest.mark.parametrize("first", [0, 1])
def test_a_loss_that_stays_no_number_ends_the_training(scenes, tiny_weights, tmp_path, spoil, first):
    spoil(lambda trainer: trainer.epoch >= first)
    with pytest.raises(TrainingError) as ended:
        train_detector(
            training=scenes[0],
            validation=scenes[1],
            base=tiny_weights,
            output=tmp_path / "new.podura",
            folder=tmp_path / "run",
            recipe=replace(RECIPE, epochs=3),
        )
    assert ended.value.code == "diverged"
    assert not (tmp_path / "new.podura").exists()


def test_a_failed_copy_of_a_checkpoint_ends_the_training_with_its_reason(scenes, tiny_weights, tmp_path):
    class Full(Listener):
        def checkpoint(self, epoch, path, sha256):
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        train_detector(
            training=scenes[0],
            validation=scenes[1],
            base=tiny_weights,
            output=tmp_path / "new.podura",
            folder=tmp_path / "run",
            recipe=RECIPE,
            listener=Full(),
        )

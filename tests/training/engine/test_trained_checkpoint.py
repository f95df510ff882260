"""A checkpoint as Ultralytics' trainer really leaves it, optimizer and all, is taken in and goes on being a base."""

import pytest

from apps.training.engine.checkpoint_file import read_checkpoint
from apps.training.engine.detector import load_detector
from apps.training.engine.examination import examine_weights
from apps.training.engine.nets import build_net, load_base
from apps.training.engine.weights import file_sha256, load_checkpoint_model, load_torch_model
from tests.training.engine.drawn import draw_scenes

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of checkpoints of one epoch, by Ultralytics' trainer without anything of ours around it."""
    from apps.training.engine.environment import import_ultralytics

    import_ultralytics()
    import yaml
    from ultralytics.models.yolo.detect import DetectionTrainer

    folder = tmp_path_factory.mktemp("trained")
    for part, count in (("train", 8), ("val", 4)):
        scenes = draw_scenes(folder / part / "images", count, ["disc", "bar"], seed=count)
        (folder / part / "labels").mkdir()
        for number, scene in enumerate(scenes):
            lines = []
            for box, kind in zip(scene["boxes"], scene["labels"], strict=True):
                x1, y1, x2, y2 = (side / 64 for side in box)
                row = ["disc", "bar"].index(kind)
                lines.append(f"{row} {(x1 + x2) / 2} {(y1 + y2) / 2} {x2 - x1} {y2 - y1}")
            (folder / part / "labels" / f"{number:03}.txt").write_text("\n".join(lines))
    names = {0: "disc", 1: "bar"}
    content = {"path": str(folder), "train": "train/images", "val": "val/images", "names": names}
    (folder / "data.yaml").write_text(yaml.safe_dump(content))
    overrides = {
        "model": "yolo11n.yaml", "data": str(folder / "data.yaml"), "epochs": 1, "imgsz": 64, "batch": 4, "device": "cpu",
        "project": str(folder), "name": "run", "plots": False, "workers": 0, "amp": False, "pretrained": False,
    }  # fmt: skip
    trainer = DetectionTrainer(overrides=overrides)
    trainer.final_eval = lambda: None  # which strips the optimizer from the files
    trainer.train()
    return folder / "run" / "weights"


@pytest.mark.parametrize("name", ["best.pt", "last.pt"])
def test_the_files_of_a_training_are_read(trained, name):
    import torch
    from ultralytics.nn.tasks import torch_safe_load

    checkpoint = read_checkpoint(trained / name)
    assert checkpoint.labels == ("disc", "bar")
    assert (checkpoint.image_size, checkpoint.epoch) == (64, 0)
    theirs = torch_safe_load(str(trained / name), safe_only=True)[0]["ema"].float().eval()
    ours = load_checkpoint_model(trained / name).eval()
    picture = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(theirs(picture)[0], ours(picture)[0])


def test_it_is_examined_serves_and_is_a_base_for_other_labels(trained, tmp_path):
    import torch

    path, found = examine_weights(
        trained / "last.pt", sha256=file_sha256(trained / "last.pt"), folder=tmp_path / "examined"
    )
    assert found["labels"] == ["disc", "bar"]
    assert "programs" in found["fences"]
    model, metadata = load_torch_model(path)
    before = load_checkpoint_model(trained / "last.pt").eval()
    picture = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.allclose(before(picture)[0], model(picture)[0], atol=0.05)

    detector = load_detector(path, sha256=found["sha256"], cache_dir=tmp_path / "cache")
    assert detector.labels == ("disc", "bar")
    scene = next((trained.parents[1] / "val" / "images").glob("*.png"))
    (seen,) = detector.detect_files([scene])
    assert seen.class_scores.shape[1] == 2
    assert metadata.labels == ("disc", "bar")

    net = build_net(load_base(path), ["bar", "cross", "disc"], architecture="yolo11n")
    assert net.names == {0: "bar", 1: "cross", 2: "disc"}

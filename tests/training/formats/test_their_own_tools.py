"""What is exported is opened by the tools it is made for."""

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from faster_coco_eval import COCO, COCOeval_faster
from PIL import Image

from apps.training.formats import LabelledBox, LabelledImage, LabelledSet, write_set

pytestmark = pytest.mark.slow


def pictures_with_dots(*, scored=False):
    """Grey pictures with dark dots, and one without any, over three splits."""
    random = np.random.default_rng(3)
    images = []
    for number in range(12):
        boxes = []
        for _dot in range(0 if number == 5 else 3):
            x, y = random.integers(2, 44, 2)
            boxes.append(
                LabelledBox(x, y, x + 12.25, y + 10.5, int(random.integers(0, 2)), 0.9 if scored else None)
            )
        split = "train" if number < 8 else "validation" if number < 10 else "test"
        images.append(LabelledImage(f"{number}.png", 64, 64, tuple(boxes), split, "CC0-1.0"))
    return LabelledSet(("LEP", "CER"), tuple(images), "Dots")


def draw(image):
    import io

    pixels = np.full((64, 64, 3), 200, np.uint8)
    for box in image.boxes:
        pixels[int(box.y_min) : int(box.y_max), int(box.x_min) : int(box.x_max)] = 30 + 60 * box.label
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def unpacked(labelled, kind, folder):
    import zipfile

    folder.mkdir(exist_ok=True)
    path = folder / f"{kind}.zip"
    with path.open("wb") as target:
        write_set(labelled, kind, target, draw)
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder / kind)
    return folder / kind


_TRAIN = """
import json, sys
from pathlib import Path
from ultralytics import YOLO
from ultralytics.data.utils import check_det_dataset
from ultralytics.data.dataset import YOLODataset
found = check_det_dataset("data.yaml", autodownload=False)
counts = {}
for split in ("train", "val", "test"):
    dataset = YOLODataset(img_path=found[split], data=found, task="detect", imgsz=64, augment=False)
    counts[split] = [len(dataset.labels), sum(len(l["cls"]) for l in dataset.labels)]
print(json.dumps({"names": found["names"], "counts": counts, "first": dataset.labels[0]["bboxes"].tolist()}))
YOLO("yolov8n.yaml").train(data="data.yaml", epochs=1, imgsz=64, batch=4, device="cpu", workers=0, plots=False,
    project=str(Path.cwd() / "runs"), verbose=False)
print("trained", list(Path("runs").rglob("last.pt")) != [])
"""


@pytest.mark.timeout(600)
def test_ultralytics_loads_and_trains_on_the_yolo_export(tmp_path):
    folder = unpacked(pictures_with_dots(), "yolo", tmp_path)
    environment = os.environ | {
        "YOLO_CONFIG_DIR": str(tmp_path),
        "YOLO_OFFLINE": "true",
        "OMP_NUM_THREADS": "2",
    }
    done = subprocess.run(
        [sys.executable, "-c", _TRAIN],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    line = next(line for line in done.stdout.splitlines() if line.startswith("{"))
    found = json.loads(line)
    assert found["names"] == {"0": "LEP", "1": "CER"}
    assert found["counts"] == {"train": [8, 21], "val": [2, 6], "test": [2, 6]}
    assert "trained True" in done.stdout


def test_coco_tools_load_the_export_and_score_its_predictions_as_perfect(tmp_path):
    answers = unpacked(pictures_with_dots(), "coco", tmp_path / "answers")
    predictions = unpacked(pictures_with_dots(scored=True), "coco", tmp_path / "predictions")
    truth = COCO(str(answers / "annotations/instances_train.json"))
    assert len(truth.getImgIds()) == 8
    assert [c["name"] for c in truth.loadCats(truth.getCatIds())] == ["LEP", "CER"]
    (empty,) = [i for i in truth.getImgIds() if not truth.getAnnIds(imgIds=[i])]
    assert truth.loadImgs([empty])[0]["file_name"] == "5.png"
    found = truth.loadRes(str(predictions / "annotations/results_train.json"))
    evaluation = COCOeval_faster(truth, found, "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1.0)


def test_pycocotools_loads_the_export(tmp_path):
    coco = pytest.importorskip("pycocotools.coco")
    folder = unpacked(pictures_with_dots(scored=True), "coco", tmp_path)
    truth = coco.COCO(str(folder / "annotations/instances_val.json"))
    assert len(truth.anns) == 6
    assert len(truth.loadRes(str(folder / "annotations/results_val.json")).anns) == 6


def test_voc_follows_the_conventions_of_its_devkit(tmp_path):
    folder = unpacked(pictures_with_dots(), "voc", tmp_path)
    names = (folder / "ImageSets/Main/train.txt").read_text().split()
    assert len(names) == 8
    boxes = 0
    for name in names:
        root = ET.parse(folder / f"Annotations/{name}.xml").getroot()
        assert [part.tag for part in root][:5] == ["folder", "filename", "source", "size", "segmented"]
        with Image.open(folder / root.findtext("folder") / root.findtext("filename")) as picture:
            size = (int(root.findtext("size/width")), int(root.findtext("size/height")))
            assert picture.size == size
        for item in root.iter("object"):
            assert [part.tag for part in item] == ["name", "pose", "truncated", "difficult", "bndbox"]
            edges = {part.tag: float(part.text) for part in item.find("bndbox")}
            assert list(edges) == ["xmin", "ymin", "xmax", "ymax"]
            assert 1 <= edges["xmin"] <= edges["xmax"] <= size[0]
            boxes += 1
    assert boxes == 21


def test_label_studio_boxes_lie_on_the_dots(tmp_path):
    folder = unpacked(pictures_with_dots(), "label_studio", tmp_path)
    for task in json.loads((folder / "tasks.json").read_text()):
        path = task["data"]["image"].removeprefix("/data/local-files/?d=")
        pixels = np.asarray(Image.open(folder / path))
        for region in task["annotations"][0]["result"]:
            value = region["value"]
            x, y = (value["x"] + value["width"] / 2) * 0.64, (value["y"] + value["height"] / 2) * 0.64
            assert pixels[int(y), int(x), 0] < 150

"""Our numbers beside those of Ultralytics' own validator, on the same real pictures and the same net.

The two differ by design. COCO takes the precision at 101 recalls as a step function; Ultralytics joins its points by straight
lines and integrates those, after it put a point at recall 0 with precision 1. On few animals that is up to a hundredth.
"""

import numpy as np
import pytest

from apps.training.engine.detector import Detector
from apps.training.engine.evaluate import EVALUATED_CONFIDENCE, EVALUATED_IOU
from apps.training.engine.matching import TableBuilder, Truth, found_of
from apps.training.engine.measures import average_precision
from apps.training.engine.runtimes import TorchRuntime
from apps.training.engine.weights import load_torch_model
from tests.training.engine.conftest import SHIPPED, WEIGHTS
from tests.training.engine.test_measures import LABELS, scene

TOLERANCE = 0.01


@pytest.fixture(scope="module")
def validation(samples):
    return samples.only((SHIPPED / "validation.txt").read_text().split())


@pytest.fixture(scope="module")
def theirs(validation, tmp_path_factory):
    """Ultralytics' validator with the shipped net, in single precision, on squares as ours."""
    from apps.training.engine.environment import import_ultralytics

    import_ultralytics()
    import torch
    from ultralytics import YOLO
    from ultralytics.cfg import get_cfg

    folder = tmp_path_factory.mktemp("ultralytics")
    (folder / "images").mkdir()
    (folder / "labels").mkdir()
    for picture in validation.pictures:
        (folder / "images" / picture.path.name).symlink_to(picture.path)
        boxes = picture.boxes_xyxy_px.astype(np.float64)
        size = np.array([picture.width_px, picture.height_px])
        centres, sides = (boxes[:, :2] + boxes[:, 2:]) / 2 / size, (boxes[:, 2:] - boxes[:, :2]) / size
        lines = [
            f"{label} {' '.join(map(repr, (*centre, *side)))}"
            for label, centre, side in zip(
                picture.labels.tolist(), centres.tolist(), sides.tolist(), strict=True
            )
        ]
        (folder / "labels" / f"{picture.path.stem}.txt").write_text("\n".join(lines))
    names = "\n".join(f"  {n}: {name}" for n, name in enumerate(validation.labels))
    data = folder / "data.yaml"
    data.write_text(f"path: {folder}\ntrain: images\nval: images\nnames:\n{names}\n")
    model, _ = load_torch_model(WEIGHTS)
    model.args = dict(get_cfg())
    checkpoint = folder / "same.pt"
    torch.save({"model": model, "train_args": {}}, checkpoint)
    return YOLO(str(checkpoint)).val(
        data=str(data), imgsz=640, conf=EVALUATED_CONFIDENCE, iou=EVALUATED_IOU, max_det=2000, rect=False,
        device="cpu", workers=0, batch=4, plots=False, verbose=False, project=str(folder), name="val",
    )  # fmt: skip


@pytest.mark.slow
def test_real_pictures_have_the_same_quality_in_both(validation, theirs):
    model, metadata = load_torch_model(WEIGHTS)
    ours = Detector(TorchRuntime(model, device="cpu", batch=4), metadata)
    builder = TableBuilder(validation.labels)
    paths = [picture.path for picture in validation.pictures]
    outcomes = ours.detect_files(paths, confidence=EVALUATED_CONFIDENCE, iou=EVALUATED_IOU)
    for picture, detected in zip(validation.pictures, outcomes, strict=True):
        builder.add(Truth(picture.boxes_xyxy_px, picture.labels), found_of(detected, np.array([0])))
    table = average_precision(builder.table())
    assert table[0].mean() == pytest.approx(theirs.box.map50, abs=TOLERANCE)
    assert table.mean() == pytest.approx(theirs.box.map, abs=TOLERANCE)
    assert theirs.box.map50 > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_the_same_matches_of_three_labels_have_the_same_average_precision_in_both(seed):
    from apps.training.engine.environment import import_ultralytics

    import_ultralytics()
    from ultralytics.utils.metrics import ap_per_class

    dice = np.random.default_rng(seed)
    builder = TableBuilder(LABELS)
    for _ in range(300):
        builder.add(*scene(dice))
    table = builder.table()
    truths = np.repeat(np.arange(3), table.truths.sum(axis=0))
    theirs = ap_per_class(table.is_match, table.score, table.label, truths, plot=False)
    ap = next(part for part in theirs if np.shape(part) == (3, 10))
    assert pytest.approx(ap, abs=TOLERANCE) == average_precision(table).T

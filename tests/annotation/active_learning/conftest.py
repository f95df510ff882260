"""Twelve small pictures whose animals are known, for tests that replay a labelled dataset."""

import json

import numpy as np
import pytest
from PIL import Image, ImageDraw

from apps.annotation.active_learning.replay import read_folder

COUNT = 12


@pytest.fixture(scope="session")
def scenes(tmp_path_factory):
    """Twelve pictures of discs and bars on noise, two of them empty, with a COCO file."""
    folder = tmp_path_factory.mktemp("scenes")
    (folder / "images").mkdir()
    rng = np.random.default_rng(8)
    document = {
        "images": [],
        "annotations": [],
        "categories": [{"id": 1, "name": "disc"}, {"id": 2, "name": "bar"}],
    }
    for number in range(COUNT):
        name = f"{number:02}.png"
        picture = Image.fromarray(rng.integers(60, 120, (8, 8, 3), np.uint8)).resize((64, 64))
        pen = ImageDraw.Draw(picture)
        for kind in (1, 2) if number % 6 else ():
            x, y = rng.integers(2, 34, 2).tolist()
            width, height = (20, 20) if kind == 1 else (26, 8)
            shape = pen.ellipse if kind == 1 else pen.rectangle
            shape((x, y, x + width, y + height), fill=(230, 60, 60) if kind == 1 else (60, 60, 230))
            document["annotations"].append(
                {
                    "id": 2 * number + kind,
                    "image_id": number,
                    "category_id": kind,
                    "bbox": [x, y, width, height],
                }
            )
        picture.save(folder / "images" / name)
        document["images"].append({"id": number, "file_name": name, "width": 64, "height": 64})
    (folder / "coco.json").write_text(json.dumps(document))
    return folder


@pytest.fixture
def labelled(scenes):
    return read_folder(scenes)

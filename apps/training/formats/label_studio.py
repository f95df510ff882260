"""Label Studio: `tasks.json` for import into a project whose labelling configuration is `label_config.xml`.

Coordinates are per cent of the picture's size. Answers are `annotations`, boxes with a score are `predictions`, so both can
stand side by side. Pictures are addressed for Label Studio's local file serving, relative to its document root. Its
own community edition loses the order of classes and empty pictures on export; here the order is that of the labels in
the configuration, and an empty picture is a task with one annotation without regions.

https://labelstud.io/guide/tasks, https://labelstud.io/guide/predictions
"""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable
from typing import Any, BinaryIO, Final
from urllib.parse import quote

from apps.training.formats.archive import WrittenArchive
from apps.training.formats.credits import write_credits
from apps.training.formats.model import GRID, LabelledBox, LabelledImage, LabelledSet, check_set

_COLOURS: Final = ("#2a7f62", "#d55e00", "#0072b2", "#e69f00", "#cc79a7", "#56b4e9", "#009e73", "#f0e442")


def write(labelled: LabelledSet, target: BinaryIO, picture: Callable[[LabelledImage], bytes]) -> None:
    """Raises `FormatError`."""
    check_set(labelled)
    labelled = labelled.in_order()
    tasks = [_task(labelled, image, number) for number, image in enumerate(labelled.images, start=1)]
    with WrittenArchive(target) as archive:
        archive.add_text("label_config.xml", label_config(labelled.labels))
        archive.add_text("tasks.json", json.dumps(tasks, ensure_ascii=False, separators=(",", ":")) + "\n")
        write_credits(archive, labelled, {image.path: image.path for image in labelled.images})
        for image in labelled.images:
            archive.add_picture(image.path, picture(image))


def label_config(labels: tuple[str, ...]) -> str:
    view = ET.Element("View")
    ET.SubElement(view, "Image", name="image", value="$image", zoom="true")
    choices = ET.SubElement(view, "RectangleLabels", name="label", toName="image")
    for index, label in enumerate(labels):
        ET.SubElement(choices, "Label", value=label, background=_COLOURS[index % len(_COLOURS)])
    ET.indent(view)
    return ET.tostring(view, encoding="unicode") + "\n"


def _task(labelled: LabelledSet, image: LabelledImage, number: int) -> dict[str, Any]:
    answered = [box for box in image.boxes if box.score is None]
    predicted = [box for box in image.boxes if box.score is not None]
    task: dict[str, Any] = {
        "id": number,
        "data": {
            "image": f"/data/local-files/?d={quote(image.path)}",
            "file_name": image.file_name,
            "split": image.split,
            "licence": image.licence,
            "attribution": image.attribution,
            "source_id": image.source_id,
        },
        "annotations": [],
        "predictions": [],
    }
    if answered or not predicted:
        result = [_region(labelled, image, box, f"{number}-{n}") for n, box in enumerate(answered, start=1)]
        task["annotations"] = [{"result": result, "was_cancelled": False, "ground_truth": False}]
    if predicted:
        result = [_region(labelled, image, box, f"{number}-p{n}") for n, box in enumerate(predicted, start=1)]
        scores = [box.score or 0.0 for box in predicted]
        task["predictions"] = [{"model_version": "podura", "score": min(scores), "result": result}]
    return task


def _region(labelled: LabelledSet, image: LabelledImage, box: LabelledBox, key: str) -> dict[str, Any]:
    x_min, y_min, x_max, y_max = box.steps()
    width, height = image.width_px * GRID, image.height_px * GRID
    region: dict[str, Any] = {
        "id": key,
        "type": "rectanglelabels",
        "from_name": "label",
        "to_name": "image",
        "original_width": image.width_px,
        "original_height": image.height_px,
        "image_rotation": 0,
        "value": {
            "x": 100 * x_min / width,
            "y": 100 * y_min / height,
            "width": 100 * (x_max - x_min) / width,
            "height": 100 * (y_max - y_min) / height,
            "rotation": 0,
            "rectanglelabels": [labelled.labels[box.label]],
        },
    }
    return region if box.score is None else region | {"score": box.score}

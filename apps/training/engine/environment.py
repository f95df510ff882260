"""Switches that must be set before Ultralytics, PyTorch or OpenVINO is imported, in one place.

Left alone, Ultralytics downloads files, installs packages that a checkpoint names, runs the pickle inside a
checkpoint, reports usage, writes to the user's home and switches Pillow's pixel limit off for the process.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Final

FLAGS: Final = {
    "YOLO_OFFLINE": "True",
    "YOLO_AUTOINSTALL": "False",
    "YOLO_VERBOSE": "False",
    "ULTRALYTICS_SAFE_LOAD": "1",
    "OPENVINO_TELEMETRY_ENABLED": "0",
}

_SERVICES: Final = ("clearml", "comet", "dvc", "mlflow", "raytune", "tensorboard", "wandb")
"""To which Ultralytics would report a training by itself."""


def prepare_environment() -> None:
    """Set the switches for this process and those it starts. Call before the first import of those libraries."""
    os.environ.update(FLAGS)
    if "YOLO_CONFIG_DIR" not in os.environ:
        folder = Path(tempfile.gettempdir()) / f"podura-ultralytics-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.stat().st_uid != os.getuid():
            # Somebody else made the folder first: a private one each time rather than reading their settings.
            folder = Path(tempfile.mkdtemp(prefix="podura-ultralytics-"))
        os.environ["YOLO_CONFIG_DIR"] = str(folder)


def import_ultralytics() -> None:
    """Import Ultralytics with its network, installer and pickle switched off, and undo what it does to Pillow."""
    prepare_environment()
    import ultralytics.utils
    from PIL import Image

    from apps.training.engine.pictures import DEFAULT_LIMITS

    if not ultralytics.utils.SAFE_LOAD or ultralytics.utils.AUTOINSTALL:
        raise RuntimeError("Ultralytics was imported before prepare_environment() could make it safe")
    ultralytics.utils.SETTINGS.update({"sync": False} | dict.fromkeys(_SERVICES, False))
    import ultralytics.nn.tasks

    if not ultralytics.nn.tasks._SafeLoad.SUPPORTED:  # noqa: SLF001 - there is no public name for it
        # Ultralytics then silently falls back to the full unpickler, which runs code.
        raise RuntimeError("this PyTorch cannot load checkpoints without running their code")
    Image.MAX_IMAGE_PIXELS = DEFAULT_LIMITS.pixels

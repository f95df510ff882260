"""How a detector is trained, as one frozen record that is kept with the weights it made."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Recipe:
    """Defaults for microscopy: no up or down, no left or right, mild colour, sizes that hardly vary."""

    epochs: int = 40
    batch: int = 8
    image_size: int = 640
    seed: int = 20
    learning_rate: float = 0.001
    final_learning_rate_share: float = 0.01
    weight_decay: float = 0.0005
    warmup_epochs: float = 1.0
    patience: int = 100
    frozen_layers: int = 0
    mosaic: float = 1.0
    epochs_without_mosaic: int = 10
    scale: float = 0.4
    translate: float = 0.1
    flip_up_down: float = 0.5
    flip_left_right: float = 0.5
    hue: float = 0.01
    saturation: float = 0.3
    value: float = 0.3

    def overrides(self) -> dict[str, Any]:
        """The same in the words of Ultralytics' trainer."""
        return {
            "epochs": self.epochs,
            "batch": self.batch,
            "nbs": self.batch,  # a step after every batch: small sets have few of them
            "imgsz": self.image_size,
            "seed": self.seed,
            "deterministic": True,
            "optimizer": "AdamW",
            "lr0": self.learning_rate,
            "lrf": self.final_learning_rate_share,
            "cos_lr": True,
            "momentum": 0.9,
            "weight_decay": self.weight_decay,
            "warmup_epochs": self.warmup_epochs,
            "patience": self.patience,
            "freeze": self.frozen_layers or None,
            "mosaic": self.mosaic,
            "close_mosaic": self.epochs_without_mosaic,
            "scale": self.scale,
            "translate": self.translate,
            "degrees": 0.0,  # turning by any angle would loosen the boxes; quarter turns come from the data
            "flipud": self.flip_up_down,
            "fliplr": self.flip_left_right,
            "hsv_h": self.hue,
            "hsv_s": self.saturation,
            "hsv_v": self.value,
            "amp": False,
            "cache": False,
            "plots": False,
            "val": True,
            "save": True,
        }

    def as_record(self) -> dict[str, Any]:
        return asdict(self)

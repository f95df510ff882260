"""How a detector is trained, as one frozen record that is kept with the weights it made."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Literal

from apps.training.engine.hardware import Hardware

ARCHITECTURES: Final = ("yolo11n", "yolo11s", "yolo11m", "yolov8n", "yolov8s", "yolov8m")
"""Nets that may be trained from nothing; base weights bring their own."""

Tiling = Literal["auto", "always", "never"]
AUTOMATIC_BATCH: Final = 0


@dataclass(frozen=True, slots=True)
class Recipe:
    """Defaults for microscopy: no up or down, no left or right, mild colour, sizes that hardly vary."""

    epochs: int = 40
    batch: int = AUTOMATIC_BATCH
    """Pictures of one step; 0: what suits the machine that trains, see `automatic_batch`."""
    image_size: int = 640
    seed: int = 20
    learning_rate: float = 0.001
    final_learning_rate_share: float = 0.01
    weight_decay: float = 0.0005
    warmup_epochs: float = 1.0
    patience: int = 100
    """Epochs without a better one after which the training ends; 0: never."""
    frozen_layers: int = 0
    """Layers counted from the input that keep what they know."""
    mosaic: float = 1.0
    epochs_without_mosaic: int = 10
    scale: float = 0.4
    translate: float = 0.1
    flip_up_down: float = 0.5
    flip_left_right: float = 0.5
    hue: float = 0.01
    saturation: float = 0.3
    value: float = 0.3
    architecture: str = "yolo11n"
    """Of a net without base weights."""
    tiling: Tiling = "auto"
    """Whether large photos are trained on in windows: where their animals would be too small (auto), always, never."""
    mixed_precision: bool = True
    """Half precision where it is safe; on GPUs only."""

    @classmethod
    def checked(cls, record: Mapping[str, Any]) -> Recipe:
        """A recipe from what a person, a form or another machine sent. Raises `RecipeError` with every problem."""
        values: dict[str, Any] = {}
        problems: list[dict[str, Any]] = []
        for name, value in record.items():
            rule = RULES.get(name)
            found = _problem(str(name), "unknown", "there is no such parameter") if rule is None else None
            if rule is not None:
                values[name], found = rule.read(name, value)
            if found is not None:
                problems.append(found)
        if problems:
            raise RecipeError(problems)
        return cls(**values)

    def overrides(self, *, batch: int | None = None) -> dict[str, Any]:
        """The same in the words of Ultralytics' trainer; `batch` replaces a batch that is automatic or too large.

        After a batch that had to be made smaller the gradients of several are added up, so that a step still
        learns from as many pictures as the recipe says.
        """
        batch = batch or self.batch or 8
        return {
            "epochs": self.epochs,
            "batch": batch,
            "nbs": self.batch or batch,  # a step after every batch: small sets have few of them
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
            "warmup_bias_lr": 0.0,  # Ultralytics' 0.1 is for SGD: AdamW forgets within ten such steps what it knew
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


class RecipeError(ValueError):
    """Parameters that are refused: `problems` says for each its field, a stable code and a sentence in English.

    Codes: `unknown`, `not_a_number`, `not_whole`, `not_true_or_false`, `not_finite`, `too_low` and `too_high` (with
    `limit`), `not_a_multiple` (`of`), `not_a_choice` (`choices`).
    """

    def __init__(self, problems: list[dict[str, Any]]) -> None:
        super().__init__("; ".join(f"{problem['field']}: {problem['message']}" for problem in problems))
        self.problems = problems


def _problem(field: str, code: str, message: str, **details: Any) -> dict[str, Any]:
    return {"field": field, "code": code, "message": message, **details}


_Read = tuple[Any, dict[str, Any] | None]


@dataclass(frozen=True, slots=True)
class Rule:
    """What one parameter may be: forms take their limits from here."""

    kind: Literal["whole", "number", "choice", "switch"]
    low: float = 0
    high: float = 1
    multiple_of: int = 1
    choices: tuple[str, ...] = ()

    def read(self, field: str, value: Any) -> _Read:
        if self.kind == "choice":
            if value in self.choices:
                return value, None
            choices = ", ".join(self.choices)
            return None, _problem(
                field, "not_a_choice", f"must be one of {choices}", choices=list(self.choices)
            )
        if self.kind == "switch":
            if isinstance(value, bool):
                return value, None
            return None, _problem(field, "not_true_or_false", "must be true or false")
        return self._read_number(field, value)

    def _read_number(self, field: str, value: Any) -> _Read:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None, _problem(field, "not_a_number", "must be a number")
        problem = None
        if not math.isfinite(value):
            problem = _problem(field, "not_finite", "must be a finite number")
        elif self.kind == "whole" and value != int(value):
            problem = _problem(field, "not_whole", "must be a whole number")
        elif value < self.low:
            problem = _problem(field, "too_low", f"must be at least {self.low:g}", limit=self.low)
        elif value > self.high:
            problem = _problem(field, "too_high", f"must be at most {self.high:g}", limit=self.high)
        elif self.multiple_of > 1 and int(value) % self.multiple_of:
            message = f"must be a multiple of {self.multiple_of}"
            problem = _problem(field, "not_a_multiple", message, of=self.multiple_of)
        if problem is not None:
            return None, problem
        return (int(value) if self.kind == "whole" else float(value)), None


RULES: Final[Mapping[str, Rule]] = {
    "epochs": Rule("whole", 1, 1000),
    "batch": Rule("whole", 0, 1024),
    "image_size": Rule("whole", 64, 2048, multiple_of=32),
    "seed": Rule("whole", 0, 2**31 - 1),
    "learning_rate": Rule("number", 1e-7, 1),
    "final_learning_rate_share": Rule("number", 1e-6, 1),
    "weight_decay": Rule("number", 0, 0.1),
    "warmup_epochs": Rule("number", 0, 100),
    "patience": Rule("whole", 0, 1000),
    "frozen_layers": Rule("whole", 0, 22),  # all but the head of the smallest allowed net
    "mosaic": Rule("number", 0, 1),
    "epochs_without_mosaic": Rule("whole", 0, 1000),
    "scale": Rule("number", 0, 0.95),
    "translate": Rule("number", 0, 0.9),
    "flip_up_down": Rule("number", 0, 1),
    "flip_left_right": Rule("number", 0, 1),
    "hue": Rule("number", 0, 1),
    "saturation": Rule("number", 0, 1),
    "value": Rule("number", 0, 1),
    "architecture": Rule("choice", choices=ARCHITECTURES),
    "tiling": Rule("choice", choices=("auto", "always", "never")),
    "mixed_precision": Rule("switch"),
}
assert set(RULES) == {field.name for field in fields(Recipe)}


def default_recipe(hardware: Hardware, pictures: int) -> Recipe:
    """What is proposed for this machine and so many training pictures.

    A GPU has the time for a larger net and more epochs; the batch stays automatic, so that the same run also goes on
    on another machine. Few pictures need more epochs to make as many steps, and more patience.
    """
    is_fast = bool(hardware.gpus)
    wanted_steps = 2000 if is_fast else 500
    steps_of_an_epoch = max(1, pictures // 8)
    most, least = (150, 60) if is_fast else (60, 20)
    epochs = min(most, max(least, wanted_steps // steps_of_an_epoch))
    return Recipe(
        epochs=epochs,
        patience=max(10, epochs // 3),
        epochs_without_mosaic=min(10, epochs // 4),
        architecture="yolo11s" if is_fast else "yolo11n",
    )


_MEMORY_OF_A_PICTURE_BYTES: Final = {"n": 0.45e9, "s": 0.8e9, "m": 1.6e9}
"""At 640 px in single precision, forward and backward, measured with a margin; it grows with the pixels."""


def automatic_batch(hardware: Hardware, *, image_size: int, pictures: int, size: str = "n") -> int:
    """Pictures of one step on this machine: a power of two that fits into half of the memory.

    Not more than an eighth of the pictures, or a small set would give an epoch of two or three steps; and 8 at most
    without a GPU, where more is not faster.
    """
    memory = min((gpu.memory_bytes for gpu in hardware.gpus), default=hardware.memory_bytes)
    each = _MEMORY_OF_A_PICTURE_BYTES.get(size, 1.6e9) * (image_size / 640) ** 2
    most = 64 * len(hardware.gpus) if hardware.gpus else 8
    fitting = memory * 0.5 / each * max(1, len(hardware.gpus))
    wanted = max(1.0, min(float(most), fitting, max(8.0, pictures / 8)))
    return 1 << int(math.log2(wanted))

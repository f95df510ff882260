"""Which descriptions of a net may reach Ultralytics' builder.

It looks layers up by name among all that its module knows and evaluates some of the arguments, so that a description
from outside is held against lists of layers, words and numbers first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

MAX_LABELS: Final = 10_000
MAX_LAYERS: Final = 400

_ARCHITECTURE_KEYS: Final = {
    "nc", "scale", "scales", "backbone", "head", "ch", "channels", "strides", "activation", "depth_multiple",
    "width_multiple", "kpt_shape", "reg_max", "end2end", "yaml_file", "max_channels",
}  # fmt: skip
_LAYERS: Final = frozenset({
    "A2C2f", "AConv", "ADown", "Bottleneck", "BottleneckCSP", "C1", "C2", "C2PSA", "C2f", "C2fCIB", "C2fPSA",
    "C3", "C3Ghost", "C3k2", "C3x", "CBFuse", "CBLinear", "Concat", "Conv", "ConvTranspose", "DWConv",
    "DWConvTranspose2d", "Detect", "ELAN1", "Focus", "GhostBottleneck", "GhostConv", "PSA", "RepC3",
    "RepNCSPELAN4", "SCDown", "SPP", "SPPELAN", "SPPF", "nn.BatchNorm2d", "nn.ConvTranspose2d", "nn.Identity",
    "nn.MaxPool2d", "nn.Upsample", "nn.ZeroPad2d", "v10Detect",
})  # fmt: skip
"""The layers of Ultralytics' detectors: of any other name that its builder finds, it would call whatever it is."""
_SAFE_ARGUMENT_WORDS: Final = {"None", "nearest", "bilinear", "bicubic", "nc", "True", "False", "anchors"}


def is_between(value: object, low: float, high: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def architecture_problem(architecture: object) -> str:
    """What is wrong with a model description; empty if nothing is.

    Only layers of the list and plain numbers: Ultralytics looks names up and evaluates some of the arguments.
    """
    if not isinstance(architecture, dict) or set(architecture) - _ARCHITECTURE_KEYS:
        return "the architecture has unknown entries"
    activation = architecture.get("activation")
    if activation is not None and activation not in ("nn.SiLU()", "nn.ReLU()", "nn.LeakyReLU(0.1)"):
        return "the architecture's activation is not on the list"  # Ultralytics eval()s it
    backbone, head = architecture.get("backbone"), architecture.get("head")
    if not isinstance(backbone, list | tuple) or not isinstance(head, list | tuple):
        return "the architecture has no layers or too many"
    rows = [*backbone, *head]
    if not 1 <= len(rows) <= MAX_LAYERS:
        return "the architecture has no layers or too many"
    return _scale_problem(architecture) or next(filter(None, map(_layer_problem, rows)), "")


def _layer_problem(row: object) -> str:
    if not isinstance(row, list | tuple) or len(row) != 4:
        return "a layer is not [from, repeats, module, arguments]"
    sources, repeats, module, arguments = row
    if not isinstance(repeats, int) or not 0 <= repeats <= 100:
        return "a layer is repeated too often"
    if not isinstance(module, str) or module not in _LAYERS:
        return "a layer names no module"
    if not isinstance(arguments, list | tuple):
        return "a layer has an argument that is not on the list"
    return _plain_problem(sources) or _plain_problem(arguments)


def _scale_problem(architecture: Mapping[str, Any]) -> str:
    """Numbers that multiply the net: a depth of a million would build layers until the memory ends."""
    factors = [architecture.get(name, 1.0) for name in ("depth_multiple", "width_multiple")]
    channels: list[object] = []
    scales, chosen = architecture.get("scales"), architecture.get("scale")
    if scales is not None:
        if (
            not isinstance(scales, dict)
            or not 1 <= len(scales) <= 16
            or not all(map(_is_scale, scales.items()))
        ):
            return "the architecture's scales cannot be read"
        factors += [factor for scale in scales.values() for factor in scale[:2]]
        channels = [scale[2] for scale in scales.values()]
    if chosen and (not isinstance(chosen, str) or chosen not in (scales or {})):
        return "the architecture names a scale that it does not have"
    sound = all(is_between(factor, 0.01, 8) for factor in factors)
    if not sound or not all(is_between(most, 1, 1 << 13) for most in channels):
        return "the architecture's scales are not plain numbers"
    return _number_problem(architecture)


def _is_scale(item: tuple[object, object]) -> bool:
    name, scale = item
    named = isinstance(name, str) and name.isascii() and name.isalnum() and len(name) <= 10
    return named and isinstance(scale, list | tuple) and len(scale) == 3


def _number_problem(architecture: Mapping[str, Any]) -> str:
    for name, most in (("reg_max", 64), ("nc", MAX_LABELS)):
        value = architecture.get(name)
        if value is not None and (type(value) is not int or not 1 <= value <= most):
            return f"the architecture's {name} is not a number that can be used"
    if architecture.get("end2end") not in (None, True, False):
        return "the architecture has unknown entries"
    return _plain_problem([architecture.get(name) for name in ("ch", "channels", "strides", "kpt_shape")])


def _plain_problem(value: object, depth: int = 0) -> str:
    if isinstance(value, list | tuple) and len(value) <= 64 and depth < 4:
        return next(filter(None, (_plain_problem(item, depth + 1) for item in value)), "")
    if isinstance(value, str):
        return "" if value in _SAFE_ARGUMENT_WORDS else "a layer has an argument that is not on the list"
    if value is None or (isinstance(value, bool | int | float) and abs(value) <= 1 << 13):
        return ""
    return "a layer has an argument that is not a plain number"

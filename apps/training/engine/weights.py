"""Podura's weights file: safetensors in half precision, compressed, with everything needed to rebuild the net.

A checkpoint of PyTorch is a pickle, and a pickle is a program. This file is data only: tensors, and metadata as
JSON that says which architecture they belong to. Whoever loads it can get a wrong model, but no foreign code.

Layout: an XZ stream around a safetensors file, because half-precision weights still hold redundancy and a
YOLO nano must stay small enough to be kept in a repository.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import torch
    from ultralytics.nn.tasks import DetectionModel

FORMAT: Final = "podura-weights-1"
MAX_FILE_BYTES: Final = 512 * 1024 * 1024
MAX_UNPACKED_BYTES: Final = 1024 * 1024 * 1024
MAX_METADATA_BYTES: Final = 256 * 1024
MAX_LABELS: Final = 10_000
MAX_LAYERS: Final = 400

_XZ_MAGIC: Final = b"\xfd7zXZ\x00"
_ARCHITECTURE_KEYS: Final = {
    "nc", "scale", "scales", "backbone", "head", "ch", "channels", "strides", "activation", "depth_multiple",
    "width_multiple", "kpt_shape", "reg_max", "end2end", "yaml_file", "max_channels",
}  # fmt: skip
_MODULE_NAME: Final = re.compile(
    r"^(nn\.|torchvision\.ops\.)?[A-Z][A-Za-z0-9]{0,40}$|^nn\.[A-Za-z0-9]{1,40}$"
)
_LAST_CLASS_LAYER: Final = re.compile(r"^model\.\d+\.cv3\.0\.2\.weight$")
_SAFE_ARGUMENT_WORDS: Final = {"None", "nearest", "bilinear", "bicubic", "nc", "True", "False", "anchors"}


class WeightsError(Exception):
    """A weights file that is not what it should be: wrong digest, damaged, hostile or of an unknown kind."""


@dataclass(frozen=True, slots=True)
class WeightsMetadata:
    """What a weights file says of itself."""

    architecture: Mapping[str, Any]
    """The Ultralytics model description as a dictionary."""
    labels: tuple[str, ...]
    image_size: int
    """Side in pixels of the square picture the net was trained on."""
    object_size_px: float
    """Median long side of a trained animal, in pixels, at the native scale of the training pictures."""
    trained_size_px: float = 0.0
    """The same at the net's input: differs where training pictures were shrunk. 0 stands for equal."""
    name: str = ""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    licences: tuple[str, ...] = ()
    attribution: str = ""

    def __post_init__(self) -> None:
        _check_metadata(self)
        if not self.trained_size_px:
            object.__setattr__(self, "trained_size_px", self.object_size_px)


def file_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_weights(path: Path, model: DetectionModel, metadata: WeightsMetadata) -> str:
    """Write `model` in half precision beside its metadata; returns the SHA-256 of the file.

    Counters of the training (`num_batches_tracked`) and the constants of the head are left out: they do not
    change a prediction, and the architecture restores them.
    """
    import torch
    from safetensors.torch import save

    tensors: dict[str, torch.Tensor] = {}
    for name, value in model.state_dict().items():
        if name.endswith("num_batches_tracked") or ".dfl." in name:
            continue
        half = value.detach().cpu().to(torch.float16).contiguous()
        if not torch.isfinite(half).all():
            raise WeightsError(f"{name} does not fit into half precision")
        tensors[name] = half
    document = json.dumps({**asdict(metadata)}, ensure_ascii=True, allow_nan=False)
    packed = save(tensors, metadata={"format": FORMAT, "podura": document})
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_bytes(lzma.compress(packed, preset=9 | lzma.PRESET_EXTREME))
    unfinished.replace(path)
    return file_sha256(path)


def read_metadata(path: Path) -> WeightsMetadata:
    """The metadata of a weights file, without PyTorch. Raises `WeightsError`."""
    return _parse_metadata(_unpack(path))


def load_torch_model(path: Path) -> tuple[DetectionModel, WeightsMetadata]:
    """Rebuild the net in single precision on the CPU, in evaluation mode. Raises `WeightsError`."""
    from apps.training.engine.environment import import_ultralytics

    import_ultralytics()
    import torch
    from safetensors.torch import load
    from ultralytics.nn.tasks import DetectionModel

    content = _unpack(path)
    metadata = _parse_metadata(content)
    try:
        tensors = load(content)
        model = DetectionModel(dict(metadata.architecture), ch=3, nc=len(metadata.labels), verbose=False)
        _widen_class_branch(model, tensors, metadata)
    except Exception as error:  # a hostile architecture fails wherever it likes inside Ultralytics
        raise WeightsError(f"the net cannot be built: {error}") from error
    known = model.state_dict()
    for name, value in tensors.items():
        if name not in known or known[name].shape != value.shape or value.dtype != torch.float16:
            raise WeightsError(f"tensor {name} does not belong to this architecture")
        if not torch.isfinite(value).all():
            raise WeightsError(f"tensor {name} is not finite")
    missing = {n for n in known if not n.endswith("num_batches_tracked") and ".dfl." not in n} - set(tensors)
    if missing:
        raise WeightsError(f"{len(missing)} tensors are missing, {min(missing)} among them")
    model.load_state_dict({name: value.float() for name, value in tensors.items()}, strict=False)
    model.names = dict(enumerate(metadata.labels))
    return model.float().eval(), metadata


def _widen_class_branch(
    model: DetectionModel, tensors: Mapping[str, torch.Tensor], metadata: WeightsMetadata
) -> None:
    """Give the branch that names the animals the width it was trained with.

    Ultralytics derives it from the number of classes, but keeps that of the base weights when it fine-tunes.
    """
    from ultralytics.nn.tasks import DetectionModel

    last = next((value for name, value in tensors.items() if _LAST_CLASS_LAYER.match(name)), None)
    if last is None or last.ndim != 4 or last.shape[1] == model.model[-1].cv3[0][-1].in_channels:
        return
    if not 1 <= last.shape[1] <= 1024:
        raise WeightsError("the class branch has an impossible width")
    donor = DetectionModel(dict(metadata.architecture), ch=3, nc=int(last.shape[1]), verbose=False)
    model.load(donor, verbose=False)


def load_checkpoint_model(path: Path) -> DetectionModel:
    """A base net for training from an Ultralytics `.pt`, without running what its pickle asks for.

    PyTorch's restricted unpickler builds only classes of an allow-list; anything else raises `WeightsError`.
    """
    from apps.training.engine.environment import import_ultralytics

    import_ultralytics()
    from ultralytics.nn.tasks import DetectionModel, torch_safe_load

    if not path.is_file():  # Ultralytics would otherwise look for the name on the internet
        raise WeightsError(f"no such file: {path}")
    try:
        checkpoint, _ = torch_safe_load(str(path), safe_only=True)
        model = checkpoint.get("ema") or checkpoint["model"]
    except Exception as error:
        raise WeightsError(f"{path.name} is no checkpoint that can be loaded safely: {error}") from error
    if not isinstance(model, DetectionModel):
        raise WeightsError(f"{path.name} holds a {type(model).__name__}, not a detection model")
    return model.float()


def _unpack(path: Path) -> bytes:
    """The safetensors bytes inside the file, with a bound on both sides of the decompression."""
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise WeightsError(f"the file has {size} bytes, more than {MAX_FILE_BYTES}")
    content = path.read_bytes()
    if not content.startswith(_XZ_MAGIC):
        raise WeightsError("not a weights file of Podura")
    unpacker = lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=256 * 1024 * 1024)
    try:
        unpacked = unpacker.decompress(content, max_length=MAX_UNPACKED_BYTES + 1)
    except lzma.LZMAError as error:
        raise WeightsError(f"the file is damaged: {error}") from error
    if len(unpacked) > MAX_UNPACKED_BYTES:
        raise WeightsError("the file unpacks to more than is allowed")
    if not unpacker.eof:
        raise WeightsError("the file is cut")
    return unpacked


def _parse_metadata(content: bytes) -> WeightsMetadata:
    header_bytes = int.from_bytes(content[:8], "little")
    if not 2 <= header_bytes <= min(MAX_METADATA_BYTES * 2, len(content) - 8):
        raise WeightsError("the header has an impossible length")
    try:
        header = json.loads(content[8 : 8 + header_bytes])["__metadata__"]
        if header["format"] != FORMAT or len(header["podura"]) > MAX_METADATA_BYTES:
            raise WeightsError("unknown kind of weights file")  # noqa: TRY301 - beside what it checks
        document = json.loads(header["podura"], parse_constant=_refuse_constant)
        document["labels"] = tuple(document["labels"])
        document["licences"] = tuple(document["licences"])
        return WeightsMetadata(**document)
    except WeightsError:
        raise
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise WeightsError(f"the metadata cannot be read: {error}") from error


def _refuse_constant(name: str) -> float:
    raise WeightsError(f"the metadata holds {name}")


def _check_metadata(metadata: WeightsMetadata) -> None:
    labels = metadata.labels
    if not 1 <= len(labels) <= MAX_LABELS or len(set(labels)) != len(labels):
        raise WeightsError("labels must be 1 to 10,000 different names")
    names: tuple[object, ...] = labels
    if not all(isinstance(label, str) and 0 < len(label) <= 200 and label.isprintable() for label in names):
        raise WeightsError("a label is not a printable name")
    size: object = metadata.image_size
    if not isinstance(size, int) or not 64 <= size <= 4096 or size % 32:
        raise WeightsError("image_size must be a multiple of 32 between 64 and 4096")
    if not _is_between(metadata.object_size_px, 1, 1e5) or not _is_between(metadata.trained_size_px, 0, 1e5):
        raise WeightsError("the size of a typical object must be a number of pixels")
    _check_architecture(metadata.architecture)


def _is_between(value: object, low: float, high: float) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and low <= value <= high


def _check_architecture(architecture: object) -> None:
    """Only names of modules and plain numbers: Ultralytics looks names up and evaluates some of the arguments."""
    if not isinstance(architecture, dict) or set(architecture) - _ARCHITECTURE_KEYS:
        raise WeightsError("the architecture has unknown entries")
    activation = architecture.get("activation")
    if activation is not None and activation not in ("nn.SiLU()", "nn.ReLU()", "nn.LeakyReLU(0.1)"):
        raise WeightsError("the architecture's activation is not on the list")  # Ultralytics eval()s it
    rows = [*architecture.get("backbone", ()), *architecture.get("head", ())]
    if not 1 <= len(rows) <= MAX_LAYERS:
        raise WeightsError("the architecture has no layers or too many")
    for row in rows:
        if not isinstance(row, list | tuple) or len(row) != 4:
            raise WeightsError("a layer is not [from, repeats, module, arguments]")
        sources, repeats, module, arguments = row
        if not isinstance(repeats, int) or not 0 <= repeats <= 100:
            raise WeightsError("a layer is repeated too often")
        if not isinstance(module, str) or not _MODULE_NAME.match(module):
            raise WeightsError("a layer names no module")
        _check_plain(sources)
        _check_plain(arguments)


def _check_plain(value: object) -> None:
    if isinstance(value, list | tuple) and len(value) <= 64:
        for item in value:
            _check_plain(item)
    elif isinstance(value, str):
        if value not in _SAFE_ARGUMENT_WORDS:
            raise WeightsError("a layer has an argument that is not on the list")
    elif not (value is None or isinstance(value, bool | int | float)) or abs(value or 0) > 1 << 16:
        raise WeightsError("a layer has an argument that is not a plain number")

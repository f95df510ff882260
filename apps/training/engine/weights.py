"""Podura's weights file: safetensors in half precision, compressed, with everything needed to rebuild the net.

A checkpoint of PyTorch is a pickle, and a pickle is a program. This file is data only: tensors, and metadata as
JSON that says which architecture they belong to. Whoever loads it can get a wrong model, but no foreign code.

Layout: an XZ stream around a safetensors file, because half-precision weights still hold redundancy and a
YOLO nano must stay small enough to be kept in a repository.
"""

from __future__ import annotations

import copy
import hashlib
import json
import lzma
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from apps.training.engine.architecture import MAX_LABELS, architecture_problem, is_between

if TYPE_CHECKING:
    import torch
    from ultralytics.nn.tasks import DetectionModel

FORMAT: Final = "podura-weights-1"
MAX_FILE_BYTES: Final = 512 * 1024 * 1024
MAX_UNPACKED_BYTES: Final = 1024 * 1024 * 1024
MAX_METADATA_BYTES: Final = 256 * 1024
_MAX_HEADER_BYTES: Final = 2 * MAX_METADATA_BYTES
"""Of safetensors: the metadata and the list of the tensors."""

_PACKING: Final = (
    {
        "id": lzma.FILTER_LZMA2,
        "dict_size": 1 << 20,
        # Weights are two bytes each of which only the upper has redundancy (lp), and nothing ever repeats: looking for
        # repetitions took most of the time and gained nothing.
        "lc": 0,
        "lp": 1,
        "pb": 1,
        "mode": lzma.MODE_FAST,
        "mf": lzma.MF_HC3,
        "depth": 1,
    },
)
_XZ_MAGIC: Final = b"\xfd7zXZ\x00"
_LAST_CLASS_LAYER: Final = re.compile(r"^model\.\d+\.cv3\.0\.2\.weight$")


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
        if not is_stored(name):
            continue
        half = value.detach().cpu().to(torch.float16).contiguous()
        if not torch.isfinite(half).all():
            raise WeightsError(f"{name} does not fit into half precision")
        tensors[name] = half
    document = json.dumps({**asdict(metadata)}, ensure_ascii=True, allow_nan=False)
    packed = save(tensors, metadata={"format": FORMAT, "podura": document})
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_bytes(lzma.compress(packed, filters=_PACKING))
    unfinished.replace(path)
    return file_sha256(path)


def read_metadata(path: Path) -> WeightsMetadata:
    """The metadata of a weights file, without PyTorch and without unpacking the tensors. Raises `WeightsError`."""
    return _parse_metadata(_unpack(path, only_start=True))


def load_torch_model(path: Path) -> tuple[DetectionModel, WeightsMetadata]:
    """Rebuild the net in single precision on the CPU, in evaluation mode. Raises `WeightsError`."""
    from apps.training.engine.environment import import_ultralytics

    import_ultralytics()
    from safetensors.torch import load

    content = _unpack(path)
    metadata = _parse_metadata(content)
    try:
        tensors = load(content)
    except Exception as error:
        raise WeightsError(f"the net cannot be built: {error}") from error
    return build_model(metadata, tensors), metadata


def build_model(
    metadata: WeightsMetadata, tensors: Mapping[str, torch.Tensor], *, is_half: bool = True
) -> DetectionModel:
    """The net of a checked description with these tensors, every one of which must fit. Raises `WeightsError`."""
    import torch
    from ultralytics.nn.tasks import DetectionModel

    try:
        description = copy.deepcopy(dict(metadata.architecture))  # Ultralytics writes into it
        model = DetectionModel(description, ch=3, nc=len(metadata.labels), verbose=False)
        _widen_class_branch(model, tensors, metadata)
    except WeightsError:
        raise
    except Exception as error:  # a hostile architecture fails wherever it likes inside Ultralytics
        raise WeightsError(f"the net cannot be built: {error}") from error
    known = model.state_dict()
    for name, value in tensors.items():
        if (
            name not in known
            or known[name].shape != value.shape
            or (is_half and value.dtype != torch.float16)
        ):
            raise WeightsError(f"tensor {name} does not belong to this architecture")
        if not torch.isfinite(value).all():
            raise WeightsError(f"tensor {name} is not finite")
    missing = {name for name in known if is_stored(name)} - set(tensors)
    if missing:
        raise WeightsError(f"{len(missing)} tensors are missing, {min(missing)} among them")
    model.load_state_dict({name: value.float() for name, value in tensors.items()}, strict=False)
    model.names = dict(enumerate(metadata.labels))
    return model.float().eval()


def is_stored(name: str) -> bool:
    """Whether a tensor of the net belongs into a weights file, see `save_weights`."""
    return not name.endswith("num_batches_tracked") and ".dfl." not in name


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
    description = copy.deepcopy(dict(metadata.architecture))
    donor = DetectionModel(description, ch=3, nc=int(last.shape[1]), verbose=False)
    model.load(donor, verbose=False)


def load_checkpoint_model(path: Path) -> DetectionModel:
    """A base net for training from an Ultralytics `.pt`, without running what its pickle asks for.

    The net is built from the checkpoint's checked description and gets its tensors; no object of the pickle is ever
    made (`inert.py`). Anything else raises `WeightsError`.
    """
    from apps.training.engine.checkpoint_file import read_checkpoint
    from apps.training.engine.environment import import_ultralytics

    import_ultralytics()
    if not path.is_file():
        raise WeightsError(f"no such file: {path}")
    checkpoint = read_checkpoint(path)
    metadata = WeightsMetadata(
        architecture=checkpoint.architecture,
        labels=checkpoint.labels,
        image_size=checkpoint.image_size,
        object_size_px=1.0,  # not said by such a file
    )
    tensors = {name: value for name, value in checkpoint.tensors.items() if is_stored(name)}
    return build_model(metadata, tensors, is_half=False)


def _unpack(path: Path, *, only_start: bool = False) -> bytes:
    """The safetensors bytes inside the file, with a bound on both sides of the decompression.

    `only_start`: as many as the header may have. The whole takes 11 s for a net of 58 million parameters.
    """
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise WeightsError(f"the file has {size} bytes, more than {MAX_FILE_BYTES}")
    with path.open("rb") as file:
        content = file.read(2 * _MAX_HEADER_BYTES if only_start else -1)
    if not content.startswith(_XZ_MAGIC):
        raise WeightsError("not a weights file of Podura")
    unpacker = lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=256 * 1024 * 1024)
    try:
        most = 8 + _MAX_HEADER_BYTES if only_start else MAX_UNPACKED_BYTES + 1
        unpacked = unpacker.decompress(content, max_length=most)
    except lzma.LZMAError as error:
        raise WeightsError(f"the file is damaged: {error}") from error
    if only_start:
        return unpacked
    if len(unpacked) > MAX_UNPACKED_BYTES:
        raise WeightsError("the file unpacks to more than is allowed")
    if not unpacker.eof:
        raise WeightsError("the file is cut")
    return unpacked


def _parse_metadata(content: bytes) -> WeightsMetadata:
    header_bytes = int.from_bytes(content[:8], "little")
    if not 2 <= header_bytes <= min(_MAX_HEADER_BYTES, len(content) - 8):
        raise WeightsError("the header has an impossible length")
    try:
        header = json.loads(content[8 : 8 + header_bytes])["__metadata__"]
        if header["format"] != FORMAT or len(header["podura"]) > MAX_METADATA_BYTES:
            raise WeightsError("unknown kind of weights file")  # noqa: TRY301 - beside what it checks
        document = json.loads(header["podura"], parse_constant=_refuse_constant)
        if not all(isinstance(document[name], list) for name in ("labels", "licences")):
            raise WeightsError("the metadata has a text in place of a list")  # noqa: TRY301 - beside what it checks
        document["labels"] = tuple(document["labels"])
        document["licences"] = tuple(document["licences"])
        return WeightsMetadata(**document)
    except WeightsError:
        raise
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise WeightsError(f"the metadata cannot be read: {error}") from error


def _refuse_constant(name: str) -> float:
    raise WeightsError(f"the metadata holds {name}")


def label_problem(labels: tuple[object, ...]) -> tuple[str, dict[str, Any]] | None:
    """What is wrong with a label list: a code and its details. Labels become codes, file names and parts of pages."""
    if not 1 <= len(labels) <= MAX_LABELS:
        return "labels_too_many", {"count": len(labels), "most": MAX_LABELS}
    for row, label in enumerate(labels):
        sound = (
            isinstance(label, str)
            and 0 < len(label) <= 200
            and label.isprintable()
            and label.strip() == label
        )
        if not sound or any(mark in str(label) for mark in ("<", ">", "..", "\\", "{", "}")):
            told = label if isinstance(label, str) else type(label).__name__  # whose text may be without end
            return "label_not_a_name", {"row": row, "label": told}
    if len(set(labels)) != len(labels):
        twice = next(label for row, label in enumerate(labels) if label in labels[:row])
        return "label_twice", {"label": str(twice)}
    return None


def _check_metadata(metadata: WeightsMetadata) -> None:
    problem = label_problem(metadata.labels)
    if problem is not None:
        raise WeightsError(
            "a label is not a printable name"
            if problem[0] == "label_not_a_name"
            else "labels must be 1 to 10,000 different names"
        )
    size: object = metadata.image_size
    if not isinstance(size, int) or not 64 <= size <= 4096 or size % 32:
        raise WeightsError("image_size must be a multiple of 32 between 64 and 4096")
    if not is_between(metadata.object_size_px, 1, 1e5) or not is_between(metadata.trained_size_px, 0, 1e5):
        raise WeightsError("the size of a typical object must be a number of pixels")
    architecture = architecture_problem(metadata.architecture)
    if architecture:
        raise WeightsError(architecture)

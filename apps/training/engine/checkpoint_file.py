"""A checkpoint of Ultralytics (`.pt`) as data: labels, checked architecture, tensors.

The archive is read by Python's own zip reader, held to what `torch.save` writes; PyTorch's loader never sees it.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from apps.training.engine.architecture import MAX_LABELS, architecture_problem
from apps.training.engine.inert import MAX_PICKLE_BYTES, Inert, StorageName, is_whole, read_inert, walk
from apps.training.engine.refusals import RefusedWeightsError
from apps.training.engine.weights import label_problem

if TYPE_CHECKING:
    import torch

MAX_PARTS: Final = 20_000
MAX_MODULES: Final = 20_000
MAX_DEPTH: Final = 40
_SMALL_PARTS: Final = (
    "byteorder",
    "version",
    ".format_version",
    ".storage_alignment",
    ".data/serialization_id",
)
_ARCHITECTURE_KEPT: Final = (
    "nc", "scale", "scales", "backbone", "head", "activation", "reg_max", "end2end", "strides", "depth_multiple",
    "width_multiple",
)  # fmt: skip
_DETECTORS: Final = ("ultralytics.nn.tasks.DetectionModel", "ultralytics.nn.tasks.YOLOv10DetectionModel")
_DTYPES: Final = {
    "FloatStorage": ("float32", 4),
    "HalfStorage": ("float16", 2),
    "BFloat16Storage": ("bfloat16", 2),
    "DoubleStorage": ("float64", 8),
    "LongStorage": ("int64", 8),
    "IntStorage": ("int32", 4),
    "ShortStorage": ("int16", 2),
    "CharStorage": ("int8", 1),
    "ByteStorage": ("uint8", 1),
    "BoolStorage": ("bool", 1),
}
_HOOKS: Final = (
    "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_state_dict_hooks",
    "_state_dict_pre_hooks", "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks",
)  # fmt: skip
_METHODS: Final = frozenset({
    "forward", "float", "half", "train", "eval", "to", "cuda", "cpu", "apply", "state_dict", "load_state_dict",
    "named_parameters", "parameters", "buffers", "modules", "children", "fuse", "predict", "loss", "load", "info",
    "register_buffer", "requires_grad_", "zero_grad", "__call__", "__class__", "__setstate__", "__getattr__",
    "__reduce__", "__reduce_ex__", "__init__", "_apply", "_call_impl",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class CheckpointFile:
    labels: tuple[str, ...]
    architecture: dict[str, Any]
    tensors: dict[str, torch.Tensor]
    """By the name that they have in the net's state; in the precision of the file."""
    image_size: int
    epoch: int
    """The last finished one, counted from 0; -1 for a checkpoint that is not meant to be resumed."""
    licence: str


def read_checkpoint(path: Path) -> CheckpointFile:
    """Raises `RefusedWeightsError`; runs nothing that the file asks for."""
    with _opened(path) as archive:
        parts = _Parts(archive)
        document = read_inert(parts.pickle)
        record = _mapping(document)
        net = next((record[key] for key in ("ema", "model") if record.get(key) is not None), None)
        if net is None:
            raise RefusedWeightsError("no_architecture")
        if not isinstance(net, Inert) or net.called not in _DETECTORS:
            called = net.called if isinstance(net, Inert) else type(net).__name__
            raise RefusedWeightsError("not_a_detector", kind=called)
        state = _state(net)
        labels = _labels(state.get("names"))
        architecture = _architecture(state.get("yaml"))
        tensors = dict(_Tensors(parts).of(net))
        licence = record.get("license")
        return CheckpointFile(
            labels=labels,
            architecture=architecture,
            tensors=tensors,
            image_size=_image_size(record.get("train_args"), state.get("args")),
            epoch=record["epoch"] if is_whole(record.get("epoch"), -1, 10**6) else -1,
            licence=licence
            if isinstance(licence, str) and licence.isprintable() and len(licence) <= 200
            else "",
        )


def name_what_it_is(path: Path) -> None:
    """Raise the most telling refusal for a file that is no archive of `torch.save`."""
    content = path.open("rb").read(MAX_PICKLE_BYTES)
    if len(content) >= 512 and content[257:262] == b"ustar":
        raise RefusedWeightsError("tar_format")
    if content[:1] == b"\x80" or content[:1] in b"(c}]l":
        walk(content, pickles=8)  # names what it would have called; the old form is five pickles in a row
        if content[:1] == b"\x80":
            raise RefusedWeightsError("legacy_format")
    if content[:1] == b"\x08" and (b"onnx" in content[:4096].lower() or b"pytorch" in content[:256].lower()):
        raise RefusedWeightsError("onnx")
    raise RefusedWeightsError("not_weights")


def _opened(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise RefusedWeightsError("damaged", detail=f"{error}") from error


class _Parts:
    """The members of an archive, held to the shape that `torch.save` gives them."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        members = archive.infolist()
        if len(members) > MAX_PARTS:
            raise RefusedWeightsError("too_many_parts", count=len(members), most=MAX_PARTS)
        self._members: dict[str, zipfile.ZipInfo] = {}
        folders = {member.filename.partition("/")[0] for member in members}
        names = [member.filename for member in members]
        if any("/code/" in f"/{name}" or name.endswith("constants.pkl") for name in names):
            raise RefusedWeightsError("torchscript")
        if not any(name.endswith("/data.pkl") for name in names):
            raise RefusedWeightsError("not_weights")
        for member in members:
            self._take(member, len(folders))
        if self.read("byteorder", 16) not in (b"", b"little"):
            raise RefusedWeightsError("damaged", detail="byteorder")
        self.pickle = self.read("data.pkl", MAX_PICKLE_BYTES)

    def _take(self, member: zipfile.ZipInfo, folders: int) -> None:
        name = member.filename.partition("/")[2]
        if folders != 1 or not name or "\\" in member.filename or ".." in member.filename.split("/"):
            raise RefusedWeightsError("archive_name", name=member.filename)
        if name in self._members:
            raise RefusedWeightsError("archive_twice", name=member.filename)
        is_storage = name.startswith("data/") and name[5:].isascii() and name[5:].isdecimal()
        if name != "data.pkl" and not is_storage and name not in _SMALL_PARTS:
            raise RefusedWeightsError("archive_part", name=member.filename)
        if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
            raise RefusedWeightsError("archive_compressed", name=member.filename)
        if member.flag_bits & 0x1:
            raise RefusedWeightsError("archive_part", name=member.filename)
        self._members[name] = member

    def read(self, name: str, most: int) -> bytes:
        """Empty for a part that is not there."""
        member = self._members.get(name)
        if member is None:
            return b""
        if member.file_size > most:
            raise RefusedWeightsError("pickle_too_large", most=most)
        try:
            return self._archive.read(member)
        except (zipfile.BadZipFile, EOFError, OSError, ValueError, NotImplementedError) as error:
            raise RefusedWeightsError("damaged", detail=f"{error}") from error

    def storage(self, named: StorageName, *, tensor: str) -> bytes:
        _dtype, each = _DTYPES[named.kind]
        member = self._members.get(f"data/{named.key}")
        if member is None or member.file_size != named.elements * each:
            raise RefusedWeightsError("tensor_lies", name=tensor)
        return self.read(f"data/{named.key}", member.file_size)


class _Tensors:
    """The tensors of a net out of its records."""

    def __init__(self, parts: _Parts) -> None:
        self._parts = parts
        self._storages: dict[str, tuple[str, torch.Tensor]] = {}
        self._modules = 0
        self._bytes_left = sum(member.file_size for member in parts._members.values()) * 4  # noqa: SLF001 - same file

    def of(self, module: Inert, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, torch.Tensor]]:
        self._modules += 1
        if self._modules > MAX_MODULES or depth > MAX_DEPTH:
            raise RefusedWeightsError("too_many_parts", count=self._modules, most=MAX_MODULES)
        state = _state(module)
        _refuse_abuse(state, prefix)
        for kind in ("_parameters", "_buffers"):
            for name, value in _mapping(state.get(kind)).items():
                if value is not None:
                    yield f"{prefix}{_part(name)}", self._tensor(value, f"{prefix}{_part(name)}")
        for name, value in _mapping(state.get("_modules")).items():
            if value is None:
                continue
            if not isinstance(value, Inert):
                raise RefusedWeightsError("damaged", detail=f"{prefix}{_part(name)}")
            if not prefix and name != "model":
                continue  # a loss that was saved with the net
            yield from self.of(value, f"{prefix}{_part(name)}.", depth + 1)

    def _tensor(self, value: Any, name: str) -> torch.Tensor:
        import torch

        storage, offset, size, stride = _described(value, name)
        count = math.prod(size)
        dtype, each = _DTYPES[storage.kind]
        self._bytes_left -= count * each  # many tensors may share one storage
        if self._bytes_left < 0:
            raise RefusedWeightsError("tensor_lies", name=name)
        if not count:
            return torch.empty(size, dtype=getattr(torch, dtype))
        known = self._storages.get(storage.key)
        if known is None:
            content = bytearray(self._parts.storage(storage, tensor=name))
            known = storage.kind, torch.frombuffer(content, dtype=getattr(torch, dtype))
            self._storages[storage.key] = known
        if known[0] != storage.kind or known[1].numel() != storage.elements:
            raise RefusedWeightsError("tensor_lies", name=name)
        return known[1].as_strided(size, stride, offset).clone(memory_format=torch.contiguous_format)


def _described(value: Any, name: str) -> tuple[StorageName, int, tuple[int, ...], tuple[int, ...]]:
    """Storage, offset, size and strides of a tensor that lies within its storage."""
    if isinstance(value, Inert) and value.called == "torch._utils._rebuild_parameter" and value.args:
        value = value.args[0]
    if (
        not isinstance(value, Inert)
        or value.called != "torch._utils._rebuild_tensor_v2"
        or len(value.args) < 4
    ):
        raise RefusedWeightsError("damaged", detail=name)
    storage, offset, size, stride = value.args[:4]
    if not isinstance(storage, StorageName) or not _is_shape(size) or not _is_shape(stride):
        raise RefusedWeightsError("tensor_lies", name=name)
    if len(size) != len(stride) or not is_whole(offset, 0, storage.elements):
        raise RefusedWeightsError("tensor_lies", name=name)
    count = math.prod(size)
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    if count > storage.elements or (count and last >= storage.elements):
        raise RefusedWeightsError("tensor_lies", name=name)
    return storage, offset, size, stride


def _refuse_abuse(state: Mapping[Any, Any], prefix: str) -> None:
    """Nothing of this would ever be called here; a file that carries it was made to be called elsewhere."""
    for name in _HOOKS:
        if name in state and _mapping(state[name]):
            raise RefusedWeightsError("shadowed", name=f"{prefix}{name}")
    for name in state:
        if not isinstance(name, str) or name in _METHODS:
            raise RefusedWeightsError("shadowed", name=f"{prefix}{name}")


def _is_shape(value: object) -> bool:
    return isinstance(value, tuple) and len(value) <= 8 and all(is_whole(n, 0, 1 << 31) for n in value)


def _part(name: object) -> str:
    if not isinstance(name, str) or not 0 < len(name) <= 100 or not name.replace("_", "a").isalnum():
        raise RefusedWeightsError("damaged", detail=name if isinstance(name, str) else type(name).__name__)
    return name


def _state(record: Inert) -> Mapping[str, Any]:
    if isinstance(record.state, dict):
        return record.state
    raise RefusedWeightsError("damaged", detail=record.called)


def _mapping(value: object) -> Mapping[Any, Any]:
    """A dictionary, plain or ordered; empty for nothing."""
    if isinstance(value, dict):
        return value
    if isinstance(value, Inert) and value.called == "collections.OrderedDict":
        pairs = value.args[0] if value.args else ()
        try:
            return {**dict(pairs), **value.items}
        except (TypeError, ValueError):
            raise RefusedWeightsError("damaged", detail="OrderedDict") from None
    if value is None:
        return {}
    called = value.called if isinstance(value, Inert) else type(value).__name__
    raise RefusedWeightsError("no_architecture", kind=called)


def _labels(names: object) -> tuple[str, ...]:
    """In the order of the class scores. Ultralytics keeps `{0: name}`, older versions a list."""
    if isinstance(names, list | tuple):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names:
        raise RefusedWeightsError("labels_missing")
    if len(names) > MAX_LABELS:
        raise RefusedWeightsError("labels_too_many", count=len(names), most=MAX_LABELS)
    if not all(is_whole(key, 0, MAX_LABELS) for key in names) or set(names) != set(range(len(names))):
        raise RefusedWeightsError("labels_missing")
    labels = tuple(names[row] for row in range(len(names)))
    problem = label_problem(labels)
    if problem is not None:
        raise RefusedWeightsError(problem[0], **problem[1])
    return labels


def _architecture(described: object) -> dict[str, Any]:
    if not isinstance(described, dict):
        raise RefusedWeightsError("no_architecture")
    kept = {key: described[key] for key in _ARCHITECTURE_KEPT if described.get(key) is not None}
    if kept.get("activation") == "torch.nn.ReLU()":
        kept["activation"] = "nn.ReLU()"
    problem = architecture_problem(kept)
    if problem:
        raise RefusedWeightsError("architecture", detail=problem)
    return json.loads(json.dumps(kept, allow_nan=False))  # type: ignore[no-any-return]  # as it will be kept


def _image_size(*places: object) -> int:
    """What it was trained at, as a multiple of 32; 640 where nothing sound is said."""
    for place in places:
        known = _mapping(place) if isinstance(place, dict) else getattr(place, "state", None)
        size = known.get("imgsz") if isinstance(known, Mapping) else None
        if isinstance(size, list | tuple) and size:
            size = max(size, key=lambda side: side if isinstance(side, int) else 0)
        if is_whole(size, 32, 4096):
            assert isinstance(size, int)
            return max(64, -(-size // 32) * 32)
    return 640

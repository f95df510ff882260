"""Reading the pickle inside a checkpoint without its being a program.

A pickle names classes and functions, and the one who loads it calls them. Here nothing that it names is ever imported:
a name of the list below becomes an inert record that keeps what it was given, any other name ends the reading. So no
class of PyTorch or Ultralytics is built by a file, and neither their constructors nor `__setstate__` nor attributes
that shadow methods can be abused. The tensors are taken out of the records afterwards (`checkpoint_file.py`).
"""

from __future__ import annotations

import io
import pickle
import pickletools
from typing import Any, ClassVar, Final, NamedTuple

from apps.training.engine.refusals import RefusedWeightsError

MAX_OPERATIONS: Final = 5_000_000
MAX_PICKLE_BYTES: Final = 64 * 1024 * 1024

_BLOCKS: Final = frozenset({
    "A2C2f", "AAttn", "ABlock", "AConv", "ADown", "Attention", "BNContrastiveHead", "Bottleneck", "BottleneckCSP",
    "C1", "C2", "C2PSA", "C2f", "C2fCIB", "C2fPSA", "C3", "C3Ghost", "C3k", "C3k2", "C3x", "CBFuse", "CBLinear",
    "CIB", "DFL", "ELAN1", "GhostBottleneck", "PSA", "PSABlock", "RepBottleneck", "RepC3", "RepCSP",
    "RepNCSPELAN4", "RepVGGDW", "SCDown", "SPP", "SPPELAN", "SPPF", "Silence",
})  # fmt: skip
_CONVOLUTIONS: Final = frozenset({
    "Concat", "Conv", "Conv2", "ConvTranspose", "DWConv", "DWConvTranspose2d", "Focus", "GhostConv", "Index",
    "LightConv", "RepConv",
})  # fmt: skip
_HEADS: Final = frozenset(("Detect", "v10Detect"))
_STORAGES: Final = frozenset(
    f"{kind}Storage"
    for kind in ("Float", "Half", "BFloat16", "Double", "Long", "Int", "Short", "Char", "Byte", "Bool")
)

ALLOWED: Final[dict[str, frozenset[str]]] = {
    "collections": frozenset(("OrderedDict",)),
    "__builtin__": frozenset(("set",)),
    "builtins": frozenset(("set",)),
    "_codecs": frozenset(("encode",)),
    "pathlib": frozenset(("PosixPath", "WindowsPath", "PurePosixPath")),
    "numpy": frozenset(("dtype",)),
    "numpy.core.multiarray": frozenset(("scalar",)),
    "numpy._core.multiarray": frozenset(("scalar",)),
    "torch": _STORAGES | {"Size", "device"},
    "torch._utils": frozenset(("_rebuild_tensor_v2", "_rebuild_parameter")),
    "torch.nn.modules.activation": frozenset(("SiLU", "ReLU", "LeakyReLU", "Sigmoid", "GELU", "Hardswish")),
    "torch.nn.modules.batchnorm": frozenset(("BatchNorm2d",)),
    "torch.nn.modules.container": frozenset(("Sequential", "ModuleList")),
    "torch.nn.modules.conv": frozenset(("Conv2d", "ConvTranspose2d")),
    "torch.nn.modules.linear": frozenset(("Identity",)),
    "torch.nn.modules.loss": frozenset(("BCEWithLogitsLoss",)),
    "torch.nn.modules.padding": frozenset(("ZeroPad2d",)),
    "torch.nn.modules.pooling": frozenset(("MaxPool2d", "AvgPool2d")),
    "torch.nn.modules.upsampling": frozenset(("Upsample",)),
    "ultralytics.nn.modules": _BLOCKS | _CONVOLUTIONS | _HEADS,  # before version 8.0.119 all stood in one file
    "ultralytics.nn.modules.block": _BLOCKS,
    "ultralytics.nn.modules.conv": _CONVOLUTIONS,
    "ultralytics.nn.modules.head": _HEADS,
    "ultralytics.nn.tasks": frozenset(("DetectionModel", "YOLOv10DetectionModel")),
    "ultralytics.utils": frozenset(("IterableSimpleNamespace",)),
    "ultralytics.yolo.utils": frozenset(("IterableSimpleNamespace",)),
    "ultralytics.utils.loss": frozenset(("v8DetectionLoss", "E2EDetectLoss", "E2ELoss", "BboxLoss", "DFLoss", "v10DetectLoss")),
    "ultralytics.utils.tal": frozenset(("TaskAlignedAssigner",)),
    "ultralytics.yolo.utils.loss": frozenset(("BboxLoss",)),
    "ultralytics.yolo.utils.tal": frozenset(("TaskAlignedAssigner",)),
}  # fmt: skip

_OTHER_NETS: Final = frozenset({
    "ClassificationModel", "OBBModel", "PoseModel", "RTDETRDetectionModel", "SegmentationModel", "WorldModel",
    "YOLOEModel", "YOLOESegModel",
})  # fmt: skip
"""Honest files, which are told apart from those that want to run something."""

_FORBIDDEN_OPERATIONS: Final = frozenset(
    (
        "EXT1", "EXT2", "EXT4",  # names by number, from a registry of the process
        "PERSID",  # what a text stands for outside the file; torch uses the binary form only
        "INST", "OBJ",  # old forms of the call, which torch never writes
        "NEXT_BUFFER", "READONLY_BUFFER", "BYTEARRAY8",
    )
)  # fmt: skip
_TEXTS: Final = frozenset(
    ["STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"]
)

_FETCHES: Final = frozenset(("BINGET", "LONG_BINGET", "GET"))
_KEEPS: Final = frozenset(("BINPUT", "LONG_BINPUT", "PUT", "MEMOIZE"))


class Inert:
    """Something that a pickle wanted to build. It can do nothing but keep what it was given."""

    __slots__ = ("args", "items", "state")
    called: ClassVar[str] = ""

    def __init__(self, *args: Any, **_named: Any) -> None:
        self.args: tuple[Any, ...] = args
        self.state: Any = None
        self.items: dict[Any, Any] = {}

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items[key] = value


class StorageName(NamedTuple):
    """A tensor's bytes, which lie in the archive under `key`.

    No dataclass: its `__setstate__` (slots) or `__dict__` (none) would let the pickle alter it after it was checked.
    """

    kind: str
    key: str
    elements: int


def walk(content: bytes, *, pickles: int = 1) -> None:
    """Look at every operation without doing any of it. Raises `RefusedWeightsError`.

    The reading itself (`read_inert`) refuses the same names once more: this walk is what names them for people, and
    what refuses numbers that would make the reading itself take the memory of the machine. `pickles`: so many one
    after the other, as far as there are any.
    """
    if len(content) > MAX_PICKLE_BYTES:
        raise RefusedWeightsError("pickle_too_large", most=MAX_PICKLE_BYTES)
    file = io.BytesIO(content)
    for number in range(pickles):
        seen = _Walk()
        try:
            for operation, argument, _position in pickletools.genops(file):
                seen.look(operation.name, argument)
            if seen.stranger is not None:
                raise seen.stranger  # noqa: TRY301 - beside what it checks
        except RefusedWeightsError:
            raise
        except Exception as error:
            if number:
                return  # what follows the first need not be a pickle
            raise RefusedWeightsError("damaged", detail=f"{error}") from error


class _Walk:
    """What one pickle has pushed as texts so far: names may come from there."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._memo: dict[int, str] = {}
        self._memoized = 0
        self._count = 0
        self._previous: str | None = None
        self.stranger: RefusedWeightsError | None = None
        """The first name of another kind of net. What would run a program is told first, wherever it stands."""

    def look(self, name: str, argument: object) -> None:
        self._count += 1
        if self._count > MAX_OPERATIONS:
            raise RefusedWeightsError("pickle_too_large", most=MAX_OPERATIONS)
        if name in ("GLOBAL", "INST"):
            self._check(*str(argument).split(" ", 1))
        if name in _FORBIDDEN_OPERATIONS:
            raise RefusedWeightsError("hidden_code", operation=name)
        if name == "STACK_GLOBAL":
            if len(self._texts) < 2:
                raise RefusedWeightsError("hidden_code", operation=name)
            self._check(self._texts[-2], self._texts[-1])
        self._previous = self._text(name, argument)

    def _check(self, module: str, name: str = "") -> None:
        try:
            _check_name(module, name)
        except RefusedWeightsError as error:
            if error.code == "foreign_code":
                raise
            self.stranger = self.stranger or error

    def _text(self, name: str, argument: object) -> str | None:
        """The text on top of the stack after this operation, as far as that can be told."""
        if name in _KEEPS:
            place = self._memoized if name == "MEMOIZE" else int(str(argument))
            if not 0 <= place <= self._count:  # the reader's table would grow to this number
                raise RefusedWeightsError("hidden_code", operation=f"{name} {place}")
            self._memoized += 1
            if self._previous is not None:
                self._memo[place] = self._previous
            return self._previous
        text = None
        if name in _TEXTS:
            text = str(argument)
        elif name in _FETCHES:
            text = self._memo.get(int(str(argument)))
        if text is not None:
            self._texts = [*self._texts[-15:], text]
        return text


def read_inert(content: bytes) -> Any:
    """What the pickle holds, as plain data and `Inert` records. Raises `RefusedWeightsError`."""
    walk(content)
    try:
        return _Reader(io.BytesIO(content)).load()
    except RefusedWeightsError:
        raise
    except MemoryError:
        raise
    except Exception as error:  # a damaged pickle fails wherever it likes
        raise RefusedWeightsError("damaged", detail=f"{type(error).__name__}: {error}") from error


class _Reader(pickle.Unpickler):
    """Names become records, storages become references."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, encoding="utf-8")
        self._classes: dict[tuple[str, str], type[Inert]] = {}

    def find_class(self, module: str, name: str) -> Any:
        _check_name(module, name)
        key = (module, name)
        if key not in self._classes:
            self._classes[key] = type("Inert", (Inert,), {"called": f"{module}.{name}", "__slots__": ()})
        return self._classes[key]

    def persistent_load(self, pid: Any) -> StorageName:
        if not isinstance(pid, tuple) or len(pid) != 5 or pid[0] != "storage":
            raise RefusedWeightsError("hidden_code", operation="BINPERSID")
        _tag, kind, key, _place, elements = pid
        called = kind.called if isinstance(kind, type) and issubclass(kind, Inert) else ""
        sound = isinstance(key, str) and key.isascii() and key.isdecimal() and len(key) < 10
        if called.removeprefix("torch.") not in _STORAGES or not sound or not is_whole(elements, 0, 1 << 40):
            raise RefusedWeightsError("tensor_lies", name="storage")
        return StorageName(called.removeprefix("torch."), key, elements)


def is_whole(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _check_name(module: str, name: str = "") -> None:
    if name in ALLOWED.get(module, ()):
        return
    if module in ("models.yolo", "models.common", "models.experimental") and name.isidentifier():
        raise RefusedWeightsError("yolov5")
    if module == "ultralytics.nn.tasks" and name in _OTHER_NETS:
        raise RefusedWeightsError("not_a_detector", kind=name)
    if module.startswith(("ultralytics.nn.modules.", "torch.nn.modules.")) and name.isidentifier():
        raise RefusedWeightsError("unknown_layer", name=name)
    raise RefusedWeightsError("foreign_code", name=f"{module}.{name}".rstrip("."))

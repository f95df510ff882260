"""The net that a training starts from: base weights whose head is extended by name, or an untrained one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apps.training.engine.environment import import_ultralytics
from apps.training.engine.label_codes import label_code
from apps.training.engine.recipe import ARCHITECTURES
from apps.training.engine.weights import WeightsError, load_checkpoint_model, load_torch_model

if TYPE_CHECKING:
    from ultralytics.nn.tasks import DetectionModel


@dataclass(frozen=True, slots=True)
class Heritage:
    """Which labels of the new net its base knew."""

    known: tuple[str, ...]
    new: tuple[str, ...]


def load_base(path: Path) -> DetectionModel:
    """A Podura weights file, or an Ultralytics `.pt` by the restricted unpickler. Raises `WeightsError`."""
    return load_checkpoint_model(path) if path.suffix == ".pt" else load_torch_model(path)[0]


def heritage(base: DetectionModel | None, labels: Sequence[str]) -> Heritage:
    known = set(map(label_code, _names(base).values())) if base is not None else set()
    return Heritage(
        tuple(label for label in labels if label_code(label) in known),
        tuple(label for label in labels if label_code(label) not in known),
    )


def build_net(base: DetectionModel | None, labels: Sequence[str], *, architecture: str) -> DetectionModel:
    """A net for exactly these labels in this order.

    With a base everything but the last layer of the class branch is copied whole, and of that layer the rows of
    the labels that the base knows by the same code (`label_codes`). A new label begins with no weights and the bias of a rare animal,
    so that before any training the net answers as its base did.
    """
    import_ultralytics()
    from ultralytics.nn.tasks import DetectionModel, yaml_model_load

    if base is None:
        if architecture not in ARCHITECTURES:
            raise WeightsError(f"an untrained {architecture} is not on the list")
        net = DetectionModel(yaml_model_load(f"{architecture}.yaml"), ch=3, nc=len(labels), verbose=False)
        net.names = dict(enumerate(labels))
        return net
    net = DetectionModel(base.yaml, ch=3, nc=len(labels), verbose=False)
    net.load(base, verbose=False)
    net.names = dict(enumerate(labels))
    _copy_class_rows(base, net, labels)
    return net


def _copy_class_rows(base: DetectionModel, net: DetectionModel, labels: Sequence[str]) -> None:
    """Ultralytics matches names too, but without regard to case, and fills what is new with noise."""
    import torch

    row_of = {label_code(name): row for row, name in _names(base).items()}
    known = [
        (row, row_of[label_code(label)]) for row, label in enumerate(labels) if label_code(label) in row_of
    ]
    if not known:
        return  # nothing to keep: Ultralytics' own start
    pairs = list(zip(_last_class_layers(base), _last_class_layers(net), strict=True))
    if not pairs or any(one.weight.shape[1:] != other.weight.shape[1:] for one, other in pairs):
        raise WeightsError("the base has another kind of head")
    prior = build_prior(net)
    with torch.no_grad():
        for (source, target), bias in zip(pairs, prior, strict=True):
            target.weight.zero_()
            target.bias.fill_(bias)
            for row, old in known:
                target.weight[row] = source.weight[old]
                target.bias[row] = source.bias[old]


def build_prior(net: DetectionModel) -> list[float]:
    """The bias that stands for a rare animal, for each class layer, by Ultralytics' own formula."""
    import math

    head: Any = net.model[-1]
    levels = [math.log(5 / head.nc / (640 / float(stride)) ** 2) for stride in head.stride]
    return levels * (len(list(_last_class_layers(net))) // len(levels))


def _last_class_layers(net: DetectionModel) -> Iterator[Any]:
    head: Any = net.model[-1]
    for branch in ("cv3", "one2one_cv3"):
        for levels in getattr(head, branch, None) or ():
            yield levels[-1]


def _names(net: DetectionModel) -> dict[int, str]:
    names: Any = getattr(net, "names", None) or {}
    pairs = names.items() if isinstance(names, Mapping) else enumerate(names)
    return {int(row): str(name) for row, name in pairs}

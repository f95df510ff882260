"""Checkpoints as Ultralytics writes them, and such as it would never write."""

import io
import pickle
import zipfile
from collections import OrderedDict
from datetime import UTC, datetime
from pathlib import Path

from tests.training.engine.conftest import TINY_ARCHITECTURE


def tiny_net(labels=("disc", "bar"), architecture=TINY_ARCHITECTURE):
    from apps.training.engine.environment import import_ultralytics

    import_ultralytics()
    import copy

    import torch
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(1)
    net = DetectionModel(copy.deepcopy(architecture), ch=3, nc=len(labels), verbose=False)
    net.names = dict(enumerate(labels))
    return net


def tiny_checkpoint(path, *, net=None, change=None, **entries):
    """As the trainer leaves its best epoch; `change` may spoil the document before it is written."""
    import torch

    document = {
        "epoch": -1,
        "best_fitness": 0.5,
        "model": (net if net is not None else tiny_net()).half(),
        "ema": None,
        "updates": None,
        "optimizer": None,
        "train_args": {"imgsz": 64, "data": "x.yaml"},
        "date": datetime.now(UTC).isoformat(),
        "version": "8.4.190",
        "license": "AGPL-3.0 License (https://ultralytics.com/license)",
    } | entries
    if change:
        change(document)
    torch.save(document, path)
    return Path(path)


def rewritten(source, target, *, change=lambda parts: parts, compress=zipfile.ZIP_STORED):
    """The archive again, its parts changed: `{name: bytes}`, or a list of pairs to have one twice."""
    with zipfile.ZipFile(source) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    changed = change(parts)
    with zipfile.ZipFile(target, "w", compress) as archive:
        for name, content in changed.items() if isinstance(changed, dict) else changed:
            archive.writestr(name, content)
    return Path(target)


def archive_of(pickled, path, *, folder="archive"):
    """An archive of `torch.save` around any pickle."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{folder}/data.pkl", pickled)
        archive.writestr(f"{folder}/version", "3\n")
        archive.writestr(f"{folder}/byteorder", "little")
    return Path(path)


def plain_pickle(value, protocol=2):
    out = io.BytesIO()
    pickle.Pickler(out, protocol=protocol).dump(value)
    return out.getvalue()


__all__ = ["OrderedDict", "archive_of", "plain_pickle", "rewritten", "tiny_checkpoint", "tiny_net"]

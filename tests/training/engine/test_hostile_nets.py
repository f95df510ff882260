"""Checkpoints whose pickle is clean and whose net is not."""

import json
import lzma
import struct
import types
from collections import OrderedDict

import pytest

from apps.training.engine.examination import examine_weights, run_examiner
from apps.training.engine.examine import examine
from apps.training.engine.refusals import RefusedWeightsError
from apps.training.engine.weights import file_sha256, load_checkpoint_model, read_metadata
from apps.training.import_texts import problem_text
from tests.training.checkpoints import rewritten, tiny_checkpoint, tiny_net
from tests.training.engine.conftest import tiny_metadata

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return tiny_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny.pt")


def refused(path, tmp_path):
    with pytest.raises(RefusedWeightsError) as refusal:
        examine(path, tmp_path, {})
    error = refusal.value
    text = problem_text(error.code, error.details)
    assert "%(" not in text
    assert f"({error.code})" not in text, "a refusal without a sentence"
    return error


def spoilt(tmp_path, change):
    net = tiny_net()
    change(net)
    return tiny_checkpoint(tmp_path / "spoilt.pt", net=net)


def described(**changes):
    def change(net):
        net.yaml = net.yaml | changes

    return change


def row(number, layer):
    def change(net):
        rows = [list(each) for each in net.yaml["backbone"]]
        rows[number] = layer
        net.yaml = net.yaml | {"backbone": rows}

    return change


def named(names):
    def change(net):
        net.names = names

    return change


def references(depth):
    """So many lists, each of which holds the one before it twice: as a text it is 2 ** depth words."""
    value = []
    for _ in range(depth):
        value = [value, value]
    return value


def first_weight(value):
    def change(net):
        net.model[0].conv.weight.data.view(-1)[0] = value

    return change


def smaller_first_layer(net):
    import torch

    net.model[0].conv.weight = torch.nn.Parameter(net.model[0].conv.weight[:, :2].clone())


def one_lost(net):
    del net.model[0].bn._buffers["running_mean"]


def one_more(net):
    import torch

    net.model[0].register_buffer("more", torch.zeros(3))


def hook(net):
    net.model[0]._forward_hooks = OrderedDict({1: "x"})


EXPRESSION = "__import__('os').system('true')"
NETS = {
    "evaluated activation": (described(activation=EXPRESSION), "architecture"),
    "a module by an expression": (row(0, [-1, 1, EXPRESSION, [16]]), "architecture"),
    "a module of torch that is none of a net": (row(0, [-1, 1, "nn.Module.__init__", [16]]), "architecture"),
    "a function of the builder": (row(0, [-1, 1, "LOGGER", [16]]), "architecture"),
    "a module that fetches weights": (row(0, [-1, 1, "TorchVision", [16, "resnet18", "DEFAULT"]]), "architecture"),
    "an argument that is an expression": (row(0, [-1, 1, "Conv", [EXPRESSION]]), "architecture"),
    "a layer a million times": (row(0, [-1, 10**6, "Conv", [16, 3, 2]]), "architecture"),
    "a layer as wide as the memory": (row(0, [-1, 1, "Conv", [10**9, 3, 2]]), "architecture"),
    "a depth without end": (described(scales={"n": [1e9, 0.25, 256]}), "architecture"),
    "a depth that is no floating number": (described(scales={"n": [10**400, 0.25, 256]}), "architecture"),
    "a depth that is no number": (described(scales={"n": [float("nan"), 0.25, 256]}), "architecture"),
    "a scale with another name": (described(scale="../../x"), "architecture"),
    "a scale with control characters": (described(scale="\x00", scales={"\x00": [1, 1, 1]}), "architecture"),
    "no layers": (described(backbone=[], head=[]), "architecture"),
    "sources that are not there": (row(1, [77, 1, "Conv", [64, 3, 2]]), "architecture"),
    "no description": (lambda net: setattr(net, "yaml", None), "no_architecture"),
    "more names than classes": (named({0: "a", 1: "b", 2: "c"}), "label_count_differs"),
    "a number too few": (named({0: "a", 2: "b"}), "labels_missing"),
    "no names": (named({}), "labels_missing"),
    "the same name twice": (named({0: "a", 1: "a"}), "label_twice"),
    "names that are no texts": (named({0: "a", 1: ["b"]}), "label_not_a_name"),
    "names with markup": (named({0: "a", 1: "<script>alert(1)</script>"}), "label_not_a_name"),
    "names with control characters": (named({0: "a", 1: "b\x1b[2J"}), "label_not_a_name"),
    "names that turn the line round": (named({0: "a", 1: "b\u202e"}), "label_not_a_name"),
    "names that are paths": (named({0: "a", 1: "../../etc/passwd"}), "label_not_a_name"),
    "a name that is a number without end": (named({0: "a", 1: 10**6000}), "label_not_a_name"),
    "names that are references without end": (named({0: "a", 1: references(24)}), "label_not_a_name"),
    "an empty name": (named({0: "a", 1: ""}), "label_not_a_name"),
    "a name without end": (named({0: "a", 1: "b" * 100_000}), "label_not_a_name"),
    "a million names": (named(dict.fromkeys(range(10**6), "x")), "labels_too_many"),
    "not a number": (first_weight(float("nan")), "not_finite"),
    "infinite": (first_weight(float("inf")), "not_finite"),
    "another shape": (smaller_first_layer, "tensors_differ"),
    "a tensor lost": (one_lost, "tensors_missing"),
    "a tensor more": (one_more, "tensors_differ"),
    "a hook": (hook, "shadowed"),
    "forward by something else": (lambda net: setattr(net, "forward", "x"), "shadowed"),
    "float by something else": (lambda net: setattr(net.model[0], "float", [1]), "shadowed"),
    "state_dict by something else": (lambda net: net.model[3].__dict__.update(state_dict={}), "shadowed"),
}  # fmt: skip


@pytest.mark.parametrize("kind", NETS)
def test_a_net_that_is_not_what_it_says_is_refused(tmp_path, kind):
    change, code = NETS[kind]
    assert refused(spoilt(tmp_path, change), tmp_path).code == code


def test_a_function_beside_the_net_is_refused(tmp_path):
    def change(net):
        net.model[0].forward = types.MethodType(print, net)

    assert refused(spoilt(tmp_path, change), tmp_path).code == "foreign_code"


def test_another_task_is_no_detector(tmp_path):
    import torch

    path = tmp_path / "linear.pt"
    torch.save({"model": torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1))}, path)
    error = refused(path, tmp_path)
    assert error.code == "not_a_detector"
    assert "Sequential" in problem_text(error.code, error.details)


def test_tensors_alone_are_no_net(tmp_path):
    import torch

    path = tmp_path / "state.pt"
    torch.save(tiny_net().state_dict(), path)
    assert refused(path, tmp_path).code == "no_architecture"


def test_real_torchscript_is_refused(tmp_path):
    import torch

    path = tmp_path / "script.pt"
    torch.jit.save(torch.jit.trace(torch.nn.Conv2d(1, 1, 1), torch.zeros(1, 1, 4, 4)), str(path))
    assert refused(path, tmp_path).code == "torchscript"


def test_the_form_of_old_torch_is_refused_with_what_to_do(tmp_path):
    import torch

    path = tmp_path / "old.pt"
    torch.save({"model": tiny_net()}, path, _use_new_zipfile_serialization=False)
    error = refused(path, tmp_path)
    assert error.code == "legacy_format"
    assert "save it again" in problem_text(error.code, error.details)


def storages(change):
    def changed(parts):
        return change({name: name.partition("/")[2] for name in parts}, parts)

    return changed


def without_one(_names, parts):
    return {name: content for name, content in parts.items() if not name.endswith("/data/3")}


def with_one_short(_names, parts):
    return {name: content[:-2] if name.endswith("/data/3") else content for name, content in parts.items()}


def with_one_long(_names, parts):
    return {
        name: content + bytes(64) if name.endswith("/data/3") else content for name, content in parts.items()
    }


@pytest.mark.parametrize("change", [without_one, with_one_short, with_one_long])
def test_a_tensor_that_lies_about_its_bytes_is_refused(checkpoint, tmp_path, change):
    path = rewritten(checkpoint, tmp_path / "lies.pt", change=storages(change))
    assert refused(path, tmp_path).code == "tensor_lies"


def lying_tensor(storage_elements, offset, size, stride):
    """A description of a tensor in the pickle's own words, in place of the first of the net."""

    def change(net):
        import torch

        flat = torch.zeros(storage_elements)
        net.model[0].conv.weight = torch.nn.Parameter(torch.as_strided(flat, size, stride, offset))

    return change


def test_a_tensor_of_many_times_its_bytes_is_refused(tmp_path):
    """Stride nought makes a terabyte of one number."""
    net = lying_tensor(1, 0, (1 << 10, 1 << 20), (0, 0))
    assert refused(spoilt_as_is(tmp_path, net), tmp_path).code == "tensor_lies"


def spoilt_as_is(tmp_path, change):
    """Without turning it to half precision, which would take the memory here."""
    import torch

    net = tiny_net()
    change(net)
    path = tmp_path / "spoilt.pt"
    torch.save({"model": net, "train_args": {}}, path)
    return path


def safetensors_of(path, *, metadata=None, tensors=None):
    from safetensors.torch import save

    from apps.training.engine.weights import save_weights

    own = path.with_name("own.podura")
    save_weights(own, tiny_net(), tiny_metadata())
    content = lzma.decompress(own.read_bytes())
    if metadata is None and tensors is None:
        path.write_bytes(content)
    else:
        from safetensors.torch import load

        path.write_bytes(save(tensors or load(content), metadata=metadata))
    return path


def test_plain_safetensors_with_our_metadata_is_taken(tmp_path):
    found = examine(safetensors_of(tmp_path / "x.safetensors"), tmp_path, {})
    assert (found["kind"], found["labels"], found["object_size_px"]) == ("safetensors", ["disc", "bar"], 20.0)


def test_what_safetensors_tell_of_themselves_becomes_short_text(tmp_path):
    own = safetensors_of(tmp_path / "own.safetensors")
    content = own.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
    document = json.loads(header["podura"]) | {
        "licences": [{"a": 1}, "CC0\x00\x1b", "x" * 9999],
        "attribution": ["<script>"],
        "name": {"b": []},
        "metrics": {"map50": 1.0},
        "recipe": {"epochs": 3, "deep": [[[]]]},
    }
    path = safetensors_of(tmp_path / "x.safetensors", metadata=header | {"podura": json.dumps(document)})
    found = examine(path, tmp_path, {})
    assert all(isinstance(text, str) and text.isprintable() for text in found["licences"])
    assert max(map(len, found["licences"])) == 200
    told = read_metadata(tmp_path / "examined.podura")
    assert (dict(told.metrics), dict(told.recipe)) == ({}, {"epochs": 3})


def test_safetensors_without_metadata_is_refused(tmp_path):
    path = safetensors_of(tmp_path / "x.safetensors", metadata={"format": "pt"})
    assert refused(path, tmp_path).code == "no_metadata"


@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<Q", 1 << 40) + b"{}",
        struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 40) + b"{" * 40,
        struct.pack("<Q", 3000) + b'{"a":' * 600,
    ],
)
def test_a_header_that_lies_is_refused(tmp_path, content):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    refused(path, tmp_path)


def test_a_weights_file_that_unpacks_to_more_than_memory_is_refused(tmp_path):
    packer = lzma.LZMACompressor(preset=1)
    piece = bytes(64 * 1024 * 1024)
    path = tmp_path / "x.podura"
    with path.open("wb") as file:
        for _ in range(17):
            file.write(packer.compress(piece))
        file.write(packer.flush())
    assert path.stat().st_size < 1_000_000
    assert refused(path, tmp_path).code == "too_large_unpacked"


def test_a_checkpoint_becomes_what_the_trainer_would_have_loaded(checkpoint):
    import torch
    from ultralytics.nn.tasks import torch_safe_load

    theirs = torch_safe_load(str(checkpoint), safe_only=True)[0]["model"].float().eval()
    ours = load_checkpoint_model(checkpoint).eval()
    picture = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(theirs(picture)[0], ours(picture)[0])
    assert ours.names == {0: "disc", 1: "bar"}


def test_an_older_checkpoint_names_its_classes_otherwise(checkpoint, tmp_path):
    """Before version 8.0.119 all layers stood in one file, and settings in `ultralytics.yolo`."""

    def older(parts):
        name = next(name for name in parts if name.endswith("data.pkl"))
        content = parts[name]
        for module in ("block", "conv", "head"):
            content = content.replace(
                f"cultralytics.nn.modules.{module}\n".encode(), b"cultralytics.nn.modules\n"
            )
        assert content != parts[name]
        return parts | {name: content}

    found = examine(rewritten(checkpoint, tmp_path / "older.pt", change=older), tmp_path, {})
    assert found["labels"] == ["disc", "bar"]


def test_the_examining_process_runs_no_program_and_reaches_no_network(tmp_path):
    request = tmp_path / "request.json"
    request.write_text(json.dumps({"file": "none", "folder": str(tmp_path), "is_fence_test": True}))
    assert run_examiner(request, tmp_path) == 0
    held = json.loads((tmp_path / "result.json").read_text())["held"]
    assert held == {"program": True, "fork": True, "socket": True, "shell": True}


def test_the_examining_process_knows_no_secret_of_ours(checkpoint, tmp_path, monkeypatch):
    seen = {}

    class StoppedError(Exception):
        pass

    def started(command, **options):
        seen.update(options["env"])
        raise StoppedError

    monkeypatch.setenv("DATABASE_URL", "postgres://secret")
    monkeypatch.setattr("apps.training.engine.examination.subprocess.Popen", started)
    with pytest.raises(StoppedError):
        examine_weights(checkpoint, sha256=file_sha256(checkpoint), folder=tmp_path)
    assert not {name for name in seen if "SECRET" in name or "DATABASE" in name or "URL" in name}


def test_a_file_altered_before_the_examination_is_refused(checkpoint, tmp_path):
    with pytest.raises(RefusedWeightsError, match="wrong_digest"):
        examine_weights(checkpoint, sha256="0" * 64, folder=tmp_path)

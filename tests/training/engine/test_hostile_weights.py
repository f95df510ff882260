"""Files made to run a program, to fill the memory, or to lie: each is refused with its reason, and nothing happens."""

import builtins
import functools
import gzip
import importlib
import io
import json
import os
import pickle
import resource
import signal
import subprocess
import tarfile
import time
import zipfile
from collections import OrderedDict

import pytest

from apps.training.engine import inert
from apps.training.engine.checkpoint_file import read_checkpoint
from apps.training.engine.examine import _kind
from apps.training.engine.inert import read_inert, walk
from apps.training.engine.refusals import RefusedWeightsError
from apps.training.engine.sandbox import processor_time
from apps.training.import_texts import problem_text
from tests.training.checkpoints import archive_of, plain_pickle


class Does:
    """A pickle that calls."""

    def __init__(self, function, *args):
        self._call = function, args

    def __reduce__(self):
        return self._call


def taken_apart(path):
    assert _kind(path) == "checkpoint"
    return read_checkpoint(path)


def refused(path):
    """Why the examination would refuse a file that does not get as far as a net."""
    with pytest.raises(RefusedWeightsError) as refusal:
        taken_apart(path)
    error = refusal.value
    text = problem_text(error.code, error.details)
    assert "%(" not in text
    assert f"({error.code})" not in text, "a refusal without a sentence"
    return error


ATTACKS = {
    "os.system": lambda trace: Does(os.system, f"touch {trace}"),
    "builtins.eval": lambda trace: Does(builtins.eval, f"open({str(trace)!r}, 'w')"),
    "builtins.exec": lambda trace: Does(builtins.exec, f"open({str(trace)!r}, 'w')"),
    "subprocess.Popen": lambda trace: Does(subprocess.Popen, ["touch", str(trace)]),
    "importlib.import_module": lambda trace: Does(importlib.import_module, "antigravity"),
    "builtins.getattr": lambda trace: Does(builtins.getattr, "", "format"),
    "functools.partial": lambda trace: functools.partial(print, "x"),
    "io.open": lambda trace: Does(io.open, str(trace), "w"),
}
SAME_NAMES = {"os.system": "posix.system", "io.open": "_io.open", "subprocess.Popen": "subprocess.Popen"}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_call_is_refused_by_its_name_in_every_protocol(tmp_path, attack, protocol):
    trace = tmp_path / "broken-in"
    path = archive_of(plain_pickle({"model": ATTACKS[attack](trace)}, protocol), tmp_path / "x.pt")
    error = refused(path)
    assert error.code == "foreign_code"
    assert error.details["name"].split(".")[-1] == attack.split(".")[-1]
    assert not trace.exists()


@pytest.mark.parametrize("protocol", range(6))
def test_a_bare_pickle_is_refused_by_what_it_would_have_called(tmp_path, protocol):
    trace = tmp_path / "broken-in"
    path = tmp_path / "x.pt"
    path.write_bytes(plain_pickle({"model": Does(os.system, f"touch {trace}")}, protocol))
    assert refused(path).code == "foreign_code"
    assert not trace.exists()


HIDDEN = {
    "names out of the memo": b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x940" b"0h\x00h\x01\x93\x8c\x04true\x85R.",
    "harmless names above": b"\x80\x04\x8c\x05posix\x8c\x06system\x8c\x0bcollections\x8c\x0bOrderedDict00\x93\x8c\x04true\x85R.",
    "a name of parts": b"\x80\x04\x8c\x08builtins\x8c\x0cset.__init__\x93.",
    "the old instance": b"(S'true'\nios\nsystem\n.",
    "the old object": b"(cos\nsystem\nS'true'\no.",
    "a number for a name": b"\x80\x02\x82\x01.",
    "a persistent text": b"Pstorage\n.",
    "a module that shadows": b"cos\npath.join\n.",
    "the machinery of torch": b"\x80\x02ctorch\nload\nX\x04\x00\x00\x00truetR.",
    "the machinery of ultralytics": b"\x80\x02cultralytics.utils.checks\ncheck_requirements\n.",
    "a subclass of pickle": b"\x80\x02cpickle\nloads\n.",
    "codecs that do more": b"\x80\x02c_codecs\ndecode\n.",
    "numpy that reads files": b"\x80\x02cnumpy\nload\n.",
    "the table of what is on the list": b"\x80\x02capps.training.engine.inert\nALLOWED\n.",
}  # fmt: skip


@pytest.mark.parametrize("attack", HIDDEN)
def test_a_name_cannot_be_hidden(tmp_path, attack):
    error = refused(archive_of(HIDDEN[attack], tmp_path / "x.pt"))
    assert error.code in {"foreign_code", "hidden_code"}, error


def test_a_name_that_the_walk_was_made_to_overlook_is_refused_by_the_reading():
    content = HIDDEN["harmless names above"]
    walk(content)
    with pytest.raises(RefusedWeightsError, match=r"posix\.system"):
        read_inert(content)


def test_what_is_on_the_list_becomes_a_record_and_is_never_called():
    found = read_inert(b"\x80\x02cultralytics.nn.tasks\nDetectionModel\nX\x04\x00\x00\x00yaml\x85R}b.")
    assert isinstance(found, inert.Inert)
    assert found.called == "ultralytics.nn.tasks.DetectionModel"
    assert found.args == ("yaml",)


def named(*names, more=b""):
    return b"\x80\x02]" + b"".join(f"c{module}\n{name}\na".encode() for module, name in names) + more + b"."


OTHER_NETS = {
    "segments": (("ultralytics.nn.tasks", "SegmentationModel"), "not_a_detector"),
    "transformers": (("ultralytics.nn.tasks", "RTDETRDetectionModel"), "not_a_detector"),
    "a layer of later": (("ultralytics.nn.modules.block", "C9k9"), "unknown_layer"),
    "a layer of others": (("torch.nn.modules.linear", "Linear"), "unknown_layer"),
    "yolov5": (("models.yolo", "Model"), "yolov5"),
    "the builder's functions": (("ultralytics.nn.tasks", "torch_safe_load"), "foreign_code"),
    "within a layer": (("torch.nn.modules.linear", "Linear.__init__"), "foreign_code"),
}


@pytest.mark.parametrize("kind", OTHER_NETS)
def test_an_honest_net_of_another_kind_is_not_said_to_be_hostile(tmp_path, kind):
    name, code = OTHER_NETS[kind]
    assert refused(archive_of(named(name), tmp_path / "x.pt")).code == code


def test_what_would_run_a_program_is_told_first_wherever_it_stands(tmp_path):
    content = named(
        ("ultralytics.nn.tasks", "SegmentationModel"), ("models.yolo", "Model"), ("posix", "system")
    )
    error = refused(archive_of(content, tmp_path / "x.pt"))
    assert (error.code, error.details["name"]) == ("foreign_code", "posix.system")


@pytest.mark.parametrize("state", [["FloatStorage", "../x", -1], {"elements": -1}, (None, {"elements": -1})])
def test_a_storage_cannot_be_altered_after_it_was_checked(state):
    identified = b"\x80\x02(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x01tQ"
    assert read_inert(identified + b".") == inert.StorageName("FloatStorage", "0", 1)
    with pytest.raises(RefusedWeightsError, match="damaged"):
        read_inert(identified + plain_pickle(state)[2:-1] + b"b.")


def test_nothing_on_the_list_is_a_function_that_does_anything():
    names = {f"{module}.{name}" for module, names in inert.ALLOWED.items() for name in names}
    functions = {name for name in names if name.rpartition(".")[2][0].islower()}
    assert functions == {
        "__builtin__.set", "builtins.set", "_codecs.encode", "numpy.dtype", "numpy.core.multiarray.scalar",
        "numpy._core.multiarray.scalar", "torch.device", "ultralytics.utils.loss.v8DetectionLoss", "ultralytics.utils.loss.v10DetectLoss",
        *(f"ultralytics.nn.modules{part}.v10Detect" for part in ("", ".head")),
    }  # fmt: skip


def bomb_of_references():
    """Forty lists, each of which holds the one before it twice."""
    value = []
    for _ in range(40):
        value = [value, value]
    return plain_pickle({"model": value, "names": value})


MEMORY = {
    "a place in the memo": b"\x80\x02]r\xff\xff\xff\x7f.",
    "a text that is not there": b"\x80\x02X\xff\xff\xff\x7fabc.",
    "bytes that are not there": b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7fabc.",
    "a byte array": b"\x80\x05\x96\xff\xff\xff\xff\x00\x00\x00\x00.",
    "a number without end": b"\x80\x02\x8b\xff\xff\xff\x7f\x01.",
    "deep lists": b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b".",
    "references": bomb_of_references(),
    "no end": b"\x80\x02}q\x00",
    "an empty stack": b"\x80\x02.",
}


@pytest.mark.parametrize("attack", MEMORY)
def test_memory_cannot_be_taken(tmp_path, attack):
    assert refused(archive_of(MEMORY[attack], tmp_path / "x.pt")).code in {
        "damaged",
        "hidden_code",
        "no_architecture",
        "not_a_detector",
    }


def zipped(path, parts, compress=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compress) as archive:
        for name, content in parts:
            archive.writestr(name, content)
    return path


HARMLESS = plain_pickle({"model": None})
ARCHIVES = {
    "archive_twice": [("a/data.pkl", HARMLESS), ("a/data.pkl", HARMLESS)],
    "archive_part": [("a/data.pkl", HARMLESS), ("a/more.pkl", HARMLESS)],
    "archive_name": [("a/data.pkl", HARMLESS), ("b/data/0", b"")],
    "torchscript": [("a/data.pkl", HARMLESS), ("a/code/__torch__.py", b""), ("a/constants.pkl", HARMLESS)],
    "not_weights": [("word/document.xml", b"<x/>")],
    "no_architecture": [("a/data.pkl", plain_pickle(OrderedDict(weight=1)))],
    "not_a_detector": [("a/data.pkl", plain_pickle({"model": [1]}))],
    "damaged": [("a/data.pkl", HARMLESS), ("a/byteorder", b"big")],
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("code", ARCHIVES)
def test_an_archive_is_only_what_torch_writes(tmp_path, code):
    assert refused(zipped(tmp_path / "x.pt", ARCHIVES[code])).code == code


@pytest.mark.parametrize("name", ["a/../../etc/data/0", "/a/data/0", "a/data/../x", "a\\data\\0", "a/data/٣"])
def test_an_archive_has_no_impossible_names(tmp_path, name):
    path = zipped(tmp_path / "x.pt", [("a/data.pkl", HARMLESS), (name, b"")])
    assert refused(path).code in {"archive_name", "archive_part"}


def test_a_zip_bomb_is_not_unpacked(tmp_path):
    parts = [("a/data.pkl", HARMLESS), ("a/data/0", bytes(50_000_000))]
    path = zipped(tmp_path / "x.pt", parts, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 100_000
    assert refused(path).code == "archive_compressed"


def test_an_archive_of_too_many_parts_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("apps.training.engine.checkpoint_file.MAX_PARTS", 5)
    parts = [("a/data.pkl", HARMLESS), *((f"a/data/{n}", b"") for n in range(6))]
    assert refused(zipped(tmp_path / "x.pt", parts)).code == "too_many_parts"


def test_a_cut_archive_is_damaged(tmp_path):
    whole = archive_of(HARMLESS, tmp_path / "whole.pt").read_bytes()
    for length in (5, 40, len(whole) // 2, len(whole) - 1):
        path = tmp_path / "cut.pt"
        path.write_bytes(whole[:length])
        assert refused(path).code == "damaged"


def test_every_flipped_byte_of_an_archive_is_read_or_refused(tmp_path):
    whole = archive_of(HARMLESS, tmp_path / "whole.pt").read_bytes()
    path = tmp_path / "flipped.pt"
    for place in range(4, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        refused(path)


def tar_of(content):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        member = tarfile.TarInfo("pickle")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


LEGACY = b"".join(
    pickle.dumps(part, protocol=2) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
)
OTHERS = {
    "empty": (b"", "empty"),
    "text": (b"#!/bin/sh\necho hello\n", "not_weights"),
    "markup": (b"<html><script>alert(1)</script></html>", "not_weights"),
    "picture": (b"\x89PNG\r\n\x1a\n" + bytes(200), "not_weights"),
    "gzip": (gzip.compress(HARMLESS), "not_weights"),
    "onnx": (b"\x08\x07\x12\x07pytorch\x1a\x051.9.0:\x92\x01", "onnx"),
    "tar": (tar_of(HARMLESS), "tar_format"),
    "legacy": (LEGACY + pickle.dumps({"model": 1}, protocol=2), "legacy_format"),
    "legacy with a call": (plain_pickle(Does(os.system, "true")), "foreign_code"),
    "legacy with a call in its second pickle": (LEGACY + plain_pickle(Does(os.system, "true")), "foreign_code"),
    "a zip after something else": (b"MZ" + bytes(100) + b"PK\x03\x04", "not_weights"),
}  # fmt: skip


@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_no_checkpoint_is_told_by_what_it_is(tmp_path, kind):
    content, code = OTHERS[kind]
    path = tmp_path / "x.pt"
    path.write_bytes(content)
    assert refused(path).code == code


@pytest.mark.slow
def test_reading_without_end_is_ended():
    child = os.fork()
    if child == 0:
        with processor_time(1):
            while True:
                pass
    _pid, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGXCPU


def test_what_follows_may_take_its_time():
    before = resource.getrlimit(resource.RLIMIT_CPU)
    with processor_time(60):
        assert resource.getrlimit(resource.RLIMIT_CPU)[0] <= time.process_time() + 61
    assert resource.getrlimit(resource.RLIMIT_CPU) == before


def test_what_a_file_says_of_itself_is_cut_and_made_printable():
    error = RefusedWeightsError("foreign_code", name="x\x1b[31m\u202e" + "y" * 10_000)
    assert len(error.details["name"]) == 200
    assert error.details["name"].isprintable()
    numbers = RefusedWeightsError("x", label=10**6000, outputs=float("nan"), rows=3).details
    assert json.loads(json.dumps(numbers, allow_nan=False)) == {"label": "…", "outputs": "nan", "rows": 3}

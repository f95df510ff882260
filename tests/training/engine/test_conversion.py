"""Conversion happens once, in another process, is checked against PyTorch, and survives damage to its cache."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from apps.training.engine import conversion, convert
from apps.training.engine.conversion import converted_model
from apps.training.engine.detector import Detector
from apps.training.engine.runtimes import OpenVinoRuntime, TorchRuntime
from apps.training.engine.weights import WeightsError, file_sha256, load_torch_model
from tests.training.engine.conftest import ROOT, TINY_ARCHITECTURE, WEIGHTS
from tests.training.engine.test_weights import with_metadata

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tiny_cache(tiny_weights, tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    converted_model(tiny_weights, sha256=file_sha256(tiny_weights), cache_dir=cache)
    return cache


def test_the_converted_net_gives_what_pytorch_gives(tiny_weights, tiny_cache):
    converted = converted_model(tiny_weights, sha256=file_sha256(tiny_weights), cache_dir=tiny_cache)
    model, metadata = load_torch_model(tiny_weights)
    fast = OpenVinoRuntime(converted.model, precision="fp32")
    squares = list(np.random.default_rng(2).integers(0, 256, (5, 64, 64, 3), np.uint8))
    truth = TorchRuntime(model, device="cpu", batch=4)
    for expected, found in zip(truth.run(squares, np.copy), fast.run(squares, np.copy), strict=True):
        assert expected.shape == found.shape == (6, 80)
        assert np.abs(expected[:4] - found[:4]).max() < 0.05
        assert np.abs(expected[4:] - found[4:]).max() < 1e-3
    assert Detector(fast, metadata).labels == ("disc", "bar")


def test_without_samples_of_its_labels_the_precision_stays_single(tiny_weights, tiny_cache):
    converted = converted_model(tiny_weights, sha256=file_sha256(tiny_weights), cache_dir=tiny_cache)
    assert converted.precision == "fp32"
    assert converted.report["fp32"]["box_px"] <= 1
    assert converted.report["fp32"]["score"] <= 0.01


def test_a_second_load_converts_nothing(tiny_weights, tiny_cache, monkeypatch):
    monkeypatch.setattr(conversion, "_convert", lambda *_: pytest.fail("converted again"))
    assert converted_model(
        tiny_weights, sha256=file_sha256(tiny_weights), cache_dir=tiny_cache
    ).model.exists()


@pytest.mark.parametrize("damage", ["cut", "changed", "report", "gone"])
def test_a_damaged_cache_is_made_again(tiny_weights, tiny_cache, damage):
    digest = file_sha256(tiny_weights)
    model = converted_model(tiny_weights, sha256=digest, cache_dir=tiny_cache).model
    weights = model.with_suffix(".bin")
    if damage == "cut":
        os.truncate(weights, 100)
    elif damage == "changed":
        weights.write_bytes(bytes(reversed(weights.read_bytes())))
    elif damage == "report":
        model.with_name("report.json").write_text('{"precision": "int1", "files": {}}')
    else:
        model.unlink()
    again = converted_model(tiny_weights, sha256=digest, cache_dir=tiny_cache)
    assert all(file_sha256(again.model.with_name(name)) == d for name, d in again.report["files"].items())


def test_two_that_start_together_convert_once(tiny_weights, tmp_path, monkeypatch):
    calls, real = [], conversion._convert
    monkeypatch.setattr(conversion, "_convert", lambda *a: (calls.append(a), real(*a)))
    digest = file_sha256(tiny_weights)
    with ThreadPoolExecutor(2) as pool:
        made = list(
            pool.map(lambda _: converted_model(tiny_weights, sha256=digest, cache_dir=tmp_path), range(2))
        )
    assert len(calls) == 1
    assert made[0].model == made[1].model
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_a_file_that_cannot_be_converted_says_why_and_leaves_nothing(tmp_path):
    path = tmp_path / "broken.podura"
    path.write_bytes(WEIGHTS.read_bytes()[:1000])
    cache = tmp_path / "cache"
    with pytest.raises(WeightsError, match="cut"):
        converted_model(path, sha256=file_sha256(path), cache_dir=cache)
    assert [p for p in cache.iterdir() if p.is_dir()] == []


def test_a_net_described_as_enormous_fails_alone(tiny_weights, tmp_path):
    layers = [[-1, 1, "Conv", [8_192, 3, 2]]] * 6
    enormous = TINY_ARCHITECTURE | {
        "scales": {"n": [1.0, 1.0, 8_192]},
        "backbone": layers,
        "head": [[[3, 5], 1, "Detect", ["nc"]]],
    }
    path = with_metadata(tiny_weights, tmp_path, architecture=enormous)
    with pytest.raises(WeightsError, match="cannot be built"):
        converted_model(path, sha256=file_sha256(path), cache_dir=tmp_path / "cache")


def test_the_converting_process_gets_none_of_the_sites_secrets(tiny_weights, tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setenv("SECRET_KEY", "hush")
    monkeypatch.setenv("DATABASE_URL", "postgres://user:hush@db/podura")

    def run(command, **options):
        seen.update(options["env"])
        return subprocess.CompletedProcess(command, 1, "", "stopped")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(WeightsError, match="stopped"):
        converted_model(tiny_weights, sha256=file_sha256(tiny_weights), cache_dir=tmp_path)
    assert "hush" not in json.dumps(seen)
    assert seen["YOLO_OFFLINE"] == "True"
    assert seen["ULTRALYTICS_SAFE_LOAD"] == "1"


def test_a_net_that_moves_a_box_is_not_accepted(tiny_weights, tmp_path, monkeypatch):
    monkeypatch.setattr(convert, "_largest_difference", lambda *_: (1.5, 0.0))
    with pytest.raises(WeightsError, match=r"differs from PyTorch by 1\.50 px"):
        convert.convert(tiny_weights, file_sha256(tiny_weights), tmp_path, None)
    monkeypatch.setattr(convert, "_largest_difference", lambda *_: (float("nan"), 0.0))
    with pytest.raises(WeightsError, match="differs"):
        convert.convert(tiny_weights, file_sha256(tiny_weights), tmp_path, None)


@pytest.mark.parametrize(
    ("map50", "milliseconds", "chosen"),
    [(0.9, (10.0, 5.0), "bf16"), (0.8951, (10.0, 5.0), "bf16"), (0.89, (10.0, 5.0), "fp32"),
     (0.9, (5.0, 10.0), "fp32"), (float("nan"), (10.0, 5.0), "fp32")],
)  # fmt: skip
def test_a_lower_precision_must_be_as_good_and_faster(monkeypatch, samples, map50, milliseconds, chosen):
    from apps.training.engine.evaluate import Quality
    from apps.training.engine.weights import read_metadata

    answers = [Quality(0.9, 0.6, 1, 1, ()), Quality(map50, 0.6, 1, 1, ())]
    monkeypatch.setattr(convert, "OpenVinoRuntime", lambda *_, **__: None)
    monkeypatch.setattr(convert, "evaluate", lambda *_: answers.pop(0))
    monkeypatch.setattr(convert, "_milliseconds", lambda *_: list(milliseconds))
    report = convert._choose(None, None, WEIGHTS, read_metadata(WEIGHTS), samples, [])
    assert report["precision"] == chosen


def test_the_shipped_model_lost_nothing_by_the_precision_chosen_here(detector):
    cache = ROOT / ".podura" / "engine-tests"
    report = converted_model(WEIGHTS, sha256=file_sha256(WEIGHTS), cache_dir=cache).report
    assert report["fp32"]["box_px"] < 1
    assert report["fp32"]["score"] < 0.01
    assert detector.runtime == f"openvino-{report['precision']}"
    if report["precision"] == "bf16":
        assert report["bf16"]["map50"] >= report["torch"]["map50"] - 0.005
        assert report["bf16"]["map50_95"] >= report["torch"]["map50_95"] - 0.005
        assert report["milliseconds"]["bf16"] < report["milliseconds"]["fp32"]


def test_ultralytics_cannot_be_imported_with_its_doors_open(tmp_path):
    code = (
        "import ultralytics.utils\n"
        "from apps.training.engine.environment import import_ultralytics\n"
        "try: import_ultralytics()\n"
        "except RuntimeError as error: print('refused', error)\n"
    )
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("YOLO_", "ULTRALYTICS_"))}
    clean["YOLO_CONFIG_DIR"] = str(tmp_path)
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=clean, cwd=ROOT, check=True
    )
    # The first import on a machine greets before it: Ultralytics writes its settings down.
    assert answer.stdout.splitlines()[-1].startswith("refused")


def test_pillows_limit_stands_after_ultralytics_was_imported():
    from apps.training.engine.environment import import_ultralytics
    from apps.training.engine.pictures import DEFAULT_LIMITS

    import_ultralytics()
    assert DEFAULT_LIMITS.pixels == Image.MAX_IMAGE_PIXELS

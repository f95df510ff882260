"""Pictures a second from file to boxes: the chosen CPU runtime against Ultralytics' own `predict`.

Same weights, same 640 px tiles, same thresholds. Each side lives in a process of its own, as it would in service,
is given all cores (Ultralytics alone would leave one idle) and is warm; they take turns (A B A B), and the ratio is
that of the medians. In fp32 both must give the same boxes; the precision that the engine has chosen for this machine
must not have lost more than 0.005 of mAP on the labelled samples.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

CHECKOUT = Path(__file__).resolve().parent.parent
SHIPPED = CHECKOUT / "models" / "springtails"
CONFIDENCE, IOU = 0.25, 0.45
FP32_TARGET, CHOSEN_TARGET = 2.0, 3.0
MAX_BOX_PX, MAX_SCORE, MAX_MAP_LOSS = 1.0, 0.01, 0.005
NEAR_THRESHOLD = 0.02
"""Boxes this close to the threshold may be on either side of it."""

Boxes = list[list[float]]
"""x1, y1, x2, y2, score for each box of one picture."""


def run(quick: bool) -> list[dict[str, Any]]:  # noqa: FBT001  (the signature of all benchmarks)
    repeats, rounds = (2, 5) if quick else (5, 9)
    paths = sorted(str(path) for path in SHIPPED.glob("samples/*.jpg")) * repeats
    sides = {name: _Side(name, paths) for name in ("ultralytics", "fp32", "chosen")}
    try:
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(rounds):
            for name, side in sides.items():
                seconds[name].append(side.ask("run")["seconds"])
        boxes = {name: side.ask("boxes")["boxes"] for name, side in sides.items()}
        about = sides["chosen"].ask("about")
    finally:
        for side in sides.values():
            side.end()
    speed = {name: len(paths) / statistics.median(values) for name, values in seconds.items()}
    box_px, score = _largest_difference(boxes["ultralytics"], boxes["fp32"])
    agrees = box_px <= MAX_BOX_PX and score <= MAX_SCORE
    common: dict[str, Any] = {"pictures": len(paths), "rounds": rounds, "cores": len(os.sched_getaffinity(0))}
    common["baseline_images_per_s"] = round(speed["ultralytics"], 2)
    return [
        _row("engine fp32", speed["fp32"], speed["ultralytics"], FP32_TARGET, is_true=agrees)
        | {"box_px": round(box_px, 4), "score": round(score, 6)}
        | common,
        _row(
            "engine",
            speed["chosen"],
            speed["ultralytics"],
            CHOSEN_TARGET,
            is_true=_keeps_map(about["report"]),
        )
        | {"runtime": about["runtime"], "map": {k: about["report"].get(k) for k in ("torch", "bf16")}}
        | common,
    ]


def _row(name: str, candidate: float, baseline: float, target: float, *, is_true: bool) -> dict[str, Any]:
    ratio = candidate / baseline
    return {
        "name": name,
        "ratio": round(ratio, 3),
        "target": target,
        "holds": is_true and ratio >= target,
        "images_per_s": round(candidate, 2),
    }


def _keeps_map(report: dict[str, Any]) -> bool:
    if report["precision"] == "fp32":
        return True
    return all(
        report[report["precision"]][measure] >= report["torch"][measure] - MAX_MAP_LOSS
        for measure in ("map50", "map50_95")
    )


def _largest_difference(expected: list[Boxes], found: list[Boxes]) -> tuple[float, float]:
    """Largest distance of a corner in pixels and of a score; infinite where a box has no partner."""
    box_px, score = 0.0, 0.0
    for one, other in zip(expected, found, strict=True):
        for from_boxes, to_boxes in ((one, other), (other, one)):
            for box in from_boxes:
                if box[4] < CONFIDENCE + NEAR_THRESHOLD:
                    continue
                distances = [
                    (max(abs(a - b) for a, b in zip(box[:4], b2[:4], strict=True)), b2[4]) for b2 in to_boxes
                ]
                nearest = min(distances, default=(float("inf"), float("inf")))
                box_px = max(box_px, nearest[0])
                score = max(score, abs(nearest[1] - box[4]))
    return box_px, score


class _Side:
    """A process that holds one detector and works when it is asked."""

    def __init__(self, name: str, paths: list[str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.engine", "--side", name],
            cwd=CHECKOUT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if os.environ.get("BENCH_VERBOSE") else subprocess.DEVNULL,
            text=True,
        )
        self._write(json.dumps(paths))
        self.ask("run")  # warm

    def ask(self, question: str) -> dict[str, Any]:
        self._write(question)
        answers: IO[str] = self._process.stdout  # type: ignore[assignment]
        line = answers.readline()
        if not line:
            raise RuntimeError(f"a side of the benchmark ended with {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _write(self, line: str) -> None:
        questions: IO[str] = self._process.stdin  # type: ignore[assignment]
        questions.write(line + "\n")
        questions.flush()

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


def _be_a_side(name: str) -> None:
    paths: list[str] = json.loads(sys.stdin.readline())
    # What a library prints must not get between the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    predict, about = _ultralytics() if name == "ultralytics" else _engine(name)
    found: list[Boxes] = []
    for question in sys.stdin:
        answer: dict[str, Any] = {}
        if question.strip() == "run":
            started = time.perf_counter()
            found = predict(paths)
            answer = {"seconds": time.perf_counter() - started}
        elif question.strip() == "boxes":
            answer = {"boxes": found}
        else:
            answer = about
        print(json.dumps(answer), file=answers, flush=True)


def _ultralytics() -> tuple[Callable[[list[str]], list[Boxes]], dict[str, Any]]:
    from apps.training.engine.environment import import_ultralytics
    from apps.training.engine.weights import load_torch_model

    import_ultralytics()
    import torch
    from ultralytics import YOLO
    from ultralytics.cfg import get_cfg

    model, _ = load_torch_model(next(SHIPPED.glob("weights*")))
    model.args = dict(get_cfg())
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "same.pt"
        torch.save({"model": model, "train_args": {}}, checkpoint)
        yolo = YOLO(str(checkpoint))

    def predict(paths: list[str]) -> list[Boxes]:
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        results = yolo.predict(
            paths, imgsz=640, conf=CONFIDENCE, iou=IOU, device="cpu", verbose=False, stream=True
        )
        return [torch.cat([r.boxes.xyxy, r.boxes.conf[:, None]], dim=1).tolist() for r in results]

    predict([str(next(SHIPPED.glob("samples/*.jpg")))])  # fuses, and sets the number of threads down once
    return predict, {}


def _engine(name: str) -> tuple[Callable[[list[str]], list[Boxes]], dict[str, Any]]:
    from apps.training.engine.conversion import converted_model
    from apps.training.engine.detector import Detector
    from apps.training.engine.pictures import PictureError
    from apps.training.engine.runtimes import OpenVinoRuntime
    from apps.training.engine.weights import file_sha256, read_metadata

    weights = next(SHIPPED.glob("weights*"))
    cache = CHECKOUT / ".podura" / "models"
    converted = converted_model(
        weights, sha256=file_sha256(weights), cache_dir=cache, samples=SHIPPED / "samples"
    )
    precision = converted.precision if name == "chosen" else name
    detector = Detector(OpenVinoRuntime(converted.model, precision=precision), read_metadata(weights))

    def predict(paths: list[str]) -> list[Boxes]:
        boxes = []
        for found in detector.detect_files(map(Path, paths), confidence=CONFIDENCE, iou=IOU):
            if isinstance(found, PictureError):
                raise found
            rows = zip(found.boxes_xyxy_px.tolist(), found.scores.tolist(), strict=True)
            boxes.append([[*box, score] for box, score in rows])
        return boxes

    return predict, {"runtime": detector.runtime, "report": converted.report}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--side")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    if options.side:
        _be_a_side(options.side)
    else:
        print(json.dumps(run(options.quick), indent=1))

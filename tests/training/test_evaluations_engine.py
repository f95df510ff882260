"""The shipped model, evaluated through the site on real pictures: the numbers are those of the engine and of its card."""

import hashlib
import json
import uuid

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import storages

from apps.training import inference
from apps.training.engine.evaluate import evaluate
from apps.training.engine.labelled import read_coco
from apps.training.inference import detector_of
from apps.training.services import register_model_version
from apps.training.services.datasets import FrozenBox, FrozenItem, create_dataset
from apps.training.services.evaluations import latest_table, measure_versions, read_report, request_evaluation
from apps.training.tasks.evaluation import evaluate_versions
from tests.factories import RegisteredModelFactory
from tests.training.engine.conftest import ROOT, SHIPPED, WEIGHTS

pytestmark = [pytest.mark.django_db, pytest.mark.slow]


@pytest.fixture(autouse=True)
def _real_engine(settings, tmp_path):
    settings.DETECTOR_LOADER = "apps.training.engine.detector.load_detector"
    settings.MODEL_CACHE_DIR = ROOT / ".podura" / "models"  # converting takes a minute
    settings.TRAINING_DIR = tmp_path
    inference.forget_detectors()
    yield
    inference.forget_detectors()


def test_an_evaluation_says_what_the_engine_and_the_card_say():
    names = (SHIPPED / "validation.txt").read_text().split()
    labelled = read_coco(SHIPPED / "samples", SHIPPED / "samples" / "coco.json").only(names)
    items = []
    for number, sample in enumerate(labelled.pictures):
        content = sample.path.read_bytes()
        items.append(
            FrozenItem(
                photo=str(uuid.UUID(int=number)),
                annotation=str(uuid.UUID(int=number)),
                split="test",
                group=str(number),
                file=storages["default"].save(f"originals/{number}.jpg", ContentFile(content)),
                file_sha256=hashlib.sha256(content).hexdigest(),
                width_px=sample.width_px,
                height_px=sample.height_px,
                licence="CC0-1.0",
                attribution="",
                boxes=tuple(FrozenBox(*box, labelled.labels[0]) for box in sample.boxes_xyxy_px.tolist()),
            )
        )
    model = RegisteredModelFactory()
    version = register_model_version(registered_model=model, weights_path=WEIGHTS)
    dataset = create_dataset(name="plates", labels=labelled.labels, items=items, registered_model=model)
    evaluation = request_evaluation(version=version, dataset=dataset)
    evaluate_versions()
    evaluation.refresh_from_db()
    assert (evaluation.status, evaluation.failure_reason) == ("done", "")

    card = json.loads((SHIPPED / "metrics.json").read_text())
    quality = evaluate(detector_of(version), labelled)
    metrics = evaluation.metrics
    assert metrics["map50_95"] == pytest.approx(quality.map50_95, abs=1e-9)
    assert metrics["map50"] == pytest.approx(quality.map50, abs=1e-9)
    assert metrics["map50_95"] == pytest.approx(
        card["map50_95"], abs=0.01
    )  # this machine's precision, not the card's
    assert metrics["map50_95_low"] < metrics["map50_95"] < metrics["map50_95_high"]
    assert metrics["recall"] == pytest.approx(
        quality.recall, abs=0.03
    )  # duplicates are suppressed as in production
    assert metrics["precision"] >= quality.precision - 0.01
    assert metrics["latency_ms"] > 1
    assert metrics["photos"] == len(names)
    assert metrics["boxes"] == sum(len(p.labels) for p in labelled.pictures)
    report = read_report(evaluation)
    assert sum(p.tp for p in report.pictures) == report.confusion[0][0]
    assert sum(bucket.boxes for bucket in report.sizes.values()) == metrics["boxes"]
    assert latest_table(evaluation).pictures == len(names)

    # A version against itself differs in nothing but the clock.
    first, second = measure_versions(
        [version, version], items, labels=labelled.labels, storage=storages["default"]
    )
    without_clock = [{k: v for k, v in one.metrics.items() if k != "latency_ms"} for one in (first, second)]
    assert without_clock[0] == without_clock[1]
    assert first.metrics["map50_95"] == metrics["map50_95"]
    ratio = first.metrics["latency_ms"] / second.metrics["latency_ms"]
    assert 0.5 < ratio < 2  # taken in turns, so that a busy machine hits both

"""Evaluations as work: measured once, whatever happens to the worker, and readable afterwards."""

import gzip
import hashlib
import json
import uuid
from dataclasses import replace

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.db import connection

from apps.common import leased
from apps.training import inference
from apps.training.engine.report import Report, ReportDamagedError
from apps.training.evaluation_texts import failure_sentence, refusal_sentence
from apps.training.models import DatasetItem, Evaluation
from apps.training.services import evaluations, measurement
from apps.training.services.datasets import create_dataset, mark_withdrawn
from apps.training.services.evaluations import (
    EvaluationRefusedError,
    continue_next_evaluation,
    latest_table,
    measure_versions,
    read_report,
    request_evaluation,
    store_evaluation,
)
from apps.training.tasks.evaluation import evaluate_versions, sweep_evaluation
from tests.factories import UserFactory
from tests.support.stub_detector import stub_version
from tests.training.evaluated import LABELS, frozen, picture

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("own_machine")]


@pytest.fixture
def version(model):
    return stub_version(model, *LABELS)


@pytest.fixture
def dataset(model):
    items = [frozen(n) for n in range(1, 7)]
    items += [frozen(7, split="train"), frozen(8, split="validation")]
    return create_dataset(name="mites", labels=LABELS, items=items, registered_model=model)


def evaluated(version, dataset, split="test") -> Evaluation:
    evaluation = request_evaluation(version=version, dataset=dataset, split=split)
    evaluate_versions()
    evaluation.refresh_from_db()
    return evaluation


def test_a_detector_that_finds_every_animal_is_perfect(version, dataset):
    evaluation = evaluated(version, dataset)
    assert (evaluation.status, evaluation.failure_reason) == ("done", "")
    assert evaluation.photo_count == evaluation.photos_done == 6
    assert evaluation.metrics["map50"] == evaluation.metrics["map50_95"] == 1
    assert evaluation.metrics["precision"] == evaluation.metrics["recall"] == evaluation.metrics["f1"] == 1
    assert evaluation.metrics["latency_ms"] == 1.0
    assert evaluation.metrics["boxes"] == sum(row["boxes"] for row in evaluation.by_label.values())
    assert evaluation.hardware["runtime"] == "stub"
    report = read_report(evaluation)
    assert [p.photo for p in report.pictures] == [str(uuid.UUID(int=n)) for n in range(1, 7)]
    assert all(p.fp == p.fn == 0 and p.tp == len(p.truth) for p in report.pictures)
    assert latest_table(evaluation).pictures == 6


@pytest.mark.parametrize("split", ["train", "validation"])
def test_any_split_can_be_measured(version, dataset, split):
    assert evaluated(version, dataset, split).metrics["photos"] == 1


def test_asking_twice_while_one_is_under_way_gives_the_same(version, dataset):
    by = UserFactory()
    first = request_evaluation(version=version, dataset=dataset, by=by)
    assert request_evaluation(version=version, dataset=dataset) == first
    assert request_evaluation(version=version, dataset=dataset, split="train") != first
    evaluate_versions()
    assert request_evaluation(version=version, dataset=dataset) != first


def test_the_task_run_twice_leaves_one_result(version, dataset):
    evaluation = evaluated(version, dataset)
    before = evaluation.report.name, evaluation.finished_at
    evaluate_versions()
    sweep_evaluation()
    evaluation.refresh_from_db()
    assert (evaluation.report.name, evaluation.finished_at) == before
    assert len(files_of(evaluation)) == 2


def files_of(evaluation) -> list[str]:
    return evaluation.report.storage.listdir(f"evaluations/{evaluation.public_id}")[1]


class Killed(BaseException):
    """What no code catches, as little as kill -9."""


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (evaluations, "read_manifest"),
        (evaluations, "measure_versions"),
        (evaluations, "store_evaluation"),
        (Evaluation, "finish"),
    ],
)
def test_an_attempt_that_was_killed_anywhere_is_made_again(version, dataset, monkeypatch, module, name):
    evaluation = request_evaluation(version=version, dataset=dataset)

    def die(*_args, **_kwargs):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(module, name, die)
        with pytest.raises(Killed):
            evaluate_versions()
    Evaluation.objects.update(lease_until="2000-01-01T00:00Z")
    evaluate_versions()
    evaluation.refresh_from_db()
    assert (evaluation.status, evaluation.attempts) == ("done", 2)
    assert len(files_of(evaluation)) == 2
    assert read_report(evaluation).confusion


def test_files_of_an_attempt_that_died_before_its_row_was_written_are_removed(version, dataset):
    evaluation = request_evaluation(version=version, dataset=dataset)
    storage = evaluation.report.storage
    storage.save(f"evaluations/{evaluation.public_id}/lost.json.gz", ContentFile(b"half"))
    evaluate_versions()
    assert "lost.json.gz" not in files_of(evaluation)


def test_a_worker_that_lost_its_lease_leaves_nothing(version, dataset, monkeypatch):
    evaluation = request_evaluation(version=version, dataset=dataset)
    measure = evaluations.measure_versions

    def overtaken(*args, **kwargs):
        measured = measure(*args, **kwargs)
        Evaluation.objects.update(lease_token=uuid.uuid4())
        return measured

    monkeypatch.setattr(evaluations, "measure_versions", overtaken)
    continue_next_evaluation()
    evaluation.refresh_from_db()
    assert evaluation.status == "processing"
    assert not evaluation.report
    assert files_of(evaluation) == []


def test_a_worker_that_shall_stop_gives_the_evaluation_back(version, dataset, monkeypatch):
    evaluation = request_evaluation(version=version, dataset=dataset)
    with monkeypatch.context() as patch:
        patch.setattr(evaluations, "is_stopping", lambda: True)
        assert not continue_next_evaluation()
    evaluation.refresh_from_db()
    assert (evaluation.status, evaluation.attempts) == ("pending", 0)
    assert not leased.is_stopping()
    sweep_evaluation()
    assert continue_next_evaluation()


def test_three_silent_workers_are_enough(version, dataset):
    evaluation = request_evaluation(version=version, dataset=dataset)
    Evaluation.objects.update(
        status="processing", attempts=3, lease_token=uuid.uuid4(), lease_until="2000-01-01T00:00Z"
    )
    lost = evaluation.report.storage.save(
        f"evaluations/{evaluation.public_id}/lost.json.gz", ContentFile(b"")
    )
    sweep_evaluation()
    evaluation.refresh_from_db()
    assert evaluation.status == "failed"
    assert not evaluation.report.storage.exists(lost)
    assert "memory" in failure_sentence(evaluation)


def test_progress_is_told(version, dataset, monkeypatch):
    monkeypatch.setattr(evaluations, "_TOLD_EVERY_S", 0.0)
    seen = []
    items = evaluations.remaining_items(dataset, evaluations.read_manifest(dataset), "test")
    evaluation = request_evaluation(version=version, dataset=dataset)
    (row,) = Evaluation.objects.all().claim(limit=1)
    tell = evaluations.told_progress(row, row.lease_token)

    def between(done):
        tell(done)
        evaluation.refresh_from_db()
        seen.append(evaluation.photos_done)

    measure_versions([version], items, labels=LABELS, storage=storages["default"], between=between)
    assert seen[:6] == [1, 2, 3, 4, 5, 6]


def test_deleted_photos_are_left_out(version, dataset):
    mark_withdrawn(photos=[str(uuid.UUID(int=1))])
    evaluation = evaluated(version, dataset)
    assert evaluation.metrics["photos"] == evaluation.photo_count == 5


def test_a_photo_deleted_in_the_middle_is_left_out(version, dataset, monkeypatch):
    gone = DatasetItem.objects.get(photo=uuid.UUID(int=3))
    evaluation = request_evaluation(version=version, dataset=dataset)
    remaining = evaluations.remaining_items

    def then_deleted(*args):
        items = remaining(*args)
        if not gone.is_withdrawn:
            gone.is_withdrawn = True
            storages["default"].delete(gone.file)
            mark_withdrawn(photos=[str(gone.photo)])
        return items

    monkeypatch.setattr(evaluations, "remaining_items", then_deleted)
    evaluate_versions()
    evaluation.refresh_from_db()
    assert (evaluation.status, evaluation.metrics["photos"]) == ("done", 5)


@pytest.mark.parametrize("damage", ["gone", "altered"])
def test_a_damaged_original_ends_it_with_a_sentence(version, dataset, damage):
    item = DatasetItem.objects.get(photo=uuid.UUID(int=3))
    storages["default"].delete(item.file)
    if damage == "altered":
        storages["default"].save(item.file, ContentFile(picture(99)))
    evaluation = evaluated(version, dataset)
    assert evaluation.status == "failed"
    assert str(item.photo) in failure_sentence(evaluation)
    assert evaluation.metrics == {}


def test_a_picture_that_cannot_be_decoded_ends_it_with_a_sentence(version, model):
    content = b"no picture at all"
    name = storages["default"].save("originals/cut.png", ContentFile(content))
    cut = replace(frozen(1), file=name, file_sha256=hashlib.sha256(content).hexdigest())
    evaluation = evaluated(version, create_dataset(name="cut", labels=LABELS, items=[cut]))
    assert (evaluation.status, evaluation.attempts) == ("failed", 1)
    assert cut.photo in failure_sentence(evaluation)


def test_a_damaged_manifest_ends_it_with_a_sentence(version, dataset):
    dataset.manifest.storage.delete(dataset.manifest.name)
    dataset.manifest.storage.save(dataset.manifest.name, ContentFile(b"{}"))
    evaluation = evaluated(version, dataset)
    assert evaluation.status == "failed"
    assert "Freeze it again" in failure_sentence(evaluation)


def test_a_storage_that_is_away_is_tried_again_later(version, dataset, monkeypatch):
    def away(_version):
        raise OSError("no route to the storage")

    with monkeypatch.context() as patch:
        patch.setattr(inference, "_load", away)
        evaluation = evaluated(version, dataset)
    assert (evaluation.status, evaluation.attempts) == ("pending", 1)
    assert "no route" in failure_sentence(evaluation)
    inference.forget_detectors()
    evaluate_versions()
    evaluation.refresh_from_db()
    assert (evaluation.status, evaluation.failure_reason) == ("done", "")


def test_a_version_without_its_weights_ends_it_with_a_sentence(version, dataset):
    version.weights.storage.delete(version.weights.name)
    evaluation = evaluated(version, dataset)
    assert (evaluation.status, evaluation.attempts) == ("failed", 1)
    assert failure_sentence(evaluation).startswith("The version could not be loaded")


def test_what_cannot_be_measured_is_refused_with_a_sentence(model, version, dataset):
    with pytest.raises(EvaluationRefusedError) as refused:
        request_evaluation(version=stub_version(model, "BEE"), dataset=dataset)
    assert "none of the labels" in refusal_sentence(refused.value)
    with pytest.raises(EvaluationRefusedError) as refused:
        request_evaluation(version=version, dataset=dataset, split="everything")
    assert "“everything”" in refusal_sentence(refused.value)
    version.unusable_reason = "broken"
    with pytest.raises(EvaluationRefusedError) as refused:
        request_evaluation(version=version, dataset=dataset)
    assert "cannot be loaded" in refusal_sentence(refused.value)
    version.unusable_reason = ""
    mark_withdrawn(photos=[str(uuid.UUID(int=7))])
    with pytest.raises(EvaluationRefusedError) as refused:
        request_evaluation(version=version, dataset=dataset, split="train")
    assert "no photo in the split" in refusal_sentence(refused.value)
    assert not Evaluation.objects.exists()


def test_labels_that_a_version_does_not_know_are_missed(model, dataset):
    evaluation = evaluated(stub_version(model, "CER"), dataset)
    assert evaluation.status == "done"
    assert evaluation.by_label["ISO_MIN"]["recall"] == 0
    assert evaluation.by_label["ISO_MIN"]["map50"] == 0
    assert evaluation.by_label["CER"]["recall"] == 1
    assert 0 < evaluation.metrics["map50"] < 1


def test_labels_in_another_order_mean_the_same(model, dataset):
    """Scores of the stub belong to the columns: with swapped names every box has the other one."""
    evaluation = evaluated(stub_version(model, *reversed(LABELS)), dataset)
    matrix = read_report(evaluation).confusion
    assert matrix[0][0] == matrix[1][1] == 0
    assert matrix[0][1] + matrix[1][0] == evaluation.metrics["boxes"]


def test_a_split_without_any_animal_has_no_numbers_but_a_report(version, model):
    items = [frozen(n, keep=slice(0)) for n in (1, 2)]
    evaluation = evaluated(version, create_dataset(name="empty", labels=LABELS, items=items))
    assert evaluation.status == "done"
    assert evaluation.metrics["map50_95"] is None
    assert evaluation.metrics["recall"] is None
    assert evaluation.metrics["precision"] == 0
    report = read_report(evaluation)
    assert report.sizes == {}
    assert sum(report.confusion[-1]) == sum(p.fp for p in report.pictures) > 0
    with connection.cursor() as cursor:
        cursor.execute("SELECT metrics::text FROM training_evaluation")
        assert "NaN" not in cursor.fetchone()[0]


def test_several_versions_are_measured_on_the_same_pictures_in_turns(model, version, dataset, monkeypatch):
    monkeypatch.setattr(measurement, "BLOCK", 2)
    other = stub_version(model, "CER")
    items = evaluations.remaining_items(dataset, evaluations.read_manifest(dataset), "test")
    done = []
    first, second = measure_versions(
        [version, other], items, labels=LABELS, storage=storages["default"], between=done.append
    )
    assert first.metrics["map50"] == 1 > second.metrics["map50"]
    assert first.table.labels == second.table.labels == LABELS
    assert [p.photo for p in first.report.pictures] == [p.photo for p in second.report.pictures]
    seen = inference.detector_of(version).seen
    assert seen[:2] == inference.detector_of(other).seen[:2]
    assert done[:12] == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6]


def test_a_row_without_a_claim_takes_what_was_measured(version, dataset):
    evaluation = Evaluation.objects.create(version=version, dataset=dataset, is_for_comparison=True)
    assert not continue_next_evaluation()  # comparisons do their own
    items = evaluations.remaining_items(dataset, evaluations.read_manifest(dataset), "test")
    (measured,) = measure_versions([version], items, labels=LABELS, storage=storages["default"])
    store_evaluation(evaluation, measured)
    evaluation.refresh_from_db()
    assert (evaluation.status, evaluation.metrics["map50"]) == ("done", 1)
    assert read_report(evaluation) == measured.report


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document.update(format="other"),
        lambda document: document["confusion"].pop(),
        lambda document: document["pictures"][0]["truth"][0].pop(),
        lambda document: document["pictures"][0]["pairs"].append([0, 99]),
        lambda document: document["cells"].update({"0,0": [[99, 0, 0]]}),
        lambda document: document["pictures"][0]["found"][0].__setitem__(4, 7),
        lambda document: document.pop("sizes"),
    ],
)
def test_a_damaged_report_is_refused(version, dataset, change):
    report = read_report(evaluated(version, dataset))
    document = json.loads(gzip.decompress(report.encoded()))
    change(document)
    with pytest.raises(ReportDamagedError):
        Report.decoded(gzip.compress(json.dumps(document).encode()))


@pytest.mark.parametrize(
    "content", [b"", b"not gzip", gzip.compress(b"[1]", mtime=0), gzip.compress(b'{"a": NaN}', mtime=0)]
)
def test_what_is_no_report_is_refused(content):
    with pytest.raises(ReportDamagedError):
        Report.decoded(content)


def test_a_report_that_is_not_there_is_told(version, dataset):
    with pytest.raises(ReportDamagedError, match="no report yet"):
        read_report(request_evaluation(version=version, dataset=dataset))
    evaluate_versions()
    evaluation = Evaluation.objects.get()
    for name in files_of(evaluation):
        evaluation.report.storage.delete(f"evaluations/{evaluation.public_id}/{name}")
    for read in (read_report, latest_table):
        with pytest.raises(ReportDamagedError, match="gone"):
            read(evaluation)

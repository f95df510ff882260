"""A real worker that evaluates is killed, or told to end: another one makes the same evaluation, once."""

import pytest

from apps.training import inference
from apps.training.models import Evaluation
from apps.training.services.datasets import create_dataset
from apps.training.services.evaluations import read_report, request_evaluation
from apps.training.tasks.evaluation import sweep_evaluation
from tests.factories import RegisteredModelFactory
from tests.support.processes import wait_until
from tests.support.stub_detector import stub_version
from tests.training.evaluated import LABELS, frozen

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]
PHOTOS = 40


@pytest.fixture
def evaluation(transactional_db, throwaway_broker, settings, tmp_path):
    inference.forget_detectors()
    model = RegisteredModelFactory()
    items = [frozen(number) for number in range(1, PHOTOS + 1)]
    dataset = create_dataset(name="mites", labels=LABELS, items=items, registered_model=model)
    return request_evaluation(version=stub_version(model, *LABELS), dataset=dataset)


@pytest.fixture
def worker(start_worker, tmp_path):
    def start(seconds_a_picture: float):
        return start_worker(
            queues="training",
            env={
                "JOB_LEASE_SECONDS": "3",
                "STUB_SECONDS_A_PICTURE": str(seconds_a_picture),
                "TRAINING_DIR": str(tmp_path / "training"),
                "MODEL_CACHE_DIR": str(tmp_path / "models"),
            },
        )

    return start


def is_under_way(evaluation) -> bool:
    evaluation.refresh_from_db()
    return evaluation.photos_done > 2


def is_done_after_sweep(evaluation) -> bool:
    sweep_evaluation()
    evaluation.refresh_from_db()
    return evaluation.status == "done"


def files_of(evaluation) -> list[str]:
    return evaluation.report.storage.listdir(f"evaluations/{evaluation.public_id}")[1]


def test_kill_9_costs_an_attempt_and_nothing_else(evaluation, worker):
    first = worker(0.25)
    wait_until(lambda: is_under_way(evaluation), what="the first worker evaluates")
    first.kill()
    evaluation.refresh_from_db()
    assert (evaluation.status, evaluation.metrics) == ("processing", {})
    worker(0.0)
    wait_until(lambda: is_done_after_sweep(evaluation), what="another worker took over")
    assert evaluation.attempts == 2
    assert evaluation.metrics["map50_95"] == 1
    assert len(read_report(evaluation).pictures) == PHOTOS
    assert len(files_of(evaluation)) == 2


def test_a_worker_that_is_told_to_end_gives_it_back_within_a_picture(evaluation, worker):
    first = worker(0.25)
    wait_until(lambda: is_under_way(evaluation), what="the first worker evaluates")
    first.terminate(seconds=15)
    evaluation.refresh_from_db()
    assert (evaluation.status, evaluation.attempts) == ("pending", 0)
    worker(0.0)
    wait_until(lambda: is_done_after_sweep(evaluation), what="another worker took over")
    assert Evaluation.objects.count() == 1
    assert len(files_of(evaluation)) == 2

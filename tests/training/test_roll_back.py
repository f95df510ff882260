"""A version that a worker cannot load gives way to the last one that it can, once, and nobody's photo suffers."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from django.core.files.storage import storages
from django.db import connection

from apps.accounts.models import OutgoingMail
from apps.training import inference
from apps.training.inference import ModelUnavailableError, forget_detectors, production_detector
from apps.training.models import ModelVersion, PromotionEvent
from apps.training.services.promotion import promote, report_unloadable, roll_back
from tests.training import known_quality
from tests.training.known_quality import known_version

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _detectors(settings, tmp_path):
    settings.DETECTOR_LOADER = known_quality.LOADER
    settings.MODEL_CACHE_DIR = tmp_path / "models"
    forget_detectors()
    yield
    forget_detectors()


def served(model, **quality) -> ModelVersion:
    version = known_version(model, **{"right": 0.9} | quality)
    promote(version=version)
    return version


def failures(model) -> list[PromotionEvent]:
    return list(PromotionEvent.objects.filter(registered_model=model, kind="rolled_back_fail").order_by("pk"))


def alter(version):
    Path(storages["default"].path(version.weights.name)).write_bytes(b"CER\nright=1\n# altered")


def lose(version):
    storages["default"].delete(version.weights.name)


def other_labels(version):
    ModelVersion.objects.filter(pk=version.pk).update(labels=["CER", "POD"])


@pytest.mark.parametrize("harm", [alter, lose, other_labels, None])
def test_corrupt_lost_or_wrong_weights_and_nets_that_cannot_be_run_are_rolled_back(model, curator, harm):
    old = served(model)
    new = served(model, broken=harm is None)
    if harm:
        harm(new)
    version, detector = production_detector(model)
    assert version == old
    assert detector.labels == tuple(old.labels)
    assert model.production_version == old
    new.refresh_from_db()
    assert new.stage == ModelVersion.Stage.ARCHIVED
    assert new.unusable_reason
    (event,) = failures(model)
    assert (event.from_version, event.to_version, event.by) == (new, old, None)
    assert event.reason == new.unusable_reason
    mail = OutgoingMail.objects.get(recipient=curator.email)
    assert str(old) in mail.subject
    assert new.unusable_reason.splitlines()[0][:40] in mail.body


def test_several_broken_ones_in_a_row_give_way_to_the_last_that_works(model):
    good = served(model)
    served(model, broken=True)
    served(model, broken=True)
    assert production_detector(model)[0] == good
    assert [event.to_version for event in failures(model)] == [good], (
        "the one between was tried and passed over"
    )


@pytest.mark.parametrize("error", [OSError("connection refused"), TimeoutError("storage"), MemoryError()])
def test_a_storage_that_is_away_or_memory_that_ran_out_rolls_nothing_back(model, monkeypatch, error):
    served(model)
    new = served(model)

    def away(*_args, **_kwargs):
        raise error

    monkeypatch.setattr(inference, "_fetched", away)
    with pytest.raises(ModelUnavailableError) as caught:
        production_detector(model)
    assert not caught.value.is_fault
    assert model.production_version == new
    assert not failures(model)
    assert not OutgoingMail.objects.exists()
    monkeypatch.undo()
    monkeypatch.setattr(inference, "RETRY_AFTER_S", 0.0)
    assert production_detector(model)[0] == new


def test_a_storage_that_lost_everything_is_no_fault_of_the_version_even_with_a_copy_here(model):
    old = served(model)
    production_detector(model)
    new = served(model)
    lose(old)
    lose(new)
    with pytest.raises(ModelUnavailableError):
        production_detector(model)
    assert model.production_version == new
    assert not failures(model)


def test_without_an_earlier_version_photos_wait_and_curators_are_told_once(model, curator):
    only = served(model, broken=True)
    for _attempt in range(3):
        forget_detectors()
        with pytest.raises(ModelUnavailableError):
            production_detector(model)
    assert model.production_version == only
    assert OutgoingMail.objects.filter(recipient=curator.email).count() == 1
    assert "photos wait" in OutgoingMail.objects.get().subject


def test_a_transfer_that_was_cut_short_gets_a_second_one(model, monkeypatch):
    served(model)
    new = served(model)
    copied = inference.shutil.copyfileobj
    cut = []

    def short(source, target, length):
        if cut:
            copied(source, target, length)
        else:
            cut.append(1)
            target.write(source.read(3))

    monkeypatch.setattr(inference.shutil, "copyfileobj", short)
    assert production_detector(model)[0] == new
    assert not failures(model)


def test_a_version_that_was_rolled_back_by_failure_cannot_be_gone_back_to(model, curator):
    served(model)
    broken = served(model, broken=True)
    production_detector(model)
    from apps.training.promotion_texts import NotPromotableError

    with pytest.raises(NotPromotableError, match="unusable"):
        roll_back(model=model, to=broken, by=curator, reason="try again")


def test_a_late_report_on_a_version_that_serves_no_more_changes_nothing_that_serves(model):
    served(model)
    late = served(model)
    now = served(model)
    assert report_unloadable(late, "runtime") is None
    assert model.production_version == now
    assert not failures(model)
    late.refresh_from_db()
    assert late.unusable_reason == "runtime"


def test_a_promotion_while_a_worker_fails_to_load_is_respected(model, monkeypatch):
    served(model)
    served(model, broken=True)
    from apps.training.services import promotion

    reported = promotion.report_unloadable
    better = known_version(model, right=1.0)

    def meanwhile(version, reason):
        promote(version=better)
        return reported(version, reason)

    monkeypatch.setattr(promotion, "report_unloadable", meanwhile)
    assert production_detector(model)[0] == better
    assert not failures(model)


@pytest.mark.django_db(transaction=True)
def test_workers_that_find_it_at_the_same_time_report_it_once(model, curator):
    old = served(model)
    new = served(model, broken=True)
    start = Barrier(4)

    def report():
        try:
            start.wait(10)
            return report_unloadable(new, "this net cannot be run")
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        answers = [future.result() for future in [pool.submit(report) for _ in range(4)]]
    assert answers.count(None) == 3
    assert len(failures(model)) == 1
    assert OutgoingMail.objects.filter(recipient=curator.email).count() == 1
    assert model.production_version == old

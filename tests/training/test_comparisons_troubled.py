"""Comparisons that meet trouble: what is nobody's fault waits, what failed is told, and nobody else pays for it."""

import pytest
from django.core.files.storage import storages

from apps.accounts.models import OutgoingMail
from apps.training import inference
from apps.training.models import Comparison, ModelVersion, PromotionEvent
from apps.training.promotion_texts import NotPromotableError
from apps.training.services import comparisons
from apps.training.services.comparisons import continue_next_comparison, request_comparison
from apps.training.services.datasets import read_manifest
from apps.training.services.promotion import promote, refuse
from apps.training.tasks.comparisons import sweep_comparisons
from tests.training import known_quality
from tests.training.known_quality import champion_of, compared, gate_dataset, kinds, known_version

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("known_detectors")]


@pytest.fixture
def dataset(model):
    return gate_dataset(model, test=12)


def reports() -> set[str]:
    """Other tests' may be there."""
    storage = storages["default"]
    folders = storage.listdir("evaluations")[0] if storage.exists("evaluations") else []
    return {name for folder in folders for name in storage.listdir(f"evaluations/{folder}")[1]}


def test_a_champion_that_knows_none_of_the_animals_finds_none_and_gives_way(model, dataset):
    champion = known_version(model, right=0.9, labels=("MITE",))
    promote(version=champion)
    challenger = known_version(model, right=0.9, labels=("CER", "ISO_MIN", "MITE"))
    comparison = compared(challenger, dataset)
    assert (comparison.status, comparison.verdict) == ("done", "passed"), comparison.failure_reason
    assert comparison.champion_evaluation.metrics["map50_95"] == 0
    assert model.production_version == challenger


def test_a_challenger_that_knows_none_of_the_animals_cannot_be_compared(model, dataset):
    champion_of(model)
    comparison = compared(known_version(model, right=0.9, labels=("MITE",)), dataset)
    assert comparison.status == "failed"
    assert comparison.failure_reason.startswith("no_common_label")


def test_a_comparison_that_failed_is_told_to_those_who_decide(model, dataset, curator):
    champion_of(model)
    item = next(one for one in read_manifest(dataset).items if one.split == "test")
    storages["default"].delete(item.file)
    challenger = known_version(model, right=0.95)
    comparison = compared(challenger, dataset)
    assert comparison.status == "failed"
    mail = OutgoingMail.objects.get(recipient=curator.email)
    assert str(challenger) in mail.subject
    assert item.photo in mail.body
    assert f"/admin/training/comparison/{comparison.pk}/change/" in mail.body


def test_attempts_that_are_used_up_are_told_too_and_once(model, dataset, curator, monkeypatch, settings):
    champion_of(model)
    comparison = request_comparison(challenger=known_version(model, right=0.95), dataset=dataset)

    def breaks(*_args, **_kwargs):
        raise RuntimeError("net upside down")

    monkeypatch.setattr(comparisons, "measure_versions", breaks)
    for _attempt in range(settings.JOB_MAX_ATTEMPTS):
        assert not OutgoingMail.objects.exists()
        assert not continue_next_comparison()
    comparison.refresh_from_db()
    assert comparison.status == "failed"
    assert "net upside down" in OutgoingMail.objects.get(recipient=curator.email).body


def test_a_comparison_whose_workers_died_is_told(model, dataset, curator, settings):
    comparison = request_comparison(challenger=known_version(model, right=0.95), dataset=dataset)
    Comparison.objects.all().claim(limit=1)
    Comparison.objects.filter(pk=comparison.pk).update(
        attempts=settings.JOB_MAX_ATTEMPTS, lease_until="2020-01-01T00:00:00Z"
    )
    for _twice in range(2):
        sweep_comparisons()
    comparison.refresh_from_db()
    assert (comparison.status, comparison.failure_reason) == ("failed", "worker_lost")
    assert "ended three times" in OutgoingMail.objects.get(recipient=curator.email).body


def test_while_the_storage_is_away_a_comparison_waits_as_long_as_it_takes(
    model, dataset, curator, monkeypatch, settings
):
    champion_of(model)
    challenger = known_version(model, right=0.95)
    comparison = request_comparison(challenger=challenger, dataset=dataset)

    class EndpointError(Exception):
        """Of a storage's own library: no OSError."""

    def away(*_args, **_kwargs):
        raise EndpointError("no route")

    with monkeypatch.context() as storm:
        for name in ("_open", "exists"):
            storm.setattr(type(storages["default"]), name, away)
        for _attempt in range(settings.JOB_MAX_ATTEMPTS + 2):
            inference.forget_detectors()
            assert not continue_next_comparison()
    comparison.refresh_from_db()
    assert (comparison.status, comparison.attempts) == ("pending", 0)
    assert not OutgoingMail.objects.exists()
    inference.forget_detectors()
    assert continue_next_comparison()
    assert model.production_version == challenger


def test_a_machine_that_can_run_no_version_does_not_blame_the_challenger(model, dataset, monkeypatch):
    champion_of(model)
    challenger = known_version(model, right=0.95)
    comparison = request_comparison(challenger=challenger, dataset=dataset)

    def no_driver(*_args, **_kwargs):
        raise RuntimeError("CUDA driver version is insufficient")

    with monkeypatch.context() as machine:
        machine.setattr(known_quality, "load", no_driver)
        assert not continue_next_comparison()
    challenger.refresh_from_db()
    comparison.refresh_from_db()
    assert challenger.unusable_reason == ""
    assert (comparison.status, comparison.attempts) == ("pending", 1)
    inference.forget_detectors()
    assert continue_next_comparison()
    assert model.production_version == challenger


def test_what_the_gate_refused_it_can_admit_later(model, dataset):
    strong = champion_of(model, right=0.9)
    challenger = known_version(model, right=0.7)
    compared(challenger, dataset)
    assert challenger.stage == ModelVersion.Stage.REFUSED
    weak = known_version(model, right=0.3)
    promote(version=weak)
    comparison = compared(challenger, dataset)
    assert (comparison.champion, comparison.verdict, comparison.decision) == (weak, "passed", "promoted")
    assert model.production_version == challenger
    assert kinds(model) == ["promoted", "refused_gate", "promoted", "promoted_gate"]
    assert strong != weak


def test_what_a_curator_refused_waits_for_a_curator(model, dataset, curator):
    champion_of(model, right=0.95)
    challenger = known_version(model, right=0.8)
    refuse(version=challenger, by=curator, reason="Trained on blurred photos")
    assert compared(challenger, dataset).verdict == "refused"
    champion = champion_of(model, right=0.3)
    comparison = compared(challenger, dataset)
    assert (comparison.verdict, comparison.decision) == ("passed", "open")
    assert model.production_version == champion
    assert challenger.stage == ModelVersion.Stage.REFUSED


def test_a_version_that_served_and_was_then_refused_by_the_gate_is_not_promoted_without_a_word(
    model, dataset, curator
):
    old = champion_of(model, right=0.3)
    promote(version=known_version(model, right=0.9))
    compared(old, dataset)
    assert old.stage == ModelVersion.Stage.ARCHIVED
    with pytest.raises(NotPromotableError, match="refused_by_gate"):
        promote(version=old, by=curator)
    promote(version=old, by=curator, kind="overridden", reason="The new one sees mites everywhere")
    assert model.production_version == old


def test_where_a_curator_was_faster_the_comparison_is_decided(model, dataset, curator, monkeypatch):
    champion_of(model)
    challenger = known_version(model, right=0.95)
    measured = comparisons.measure_versions

    def meanwhile(*args, **kwargs):
        result = measured(*args, **kwargs)
        promote(version=challenger, by=curator)
        return result

    monkeypatch.setattr(comparisons, "measure_versions", meanwhile)
    comparison = compared(challenger, dataset)
    assert comparison.decision == "promoted"
    assert kinds(model) == ["promoted", "promoted"]
    assert PromotionEvent.objects.latest("pk").by == curator


def test_an_attempt_that_breaks_between_its_two_reports_leaves_no_file(model, dataset, monkeypatch):
    champion_of(model)
    request_comparison(challenger=known_version(model, right=0.95), dataset=dataset)
    stored = comparisons._stored
    calls, before = [], reports()

    def second_breaks(*args):
        calls.append(args)
        if len(calls) == 2:
            raise RuntimeError("disk")
        return stored(*args)

    monkeypatch.setattr(comparisons, "_stored", second_breaks)
    assert not continue_next_comparison()
    assert len(calls) == 2
    assert reports() == before

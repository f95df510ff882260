"""Champion and challenger measured in one go, the gate's verdict, and what follows from it by itself."""

from dataclasses import replace
from datetime import timedelta

import pytest
from django.utils import timezone

from apps.accounts.models import OutgoingMail
from apps.training.hooks import photo_times
from apps.training.models import Comparison, Evaluation, ModelVersion, PromotionEvent
from apps.training.promotion_texts import PromotionError
from apps.training.services.comparisons import continue_next_comparison, request_comparison
from apps.training.services.datasets import mark_withdrawn, read_manifest
from apps.training.services.gate_photos import gate_photos, newest
from apps.training.services.promotion import change_policy, freeze_promotion, promote
from apps.training.services.reports import latest_table, read_report
from tests.factories import UserFactory
from tests.training.factories import TrainingRunFactory
from tests.training.known_quality import champion_of, compared, gate_dataset, gate_items, kinds, known_version

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("known_detectors")]


@pytest.fixture
def dataset(model):
    return gate_dataset(model)


def failed(comparison) -> set[str]:
    return {rule["code"] for rule in comparison.rules if rule["passed"] is False}


def test_a_better_version_goes_live_by_itself_with_its_evidence(model, dataset, curator):
    champion = champion_of(model)
    challenger = known_version(model, right=0.95)
    comparison = compared(challenger, dataset)
    assert comparison.status == "done", comparison.failure_reason
    assert comparison.verdict == "passed", comparison.rules
    assert comparison.decision == "promoted"
    assert (comparison.champion, comparison.photo_count) == (champion, 20)
    assert model.production_version == challenger
    event = PromotionEvent.objects.latest("pk")
    assert (event.kind, event.from_version, event.to_version) == ("promoted_gate", champion, challenger)
    assert event.evidence["rules"] == comparison.rules
    assert OutgoingMail.objects.get(recipient=curator.email).subject == f"{challenger} is in production now"


@pytest.mark.slow
def test_both_sides_keep_their_reports_of_the_same_photos(model, dataset):
    champion_of(model)
    comparison = compared(known_version(model, right=0.9), dataset)
    old, new = comparison.champion_evaluation, comparison.challenger_evaluation
    assert old.is_for_comparison
    assert new.is_for_comparison
    assert [one.photo for one in read_report(old).pictures] == [
        one.photo for one in read_report(new).pictures
    ]
    assert (latest_table(old).truths == latest_table(new).truths).all()
    assert new.metrics["map50_95"] > old.metrics["map50_95"]


def test_a_worse_version_is_refused_with_its_numbers_and_its_report(model, dataset):
    champion = champion_of(model, right=0.9)
    challenger = known_version(model, right=0.3)
    comparison = compared(challenger, dataset)
    assert comparison.verdict == "refused"
    assert {"map_not_worse", "map_better", "recall"} <= failed(comparison)
    assert challenger.stage == ModelVersion.Stage.REFUSED
    assert model.production_version == champion
    assert kinds(model) == ["promoted", "refused_gate"]
    assert read_report(comparison.challenger_evaluation).pictures
    assert comparison.decision == "refused"


@pytest.mark.slow
def test_the_same_quality_again_is_refused_because_it_is_not_better(model, dataset):
    champion = champion_of(model)
    comparison = compared(known_version(model, right=0.6), dataset)
    assert failed(comparison) == {"map_better"}
    assert model.production_version == champion


@pytest.mark.slow
def test_a_slower_version_and_one_that_lost_a_label_are_refused(model, dataset):
    champion_of(model)
    assert "latency" in failed(compared(known_version(model, right=0.95, milliseconds=13), dataset))
    lost = compared(known_version(model, right=0.95, labels=("CER",)), dataset)
    assert "labels_known" in failed(lost)


@pytest.mark.slow
def test_a_version_that_is_too_sure_of_itself_is_refused(model):
    dataset = gate_dataset(model, test=40)
    champion_of(model, score=0.97)
    assert "calibration" in failed(compared(known_version(model, right=0.95, score=0.5), dataset))


def test_without_a_champion_whatever_finds_animals_goes_live_and_what_finds_none_does_not(model, dataset):
    blind = compared(known_version(model, right=0.0), dataset)
    assert (blind.verdict, failed(blind)) == ("refused", {"finds_anything"})
    first = known_version(model, right=0.2)
    assert compared(first, dataset).verdict == "passed"
    assert model.production_version == first


def test_the_newest_photos_are_judged_apart(model, dataset):
    champion_of(model)
    change_policy(model=model, changes={"recent_photos": 12})
    comparison = compared(known_version(model, right=0.95), dataset)
    by_code = {rule["code"]: rule for rule in comparison.rules}
    assert by_code["recent_map"]["passed"] is True
    assert by_code["recent_map"]["champion"] != by_code["map_better"]["champion"]


def test_too_few_test_photos_leave_it_to_a_curator(model, curator):
    champion = champion_of(model)
    challenger = known_version(model, right=1.0)
    comparison = compared(challenger, gate_dataset(model, test=4))
    assert comparison.verdict == "undecided"
    assert challenger.stage == ModelVersion.Stage.CANDIDATE
    assert model.production_version == champion
    assert "waits for your decision" in OutgoingMail.objects.get(recipient=curator.email).subject


@pytest.mark.slow
@pytest.mark.parametrize("how", ["manual", "frozen"])
def test_by_hand_or_frozen_what_passes_waits_for_a_curator_who_is_mailed_in_their_language(
    model, dataset, curator, how
):
    UserFactory(is_staff=True)
    champion = champion_of(model)
    if how == "manual":
        change_policy(model=model, changes={"promotion": "manual"}, by=curator)
    else:
        freeze_promotion(model=model, by=curator, reason="Field season")
    comparison = compared(known_version(model, right=0.95), dataset)
    assert (comparison.verdict, comparison.decision) == ("passed", "open")
    assert model.production_version == champion
    mail = OutgoingMail.objects.get()
    assert mail.recipient == curator.email
    assert f"/admin/training/comparison/{comparison.pk}/change/" in mail.body
    assert "mAP50-95" in mail.body


@pytest.mark.slow
def test_a_champion_that_changed_while_measuring_means_comparing_again(model, dataset, monkeypatch):
    champion_of(model)
    other = known_version(model, right=0.7)
    challenger = known_version(model, right=0.95)
    from apps.training.services import comparisons

    measured = comparisons.measure_versions

    def meanwhile(*args, **kwargs):
        result = measured(*args, **kwargs)
        promote(version=other)
        return result

    monkeypatch.setattr(comparisons, "measure_versions", meanwhile)
    first = compared(challenger, dataset)
    assert (first.verdict, first.decision) == ("passed", "open")
    assert model.production_version == other
    monkeypatch.undo()
    assert continue_next_comparison()
    again = Comparison.objects.latest("pk")
    assert (again.champion, again.verdict) == (other, "passed")
    assert model.production_version == challenger


def test_photos_that_either_side_or_its_parents_learned_from_are_left_out(model):
    everything = gate_dataset(model, test=12, train=0)
    items = read_manifest(everything).items
    grandparent, champion, challenger = (known_version(model, right=0.6) for _ in range(3))
    ModelVersion.objects.filter(pk=champion.pk).update(parent=grandparent)

    def learned(version, photo, split, *test):
        seen = replace(photo, split=split)
        other = gate_dataset(model, test=0, train=0, more=[seen, *test])
        TrainingRunFactory(registered_model=model, dataset=other, version=version, status="done")

    learned(grandparent, items[0], "train")
    own = gate_items(1, seed=9)
    learned(champion, items[1], "validation", *own)
    run = TrainingRunFactory(registered_model=model, dataset=everything, version=challenger, status="done")
    assert run.dataset == everything
    mark_withdrawn(photos=[items[2].photo])
    champion.refresh_from_db()
    photos = gate_photos(dataset=everything, champion=champion, challenger=challenger, recent=100)
    held = {item.photo for item in photos.items}
    assert not held & {items[0].photo, items[1].photo, items[2].photo}
    assert {item.photo for item in items[3:]} <= held
    assert own[0].photo in held, "the champion's own test photo"


def test_the_same_picture_sent_twice_does_not_leak_into_the_test(model):
    test = gate_items(3)
    twin = gate_items(1, split="train")[0]
    assert twin.file_sha256 == test[0].file_sha256
    dataset = gate_dataset(model, test=0, train=0, more=[*test, twin])
    challenger = known_version(model, right=0.5)
    TrainingRunFactory(registered_model=model, dataset=dataset, version=challenger, status="done")
    photos = gate_photos(dataset=dataset, champion=None, challenger=challenger, recent=100)
    assert {item.photo for item in photos.items} == {item.photo for item in test[1:]}


def test_the_newest_photos_are_those_sent_last_and_then_those_that_came_with_later_datasets(model):
    old = gate_dataset(model, test=3, train=0, seed=1)
    items = list(read_manifest(old).items)
    later = gate_items(2, seed=2)
    gate_dataset(model, test=0, train=0, more=[*items, *later])
    every = [*later, *items]
    assert newest(every, count=2) == (0, 1)
    sent = {every[3].photo: timezone.now(), every[4].photo: timezone.now() - timedelta(days=1)}

    def times(photos):
        return {photo: sent[photo] for photo in photos if photo in sent}

    photo_times.register(times)
    try:
        assert newest(every, count=1) == (3,)
        assert newest(every, count=2) == (3, 4)
    finally:
        photo_times.unregister(times)


def test_a_version_is_compared_on_its_own_dataset_when_nobody_says_another(model, dataset):
    champion_of(model)
    challenger = known_version(model, right=0.8)
    run = TrainingRunFactory(registered_model=model, dataset=dataset, version=challenger, status="done")
    gate_dataset(model, seed=7)
    assert request_comparison(challenger=challenger).dataset == dataset
    again = request_comparison(challenger=challenger, run=run)
    assert Comparison.objects.count() == 1, "one at a time"
    assert again.dataset == dataset


def test_what_cannot_be_compared_says_why(model):
    challenger = known_version(model, right=0.8)
    with pytest.raises(PromotionError) as caught:
        request_comparison(challenger=challenger)
    assert "Freeze one first" in caught.value.sentence
    champion = champion_of(model)
    with pytest.raises(PromotionError, match="already_serving"):
        request_comparison(challenger=champion, dataset=gate_dataset(model, test=1))


def test_a_challenger_that_cannot_be_loaded_is_marked_and_the_comparison_ends(model, dataset):
    champion = champion_of(model)
    challenger = known_version(model, right=0.9, broken=True)
    comparison = compared(challenger, dataset)
    assert comparison.status == "failed"
    assert comparison.failure_reason.startswith("challenger_unusable")
    assert "cannot be run" in challenger.unusable_reason
    assert model.production_version == champion


@pytest.mark.slow
def test_a_broken_attempt_leaves_no_evaluation_and_is_tried_again(model, dataset, monkeypatch):
    champion_of(model)
    challenger = known_version(model, right=0.9)
    comparison = request_comparison(challenger=challenger, dataset=dataset)
    from apps.training.services import comparisons

    def breaks(*_args, **_kwargs):
        raise RuntimeError("disk")

    monkeypatch.setattr(comparisons, "_act", breaks)
    assert not continue_next_comparison()
    assert not Evaluation.objects.exists()
    comparison.refresh_from_db()
    assert (comparison.status, comparison.attempts) == ("pending", 1)
    monkeypatch.undo()
    assert continue_next_comparison()
    assert model.production_version == challenger


@pytest.mark.slow
def test_a_photo_deleted_while_it_is_measured_is_left_out(model, dataset, monkeypatch):
    champion_of(model)
    challenger = known_version(model, right=0.95)
    from django.core.files.storage import storages

    from apps.training.services import comparisons

    measured = comparisons.measure_versions
    test = next(one for one in read_manifest(dataset).items if one.split == "test")

    def deleted(*args, **kwargs):
        monkeypatch.setattr(comparisons, "measure_versions", measured)
        storages["default"].delete(test.file)
        mark_withdrawn(photos=[test.photo])
        return measured(*args, **kwargs)

    monkeypatch.setattr(comparisons, "measure_versions", deleted)
    comparison = compared(challenger, dataset)
    assert (comparison.status, comparison.photo_count) == ("done", 19)

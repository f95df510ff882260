"""Asking for runs: judged by the dataset's counts and the parameters, one open run a model, cancelled while it waits."""

import threading
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone, translation

from apps.common.leased import LeasedWorkQuerySet
from apps.training.models import RunStatus, TrainingLogLine, TrainingRun
from apps.training.run_texts import failure_text, log_text
from apps.training.services.runs import (
    DatasetUnfitError,
    ParametersError,
    RunUnderWayError,
    cancel_run,
    dataset_problems,
    end_lost_runs,
    request_run,
    retry_run,
)
from apps.training.signals import run_ended
from tests.factories import ModelVersionFactory, RegisteredModelFactory, UserFactory
from tests.training.factories import (
    DatasetFactory,
    TrainingEpochFactory,
    TrainingLogLineFactory,
    TrainingRunFactory,
    counts_of,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def model():
    return RegisteredModelFactory()


@pytest.fixture
def dataset(model):
    return DatasetFactory(registered_model=model)


@pytest.fixture
def ended():
    """The runs that the site was told of."""
    heard = []

    def hear(run, **_kwargs):
        heard.append((run.pk, run.status))

    run_ended.connect(hear)
    yield heard
    run_ended.disconnect(hear)


def ask(model, dataset, **more):
    return request_run(registered_model=model, dataset=dataset, trigger="curator", **more)


def codes(problems):
    return [problem.code for problem in problems]


def test_a_run_starts_from_the_version_in_production_with_the_chosen_parameters(model, dataset):
    serving = ModelVersionFactory(registered_model=model, labels=["CER"])
    person = UserFactory()
    run = ask(model, dataset, parameters={"epochs": 7, "image_size": 320}, by=person)
    run.refresh_from_db()
    assert (run.status, run.base_version, run.requested_by) == (RunStatus.QUEUED, serving, person)
    assert (run.epochs, run.parameters["image_size"], run.chosen) == (
        7,
        320,
        {"epochs": 7, "image_size": 320},
    )
    assert log_text(run.log_lines.get()) == f"Asked for: dataset {dataset}, starting from {serving}"


def test_without_a_version_in_production_it_starts_from_an_untrained_network(model, dataset):
    run = ask(model, dataset)
    assert run.base_version is None
    assert run.parameters["architecture"] == "yolo11n"


def test_a_person_may_start_over_from_an_untrained_network_or_from_another_version(model, dataset):
    ModelVersionFactory(registered_model=model, labels=["CER"])
    first = ask(model, dataset, is_untrained=True)
    assert first.base_version is None
    cancel_run(first)
    other = ModelVersionFactory(labels=["SOMETHING_ELSE"])
    assert ask(model, dataset, base=other).base_version == other


def test_all_parameters_that_are_refused_are_named_in_the_readers_language(model, dataset):
    wrong = {"epochs": 0, "image_size": 100, "learning_rate": float("nan"), "colour": 1, "tiling": "perhaps"}
    with pytest.raises(ParametersError) as refusal:
        ask(model, dataset, parameters=wrong)
    said = {one["field"]: (one["code"], one["message"]) for one in refusal.value.problems}
    assert said["epochs"] == ("too_low", "Enter 1 or more.")
    assert said["image_size"] == ("not_a_multiple", "Enter a multiple of 32.")
    assert said["learning_rate"][0] == "not_finite"
    assert said["colour"][0] == "unknown"
    assert said["tiling"][1] == "Choose one of: auto, always, never."
    assert not TrainingRun.objects.exists()


@pytest.mark.parametrize(
    ("split", "problem"), [("train", "no_training_photo"), ("validation", "no_validation_photo")]
)
def test_a_dataset_with_an_empty_split_is_refused(model, dataset, split, problem):
    dataset.counts[split] |= {"photos": 0, "boxes": 0, "labels": {}}
    with pytest.raises(DatasetUnfitError) as refusal:
        ask(model, dataset)
    assert refusal.value.code == problem
    assert "split" in refusal.value.sentence


def test_a_label_needs_a_training_photo_and_a_validation_photo_unless_no_photo_shows_it(dataset):
    dataset.labels = ["CER", "ISO_MIN", "SMI", "RARE"]
    dataset.counts = counts_of(dataset.labels)
    dataset.counts["validation"]["labels"]["CER"] = 0
    dataset.counts["train"]["labels"]["SMI"] = 0
    for split in dataset.counts.values():
        split["labels"]["RARE"] = 0
    problems = dataset_problems(dataset)
    assert [(one.code, one.details) for one in problems] == [
        ("label_without_validation_photo", {"label": "CER"}),
        ("label_without_training_photo", {"label": "SMI"}),
    ]
    assert problems[0].sentence == "Label CER has no validation photo."


def test_a_dataset_without_any_box_is_refused(dataset):
    dataset.counts = counts_of(["CER"], boxes=0)
    for split in dataset.counts.values():
        split["photos"] = 4
    assert codes(dataset_problems(dataset)) == ["no_box"]


def test_a_version_would_forget_labels_that_the_dataset_lacks(model, dataset):
    ModelVersionFactory(registered_model=model, labels=["CER", "OLD"])
    with pytest.raises(DatasetUnfitError, match="OLD") as refusal:
        ask(model, dataset)
    assert (refusal.value.code, refusal.value.details) == ("labels_do_not_extend", {"labels": ["OLD"]})


def test_a_base_keeps_its_image_size_unless_somebody_chose_another(model, dataset):
    ModelVersionFactory(registered_model=model, labels=["CER"], image_size_px=1280)
    first = ask(model, dataset)
    assert first.parameters["image_size"] == 1280
    TrainingRun.objects.update(status="cancelled")
    assert ask(model, dataset, parameters={"image_size": 320}).parameters["image_size"] == 320
    TrainingRun.objects.update(status="cancelled")
    assert ask(model, dataset, is_untrained=True).parameters["image_size"] == 640


def test_weights_that_name_an_animal_in_words_know_its_code(model, dataset):
    version = ModelVersionFactory(registered_model=model, labels=["Folsomia candida"])
    dataset.labels = ["FOLSOMIA_CANDIDA"]
    dataset.counts = counts_of(["FOLSOMIA_CANDIDA"], boxes=9)
    assert dataset_problems(dataset, registered_model=model, base=version) == []


def test_a_dataset_of_another_model_and_a_base_that_cannot_be_loaded_are_refused(dataset):
    base = ModelVersionFactory(labels=["CER"], unusable_reason="the file is damaged")
    problems = dataset_problems(dataset, registered_model=RegisteredModelFactory(), base=base)
    assert codes(problems) == ["dataset_of_other_model", "base_unusable"]


def test_a_second_run_is_refused_while_one_is_open_and_names_it(model, dataset):
    first = ask(model, dataset)
    with pytest.raises(RunUnderWayError) as refusal:
        ask(model, dataset)
    assert refusal.value.run == first
    other = RegisteredModelFactory()
    ask(other, DatasetFactory(registered_model=other))  # another model's run is its own matter


@pytest.mark.django_db(transaction=True)
def test_of_two_requests_at_once_one_wins_and_the_other_is_told():
    model = RegisteredModelFactory()
    dataset = DatasetFactory(registered_model=model)
    results, together = [], threading.Barrier(2)

    def request():
        try:
            together.wait()
            results.append(ask(model, dataset))
        except RunUnderWayError as error:
            results.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=request) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    refused = [one for one in results if isinstance(one, RunUnderWayError)]
    assert [one.run for one in refused] == [one for one in results if isinstance(one, TrainingRun)]
    assert TrainingRun.objects.count() == len(refused) == 1


def test_a_waiting_run_is_cancelled_at_once_and_the_site_hears_of_it(
    model, dataset, ended, django_capture_on_commit_callbacks
):
    run, person = ask(model, dataset), UserFactory()
    with django_capture_on_commit_callbacks(execute=True):
        assert cancel_run(run, by=person)
    assert (run.status, run.cancelled_by) == (RunStatus.CANCELLED, person)
    assert run.finished_at
    assert ended == [(run.pk, RunStatus.CANCELLED)]
    assert log_text(run.log_lines.last()) == "Cancelled"
    assert not cancel_run(run, by=person)
    assert ask(model, dataset).pk != run.pk  # the model is free again


def test_a_running_run_is_asked_to_end_and_ended_by_the_sweep_when_its_worker_is_dead(model, dataset, ended):
    run = ask(model, dataset)
    rows: LeasedWorkQuerySet = TrainingRun.objects.all()
    rows.claim(limit=1)
    assert cancel_run(run)
    assert (run.status, run.is_being_cancelled) == (RunStatus.RUNNING, True)
    assert end_lost_runs() == 0
    TrainingRun.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    assert end_lost_runs() == 1
    run.refresh_from_db()
    assert run.status == RunStatus.CANCELLED


def test_a_run_whose_last_worker_fell_silent_fails_with_a_sentence(
    ended, settings, django_capture_on_commit_callbacks
):
    run = TrainingRunFactory(
        status=RunStatus.RUNNING,
        attempts=settings.JOB_MAX_ATTEMPTS,
        lease_token="0" * 32,
        lease_until=timezone.now() - timedelta(seconds=1),
    )
    with django_capture_on_commit_callbacks(execute=True):
        assert end_lost_runs() == 1
    run.refresh_from_db()
    assert run.status == RunStatus.FAILED
    assert failure_text(run) == "The training machine fell silent again and again."
    assert ended == [(run.pk, RunStatus.FAILED)]


def test_a_failed_run_can_be_asked_for_again_with_the_same_choices(model, dataset):
    first = ask(model, dataset, parameters={"epochs": 3})
    TrainingRun.objects.update(status=RunStatus.FAILED)
    again = retry_run(first)
    assert (again.dataset, again.chosen, again.base_version) == (dataset, {"epochs": 3}, None)


def test_the_time_left_is_told_by_the_median_epoch(model, dataset):
    run = ask(model, dataset, parameters={"epochs": 10})
    assert run.eta is None
    now = timezone.now()
    for epoch, seconds in enumerate((90, 10, 12), start=1):
        TrainingEpochFactory(run=run, epoch=epoch, seconds=seconds, finished_at=now)
    run.status, run.epochs_done = RunStatus.RUNNING, 3
    assert 82 < run.eta.total_seconds() <= 84


def test_a_line_of_the_log_is_said_in_the_readers_language_and_survives_numbers_that_changed_their_name():
    line = TrainingLogLineFactory(code="withdrawn_left_out", details={"n": 2}, text="")
    assert log_text(line) == "2 photos that were deleted meanwhile are left out"
    assert log_text(TrainingLogLine(code="out_of_memory", details={"old": 1}, text="as it was")) == (
        "The memory does not suffice, not even for one photo at a time. Choose a smaller image size or architecture."
    )
    assert log_text(TrainingLogLine(code="of_tomorrow", text="as it was")) == "as it was"
    assert log_text(TrainingLogLine(text="its own words")) == "its own words"
    with translation.override("fr"):
        assert log_text(line)


def test_a_failure_of_unknown_kind_says_what_is_known():
    run = TrainingRunFactory(status=RunStatus.FAILED, failure_reason="KeyError: 'x'")
    assert failure_text(run) == "Something went wrong: KeyError: 'x'"
    assert failure_text(TrainingRunFactory()) == ""

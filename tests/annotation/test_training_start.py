"""When a survey's training starts: yes or no with a sentence, by itself, on a curator's word; never twice."""

import threading
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.utils import timezone, translation

from apps.annotation.models import AnnotationTask, TrainingStart
from apps.annotation.services import training
from apps.annotation.services.readiness import readiness_of
from apps.annotation.services.training import (
    NoModelError,
    consider_training,
    consider_trainings,
    continue_next_start,
    ready_to_train,
    request_training,
    start_failure,
    start_training,
)
from apps.annotation.signals import annotation_accepted
from apps.annotation.tasks.training import start_trainings, sweep_training
from apps.common.heartbeat import broker
from apps.common.leased import LeasedWork, WorkStatus
from apps.common.tasks import is_awake
from apps.observations.models import Label, Survey
from apps.observations.services.deletion import delete_photo
from apps.training.models import Dataset, RunStatus, TrainingRun
from apps.training.services.runs import RunUnderWayError
from apps.training.signals import run_ended
from tests.annotation.factories import AnnotatedBoxFactory, AnnotationFactory, PolicyFactory
from tests.annotation.test_freeze import accept, answered
from tests.factories import LabelFactory, ModelVersionFactory, SurveyFactory, UserFactory
from tests.training.factories import ComparisonFactory, DatasetFactory, TrainingRunFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def survey() -> Survey:
    """One that trains after four new answers."""
    survey = SurveyFactory(slug="springtails")
    PolicyFactory(survey=survey, train_after=4)
    return survey


@pytest.fixture
def cer(survey: Survey) -> Label:
    return LabelFactory(survey=survey, code="CER")


def enough(survey: Survey, label: Label) -> list[AnnotationTask]:
    """Four answers, one of them for validation."""
    return [
        answered(survey, boxes=[label], split=split) for split in ("train", "train", "validation", "test")
    ]


def ended(run: TrainingRun, status: str = RunStatus.FAILED) -> None:
    TrainingRun.objects.filter(pk=run.pk).update(status=status, lease_token=None, lease_until=None)


def again(task: AnnotationTask, label: Label) -> None:
    """A corrected answer."""
    answer = AnnotationFactory(task=task, is_empty=False, box_count=1)
    AnnotatedBoxFactory(annotation=answer, number=1, label=label)
    accept(task, answer)


# --- Yes or no, with a sentence -----------------------------------------------------------------------------


def test_a_survey_without_a_model_says_so(survey: Survey) -> None:
    survey.registered_model = None
    ready = ready_to_train(survey)
    assert (ready.is_ready, ready.code, ready.may_start) == (False, "no_model", False)
    assert ready.sentence == "No model is chosen for this survey. A curator chooses one in its settings."
    with pytest.raises(NoModelError):
        start_training(survey=survey)


def test_nothing_accepted_is_told(survey: Survey) -> None:
    ready = ready_to_train(survey)
    assert (ready.code, ready.missing, ready.may_start) == ("nothing_accepted", 4, False)
    assert ready.sentence == "No photo of this survey has an accepted answer yet."


def test_the_photos_that_are_still_needed_are_counted(survey: Survey, cer: Label) -> None:
    answered(survey, boxes=[cer])
    answered(survey, boxes=[cer], split="validation")
    ready = ready_to_train(survey)
    assert (ready.sentence, ready.missing, ready.new, ready.needed) == (
        "2 more accepted photos needed.",
        2,
        2,
        4,
    )
    assert ready.may_start  # a curator needs no fifty
    answered(survey)
    assert ready_to_train(survey).sentence == "1 more accepted photo needed."


def test_with_enough_photos_it_is_ready(survey: Survey, cer: Label) -> None:
    enough(survey, cer)
    ready = ready_to_train(survey)
    assert (ready.is_ready, ready.code, ready.missing) == (True, "ready", 0)
    assert ready.sentence == "Ready: 4 accepted photos are new since the last training."


def test_a_label_without_a_validation_photo_keeps_curators_from_starting_too(
    survey: Survey, cer: Label
) -> None:
    for _photo in range(4):
        answered(survey, boxes=[cer])
    answered(survey, split="validation")
    ready = ready_to_train(survey)
    assert (ready.code, ready.may_start) == ("label_without_validation_photo", False)
    assert "CER has no validation photo" in ready.sentence
    assert ready.obstacles == (ready.sentence,)


def test_a_label_that_nobody_found_yet_is_no_obstacle(survey: Survey, cer: Label) -> None:
    enough(survey, cer)
    LabelFactory(survey=survey, code="LEP")
    assert ready_to_train(survey).is_ready


def test_without_validation_photos_nothing_can_be_trained(survey: Survey, cer: Label) -> None:
    for _photo in range(4):
        answered(survey, boxes=[cer])
    ready = ready_to_train(survey)
    assert (ready.code, ready.may_start) == ("no_validation_photo", False)


def test_a_run_under_way_is_named(survey: Survey, cer: Label) -> None:
    enough(survey, cer)
    run = start_training(survey=survey)
    ready = ready_to_train(survey)
    assert (ready.code, ready.run, ready.may_start) == ("run_under_way", run, False)
    assert ready.sentence == "A run is under way."


@pytest.mark.parametrize("status", [RunStatus.FAILED, RunStatus.CANCELLED])
def test_after_a_run_of_any_end_the_count_begins_anew(survey: Survey, cer: Label, status: str) -> None:
    tasks = enough(survey, cer)
    ended(start_training(survey=survey), status)
    assert ready_to_train(survey).sentence == "4 more accepted photos needed."
    again(tasks[0], cer)  # a corrected answer is one that no run has had
    assert ready_to_train(survey).missing == 3
    delete_photo(photo=tasks[1].photo)
    assert ready_to_train(survey).missing == 3


def test_what_is_frozen_but_was_not_trained_on_is_still_new(survey: Survey, cer: Label) -> None:
    from apps.annotation.services.datasets import freeze_dataset

    enough(survey, cer)
    freeze_dataset(survey)
    assert ready_to_train(survey).is_ready


def test_private_photos_and_those_in_no_split_are_not_counted(survey: Survey, cer: Label) -> None:
    answered(survey, boxes=[cer], visibility="private")
    AnnotationTask.objects.filter(pk=answered(survey, boxes=[cer]).pk).update(group=None)
    assert ready_to_train(survey).code == "nothing_accepted"


def test_automatic_training_can_be_switched_off(survey: Survey, cer: Label) -> None:
    enough(survey, cer)
    PolicyFactory(survey=survey)
    survey.annotation_policy.trains_by_itself = False
    survey.annotation_policy.save()
    ready = ready_to_train(survey)
    assert (ready.is_ready, ready.may_start, ready.code) == (False, True, "by_hand")
    assert "4 accepted photos are new" in ready.sentence
    assert consider_training(survey) is None


def test_while_the_last_version_is_compared_no_training_starts_by_itself(survey: Survey, cer: Label) -> None:
    enough(survey, cer)
    ComparisonFactory(registered_model=survey.registered_model)
    ready = ready_to_train(survey)
    assert (ready.is_ready, ready.may_start, ready.code) == (False, True, "comparison_under_way")


def test_surveys_that_share_a_model_are_counted_apart(survey: Survey, cer: Label) -> None:
    enough(survey, cer)
    other = SurveyFactory(slug="plates", registered_model=survey.registered_model)
    PolicyFactory(survey=other, train_after=1)
    ended(start_training(survey=survey))
    found = readiness_of([survey, other])
    assert found[survey.pk].missing == 4
    assert found[other.pk].code == "nothing_accepted"


def test_the_number_of_queries_does_not_grow_with_surveys(
    survey: Survey, cer: Label, django_assert_num_queries: Any
) -> None:
    enough(survey, cer)
    others = [SurveyFactory() for _ in range(5)]
    for other in others:
        enough(other, LabelFactory(survey=other))
    with django_assert_num_queries(10):
        readiness_of([survey])
    with django_assert_num_queries(10):
        readiness_of([survey, *others], with_obstacles=True)


def test_the_sentence_is_in_the_readers_language_and_number(survey: Survey, cer: Label) -> None:
    answered(survey, boxes=[cer])
    with translation.override("fr"):
        assert "3" in ready_to_train(survey).sentence


# --- By itself ----------------------------------------------------------------------------------------------


def test_enough_answers_start_a_training_by_itself_and_only_once(survey: Survey, cer: Label) -> None:
    enough(survey, cer)
    start_trainings()
    run = TrainingRun.objects.get()
    assert (run.trigger, run.dataset.name, run.registered_model) == (
        "automatic",
        "springtails",
        survey.registered_model,
    )
    start = TrainingStart.objects.get()
    assert (start.status, start.run) == (WorkStatus.DONE, run)
    start_trainings()
    sweep_training()
    ended(run)
    start_trainings()
    assert TrainingRun.objects.count() == 1


def test_the_next_one_starts_when_as_many_again_have_come(survey: Survey, cer: Label) -> None:
    tasks = enough(survey, cer)
    start_trainings()
    ended(TrainingRun.objects.get())
    for task in tasks[:3]:
        again(task, cer)
    start_trainings()
    assert TrainingRun.objects.count() == 1
    answered(survey, boxes=[cer])
    start_trainings()
    assert TrainingRun.objects.count() == 2


def test_too_few_answers_start_nothing_and_freeze_nothing(survey: Survey, cer: Label) -> None:
    answered(survey, boxes=[cer])
    assert consider_trainings() == 0
    assert not Dataset.objects.exists()


def test_the_sweep_finds_what_a_lost_message_left(survey: Survey, cer: Label) -> None:
    enough(survey, cer)
    sweep_training()
    assert TrainingStart.objects.get().status == WorkStatus.PENDING


def test_an_accepted_answer_and_the_end_of_a_run_wake_it(survey: Survey, cer: Label) -> None:
    mark = f"{settings.CELERY_BROKER_TRANSPORT_OPTIONS['global_keyprefix']}woken:{start_trainings.name}"
    task = answered(survey, boxes=[cer])
    assert task.accepted
    for signal, news in (
        (annotation_accepted, {"task_id": task.pk, "annotation_id": task.accepted.pk}),
        (run_ended, {"run": TrainingRunFactory(registered_model=survey.registered_model)}),
    ):
        is_awake(start_trainings)
        assert not broker().exists(mark)
        signal.send(sender=None, **news)
        assert broker().exists(mark)


@pytest.mark.parametrize("point", ["freeze_dataset", "request_run"])
def test_killed_at_any_point_it_is_started_once(
    survey: Survey, cer: Label, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker dies after the dataset was frozen, or after the run was asked for but before that was committed."""
    enough(survey, cer)
    consider_trainings()
    real = getattr(training, point)

    def die(*args: Any, **kwargs: Any) -> None:
        real(*args, **kwargs)
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(training, point, die)
        with pytest.raises(SystemExit):
            continue_next_start()
    assert not TrainingRun.objects.exists()
    start = TrainingStart.objects.get()
    assert start.status == WorkStatus.PROCESSING
    assert not continue_next_start()  # its lease runs
    TrainingStart.objects.update(lease_until=timezone.now())
    sweep_training()
    assert continue_next_start()
    assert TrainingRun.objects.count() == Dataset.objects.count() == TrainingStart.objects.count() == 1


def test_a_start_that_keeps_dying_is_given_up_until_another_answer_comes(survey: Survey, cer: Label) -> None:
    enough(survey, cer)
    consider_trainings()
    TrainingStart.objects.update(status=WorkStatus.FAILED, failure_reason="worker_lost")
    assert consider_trainings() == 0
    task = answered(survey, boxes=[cer])
    AnnotationTask.objects.filter(pk=task.pk).update(accepted_at=timezone.now())
    assert consider_trainings() == 1


@pytest.mark.django_db(transaction=True)
def test_two_workers_at_once_start_one() -> None:
    survey = SurveyFactory(slug="springtails")
    PolicyFactory(survey=survey, train_after=4)
    enough(survey, LabelFactory(survey=survey))
    barrier = threading.Barrier(4)
    errors: list[BaseException] = []

    def work() -> None:
        try:
            barrier.wait()
            start_trainings()
        except BaseException as error:  # noqa: BLE001 (shown by the assertion below)
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert TrainingStart.objects.count() == TrainingRun.objects.count() == Dataset.objects.count() == 1


def test_another_start_on_the_same_answers_finds_the_run_of_the_first(survey: Survey, cer: Label) -> None:
    """Somebody trained on them between the claim and the freeze."""
    enough(survey, cer)
    consider_trainings()
    run = start_training(survey=survey)
    ended(run)
    assert continue_next_start()
    assert TrainingStart.objects.get().run == run
    assert TrainingRun.objects.count() == 1


# --- On a curator's word ------------------------------------------------------------------------------------


def test_a_curator_starts_one_with_parameters_and_a_base(survey: Survey, cer: Label) -> None:
    enough(survey, cer)
    curator = UserFactory(is_staff=True)
    base = ModelVersionFactory(registered_model=survey.registered_model, labels=["CER"])
    start, is_new = request_training(
        survey=survey, by=curator, parameters={"epochs": 3, "image_size": 96}, base=base
    )
    assert is_new
    assert start.priority == LeasedWork.Priority.INTERACTIVE
    assert request_training(survey=survey, by=curator) == (start, False)
    assert continue_next_start()
    run = TrainingRun.objects.get()
    assert (run.requested_by, run.base_version, run.epochs, run.trigger) == (curator, base, 3, "curator")
    assert run.parameters["image_size"] == 96


def test_a_curator_starts_one_from_an_untrained_network(survey: Survey, cer: Label) -> None:
    enough(survey, cer)
    ModelVersionFactory(registered_model=survey.registered_model, labels=["CER"])
    request_training(survey=survey, by=UserFactory(is_staff=True), is_untrained=True)
    continue_next_start()
    assert TrainingRun.objects.get().base_version is None


def test_what_was_refused_says_why(survey: Survey, cer: Label) -> None:
    for _photo in range(3):
        answered(survey, boxes=[cer])
    answered(survey, split="validation")
    start, _ = request_training(survey=survey, by=UserFactory())
    continue_next_start()
    start.refresh_from_db()
    assert start.status == WorkStatus.FAILED
    assert "CER has no validation photo" in start_failure(start)
    assert not TrainingRun.objects.exists()


def test_a_run_that_began_meanwhile_refuses_the_start(survey: Survey, cer: Label) -> None:
    enough(survey, cer)
    request_training(survey=survey, by=UserFactory())
    TrainingRunFactory(registered_model=survey.registered_model, dataset=DatasetFactory())
    continue_next_start()
    assert start_failure(TrainingStart.objects.get()) == "Another run of this model was under way already."
    with pytest.raises(RunUnderWayError):
        start_training(survey=survey)


def test_odd_parameters_are_refused_by_their_name(survey: Survey, cer: Label) -> None:
    enough(survey, cer)
    request_training(survey=survey, by=UserFactory(), parameters={"epochs": -1})
    continue_next_start()
    start = TrainingStart.objects.get()
    assert "epochs: Enter 1 or more." in start_failure(start)
    with translation.override("fr"):  # the worker that refused it spoke another language
        assert "époques\u00a0: Entrez 1 ou plus." in start_failure(start)

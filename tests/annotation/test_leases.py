"""Who holds a photo, for how long, and what becomes of it afterwards."""

from datetime import timedelta

import pytest
from django.db.models.functions import Now
from django.utils import timezone

from apps.accounts.models import User
from apps.annotation.models import AnnotationPolicy, AnnotationTask, Assignment, GoldenPhoto, Review
from apps.annotation.services.leases import (
    LeaseLostError,
    hold,
    is_held,
    release,
    return_ended,
    set_aside,
    skip,
)
from apps.annotation.services.queue import next_task
from apps.annotation.tasks.queue import sweep_queue
from apps.observations.models import Observation, Survey
from tests.annotation.factories import AnnotationFactory, ExpertFactory
from tests.annotation.queues import queued
from tests.factories import ModelVersionFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def survey() -> Survey:
    return queued([0.9, 0.7, 0.5])


def opened(expert: User, survey: Survey) -> Assignment:
    assignment = next_task(expert, survey)
    assert assignment is not None
    return assignment


def let_end(assignment: Assignment) -> None:
    """As if the last action had been half an hour ago."""
    Assignment.objects.filter(pk=assignment.pk).update(lease_until=Now() - timedelta(minutes=15))


def test_a_lease_lasts_the_minutes_of_the_rules_by_the_clock_of_the_database(survey: Survey) -> None:
    AnnotationPolicy.objects.update(lease_minutes=4)
    assignment = opened(ExpertFactory(), survey)
    left = assignment.lease_until - timezone.now()
    assert timedelta(minutes=3, seconds=50) < left <= timedelta(minutes=4, seconds=5)


def test_every_action_extends_the_lease(survey: Survey) -> None:
    expert = ExpertFactory()
    assignment = opened(expert, survey)
    Assignment.objects.filter(pk=assignment.pk).update(lease_until=Now() + timedelta(seconds=20))
    again = hold(assignment.task, expert)
    assert again.pk == assignment.pk
    assert again.lease_until - timezone.now() > timedelta(minutes=14)
    assert (again.given_as, again.opened_at) == (assignment.given_as, assignment.opened_at)


def test_an_ended_lease_is_back_in_the_queue_by_the_clock_alone(survey: Survey) -> None:
    first = opened(ExpertFactory(), survey)
    second = opened(ExpertFactory(), survey)
    let_end(first)
    assert not is_held(first)
    third = opened(ExpertFactory(), survey)
    assert third.task == first.task != second.task


def test_who_comes_back_late_goes_on_if_the_photo_is_still_free(survey: Survey) -> None:
    expert = ExpertFactory()
    assignment = opened(expert, survey)
    Assignment.objects.filter(pk=assignment.pk).update(draft={"boxes": []}, draft_version=3, seconds=12)
    let_end(assignment)
    again = hold(assignment.task, expert)
    assert (again.pk, again.draft, again.draft_version, again.seconds) == (
        assignment.pk,
        {"boxes": []},
        3,
        12,
    )
    assert is_held(again)


def test_who_comes_back_too_late_is_told_that_somebody_else_has_it(survey: Survey) -> None:
    late = ExpertFactory()
    assignment = opened(late, survey)
    let_end(assignment)
    assert opened(ExpertFactory(), survey).task == assignment.task
    with pytest.raises(LeaseLostError) as lost:
        hold(assignment.task, late)
    assert lost.value.code == "held"


def test_the_sweep_writes_down_which_leases_ended_and_keeps_the_drafts(survey: Survey) -> None:
    ended, running = opened(ExpertFactory(), survey), opened(ExpertFactory(), survey)
    Assignment.objects.filter(pk=ended.pk).update(draft={"boxes": []})
    let_end(ended)
    sweep_queue()
    ended.refresh_from_db()
    running.refresh_from_db()
    assert (ended.state, ended.lease_until, ended.draft) == ("returned", None, {"boxes": []})
    assert ended.closed_at is not None
    assert running.state == "open"
    assert return_ended() == 0


def test_a_draft_keeps_the_version_it_was_begun_on(survey: Survey) -> None:
    expert = ExpertFactory()
    assignment = opened(expert, survey)
    began_on = assignment.model_version_id
    newer = ModelVersionFactory(registered_model=survey.registered_model, number=2, stage="archived")
    assignment.task.photo.model_version = newer
    assignment.task.photo.save()
    Assignment.objects.filter(pk=assignment.pk).update(draft={"boxes": []})
    release(assignment)
    assert hold(assignment.task, expert).model_version_id == began_on
    Assignment.objects.filter(pk=assignment.pk).update(draft=None)
    release(assignment)
    assert hold(assignment.task, expert).model_version_id == newer.pk


def test_given_back_is_free_for_others_at_once(survey: Survey) -> None:
    assignment = opened(ExpertFactory(), survey)
    release(assignment)
    release(assignment)
    assert assignment.state == "returned"
    assert opened(ExpertFactory(), survey).task == assignment.task


def test_a_skipped_photo_goes_to_others_with_the_reason_kept(survey: Survey) -> None:
    expert = ExpertFactory()
    assignment = opened(expert, survey)
    assert not skip(assignment, "blurred", "out of focus")
    assert (assignment.state, assignment.skip_reason, assignment.skip_note) == (
        "skipped",
        "blurred",
        "out of focus",
    )
    assert opened(expert, survey).task != assignment.task
    assert opened(ExpertFactory(), survey).task == assignment.task
    with pytest.raises(LeaseLostError) as lost:
        skip(assignment, "blurred")
    assert lost.value.code == "ended"


def test_a_photo_that_three_experts_pass_on_is_set_aside_for_a_curator(survey: Survey) -> None:
    first = opened(ExpertFactory(), survey)
    skip(first, "blurred")
    second = opened(ExpertFactory(), survey)
    skip(second, "blurred")
    third = opened(ExpertFactory(), survey)
    assert first.task == second.task == third.task
    assert skip(third, "bad_picture")
    task = AnnotationTask.objects.get(pk=first.task_id)
    assert task.state == "set_aside"
    review = Review.objects.get(task=task)
    assert (review.kind, review.reviewer, review.note) == ("set_aside", None, "blurred, bad_picture")
    assert opened(ExpertFactory(), survey).task != task


def test_one_expert_who_passes_on_three_times_counts_once(survey: Survey) -> None:
    expert = ExpertFactory()
    assignment = opened(expert, survey)
    for _ in range(3):
        assert not skip(assignment, "blurred")
        assignment = hold(assignment.task, expert)
    assert AnnotationTask.objects.get(pk=assignment.task_id).state == "waiting"


def test_a_photo_is_opened_by_its_link_by_whoever_may(survey: Survey) -> None:
    task = AnnotationTask.objects.earliest("pk")
    expert = ExpertFactory()
    assignment = hold(task, expert)
    assert (assignment.given_as, assignment.task) == ("chosen", task)
    with pytest.raises(LeaseLostError):
        hold(task, ExpertFactory())
    policy = AnnotationPolicy.objects.get(survey=survey)
    assert (policy.control_given, policy.active_given) == (0, 0), "what somebody chose is no draw"


@pytest.mark.parametrize("state", ["conflict", "set_aside", "done"])
def test_what_no_longer_waits_cannot_be_opened_and_the_error_says_so(survey: Survey, state: str) -> None:
    task = AnnotationTask.objects.earliest("pk")
    AnnotationTask.objects.filter(pk=task.pk).update(state=state, accepted_at=Now())
    with pytest.raises(LeaseLostError) as lost:
        hold(task, ExpertFactory())
    assert lost.value.code == state


def test_a_curator_may_draw_where_experts_disagree(survey: Survey) -> None:
    task = AnnotationTask.objects.earliest("pk")
    AnnotationTask.objects.filter(pk=task.pk).update(state="conflict")
    assert hold(task, ExpertFactory(is_superuser=True)).task == task


def test_a_private_or_deleted_photo_cannot_be_opened(survey: Survey) -> None:
    task = AnnotationTask.objects.earliest("pk")
    Observation.objects.filter(photos=task.photo).update(visibility="private")
    with pytest.raises(LeaseLostError) as lost:
        hold(task, ExpertFactory())
    assert lost.value.code == "not_public"
    gone = AnnotationTask.objects.latest("pk")
    gone.photo.delete()
    with pytest.raises(LeaseLostError):
        hold(gone, ExpertFactory())


def test_whoever_has_answered_may_come_back_to_correct(survey: Survey) -> None:
    expert = ExpertFactory()
    assignment = opened(expert, survey)
    Assignment.objects.filter(pk=assignment.pk).update(state="submitted", lease_until=None)
    AnnotationTask.objects.filter(pk=assignment.task_id).update(state="done", accepted_at=Now())
    again = hold(assignment.task, expert)
    assert (again.pk, again.state) == (assignment.pk, "submitted")


def test_a_golden_photo_is_held_by_several_and_stays_as_it_is() -> None:
    survey = queued([0.9, 0.5], golden_rate=0.5)
    task = AnnotationTask.objects.earliest("pk")
    known = AnnotationFactory(task=task)
    AnnotationTask.objects.filter(pk=task.pk).update(
        state="done", accepted=known, accepted_at=known.created_at
    )
    GoldenPhoto.objects.create(task=task, answer=known)
    experts = [ExpertFactory() for _ in range(2)]
    for expert in experts:
        Assignment.objects.create(
            task=task, expert=expert, given_as="golden", lease_until=timezone.now() + timedelta(minutes=1)
        )
        assert hold(task, expert).given_as == "golden"
        let_end(Assignment.objects.get(task=task, expert=expert))
        assert hold(task, expert).given_as == "golden"
    assert opened(experts[0], survey).task == task
    for expert in (*experts, ExpertFactory(), ExpertFactory()):
        golden = Assignment.objects.filter(task=task, expert=expert).first()
        if golden:
            assert not skip(golden, "not_sure")
    assert AnnotationTask.objects.get(pk=task.pk).state == "done"


def test_setting_aside_leaves_an_open_photo_to_its_expert_but_gives_it_to_nobody_else(survey: Survey) -> None:
    assignment = opened(ExpertFactory(), survey)
    assert set_aside(assignment.task, by=ExpertFactory(), note="a hand")
    assert not set_aside(assignment.task)
    assert is_held(assignment)
    assert opened(ExpertFactory(), survey).task != assignment.task

"""The order experts are given photos in."""

import threading
from collections import Counter

import pytest
from django.db import connection, transaction

from apps.accounts.models import User
from apps.annotation.active_learning.strategies import draw
from apps.annotation.models import AnnotationPolicy, AnnotationTask, Assignment, GoldenPhoto
from apps.annotation.services.queue import (
    enqueue_photos,
    hold,
    missing_photos,
    next_task,
    peek_next,
    queue_state,
    release,
    skip,
)
from apps.common.leased import WorkStatus
from apps.observations.models import Observation, Photo, Survey
from apps.observations.services.deletion import delete_photos
from tests.annotation.factories import AnnotationFactory, ExpertFactory
from tests.annotation.queues import boxes, different_hash, photo_of, queued
from tests.factories import PhotoFactory, SurveyFactory

pytestmark = pytest.mark.django_db


@transaction.atomic
def answer(assignment: Assignment) -> None:
    """As `answers.submit_answer` leaves it, without the boxes."""
    task = AnnotationTask.objects.select_for_update().get(pk=assignment.task_id)
    annotation = AnnotationFactory(task=task, author=assignment.expert)
    Assignment.objects.filter(pk=assignment.pk).update(state="submitted", lease_until=None)
    answers = Assignment.objects.filter(task=task, state="submitted").count()
    AnnotationTask.objects.filter(pk=task.pk).update(answers=answers)
    if answers >= task.answers_needed:
        AnnotationTask.objects.filter(pk=task.pk).update(
            state="done", accepted=annotation, accepted_at=annotation.created_at
        )


def given(expert: User, survey: Survey, count: int = 1_000) -> list[int]:
    """The photos the expert is given, one after the other, answering each."""
    photos = []
    while len(photos) < count and (assignment := next_task(expert, survey)):
        photos.append(assignment.task.photo_id)
        answer(assignment)
    return photos


def test_the_order_given_is_that_of_an_independent_computation() -> None:
    """Photos of none to three boxes; scores and control arm worked out here by hand, from the stored class scores."""
    survey = queued([], control_fraction=0.25, comment_weight=0)
    dice = [draw(5, str(n)) for n in range(500)]
    photos, expected = [], {}
    for n in range(24):
        photo = photo_of(survey)
        count = n % 4
        rows = [[dice[10 * n + 3 * box + k] for k in range(3)] for box in range(count)]
        boxes(photo, photo.model_version, rows)
        best = [sorted(row, reverse=True)[:2] for row in rows]
        expected[photo.pk] = sum(1 - (first - second) for first, second in best) if rows else 1.0
        photos.append(photo)
    enqueue_photos([photo.pk for photo in photos])
    tasks = {task.photo_id: task for task in AnnotationTask.objects.all()}
    control = sorted((pk for pk in tasks if tasks[pk].arm == "control"), key=lambda pk: tasks[pk].draw)
    active = sorted((pk for pk in tasks if tasks[pk].arm == "active"), key=lambda pk: (-expected[pk], pk))
    assert control
    wanted: list[int] = []
    from_control = 0
    while control or active:
        is_control_turn = from_control + 1 <= 0.25 * (len(wanted) + 1)
        arm = control if (is_control_turn and control) or not active else active
        from_control += arm is control
        wanted.append(arm.pop(0))
    assert given(ExpertFactory(), survey) == wanted


def test_highest_score_first_also_when_scores_change_meanwhile() -> None:
    survey = queued([0.9, 0.8, 0.7, 0.6, 0.5])
    first, second = ExpertFactory(), ExpertFactory()
    photos = list(Photo.objects.order_by("pk"))
    assert next_task(first, survey).task.photo == photos[4]
    boxes(photos[0], photos[0].model_version, [[0.5], [0.5]])
    enqueue_photos([photos[0].pk])
    assert next_task(second, survey).task.photo == photos[0]


def test_what_an_expert_has_open_is_resumed_first() -> None:
    survey = queued([0.9, 0.5])
    expert = ExpertFactory()
    assignment = next_task(expert, survey)
    assert assignment == next_task(expert, survey)
    assert Assignment.objects.count() == 1


def test_the_queue_opens_with_the_minimum_of_detected_photos() -> None:
    survey = queued([0.9, 0.5])
    Survey.objects.update(minimum_photos=4)
    survey.refresh_from_db()
    PhotoFactory(observation__survey=survey)  # not detected
    expert = ExpertFactory()
    assert missing_photos(survey) == 2
    assert next_task(expert, survey) is None
    assert peek_next(expert, survey) is None
    state = queue_state(survey)
    assert (state.is_open, state.missing_photos, state.waiting) == (False, 2, 2)
    for _ in range(2):
        enqueue_photos([photo_of(survey).pk])
    assert queue_state(survey).is_open
    assert next_task(expert, survey) is not None


def test_the_state_of_the_queue_counts_what_everybody_may_see() -> None:
    survey = queued([0.9, 0.8, 0.7, 0.6, 0.5])
    experts = [ExpertFactory() for _ in range(3)]
    answer(next_task(experts[0], survey))
    next_task(experts[1], survey)
    tasks = AnnotationTask.objects.order_by("pk")
    AnnotationTask.objects.filter(pk=tasks[0].pk).update(state="conflict")
    AnnotationTask.objects.filter(pk=tasks[1].pk).update(state="set_aside")
    state = queue_state(survey)
    assert (state.waiting, state.open, state.done, state.conflict, state.set_aside) == (2, 1, 1, 1, 1)


@pytest.mark.parametrize("visibility", ["private", "hidden"])
def test_private_and_hidden_photos_are_not_given_and_return_when_they_are_public_again(
    visibility: str,
) -> None:
    survey = queued([0.9, 0.5])
    expert = ExpertFactory()
    hidden = Photo.objects.latest("pk")
    Observation.objects.filter(pk=hidden.observation_id).update(visibility=visibility)
    assert queue_state(survey).waiting == 1
    assert peek_next(expert, survey).photo != hidden
    Observation.objects.filter(pk=hidden.observation_id).update(visibility="public")
    assert next_task(expert, survey).task.photo == hidden


def test_a_photo_withdrawn_while_it_is_open_is_not_resumed() -> None:
    survey = queued([0.9, 0.5])
    expert = ExpertFactory()
    assignment = next_task(expert, survey)
    Observation.objects.filter(pk=assignment.task.photo.observation_id).update(visibility="private")
    assert next_task(expert, survey) != assignment


def test_private_photos_are_queued_as_such() -> None:
    survey = queued([])
    photo = photo_of(survey, observation__survey=survey, observation__visibility="private")
    enqueue_photos([photo.pk])
    assert not AnnotationTask.objects.get(photo=photo).is_public
    assert next_task(ExpertFactory(), survey) is None


@pytest.mark.slow
def test_the_control_arm_keeps_its_share_in_the_order_of_its_draws() -> None:
    survey = queued([0.5 + n / 1000 for n in range(80)], control_fraction=0.2)
    arms = dict(AnnotationTask.objects.values_list("photo", "arm"))
    order = given(ExpertFactory(), survey, 40)
    assert Counter(arms[photo] for photo in order)["control"] == 8
    draws = dict(AnnotationTask.objects.filter(arm="control").values_list("photo", "draw"))
    drawn = [draws[photo] for photo in order if arms[photo] == "control"]
    assert drawn == sorted(draws.values())[:8]
    policy = AnnotationPolicy.objects.get(survey=survey)
    assert (policy.control_given, policy.active_given) == (8, 32)


@pytest.mark.slow
def test_when_one_arm_is_empty_the_other_goes_on() -> None:
    survey = queued([0.5 + n / 1000 for n in range(40)], control_fraction=0.2)
    assert len(given(ExpertFactory(), survey)) == 40


def test_an_expert_is_not_given_what_they_answered_or_skipped() -> None:
    survey = queued([0.9, 0.7, 0.5], experts_per_photo=3)
    expert = ExpertFactory()
    skipped = next_task(expert, survey)
    skip(skipped, "not_sure")
    rest = given(expert, survey)
    assert len(rest) == 2
    assert skipped.task.photo_id not in rest
    other = next_task(ExpertFactory(), survey)
    assert other.task == skipped.task


def test_several_experts_may_have_one_photo_at_once_where_it_needs_several_answers() -> None:
    survey = queued([0.9, 0.5], experts_per_photo=2)
    one, two, three = (next_task(ExpertFactory(), survey) for _ in range(3))
    assert one.task == two.task != three.task
    answer(one)
    assert next_task(ExpertFactory(), survey).task == three.task
    release(two)
    assert next_task(ExpertFactory(), survey).task == one.task


def test_near_duplicates_of_what_somebody_looks_at_wait_until_nothing_else_is_left() -> None:
    looks = different_hash(1)
    survey = queued(
        [0.5, 0.51, 0.52, 0.9, 0.95],
        hashes=[looks, looks ^ 1, looks ^ 2, different_hash(3), different_hash(4)],
    )
    photos = list(Photo.objects.order_by("pk").values_list("pk", flat=True))
    assert given(ExpertFactory(), survey) == [photos[n] for n in (0, 3, 4, 1, 2)]


def test_near_duplicates_wait_no_longer_when_the_photo_is_given_back() -> None:
    looks = different_hash(1)
    survey = queued([0.5, 0.51, 0.9], hashes=[looks, looks ^ 1, different_hash(2)])
    first = next_task(ExpertFactory(), survey)
    assert AnnotationTask.objects.filter(waits_for=first.task).count() == 1
    release(first)
    assert not AnnotationTask.objects.filter(waits_for__isnull=False).exists()


def test_a_new_photo_waits_when_experts_have_seen_its_like_since_the_promotion() -> None:
    looks = different_hash(1)
    survey = queued([0.5, 0.9], hashes=[looks, different_hash(2)])
    seen = next_task(ExpertFactory(), survey)
    twin = photo_of(survey, scores=[0.5, 0.5], perceptual_hash=looks ^ 1)
    enqueue_photos([twin.pk])
    assert AnnotationTask.objects.get(photo=twin).waits_for == seen.task


@pytest.mark.slow
def test_golden_photos_come_at_their_rate_and_none_twice() -> None:
    survey = queued([0.5 + n / 1000 for n in range(90)], golden_rate=0.25)
    expert, author = ExpertFactory(), ExpertFactory()
    tasks = list(AnnotationTask.objects.order_by("score")[:30])
    for task in tasks:
        known = AnnotationFactory(task=task, author=author)
        AnnotationTask.objects.filter(pk=task.pk).update(
            state="done", accepted=known, accepted_at=known.created_at
        )
        GoldenPhoto.objects.create(task=task, answer=known)
    policy = AnnotationPolicy.objects.get(survey=survey)
    golden = []
    for n in range(40):
        assignment = next_task(expert, survey)
        assert assignment is not None
        assert (assignment.given_as == "golden") == (draw(policy.seed, f"golden:{expert.pk}:{n}") < 0.25)
        golden += [assignment.task_id] if assignment.given_as == "golden" else []
        Assignment.objects.filter(pk=assignment.pk).update(state="submitted")
        if assignment.given_as != "golden":
            AnnotationTask.objects.filter(pk=assignment.task_id).update(state="set_aside")
    assert len(golden) == len(set(golden)) > 3
    assert set(golden) <= {task.pk for task in tasks}
    policy.refresh_from_db()
    assert policy.active_given + policy.control_given == 40 - len(golden)


def test_whose_answer_is_known_is_not_asked_it_again() -> None:
    survey = queued([0.9, 0.5], golden_rate=0.5)
    expert = ExpertFactory()
    task = AnnotationTask.objects.order_by("score").first()
    known = AnnotationFactory(task=task, author=expert)
    AnnotationTask.objects.filter(pk=task.pk).update(
        state="done", accepted=known, accepted_at=known.created_at
    )
    GoldenPhoto.objects.create(task=task, answer=known)
    assert len(given(expert, survey)) == 1


def test_the_peek_is_what_comes_next() -> None:
    survey = queued([0.5 + n / 1000 for n in range(30)], control_fraction=0.2)
    expert = ExpertFactory()
    assignment = next_task(expert, survey)
    for _ in range(15):
        assert assignment is not None
        ahead = peek_next(expert, survey, after=assignment.task)
        assert ahead is not None
        assert Assignment.objects.filter(state="open").count() == 1
        answer(assignment)
        assignment = next_task(expert, survey)
        assert assignment is not None
        assert assignment.task == ahead


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_three_experts_at_once_are_never_given_the_same_photo() -> None:
    survey = queued([0.5 + n / 1000 for n in range(45)], control_fraction=0.2)
    experts = [ExpertFactory() for _ in range(3)]
    together = threading.Barrier(3)
    photos: dict[int, list[int]] = {}
    broken: list[BaseException] = []

    def work(expert: User) -> None:
        try:
            together.wait()
            photos[expert.pk] = given(expert, survey)
        except BaseException as error:  # noqa: BLE001  (the main thread must hear of it)
            broken.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(expert,)) for expert in experts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not broken
    everything = [photo for own in photos.values() for photo in own]
    assert len(everything) == len(set(everything)) == 45
    assert all(len(own) > 3 for own in photos.values())


@pytest.mark.django_db(transaction=True)
def test_a_photo_opened_by_its_link_at_the_same_moment_is_given_to_nobody_else() -> None:
    survey = queued([0.5 + n / 1000 for n in range(12)])
    experts = [ExpertFactory() for _ in range(4)]
    first = AnnotationTask.objects.by_uncertainty().first()
    together = threading.Barrier(4)
    holders: list[int] = []

    def open_it(expert: User, *, by_link: bool) -> None:
        from apps.annotation.services.leases import LeaseLostError

        try:
            together.wait()
            assignment = hold(first, expert) if by_link else next_task(expert, survey)
            holders.append(assignment.task_id)
        except LeaseLostError:
            pass
        finally:
            connection.close()

    threads = [
        threading.Thread(target=open_it, args=(expert,), kwargs={"by_link": n % 2 == 0})
        for n, expert in enumerate(experts)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(holders) == len(set(holders)) >= 3


def test_queueing_twice_is_queueing_once_and_what_is_gone_is_no_error() -> None:
    survey = SurveyFactory(minimum_photos=1)
    photo, gone = photo_of(survey), photo_of(survey)
    undetected = PhotoFactory(observation__survey=survey)
    ids = [photo.pk, gone.pk, undetected.pk, 10**9]
    delete_photos(photo_ids=[gone.pk])
    assert enqueue_photos(ids) == 1
    assert enqueue_photos(ids) == 0
    assert AnnotationTask.objects.get().photo == photo


def test_photos_of_several_surveys_are_queued_in_their_own() -> None:
    photos = [photo_of(SurveyFactory()) for _ in range(2)]
    assert enqueue_photos([photo.pk for photo in photos]) == 2
    assert {task.survey_id for task in AnnotationTask.objects.all()} == {photo.survey_id for photo in photos}


def test_an_imported_picture_is_queued_before_its_detection() -> None:
    photo = PhotoFactory()
    assert enqueue_photos([photo.pk]) == 0
    assert enqueue_photos([photo.pk], imported=True) == 1
    task = AnnotationTask.objects.get(photo=photo)
    assert (task.arm, task.score, task.scored_version) == ("imported", 1.0, None)


def test_a_detected_batch_comes_into_the_queue_by_its_message(
    django_capture_on_commit_callbacks: object,
) -> None:
    from apps.annotation.tasks.queue import enqueue_detected
    from apps.observations.signals import photos_detected

    photo = photo_of(SurveyFactory())
    assert photo.status == WorkStatus.DONE
    photos_detected.send_robust(sender=Photo, photo_ids=[photo.pk], model_version=photo.model_version)
    enqueue_detected(photo_ids=[photo.pk])
    assert AnnotationTask.objects.filter(photo=photo).exists()


def test_giving_a_photo_takes_a_bounded_number_of_queries(
    django_assert_max_num_queries: object,
) -> None:
    survey = queued([0.5 + n / 1000 for n in range(40)], control_fraction=0.2)
    expert = ExpertFactory()
    given(expert, survey, 10)
    with django_assert_max_num_queries(25):
        next_task(expert, survey)

"""Putting the queue in order after a promotion, or after its rules changed."""

import pytest
from django.db.models import F

from apps.annotation.models import AnnotationPolicy, AnnotationTask, QueueUpdate
from apps.annotation.services.queue import enqueue_photos, hold, next_task, release
from apps.annotation.services.ranking import (
    continue_update,
    find_missed_promotions,
    request_update,
    request_updates_for,
    write_ranks,
)
from apps.annotation.services.sweeping import enqueue_lost
from apps.annotation.tasks.queue import sweep_queue, update_queues
from apps.common.leased import LeaseLostError, WorkStatus
from apps.observations.models import Photo, Survey
from apps.training.models import ModelVersion
from apps.training.services import promote
from tests.annotation.factories import ExpertFactory
from tests.annotation.queues import detect_as, queued, ranks, scores
from tests.factories import ModelVersionFactory

pytestmark = pytest.mark.django_db


def candidate(survey: Survey) -> ModelVersion:
    return ModelVersionFactory(registered_model=survey.registered_model, number=2, stage="candidate")


def promoted(survey: Survey) -> ModelVersion:
    version = candidate(survey)
    promote(version=version)
    version.refresh_from_db()
    return version


def claimed(update: QueueUpdate) -> QueueUpdate:
    (row,) = QueueUpdate.objects.filter(pk=update.pk).claim(limit=1)
    return row


def test_a_promotion_detects_all_waiting_photos_again_and_ranks_them_by_the_new_scores() -> None:
    survey = queued([0.9, 0.7, 0.5])
    version = promoted(survey)
    (update,) = request_updates_for(version)
    assert not continue_update(claimed(update))
    assert ranks(survey, "rank_before") == [3, 2, 1]
    update.refresh_from_db()
    assert (update.total, update.done) == (3, 0)
    assert set(Photo.objects.values_list("status", "priority")) == {(WorkStatus.PENDING, 20)}
    detect_as(survey, version, [0.5, 0.6, 0.95])
    assert continue_update(claimed_again(update))
    assert scores(survey) == pytest.approx([1.0, 0.8, 0.1])
    assert ranks(survey, "rank_before") == [3, 2, 1]
    assert ranks(survey, "rank_after") == [1, 2, 3]
    update.refresh_from_db()
    assert (update.status, update.total, update.done) == (WorkStatus.DONE, 3, 3)


def claimed_again(update: QueueUpdate) -> QueueUpdate:
    """As the task does it: given back, claimed anew."""
    update.refresh_from_db()
    QueueUpdate.objects.all().release(update.lease_token)
    return claimed(update)


def test_progress_of_a_promotion_can_be_read_while_results_arrive() -> None:
    survey = queued([0.9, 0.7, 0.5, 0.6])
    version = promoted(survey)
    (update,) = request_updates_for(version)
    assert not continue_update(claimed(update))
    detect_as(survey, version, [0.5, 0.6])
    assert not continue_update(claimed_again(update))
    update.refresh_from_db()
    assert (update.total, update.done) == (4, 2)
    assert scores(survey)[:2] == pytest.approx([1.0, 0.8])


def test_a_photo_that_an_expert_has_open_is_not_pulled_away() -> None:
    survey = queued([0.9, 0.7, 0.5])
    expert = ExpertFactory()
    assignment = next_task(expert, survey)
    assert assignment is not None
    version = promoted(survey)
    (update,) = request_updates_for(version)
    assert not continue_update(claimed(update))
    assert assignment.task.photo_id not in Photo.objects.filter(status=WorkStatus.PENDING).values_list(
        "pk", flat=True
    )
    detect_as(survey, version, [0.5, 0.6])
    assert continue_update(claimed_again(update)), "it does not wait for the open one"
    again = hold(assignment.task, expert)
    assert (again.pk, again.model_version_id) == (assignment.pk, assignment.model_version_id)


def test_a_photo_given_back_after_the_promotion_is_detected_by_the_next_sweep() -> None:
    survey = queued([0.9, 0.7, 0.5])
    assignment = next_task(ExpertFactory(), survey)
    assert assignment is not None
    version = promoted(survey)
    (update,) = request_updates_for(version)
    assert not continue_update(claimed(update))
    detect_as(survey, version, [0.5, 0.6])
    assert continue_update(claimed_again(update))
    enqueue_lost()
    assert Photo.objects.get(pk=assignment.task.photo_id).status == WorkStatus.DONE
    release(assignment)
    enqueue_lost()
    assert Photo.objects.get(pk=assignment.task.photo_id).status == WorkStatus.PENDING


@pytest.mark.parametrize("dies_at", range(6))
def test_an_update_killed_at_any_point_ends_with_the_same_ranks(
    dies_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker dies before its n-th write; the next one takes over after the lease."""
    from apps.annotation.services import ranking

    survey = queued([0.9, 0.7, 0.5, 0.8])
    version = promoted(survey)
    (update,) = request_updates_for(version)
    detect_when_asked(survey, version, monkeypatch)
    steps = iter(range(100))

    def dying(name: str) -> None:
        real = getattr(ranking, name)

        def step(*args: object, **kwargs: object) -> object:
            if next(steps) == dies_at:
                raise SystemExit
            return real(*args, **kwargs)

        monkeypatch.setattr(ranking, name, step)

    for name in ("write_ranks", "_ask_for_detection", "_score_changed", "_score_all", "_free_duplicates"):
        dying(name)
    with pytest.raises(SystemExit):
        finish(update)
    QueueUpdate.objects.filter(pk=update.pk).update(lease_until=F("queued_at"))  # nobody beats any more
    finish(update)
    assert ranks(survey, "rank_before") == [4, 2, 1, 3]
    assert ranks(survey, "rank_after") == [1, 2, 3, 4]
    assert scores(survey) == pytest.approx([1.0, 0.8, 0.1, 0.02])


def finish(update: QueueUpdate) -> None:
    while not continue_update(claimed_now(update)):
        pass


def claimed_now(update: QueueUpdate) -> QueueUpdate:
    row = QueueUpdate.objects.get(pk=update.pk)
    if row.lease_token and row.lease_until > row.queued_at:
        QueueUpdate.objects.all().release(row.lease_token)
    return claimed(update)


def detect_when_asked(survey: Survey, version: ModelVersion, monkeypatch: pytest.MonkeyPatch) -> None:
    """The inference worker answers at once."""
    from apps.annotation.services import ranking

    real = ranking.request_later_look

    def ask_and_detect(photos: list[int], *, version_id: int | None) -> int:
        queued_now: int = real(photos, version_id=version_id)
        detect_as(survey, version, [0.5, 0.6, 0.95, 0.99])
        return queued_now

    monkeypatch.setattr(ranking, "request_later_look", ask_and_detect)


def test_a_second_promotion_meanwhile_starts_the_update_over_and_shuts_the_first_worker_out() -> None:
    survey = queued([0.9, 0.7, 0.5])
    (update,) = request_updates_for(promoted(survey))
    first_worker = claimed(update)
    third = ModelVersionFactory(registered_model=survey.registered_model, number=3, stage="candidate")
    promote(version=third)
    (again,) = request_updates_for(third)
    assert (again.pk, again.model_version) == (update.pk, third)
    with pytest.raises(LeaseLostError):
        continue_update(first_worker)
    second_worker = claimed(update)
    assert not continue_update(second_worker)
    detect_as(survey, third, [0.5, 0.6, 0.95])
    assert continue_update(claimed_again(update))
    assert ranks(survey, "rank_after") == [1, 2, 3]


def test_changed_rules_give_new_scores_without_a_new_detection() -> None:
    survey = queued([0.9, 0.7, 0.5])
    AnnotationPolicy.objects.filter(survey=survey).update(strategy="margin_max", empty_photos="first")
    update = request_update(survey=survey, reason=QueueUpdate.Reason.RULES)
    assert continue_update(claimed(update))
    assert not Photo.objects.exclude(status=WorkStatus.DONE).exists()
    assert ranks(survey, "rank_after") == [None] * 3, "ranks tell of promotions"
    update.refresh_from_db()
    assert (update.status, update.total, update.done) == (WorkStatus.DONE, 3, 3)


def test_changed_rules_say_how_many_answers_waiting_photos_need() -> None:
    survey = queued([0.9, 0.7])
    AnnotationPolicy.objects.filter(survey=survey).update(experts_per_photo=3)
    assert continue_update(claimed(request_update(survey=survey, reason=QueueUpdate.Reason.RULES)))
    assert set(AnnotationTask.objects.values_list("answers_needed", flat=True)) == {3}


def test_changed_rules_during_a_promotion_do_not_forget_the_promotion() -> None:
    survey = queued([0.9, 0.7, 0.5])
    version = promoted(survey)
    (update,) = request_updates_for(version)
    assert not continue_update(claimed(update))
    detect_as(survey, version, [0.5, 0.6, 0.95])
    AnnotationPolicy.objects.filter(survey=survey).update(comment_weight=5)
    again = request_update(survey=survey, reason=QueueUpdate.Reason.RULES)
    assert (again.pk, again.reason) == (update.pk, QueueUpdate.Reason.PROMOTION)
    assert continue_update(claimed(update))
    assert ranks(survey, "rank_before") == [3, 2, 1]
    assert ranks(survey, "rank_after") == [1, 2, 3]


def test_near_duplicates_wait_until_the_promotion_has_ranked_them() -> None:
    survey = queued([0.5, 0.52, 0.9], hashes=[0xF0F0F0F0F0F0F0F0, 0xF0F0F0F0F0F0F0F1, 0x0123456789ABCDEF])
    assignment = next_task(ExpertFactory(), survey)
    assert assignment is not None
    (waiting,) = AnnotationTask.objects.filter(waits_for=assignment.task)
    assert waiting.score == pytest.approx(0.96)
    assignment.state = "submitted"
    assignment.save()
    AnnotationTask.objects.filter(pk=assignment.task_id).update(state="set_aside")
    version = promoted(survey)
    (update,) = request_updates_for(version)
    assert not continue_update(claimed(update))
    waiting.refresh_from_db()
    assert waiting.waits_for_id is not None
    detect_as(survey, version, [0.5, 0.5, 0.9])
    assert continue_update(claimed_again(update))
    waiting.refresh_from_db()
    assert waiting.waits_for_id is None


def test_the_task_waits_for_detections_without_using_up_its_attempts(
    django_capture_on_commit_callbacks: object,
) -> None:
    survey = queued([0.9, 0.5])
    version = promoted(survey)
    (update,) = request_updates_for(version)
    for _ in range(6):
        update_queues()
    update.refresh_from_db()
    assert (update.status, update.attempts) == (WorkStatus.PENDING, 0)
    detect_as(survey, version, [0.5, 0.9])
    update_queues()
    update.refresh_from_db()
    assert update.status == WorkStatus.DONE


def test_a_failed_detection_does_not_hold_the_update_up_for_ever() -> None:
    survey = queued([0.9, 0.5])
    version = promoted(survey)
    (update,) = request_updates_for(version)
    assert not continue_update(claimed(update))
    detect_as(survey, version, [0.6])
    Photo.objects.filter(status=WorkStatus.PENDING).update(status=WorkStatus.FAILED)
    assert continue_update(claimed_again(update))


def test_a_promotion_that_no_message_told_of_is_found_by_the_sweep() -> None:
    survey = queued([0.9, 0.5])
    assert find_missed_promotions() == 0
    version = candidate(survey)
    ModelVersion.objects.filter(stage="production").update(stage="archived")
    ModelVersion.objects.filter(pk=version.pk).update(stage="production")
    sweep_queue()
    (update,) = QueueUpdate.objects.all()
    assert (update.model_version, update.reason) == (version, QueueUpdate.Reason.PROMOTION)
    assert find_missed_promotions() == 0


def test_a_promotion_whose_news_died_half_way_is_found_by_the_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    survey = queued([0.9, 0.5])
    version = promoted(survey)

    def killed(**_values: object) -> None:
        raise SystemExit

    with monkeypatch.context() as death:
        death.setattr(QueueUpdate.objects, "create", killed)
        with pytest.raises(SystemExit):
            request_updates_for(version)
    assert find_missed_promotions() == 1
    assert QueueUpdate.objects.get().model_version == version


def test_promoting_tells_the_queue(django_capture_on_commit_callbacks: object) -> None:
    survey = queued([0.9, 0.5])
    version = candidate(survey)
    with django_capture_on_commit_callbacks(execute=True):
        promote(version=version)
    assert QueueUpdate.objects.get(survey=survey).model_version == version


def test_photos_without_a_task_and_photos_with_new_boxes_are_found_wherever_they_lie() -> None:
    survey = queued([0.9, 0.5])
    AnnotationTask.objects.filter(photo=Photo.objects.earliest("pk")).delete()
    assert enqueue_lost() == 1
    version = promoted(survey)
    detect_as(survey, version, [0.6, 0.7])
    assert enqueue_lost() == 2
    assert scores(survey) == pytest.approx([0.8, 0.6])
    assert enqueue_lost() == 0


def test_ranks_follow_the_score_and_then_the_age() -> None:
    survey = queued([0.5, 0.9, 0.5])
    assert write_ranks(AnnotationPolicy.objects.get(survey=survey), "rank_after") == 3
    assert ranks(survey, "rank_after") == [1, 3, 2]


def test_detecting_again_scores_again() -> None:
    survey = queued([0.9, 0.5])
    version = promoted(survey)
    detect_as(survey, version, [0.5, 0.9])
    enqueue_photos(Photo.objects.values_list("pk", flat=True))
    assert scores(survey) == pytest.approx([1.0, 0.2])

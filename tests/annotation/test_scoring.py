"""Scores in the database are those of the formula, from the boxes that are shown."""

import numpy as np
import pytest

from apps.annotation.active_learning.strategies import STRATEGIES, BoxScores, Options, draw, top_two
from apps.annotation.models import AnnotationPolicy, AnnotationTask
from apps.annotation.services.policies import policy_of
from apps.annotation.services.queue import enqueue_photos
from apps.annotation.services.scoring import score_tasks
from apps.annotation.services.sweeping import enqueue_lost
from apps.observations.models import Comment, Photo, Survey
from apps.observations.services.comments import add_comment
from tests.annotation.queues import boxes, photo_of, queued
from tests.factories import CommentFactory, UserFactory

pytestmark = pytest.mark.django_db


def score_of(photo: Photo) -> tuple[float, float]:
    task = AnnotationTask.objects.get(photo=photo)
    return task.uncertainty, task.score


def with_boxes(survey: Survey, class_scores: list[list[float]], *, weak: int = 0) -> Photo:
    photo = photo_of(survey)
    boxes(photo, photo.model_version, class_scores, weak=weak)
    enqueue_photos([photo.pk])
    return photo


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_each_strategy_scores_what_its_pure_function_says(strategy: str) -> None:
    survey = queued([], strategy=strategy, top_k=2, doubtful_below=0.5, doubtful_more_than=1)
    rows = [[[draw(3, f"{n}/{box}/{k}") for k in range(4)] for box in range(n % 5)] for n in range(15)]
    photos = [photo_of(survey) for _ in rows]
    for photo, class_scores in zip(photos, rows, strict=True):
        boxes(photo, photo.model_version, class_scores)
    enqueue_photos([photo.pk for photo in photos])
    flat = np.array([values for class_scores in rows for values in class_scores])
    offsets = np.cumsum([0, *map(len, rows)])
    draws = list(AnnotationTask.objects.order_by("photo_id").values_list("draw", flat=True))
    options = Options(top_k=2, doubtful_below=0.5, doubtful_more_than=1)
    expected = STRATEGIES[strategy].score(BoxScores(*top_two(flat), offsets), draws, options)
    found = AnnotationTask.objects.order_by("photo_id").values_list("uncertainty", flat=True)
    assert list(found) == pytest.approx(list(expected))


def test_the_default_is_the_sum_of_least_margins() -> None:
    photo = with_boxes(queued([]), [[0.6, 0.3, 0.1], [0.1, 0.2, 0.7]])
    assert score_of(photo)[0] == pytest.approx((1 - 0.3) + (1 - 0.5))


def test_with_one_label_the_second_best_is_the_background() -> None:
    photo = with_boxes(queued([]), [[0.9], [0.6]])
    assert score_of(photo)[0] == pytest.approx((1 - 0.8) + (1 - 0.2))


def test_weak_boxes_do_not_count() -> None:
    photo = with_boxes(queued([]), [[0.9], [0.06], [0.07]], weak=2)
    assert score_of(photo)[0] == pytest.approx(0.2)


def test_boxes_of_earlier_versions_do_not_count() -> None:
    survey = queued([])
    photo = with_boxes(survey, [[0.9]])
    from tests.factories import ModelVersionFactory

    newer = ModelVersionFactory(registered_model=survey.registered_model, number=2, stage="candidate")
    boxes(photo, newer, [[0.8], [0.8]])
    enqueue_photos([photo.pk])
    assert score_of(photo)[0] == pytest.approx(0.8)
    assert AnnotationTask.objects.get(photo=photo).scored_version == newer


@pytest.mark.parametrize(("place", "expected"), [("as_one_box", 1.0), ("first", 1e9), ("last", -1.0)])
def test_photos_without_a_box_have_the_place_the_rules_give_them(place: str, expected: float) -> None:
    assert score_of(with_boxes(queued([], empty_photos=place), []))[0] == expected


def test_each_commented_box_raises_the_score_once() -> None:
    survey = queued([], comment_weight=2.5)
    photo = with_boxes(survey, [[0.9], [0.9]])
    for number in (1, 1, 2):
        CommentFactory(observation=photo.observation, photo=photo, box_number=number)
    CommentFactory(observation=photo.observation, photo=photo)
    CommentFactory(observation=photo.observation)
    enqueue_photos([photo.pk])
    assert score_of(photo) == pytest.approx((0.4, 5.4))
    assert AnnotationTask.objects.get(photo=photo).commented_boxes == 2


def test_a_comment_on_a_box_scores_its_photo_anew(django_capture_on_commit_callbacks: object) -> None:
    from apps.annotation.receivers import score_commented
    from apps.annotation.tasks import queue

    sent: list[dict[str, object]] = []
    photo = with_boxes(queued([]), [[0.9]])
    original, queue.enqueue_detected.apply_async = (  # what would go to the broker
        queue.enqueue_detected.apply_async,
        lambda kwargs, **_options: sent.append(kwargs),
    )
    try:
        with django_capture_on_commit_callbacks(execute=True):
            add_comment(
                observation=photo.observation, author=UserFactory(), body="A mite", photo=photo, box_number=1
            )
        general = CommentFactory(observation=photo.observation, photo=photo)
        score_commented(comment_id=general.pk)
    finally:
        queue.enqueue_detected.apply_async = original
    assert sent == [{"photo_ids": [photo.pk]}]


def test_a_deleted_comment_is_noticed_by_the_sweep() -> None:
    photo = with_boxes(queued([]), [[0.9]])
    CommentFactory(observation=photo.observation, photo=photo, box_number=1)
    assert enqueue_lost() == 1
    assert score_of(photo)[1] == pytest.approx(1.2)
    Comment.objects.all().delete()
    assert enqueue_lost() == 1
    assert score_of(photo)[1] == pytest.approx(0.2)


def test_scores_follow_the_rules_of_the_moment() -> None:
    survey = queued([0.9, 0.6])
    stale = policy_of(survey)
    AnnotationPolicy.objects.update(strategy="many_doubtful", doubtful_below=0.7, doubtful_more_than=0)
    score_tasks(stale, list(AnnotationTask.objects.values_list("pk", flat=True)))
    found = AnnotationTask.objects.order_by("photo_id").values_list("uncertainty", flat=True)
    assert list(found) == [0, 1]


def test_scoring_takes_the_same_number_of_queries_for_any_number_of_photos(
    django_assert_num_queries: object,
) -> None:
    survey = queued([0.9] * 12)
    tasks = list(AnnotationTask.objects.values_list("pk", flat=True))
    policy = policy_of(survey)
    with django_assert_num_queries(5):
        assert score_tasks(policy, tasks) == 12

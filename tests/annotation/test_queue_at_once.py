"""Everything that locks, at once: nobody blocks anybody for good, and nothing is given twice."""

import threading
import uuid
from collections.abc import Callable
from functools import partial

import pytest
from django.db import connection

from apps.accounts.models import User
from apps.annotation.models import AnnotationPolicy, AnnotationTask
from apps.annotation.services.answers import Answer, save_draft, submit_answer
from apps.annotation.services.leases import return_ended
from apps.annotation.services.queue import next_task, release
from apps.annotation.services.ranking import write_ranks
from apps.annotation.services.scoring import score_tasks
from apps.observations.models import Survey
from tests.annotation.factories import ExpertFactory
from tests.annotation.queues import different_hash, queued

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]


def guarded(work: Callable[[], None], broken: list[BaseException]) -> threading.Thread:
    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001  (the main thread must hear of it)
            broken.append(error)
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def annotate(expert: User, survey: Survey) -> None:
    """Every fifth photo is given back, the others get a draft and an answer."""
    turn = 0
    while assignment := next_task(expert, survey):
        turn += 1
        if turn % 5 == 0:
            release(assignment)
            continue
        task, content = assignment.task, {"boxes": [], "is_empty": True, "seconds": 1.0}
        save_draft(task=task, expert=expert, content=content, base_version=0, client=uuid.uuid4())
        submit_answer(task=task, expert=expert, answer=Answer(boxes=[], is_empty=True, key=uuid.uuid4()))


def rank(policy: AnnotationPolicy, ended: threading.Event) -> None:
    tasks = list(AnnotationTask.objects.filter(survey=policy.survey_id).values_list("pk", flat=True))
    while not ended.is_set():
        score_tasks(policy, tasks)
        write_ranks(policy, "rank_after")
        return_ended()


def test_experts_answer_and_give_back_while_the_queue_is_ranked_anew() -> None:
    looks = different_hash(5)
    survey = queued(
        [0.5 + n / 1000 for n in range(48)],
        hashes=[looks ^ (1 << (n % 3)) if n % 2 else different_hash(n % 16) for n in range(48)],
        control_fraction=0.2,
    )
    broken: list[BaseException] = []
    ended = threading.Event()
    ranker = guarded(partial(rank, AnnotationPolicy.objects.get(survey=survey), ended), broken)
    experts = [guarded(partial(annotate, ExpertFactory(), survey), broken) for _ in range(4)]
    for thread in experts:
        thread.join()
    ended.set()
    ranker.join()
    assert not broken
    assert set(AnnotationTask.objects.values_list("state", "answers")) == {("done", 1)}

"""The tools of the killing tests work: a real worker takes messages, survives a Redis that vanishes, and stops."""

import pytest
from django.db import connection

from apps.observations.tasks import sweep
from tests.support.processes import children_of, wait_until

pytestmark = [pytest.mark.slow]


def test_a_worker_comes_back_by_itself_after_redis_was_killed_and_ends_when_asked(
    start_worker, throwaway_redis
):
    worker = start_worker(queues="default")
    assert children_of(worker.pid)
    throwaway_redis.kill()
    throwaway_redis.start()
    wait_until(lambda: "Connected to redis" in worker.text().partition("ready")[2], what="connected again")
    sweep.delay()
    wait_until(
        lambda: "apps.observations.tasks.sweep" in worker.text().partition("ready")[2], what="a task arrives"
    )
    assert worker.kill_children() == 1
    wait_until(lambda: children_of(worker.pid), what="a new child")
    assert worker.terminate() == 0, worker.text()


@pytest.mark.django_db
def test_the_database_of_a_test_has_postgis():
    with connection.cursor() as cursor:
        cursor.execute("SELECT postgis_version()")
        assert cursor.fetchone()[0].startswith("3.")

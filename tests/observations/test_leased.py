"""Work as rows: claims, leases, attempts, heartbeats; and wake-ups that are sent once."""

import time
import uuid
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.conf import settings as site
from django.db import IntegrityError, connection, transaction
from django.db.models.functions import Now

from apps.common import tasks
from apps.common.heartbeat import broker
from apps.common.leased import LeaseLostError, WorkStatus, kept_lease
from apps.common.tasks import is_awake, send, send_once
from apps.observations.models import ArchiveUpload, DiscardedFile, Photo
from apps.observations.tasks import (
    detect_waiting,
    fold_map,
    identify_waiting,
    purge_files,
    read_archives,
    review_places,
    sweep,
)
from tests.factories import PhotoFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def photos():
    return [PhotoFactory() for _ in range(3)]


def expire():
    Photo.objects.filter(status=WorkStatus.PROCESSING).update(lease_until=Now() - timedelta(seconds=1))


def states():
    return sorted(Photo.objects.values_list("status", "attempts"))


def test_no_two_claims_hold_the_same_row(photos):
    first, second = Photo.objects.claim(limit=2), Photo.objects.claim(limit=2)
    assert {row.pk for row in first}.isdisjoint({row.pk for row in second})
    assert len(first) == 2
    assert len({row.lease_token for row in first}) == 1
    assert Photo.objects.claim(limit=2) == []


def test_a_row_whose_worker_fell_silent_is_claimed_alone(photos):
    Photo.objects.claim(limit=3)
    expire()
    assert Photo.objects.claim(limit=3, only_fresh=True) == []
    assert len(Photo.objects.claim(limit=3)) == 1


def test_fresh_rows_are_not_mixed_with_one_that_cost_a_life(photos):
    Photo.objects.filter(pk=photos[2].pk).claim(limit=1)
    expire()
    assert {row.pk for row in Photo.objects.claim(limit=3)} == {photos[0].pk, photos[1].pk}


def test_after_the_last_attempt_the_sweep_gives_up_with_a_reason(photos):
    for _attempt in range(3):
        assert Photo.objects.filter(pk=photos[0].pk).claim(limit=1)
        expire()
    assert Photo.objects.filter(pk=photos[0].pk).claim(limit=1) == []
    sweep()
    photos[0].refresh_from_db()
    assert (photos[0].status, photos[0].failure_reason, photos[0].lease_token) == (
        "failed",
        "worker_lost",
        None,
    )
    assert states() == [("failed", 3), ("pending", 0), ("pending", 0)]


def test_what_a_person_asks_for_again_starts_anew(photos):
    Photo.objects.update(status=WorkStatus.FAILED, attempts=3, failure_reason="worker_lost")
    Photo.objects.filter(pk=photos[0].pk).requeue(priority=Photo.Priority.LOW)
    photos[0].refresh_from_db()
    assert (photos[0].status, photos[0].attempts, photos[0].failure_reason) == ("pending", 0, "")
    assert photos[0].priority == Photo.Priority.LOW


def test_a_worker_that_lost_its_lease_can_neither_finish_nor_extend_nor_release(photos):
    (stale,) = Photo.objects.filter(pk=photos[0].pk).claim(limit=1)
    expire()
    (current,) = Photo.objects.filter(pk=photos[0].pk).claim(limit=1)
    with pytest.raises(LeaseLostError):
        stale.finish(detection_count=9)
    assert Photo.objects.all().heartbeat(stale.lease_token) == 0
    assert Photo.objects.all().release(stale.lease_token) == 0
    assert Photo.objects.all().give_back_after_error(stale.lease_token, reason="x") == 0
    current.finish(detection_count=1)
    photos[0].refresh_from_db()
    assert (photos[0].status, photos[0].detection_count) == ("done", 1)


def test_a_late_worker_whose_row_nobody_took_yet_may_still_finish(photos):
    (late,) = Photo.objects.claim(limit=1)
    expire()
    late.finish()
    assert ("done", 1) in states()


def test_a_released_claim_costs_no_attempt_and_a_broken_one_does(photos):
    token = Photo.objects.claim(limit=2)[0].lease_token
    assert Photo.objects.all().release(token) == 2
    assert states() == [("pending", 0)] * 3
    for attempt in range(1, 4):
        (claimed,) = Photo.objects.filter(pk=photos[0].pk).claim(limit=1)
        Photo.objects.all().give_back_after_error(claimed.lease_token, reason="detector_failed")
        photos[0].refresh_from_db()
        assert photos[0].attempts == attempt
        assert photos[0].lease_token is None
    assert (photos[0].status, photos[0].failure_reason) == ("failed", "detector_failed")
    assert photos[0].finished_at is not None
    assert Photo.objects.all().release(uuid.uuid4()) == 0


def test_the_database_refuses_work_in_progress_without_a_lease(photos):
    with pytest.raises(IntegrityError), transaction.atomic():
        Photo.objects.filter(pk=photos[0].pk).update(status=WorkStatus.PROCESSING)


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_a_long_piece_of_work_keeps_its_lease(settings):
    settings.JOB_LEASE_SECONDS = 1
    PhotoFactory()
    (claimed,) = Photo.objects.claim(limit=1)
    with kept_lease(Photo.objects.all(), claimed.lease_token):
        time.sleep(1.6)
        assert Photo.objects.claim(limit=1) == []
    time.sleep(1.2)
    assert len(Photo.objects.claim(limit=1)) == 1
    connection.close()


# --- Wake-ups -----------------------------------------------------------------------------------------------


@pytest.fixture
def sent(monkeypatch):
    messages = []
    monkeypatch.setattr(tasks, "send", lambda function: messages.append(function.name))
    is_awake(detect_waiting)
    yield messages
    is_awake(detect_waiting)


def test_hundreds_of_wake_ups_are_one_message_until_the_worker_wakes(sent):
    for _photo in range(300):
        send_once(detect_waiting)
    assert len(sent) == 1
    is_awake(detect_waiting)
    send_once(detect_waiting)
    assert len(sent) == 2


def test_the_mark_of_a_lost_message_ends_by_itself(sent):
    send_once(detect_waiting)
    assert 0 < broker().ttl(tasks._mark(detect_waiting)) <= site.JOB_SWEEP_SECONDS


def test_a_broker_that_is_away_is_never_an_error(monkeypatch):
    import redis

    client = redis.Redis.from_url("redis://127.0.0.1:1/0", socket_connect_timeout=0.2)
    monkeypatch.setattr(tasks, "broker", lambda: client)
    send_once(detect_waiting)
    is_awake(detect_waiting)

    def refuse(*_args, **_kwargs):
        raise tasks.OperationalError("no broker")

    send(SimpleNamespace(name="x", apply_async=refuse))


@pytest.mark.parametrize(
    "task",
    [detect_waiting, identify_waiting, read_archives, review_places, purge_files, fold_map, sweep],
    ids=lambda task: task.name,
)
def test_each_task_runs_twice_without_harm_when_there_is_nothing_to_do(task):
    task()
    task()
    assert not any(model.objects.exists() for model in (Photo, ArchiveUpload, DiscardedFile))


def test_each_task_has_limits_and_gives_its_message_back_when_its_process_dies():
    for task in (
        detect_waiting,
        identify_waiting,
        read_archives,
        review_places,
        purge_files,
        fold_map,
        sweep,
    ):
        assert task.acks_late
        assert task.reject_on_worker_lost
        assert task.ignore_result
        assert task.time_limit > task.soft_time_limit > 0
    expected = {
        detect_waiting: "inference",
        identify_waiting: "inference",
        read_archives: "default",
        sweep: "default",
    }
    for task, queue in expected.items():
        assert task.app.amqp.router.route({}, task.name)["queue"].name == queue

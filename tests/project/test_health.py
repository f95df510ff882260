"""/healthz, /readyz and /metrics: for load balancers, operators and Prometheus."""

from datetime import timedelta

import pytest
from django.core.files.storage import storages
from django.utils import timezone

from apps.common import health, heartbeat
from apps.common.leased import WorkStatus
from tests.factories import PhotoFactory


@pytest.fixture(autouse=True)
def _own_workers():
    """The signs of life of this test only."""
    heartbeat.broker().delete(heartbeat._key())
    yield
    heartbeat.broker().delete(heartbeat._key())


@pytest.fixture
def all_workers():
    heartbeat.record_sign(name="inference@a", queues=["inference"])
    heartbeat.record_sign(name="default@a", queues=["default", "mail"])


def test_healthz_says_the_process_answers_without_looking_at_the_database(client):
    answer = client.get("/healthz")
    assert answer.status_code == 200
    assert answer.json() == {"status": "ok"}
    assert "no-cache" in answer["Cache-Control"]


@pytest.mark.django_db
def test_readyz_is_ready_when_everything_answers(client, all_workers):
    answer = client.get("/readyz")
    assert answer.status_code == 200, answer.json()
    assert set(answer.json()["checks"]) == {"database", "broker", "storage", "workers", "queue"}
    assert all(check["ok"] for check in answer.json()["checks"].values())


@pytest.mark.django_db
def test_readyz_names_the_queue_that_nobody_serves(client):
    heartbeat.record_sign(name="default@a", queues=["default"])
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["checks"]["workers"]["queues_without_worker"] == ["inference"]


@pytest.mark.django_db
def test_a_worker_that_fell_silent_does_not_count(client, all_workers, monkeypatch):
    monkeypatch.setattr(heartbeat, "ALIVE_S", 0)
    assert client.get("/readyz").json()["checks"]["workers"]["alive"] == 0


@pytest.mark.django_db
def test_readyz_tells_the_age_of_the_oldest_waiting_photo_and_fails_when_it_is_too_old(
    client, all_workers, settings
):
    PhotoFactory(queued_at=timezone.now() - timedelta(seconds=100))
    PhotoFactory(queued_at=timezone.now() - timedelta(days=9), status=WorkStatus.DONE)
    assert 99 < client.get("/readyz").json()["checks"]["queue"]["oldest_waiting_s"] < 200
    settings.READY_MAX_WAIT_SECONDS = 50
    assert client.get("/readyz").status_code == 503


@pytest.mark.django_db
def test_a_redis_that_is_away_makes_it_unready_but_not_the_web_scope(client, monkeypatch, settings, tmp_path):
    settings.REDIS_URL = f"unix://{tmp_path}/nobody.sock"
    heartbeat.broker.cache_clear()
    try:
        answer = client.get("/readyz")
        assert answer.status_code == 503
        assert not answer.json()["checks"]["broker"]["ok"]
        assert "nobody.sock" not in answer.content.decode()
        assert client.get("/readyz?scope=web").status_code == 200
    finally:
        heartbeat.broker.cache_clear()


@pytest.mark.django_db
def test_a_storage_that_raises_makes_it_unready_without_telling_why(client, all_workers, monkeypatch):
    def refuse(name):
        raise RuntimeError("secret key AKIA123 refused")

    monkeypatch.setattr(storages["renditions"], "exists", refuse)
    answer = client.get("/readyz?scope=web")
    assert answer.status_code == 503
    assert "AKIA" not in answer.content.decode()


@pytest.mark.django_db
def test_metrics_count_work_by_state_and_workers_by_queue(client, all_workers):
    PhotoFactory()
    PhotoFactory(status=WorkStatus.FAILED)
    text = client.get("/metrics").content.decode()
    assert 'podura_jobs{kind="photo",status="pending"} 1.0' in text
    assert 'podura_jobs{kind="photo",status="failed"} 1.0' in text
    assert 'podura_workers{queue="inference"} 1.0' in text
    assert "podura_oldest_waiting_seconds" in text
    assert "django_http_requests_before_middlewares_total" in text


@pytest.mark.parametrize(
    ("token", "headers", "remote", "allowed"),
    [
        ("", {}, "127.0.0.1", True),
        ("", {}, "::1", True),
        ("", {}, "192.0.2.7", False),
        ("", {"x-forwarded-for": "192.0.2.7"}, "127.0.0.1", False),
        ("", {}, "unix:", False),
        ("s3cret", {}, "127.0.0.1", False),
        ("s3cret", {"authorization": "Bearer s3cret"}, "192.0.2.7", True),
        ("s3cret", {"authorization": "Bearer é"}, "127.0.0.1", False),
    ],
)
def test_metrics_are_read_from_this_host_or_with_the_token(rf, settings, token, headers, remote, allowed):
    settings.METRICS_TOKEN = token
    request = rf.get("/metrics", headers=headers, REMOTE_ADDR=remote)
    assert health.may_read_metrics(request) is allowed


@pytest.mark.django_db
def test_health_pages_take_no_other_method(client):
    assert client.post("/readyz").status_code == 405
    assert client.generic("TRACE", "/healthz").status_code == 405

"""Fixtures for all tests. The database, Redis and file folder come from tests/settings.py."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import hypothesis
import polib
import pytest
from django.conf import settings
from django.core.cache import cache

from tests.support.examples import examples
from tests.support.processes import RealProcess, ThrowawayRedis, celery_worker
from tests.support.template_database import keep_template, use_template


def pytest_configure() -> None:
    """The texts of both languages, as `make run` compiles them; properties with as many examples as there is time for."""
    hypothesis.settings.register_profile("podura", max_examples=examples(100))
    hypothesis.settings.load_profile("podura")
    for source in (settings.BASE_DIR / "locale").glob("*/LC_MESSAGES/*.po"):
        compiled = source.with_suffix(".mo")
        if not compiled.exists() or compiled.stat().st_mtime < source.stat().st_mtime:
            polib.pofile(str(source)).save_as_mofile(str(compiled))


@pytest.fixture(scope="session")
def django_db_modify_db_settings(
    django_db_modify_db_settings_parallel_suffix: None, django_db_blocker: Any
) -> None:
    with django_db_blocker.unblock():
        use_template()


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> None:
    """As the plugin makes it; what was migrated is kept for the next run."""
    with django_db_blocker.unblock():
        keep_template()


@pytest.fixture(autouse=True)
def _fresh_cache() -> None:
    """Rate limits counted in one test must not refuse the next."""
    cache.clear()


@pytest.fixture
def redis_url() -> str:
    """The Redis of this test run."""
    return settings.REDIS_URL


@pytest.fixture
def throwaway_redis() -> Iterator[ThrowawayRedis]:
    """A Redis of this test alone, started, without persistence; `kill()` and `start()` it at will."""
    server = ThrowawayRedis()
    server.start()
    yield server
    server.end()


@pytest.fixture
def throwaway_broker(throwaway_redis: ThrowawayRedis) -> Iterator[ThrowawayRedis]:
    """As `throwaway_redis`, and this process sends its tasks there too."""
    from kombu import pools

    from apps.common.heartbeat import broker
    from project.celery import app

    before = settings.REDIS_URL

    def point_to(url: str) -> None:
        settings.REDIS_URL = url  # marks of wake-ups that wait lie beside the messages
        broker.cache_clear()
        app.conf.broker_url = url.replace("unix://", "redis+socket://").replace("?db=", "?virtual_host=")
        pools.reset()
        app._pool = None
        app.amqp._producer_pool = None

    point_to(throwaway_redis.url)
    yield throwaway_redis
    point_to(before)


@pytest.fixture
def start_worker(
    transactional_db: None, throwaway_broker: ThrowawayRedis
) -> Iterator[Callable[..., RealProcess]]:
    """`start_worker(queues="inference")` starts a real Celery worker on this test's database and Redis."""
    with ExitStack() as workers:

        def start(**options: Any) -> RealProcess:
            return workers.enter_context(celery_worker(redis_url=throwaway_broker.url, **options))

        yield start

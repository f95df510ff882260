"""The cache's Redis may vanish at any moment: pages answer, sessions live on in the database."""

import pytest
from django.test import override_settings

from tests.factories import UserFactory


@pytest.fixture
def cache_on(throwaway_redis):
    """The project's own cache class on a Redis that the test may kill."""
    config = {
        "default": {
            "BACKEND": "apps.common.cache.ForgivingRedisCache",
            "LOCATION": throwaway_redis.url,
            "OPTIONS": {"socket_connect_timeout": 1, "socket_timeout": 2},
        }
    }
    with override_settings(CACHES=config, SESSION_ENGINE="django.contrib.sessions.backends.cached_db"):
        yield throwaway_redis


def test_every_operation_is_a_miss_while_redis_is_away_and_works_again_afterwards(cache_on):
    from django.core.cache import cache

    cache.set("a", 1)
    assert cache.get("a") == 1
    cache_on.kill()
    assert cache.get("a", "missing") == "missing"
    cache.set("a", 2)
    assert cache.add("b", 1)
    assert cache.incr("n") == 1
    assert cache.get_many(["a", "b"]) == {}
    assert cache.set_many({"x": 1}) == ["x"]
    assert not cache.delete("a")
    assert "a" not in cache
    assert cache.get_or_set("c", lambda: 5) == 5
    cache_on.start()
    cache.set("a", 3)
    assert cache.get("a") == 3


@pytest.mark.django_db
def test_a_signed_in_person_stays_signed_in_when_the_cache_dies(client, cache_on):
    client.force_login(UserFactory())
    assert client.get("/mine/").status_code == 200
    cache_on.kill()
    assert client.get("/mine/").status_code == 200

"""A cache that may vanish: an unreachable Redis means a miss, never an error page."""

from collections.abc import Callable
from typing import Any

import structlog
from django.core.cache.backends.redis import RedisCache
from redis.exceptions import RedisError

logger = structlog.get_logger(__name__)


def _forgiving(name: str, fallback: Callable[..., Any]) -> Callable[..., Any]:
    original = getattr(RedisCache, name)

    def method(self: RedisCache, *args: Any, **kwargs: Any) -> Any:
        try:
            return original(self, *args, **kwargs)
        except (RedisError, OSError) as error:
            logger.warning("cache_unreachable", operation=name, error=str(error))
            return fallback(*args, **kwargs)

    return method


def _default(_key: Any, default: Any = None, *_args: Any, **_kwargs: Any) -> Any:
    return default


class ForgivingRedisCache(RedisCache):
    add = _forgiving("add", lambda *_a, **_k: True)
    get = _forgiving("get", _default)
    set = _forgiving("set", lambda *_a, **_k: None)
    touch = _forgiving("touch", lambda *_a, **_k: False)
    delete = _forgiving("delete", lambda *_a, **_k: False)
    get_many = _forgiving("get_many", lambda *_a, **_k: {})
    has_key = _forgiving("has_key", lambda *_a, **_k: False)
    incr = _forgiving("incr", lambda *_a, **_k: 1)
    set_many = _forgiving("set_many", lambda data, *_a, **_k: list(data))
    delete_many = _forgiving("delete_many", lambda *_a, **_k: None)
    clear = _forgiving("clear", lambda *_a, **_k: False)

"""Which workers live. Each Celery worker writes the time of its last sign of life into one Redis hash.

In Redis, not in PostgreSQL: it is written every few seconds, worth nothing a minute later, and comes back by itself
when Redis has lost it.
"""

import json
import time
from dataclasses import dataclass
from functools import cache
from typing import Any

import redis
from celery.signals import heartbeat_sent, worker_ready, worker_shutdown
from django.conf import settings

ALIVE_S = 30
FORGOTTEN_S = 86_400


@dataclass(frozen=True, slots=True)
class WorkerSign:
    """The last sign of life of one worker."""

    name: str
    queues: tuple[str, ...]
    age_s: float

    @property
    def is_alive(self) -> bool:
        return self.age_s < ALIVE_S


@cache
def broker() -> redis.Redis:
    """A client of the queue's Redis that gives up soon."""
    return redis.Redis.from_url(settings.REDIS_URL, socket_connect_timeout=1, socket_timeout=2)


def _key() -> str:
    return f"{settings.CELERY_BROKER_TRANSPORT_OPTIONS['global_keyprefix']}workers"


def _now(client: redis.Redis) -> float:
    seconds, microseconds = client.time()
    return float(seconds) + float(microseconds) / 1e6


def record_sign(*, name: str, queues: list[str]) -> None:
    """Write that this worker lives, by Redis' clock: the hosts' own may disagree."""
    client = broker()
    client.hset(_key(), name, json.dumps({"at": _now(client), "queues": queues}))


def workers() -> list[WorkerSign]:
    """All workers that gave a sign within a day, by name. Raises `redis.RedisError` when Redis is away."""
    client = broker()
    now = _now(client)
    found = []
    for name, value in client.hgetall(_key()).items():
        sign = json.loads(value)
        age = now - sign["at"]
        if age > FORGOTTEN_S:
            client.hdel(_key(), name)
            continue
        found.append(
            WorkerSign(
                name=name.decode() if isinstance(name, bytes) else name,
                queues=tuple(sign["queues"]),
                age_s=max(age, 0.0),
            )
        )
    return sorted(found, key=lambda sign: sign.name)


class _Beating:
    """What the running worker remembers between two beats."""

    name = ""
    queues: tuple[str, ...] = ()
    last = 0.0


def connect_heartbeat() -> None:
    """Make the workers of this process give signs of life."""
    worker_ready.connect(_on_ready, weak=False)
    heartbeat_sent.connect(_on_beat, weak=False)
    worker_shutdown.connect(_on_shutdown, weak=False)


def _on_ready(sender: Any, **_kwargs: Any) -> None:
    _Beating.name = sender.hostname
    _Beating.queues = tuple(sorted(queue.name for queue in sender.task_consumer.queues))
    _Beating.last = 0.0
    _on_beat()


def _on_beat(**_kwargs: Any) -> None:
    now = time.monotonic()
    if not _Beating.name or now - _Beating.last < ALIVE_S / 6:
        return
    _Beating.last = now
    try:
        record_sign(name=_Beating.name, queues=list(_Beating.queues))
    except redis.RedisError:
        return  # the worker's own connection reports it


def _on_shutdown(**_kwargs: Any) -> None:
    if _Beating.name:
        try:
            broker().hdel(_key(), _Beating.name)
        except redis.RedisError:
            return

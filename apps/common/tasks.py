"""The one way to declare a background task.

Tasks take keyword arguments that are primary keys or nothing, and may run twice without harm. They only wake
work that stands in the database: losing a message delays it until the next sweep, never loses it.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import structlog
from celery import Task as CeleryTask
from celery import shared_task
from django.conf import settings
from django.db import transaction
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from apps.common.heartbeat import broker

Task = CeleryTask[Any, None]

logger = structlog.get_logger(__name__)
_queues: dict[str, str] = {}


def queue_of(name: str, *_args: Any, **_kwargs: Any) -> dict[str, str] | None:
    """Celery's router (CELERY_TASK_ROUTES): the queue a task was declared with."""
    return {"queue": _queues[name]} if name in _queues else None


def task(
    *, queue: str, soft_limit_s: int, hard_limit_s: int | None = None
) -> Callable[[Callable[..., None]], Task]:
    """Declare a task on a queue, acknowledged late, given back when its process dies, limited in time."""

    def decorate(function: Callable[..., None]) -> Task:
        name = f"{function.__module__}.{function.__name__}"
        _queues[name] = queue
        declared: Task = shared_task(
            name=name,
            acks_late=True,
            reject_on_worker_lost=True,
            ignore_result=True,
            soft_time_limit=soft_limit_s,
            time_limit=hard_limit_s or soft_limit_s + 30,
        )(function)
        return declared

    return decorate


def send(function: Task, **kwargs: Any) -> None:
    """Wake a worker now. A broker that is away is logged, never raised: the sweeper sends again."""
    try:
        function.apply_async(kwargs=kwargs, retry=False)
    except (OperationalError, RedisError, OSError) as error:
        logger.warning("wake_up_not_sent", task=function.name, error=str(error))


def wake(function: Task, **kwargs: Any) -> None:
    """Wake a worker once the current transaction is committed."""
    transaction.on_commit(partial(send, function, **kwargs))


def send_once(function: Task) -> None:
    """As `send`, unless the same wake-up still waits in the queue: five hundred photos need one, not five hundred.

    The task must call `is_awake` before it looks for work: what is committed before that is seen by it, what comes
    after sends anew. The mark outlives a lost message for one sweep only.
    """
    try:
        if not broker().set(_mark(function), 1, nx=True, ex=settings.JOB_SWEEP_SECONDS):
            return
    except RedisError as error:
        logger.warning("wake_up_not_sent", task=function.name, error=str(error))
        return
    send(function)


def is_awake(function: Task) -> None:
    """The wake-up has arrived; the next one is sent again."""
    try:
        broker().delete(_mark(function))
    except RedisError:
        return  # the mark ends by itself


def wake_once(function: Task) -> None:
    """`send_once` when the current transaction is committed."""
    transaction.on_commit(partial(send_once, function))


def _mark(function: Task) -> str:
    return f"{settings.CELERY_BROKER_TRANSPORT_OPTIONS['global_keyprefix']}woken:{function.name}"

"""What operators and load balancers ask: /healthz, /readyz, /metrics."""

import hmac
import ipaddress
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import redis
import structlog
from django.apps import apps
from django.conf import settings
from django.core.files.storage import storages
from django.db import DatabaseError, connection, transaction
from django.db.models import Min
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse, HttpResponseNotFound, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from apps.common import heartbeat
from apps.common.leased import LeasedWork

logger = structlog.get_logger(__name__)
STATEMENT_TIMEOUT_MS = 3_000


@dataclass(frozen=True, slots=True)
class Check:
    """The answer of one check; `details` are shown to everyone and so hold neither addresses nor errors' texts."""

    ok: bool
    details: dict[str, Any] = field(default_factory=dict)
    ms: float = 0.0


def leased_models() -> list[type[LeasedWork]]:
    """Every table of background work, whichever app it belongs to."""
    return [model for model in apps.get_models() if issubclass(model, LeasedWork)]


def oldest_waiting_s() -> float | None:
    """Seconds since the oldest piece of work that still waits (or whose worker fell silent) was queued.

    Work of low priority may wait for days without anybody missing it.
    """
    ages = []
    for model in leased_models():
        waiting = model._default_manager.all().claimable().exclude(priority=LeasedWork.Priority.LOW)
        row = waiting.aggregate(age=Now() - Min("queued_at"))
        if row["age"] is not None:
            ages.append(row["age"].total_seconds())
    return max(ages, default=None)


def check_database() -> Check:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return Check(ok=True)


def check_broker() -> Check:
    return Check(ok=bool(heartbeat.broker().ping()))


def check_storage() -> Check:
    """Both storages answer whether a file exists: a folder that vanished or a refused key shows here."""
    probe = f"readyz/{uuid.UUID(int=0)}"
    for alias in ("default", "renditions"):
        storages[alias].exists(probe)
    return Check(ok=True)


def check_workers() -> Check:
    """Somebody serves each queue that detection needs."""
    alive = [sign for sign in heartbeat.workers() if sign.is_alive]
    missing = sorted({"inference", "default"} - {queue for sign in alive for queue in sign.queues})
    return Check(ok=not missing, details={"alive": len(alive), "queues_without_worker": missing})


def check_queue() -> Check:
    age_s = oldest_waiting_s()
    return Check(
        ok=age_s is None or age_s < settings.READY_MAX_WAIT_SECONDS,
        details={"oldest_waiting_s": None if age_s is None else round(age_s, 1)},
    )


CHECKS: dict[str, Callable[[], Check]] = {
    "database": check_database,
    "broker": check_broker,
    "storage": check_storage,
    "workers": check_workers,
    "queue": check_queue,
}
# What a web host needs to serve pages and take photos in; the rest says whether photos are worked on.
WEB_CHECKS = ("database", "storage")


def run_check(name: str) -> Check:
    """A check that raises has failed; the reason goes to the log."""
    began = time.perf_counter()
    try:
        result = _bounded(CHECKS[name]) if name in ("database", "queue") else CHECKS[name]()
    except (DatabaseError, redis.RedisError, OSError, ValueError, KeyError) as error:
        logger.warning("not_ready", check=name, error=type(error).__name__)
        result = Check(ok=False)
    except Exception as error:  # noqa: BLE001  (a storage raises what its library raises; the page must answer)
        logger.warning("not_ready", check=name, error=type(error).__name__)
        result = Check(ok=False)
    return Check(ok=result.ok, details=result.details, ms=round((time.perf_counter() - began) * 1000, 1))


def _bounded(check: Callable[[], Check]) -> Check:
    """A page about health must not queue behind what makes the database slow."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL statement_timeout = {STATEMENT_TIMEOUT_MS}")
        return check()


@require_safe
@never_cache
def healthz(_request: HttpRequest) -> HttpResponse:
    """The process answers; it looks at nothing else, so that a slow database does not restart web servers."""
    return JsonResponse({"status": "ok"})


@require_safe
@never_cache
def readyz(request: HttpRequest) -> HttpResponse:
    """200 when everything works, else 503, with each check's result. `?scope=web` for a load balancer: what a web
    host needs to take photos in, so that a dead worker does not take the site down.
    """
    names = WEB_CHECKS if request.GET.get("scope") == "web" else tuple(CHECKS)
    results = {name: run_check(name) for name in names}
    ok = all(result.ok for result in results.values())
    body = {
        "status": "ok" if ok else "unavailable",
        "checks": {name: {"ok": r.ok, "ms": r.ms, **r.details} for name, r in results.items()},
    }
    response = JsonResponse(body, status=200 if ok else 503)
    response._has_been_logged = True  # type: ignore[attr-defined]  # each failed check has written its own line
    return response


def may_read_metrics(request: HttpRequest) -> bool:
    """With METRICS_TOKEN its bearer; without, only a direct connection from this host."""
    if settings.METRICS_TOKEN:
        given = request.headers.get("Authorization", "")
        return hmac.compare_digest(given.encode(), f"Bearer {settings.METRICS_TOKEN}".encode())
    if "HTTP_X_FORWARDED_FOR" in request.META or "HTTP_FORWARDED" in request.META:
        return False  # a proxy on this host passes on what the world asks
    try:
        return ipaddress.ip_address(request.META.get("REMOTE_ADDR", "")).is_loopback
    except ValueError:
        return False


@require_safe
@never_cache
def metrics(request: HttpRequest) -> HttpResponse:
    """Prometheus' text format. Not there for those who may not read it."""
    if not may_read_metrics(request):
        return HttpResponseNotFound()
    from prometheus_client import CONTENT_TYPE_LATEST

    from apps.common.metrics import exposition

    return HttpResponse(exposition(), content_type=CONTENT_TYPE_LATEST)

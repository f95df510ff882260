"""The project's own Prometheus metrics, read from where the truth is at the moment of the question."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import redis
from django.conf import settings
from django.db import DatabaseError, connection, transaction
from django.db.models import Count, Q
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest, multiprocess
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from apps.common import heartbeat
from apps.common.health import STATEMENT_TIMEOUT_MS, leased_models, oldest_waiting_s
from apps.common.leased import WorkStatus


class WorkCollector(Collector):
    """Background work, workers and disk. What cannot be read is left out, and `podura_up` says so."""

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("podura_up", "1 if this part answered", labels=["part"])
        for part, read in (("database", self._work), ("broker", self._workers), ("disk", self._disk)):
            try:
                families = list(read())
            except (DatabaseError, redis.RedisError, OSError):
                up.add_metric([part], 0)
            else:
                up.add_metric([part], 1)
                yield from families
        yield up

    def _work(self) -> Iterator[Metric]:
        jobs = GaugeMetricFamily("podura_jobs", "Rows of background work by state", labels=["kind", "status"])
        open_states = (WorkStatus.PENDING, WorkStatus.PROCESSING)
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute(f"SET LOCAL statement_timeout = {STATEMENT_TIMEOUT_MS}")
            for model in leased_models():
                # Finished rows are not counted: there may be millions, and the index holds the open ones only.
                counted = model._default_manager.filter(status__in=open_states).aggregate(
                    **{state.value: Count("pk", filter=Q(status=state)) for state in open_states}
                )
                counted["failed"] = model._default_manager.filter(status=WorkStatus.FAILED).count()
                for status, number in counted.items():
                    jobs.add_metric([model._meta.model_name or "", status], number)
            age_s = oldest_waiting_s()
        yield jobs
        yield GaugeMetricFamily(
            "podura_oldest_waiting_seconds", "Age of the oldest waiting piece of work", value=age_s or 0.0
        )

    def _workers(self) -> Iterator[Metric]:
        alive = GaugeMetricFamily(
            "podura_workers", "Workers that gave a sign of life lately", labels=["queue"]
        )
        numbers: dict[str, int] = {}
        for sign in heartbeat.workers():
            for queue in sign.queues:
                numbers[queue] = numbers.get(queue, 0) + sign.is_alive
        for queue, number in sorted(numbers.items()):
            alive.add_metric([queue], number)
        yield alive

    def _disk(self) -> Iterator[Metric]:
        parts = urlsplit(settings.STORAGE_URL)
        if parts.scheme == "file" and Path(parts.path).exists():
            yield GaugeMetricFamily(
                "podura_disk_free_bytes",
                "Free space where the photos are",
                value=shutil.disk_usage(parts.path).free,
            )


def exposition() -> bytes:
    """Django's and our metrics; with several web processes their counters are summed from shared files."""
    own = CollectorRegistry()
    own.register(WorkCollector())
    processes = REGISTRY
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        processes = CollectorRegistry()
        multiprocess.MultiProcessCollector(processes)  # type: ignore[no-untyped-call]
    return generate_latest(processes) + generate_latest(own)

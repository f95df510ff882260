"""The Celery application. Celery only wakes workers: the queue of record is in PostgreSQL."""

import os

from celery import Celery
from celery.signals import worker_init
from django_structlog.celery.steps import DjangoStructLogInitStep

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

app = Celery("podura")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
# Each line a task logs carries the task's id and that of the request that caused it.
app.steps["worker"].add(DjangoStructLogInitStep)


@worker_init.connect
def _give_signs_of_life(**_kwargs: object) -> None:
    from apps.common.heartbeat import connect_heartbeat

    connect_heartbeat()

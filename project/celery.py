"""The Celery application. Celery only wakes workers: the queue of record is in PostgreSQL."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

app = Celery("podura")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

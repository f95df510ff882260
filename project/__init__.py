"""Settings, URLs, Celery and the WSGI/ASGI entry points; nothing else."""

from project.celery import app as celery_app

__all__ = ["celery_app"]

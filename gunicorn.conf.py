"""The web server's settings, read by gunicorn from the folder it is started in. Variables: see docs/settings.md."""

import os

bind = os.environ.get("WEB_BIND", "127.0.0.1:8000")
# Threads: a slow upload or a page that waits for PostgreSQL keeps one thread, not a process. Measured on the same
# view, gthread serves 4-5 times as many requests as the ASGI servers.
worker_class = "gthread"
workers = int(os.environ.get("WEB_CONCURRENCY", "1"))
threads = int(os.environ.get("WEB_THREADS", "8"))
timeout = 120  # seconds without a sign of life of the worker process, not of one request
graceful_timeout = 30
keepalive = 5
# A worker is replaced before a slow leak matters; the jitter keeps several from leaving together.
max_requests = 20_000
max_requests_jitter = 2_000
accesslog = None  # django-structlog writes one line a request, with its id
errorlog = "-"
loglevel = "warning"
control_socket_disable = True
# Heartbeat files belong into memory: on a slow disk they block the worker.
_memory = "/dev/shm"  # noqa: S108  (gunicorn makes its files there safely)
worker_tmp_dir = _memory if os.access(_memory, os.W_OK) else None


def child_exit(server, worker):  # type: ignore[no-untyped-def]
    """Metrics of several processes are summed from files; those of an ended one count no longer as alive."""
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        from prometheus_client import multiprocess

        multiprocess.mark_process_dead(worker.pid)

"""Pages at 1,000,000 observations beside the same pages at 1,000: time and number of queries.

Two scratch databases beside the configured one are made, filled by SQL and dropped again. The sizes take turns
(A B A B); a page's time is the median over whole requests of Django's test client, templates included, and the number
of queries must not be larger at the larger size (a map window that holds a few points at one size and clusters at the
other may need one query less).
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.gallery_data import HEAVY_CONTRIBUTOR, STAFF

CHECKOUT = Path(__file__).resolve().parent.parent
SMALL, LARGE, QUICK = 1_000, 1_000_000, 100_000
ROUNDS, REQUESTS = 7, 5
TARGET = 2.0


def run(quick: bool) -> list[dict[str, Any]]:  # noqa: FBT001  (the signature of all benchmarks)
    """Measure in a process of its own, because settings are read once."""
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "project.settings",
        "PODURA_DB_NAME": os.environ.get(
            "PODURA_DB_NAME", "postgres"
        ),  # scratch databases are made beside it
        "DEBUG": "0",
        "DEMO": "0",
        "HTTPS": "0",
        "STATIC_MANIFEST": "0",
        "STAFF_TWO_FACTOR": "0",
        "SECRET_KEY": "only-for-benchmarks-only-for-benchmarks-only",
        "LOG_LEVEL": "ERROR",
        "PYTHONPATH": str(CHECKOUT),
    }
    command = [sys.executable, "-m", "benchmarks.gallery", str(QUICK if quick else LARGE)]
    finished = subprocess.run(
        command, cwd=CHECKOUT, env=environment, stdout=subprocess.PIPE, text=True, check=True, timeout=3_600
    )
    rows: list[dict[str, Any]] = json.loads(finished.stdout.splitlines()[-1])
    return rows


def measure(*, large: int) -> list[dict[str, Any]]:
    """One row for each page, and `gallery`: the worst of them against the target."""
    from django.urls import reverse

    pages = {
        "gallery": reverse("observations:gallery"),
        "gallery, one survey": reverse("observations:gallery") + "?survey=survey-2",
        "gallery, one label": reverse("observations:gallery") + "?label=survey-1/L1",
        "my observations": reverse("observations:mine"),
        "map data, world": reverse("observations:map_data") + "?zoom=2",
        "map data, a region": reverse("observations:map_data") + "?zoom=5&bbox=-30,30,30,60",
        "admin, photos": reverse("admin:observations_photo_changelist"),
    }
    times: dict[tuple[str, int], list[float]] = {}
    queries: dict[tuple[str, int], int] = {}
    with scratch_database(SMALL) as small_name, scratch_database(large) as large_name:
        names = {SMALL: small_name, large: large_name}
        for turn in range(ROUNDS + 1):
            for size, name in names.items():
                use_database(name)
                clients = {True: signed_in(STAFF), False: signed_in(HEAVY_CONTRIBUTOR)}
                for page, url in pages.items():
                    client = clients[page.startswith("admin")]
                    seconds, counted = request_page(client, url)
                    if turn:  # the first turn warms caches and is thrown away
                        times.setdefault((page, size), []).extend(seconds)
                        queries[page, size] = counted
    return compared(pages, times, queries, large=large)


def compared(
    pages: dict[str, str],
    times: dict[tuple[str, int], list[float]],
    queries: dict[tuple[str, int], int],
    *,
    large: int,
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for page in pages:
        small_ms, large_ms = (statistics.median(times[page, size]) * 1000 for size in (SMALL, large))
        constant = queries[page, large] <= queries[page, SMALL]
        ratio = large_ms / small_ms
        rows.append(
            {
                "name": f"gallery: {page}",
                "ratio": round(ratio, 2),
                "target": TARGET,
                "better": "lower",
                "holds": ratio <= TARGET and constant,
                "observations": [SMALL, large],
                "median_ms": [round(small_ms, 1), round(large_ms, 1)],
                "queries": [queries[page, SMALL], queries[page, large]],
            }
        )
    worst = max(row["ratio"] for row in rows)
    return [
        {
            "name": "gallery",
            "ratio": worst,
            "target": TARGET,
            "better": "lower",
            "holds": all(row["holds"] for row in rows),
        },
        *rows,
    ]


def request_page(client: Any, url: str) -> tuple[list[float], int]:
    """Seconds of several requests, and the number of queries of one."""
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    with CaptureQueriesContext(connection) as captured:
        response = client.get(url)
    queries = len(captured)  # the next request empties the log
    if response.status_code != 200:
        raise RuntimeError(f"{url}: {response.status_code}")
    seconds = []
    for _ in range(REQUESTS):
        start = time.perf_counter()
        client.get(url)
        seconds.append(time.perf_counter() - start)
    return seconds, queries


def signed_in(user_id: int) -> Any:
    from django.contrib.auth import get_user_model
    from django.test import Client

    client = Client(SERVER_NAME="localhost", headers={"Accept-Language": "en"})
    client.force_login(
        get_user_model().objects.get(pk=user_id), backend="django.contrib.auth.backends.ModelBackend"
    )
    return client


def use_database(name: str) -> None:
    from django.db import connection

    connection.close()
    connection.settings_dict["NAME"] = name


@contextmanager
def scratch_database(observations: int) -> Iterator[str]:
    """A migrated, filled database of its own, dropped at the end."""
    from django.core.management import call_command
    from django.db import connection

    from benchmarks.gallery_data import fill_database

    home = connection.settings_dict["NAME"]
    name = f"{home}_bench_{observations}"
    with connection.cursor() as cursor:
        cursor.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        cursor.execute(f'CREATE DATABASE "{name}"')
    try:
        use_database(name)
        call_command("migrate", verbosity=0)
        fill_database(observations=observations)
        use_database(home)
        yield name
    finally:
        use_database(home)
        with connection.cursor() as cursor:
            cursor.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


if __name__ == "__main__":
    import django

    django.setup()
    print(json.dumps(measure(large=int(sys.argv[1]))))

"""The experts' queue at 100,000 photos, beside what the database needs at least for the same rows.

`queue: ranking` puts the whole queue in order (reads all class scores, scores, writes) beside a plain `UPDATE ... FROM` of
the same columns of the same rows. `queue: next photo` gives an expert their next photo, with all that must be looked at for
it, beside two plain `SELECT`s: the first row by score, and the comparison of one hash with all others. The sides
take turns in the same scratch database.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parent.parent
PHOTOS, QUICK = 100_000, 10_000
ROUNDS, GIVEN = 3, 40
RANKING_TARGET = 10.0
NEXT_TARGET = 10.0


def run(quick: bool) -> list[dict[str, Any]]:  # noqa: FBT001  (the signature of all benchmarks)
    """Measure in a process of its own, because settings are read once."""
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "project.settings",
        "PODURA_DB_NAME": os.environ.get("PODURA_DB_NAME", "postgres"),  # the scratch one is made beside it
        "DEBUG": "0",
        "DEMO": "0",
        "HTTPS": "0",
        "STATIC_MANIFEST": "0",
        "STAFF_TWO_FACTOR": "0",
        "SECRET_KEY": "only-for-benchmarks-only-for-benchmarks-only",
        "LOG_LEVEL": "ERROR",
        "PYTHONPATH": str(CHECKOUT),
    }
    command = [sys.executable, "-m", "benchmarks.queue", str(QUICK if quick else PHOTOS)]
    finished = subprocess.run(
        command, cwd=CHECKOUT, env=environment, stdout=subprocess.PIPE, text=True, check=True, timeout=3_600
    )
    rows: list[dict[str, Any]] = json.loads(finished.stdout.splitlines()[-1])
    return rows


def measure(photos: int) -> list[dict[str, Any]]:
    with scratch_queue(photos):
        ranking = in_turns({"ranking": rank, "plain": plain_update}, ROUNDS)
        giving = in_turns({"next": give_next, "peek": peek, "plain": plain_select, "list": admin_list}, GIVEN)
        enqueueing = in_turns({"duplicates": seek_duplicates}, 5)
    ratio = ranking["ranking"] / ranking["plain"]
    return [
        {
            "name": "queue: ranking",
            "ratio": round(ratio, 2),
            "target": RANKING_TARGET,
            "better": "lower",
            "holds": ratio < RANKING_TARGET,
            "photos": photos,
            "seconds": round(ranking["ranking"] / 1000, 1),
            "plain_s": round(ranking["plain"] / 1000, 1),
        },
        {
            "name": "queue: next photo",
            "ratio": round(giving["next"] / giving["plain"], 2),
            "target": NEXT_TARGET,
            "better": "lower",
            "holds": giving["next"] < NEXT_TARGET * giving["plain"],
            "photos": photos,
            "next_ms": round(giving["next"], 1),
            "peek_ms": round(giving["peek"], 1),
            "plain_selects_ms": round(giving["plain"], 1),
            "admin_list_ms": round(giving["list"], 1),
            "near_duplicates_ms": round(enqueueing["duplicates"], 1),
        },
    ]


def in_turns(sides: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median milliseconds of each; the first round warms caches and is thrown away."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds + 1):
        for name, side in sides.items():
            start = time.perf_counter()
            side()
            if turn:
                times[name].append((time.perf_counter() - start) * 1000)
    return {name: statistics.median(values) for name, values in times.items()}


def rank() -> None:
    """What a curator's "rank anew" does, from the row to the end."""
    from apps.annotation.models import QueueUpdate
    from apps.annotation.services.ranking import continue_update, request_update
    from benchmarks.queue_data import SURVEY

    request_update(survey=SURVEY, reason=QueueUpdate.Reason.CURATOR)
    (update,) = QueueUpdate.objects.all().claim(limit=1)
    continue_update(update)


def plain_update() -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE annotation_annotationtask AS task SET uncertainty = given.score, score = given.score,"
            " commented_boxes = 0, scored_version_id = 1, scored_at = now()"
            " FROM (SELECT id, random() * 9 AS score FROM annotation_annotationtask WHERE state = 'waiting') AS given"
            " WHERE task.id = given.id"
        )


def give_next() -> None:
    """One photo, given and answered, so that the next call is given another."""
    from apps.annotation.models import AnnotationTask, Assignment
    from apps.annotation.services.queue import next_task

    expert, survey = _people()
    assignment = next_task(expert, survey)
    assert assignment is not None
    Assignment.objects.filter(pk=assignment.pk).update(state="submitted", lease_until=None)
    AnnotationTask.objects.filter(pk=assignment.task_id).update(state="set_aside")


def peek() -> None:
    from apps.annotation.services.queue import peek_next

    assert peek_next(*_people()) is not None


def plain_select() -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT * FROM annotation_annotationtask WHERE survey_id = 1 AND state = 'waiting'"
            " ORDER BY score DESC, id LIMIT 1"
        )
        cursor.fetchall()
        cursor.execute(
            "SELECT id FROM annotation_annotationtask WHERE survey_id = 1"
            " AND bit_count((perceptual_hash # 1234567890123)::bit(64)) <= 6"
        )
        cursor.fetchall()


def seek_duplicates() -> None:
    from apps.annotation.models import AnnotationTask
    from apps.annotation.services.groups import Duplicates
    from apps.annotation.services.policies import policy_of
    from benchmarks.queue_data import SURVEY

    looks = AnnotationTask.objects.order_by("pk").values_list("perceptual_hash", flat=True)[7]
    Duplicates(policy_of(SURVEY)).of(looks)


def admin_list() -> None:
    from django.urls import reverse

    from benchmarks.gallery import signed_in
    from benchmarks.queue_data import CURATOR

    client = signed_in(CURATOR)
    page = client.get(reverse("admin:annotation_annotationtask_changelist") + "?state__exact=waiting")
    assert page.status_code == 200


def _people() -> tuple[Any, Any]:
    from apps.accounts.models import User
    from apps.observations.models import Survey
    from benchmarks.queue_data import EXPERT, SURVEY

    return User.objects.get(pk=EXPERT), Survey.objects.get(pk=SURVEY)


@contextmanager
def scratch_queue(photos: int) -> Iterator[None]:
    """A migrated, filled database of its own, dropped at the end."""
    from django.core.management import call_command
    from django.db import connection

    from benchmarks.gallery import use_database
    from benchmarks.queue_data import fill_queue

    home = connection.settings_dict["NAME"]
    name = f"{home}_bench_queue"
    with connection.cursor() as cursor:
        cursor.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        cursor.execute(f'CREATE DATABASE "{name}"')
    try:
        use_database(name)
        call_command("migrate", verbosity=0)
        fill_queue(photos=photos)
        yield
    finally:
        use_database(home)
        with connection.cursor() as cursor:
            cursor.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


if __name__ == "__main__":
    import django

    django.setup()
    print(json.dumps(measure(int(sys.argv[1]))))

"""500 photos through the real web process: how much its memory grows, and how long people wait for answers.

gunicorn as in production (one process, so that its memory is one number), signed in as a person, the way the page
sends: `begin`, then one request a file, three at once, then `end`. Nine of ten photos are tiles, every tenth is a
12-megapixel photo of a phone's size. The time of an answer counts from the last byte sent to the first received.
"""

import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parent.parent
SAMPLES = CHECKOUT / "models" / "springtails" / "samples"
DATABASE = "podura_bench_upload"
MAX_GROWTH_MB, MAX_ANSWER_S = 100.0, 1.0
AT_ONCE = 3
WARM_UP = 10
PREPARE = """
import django; django.setup()
from importlib import import_module
from django.conf import settings
from django.core.management import call_command
from django.db import connection
call_command("migrate", interactive=False, verbosity=0)
from allauth.account.models import EmailAddress
from apps.accounts.models import User
from apps.observations.services.surveys import DATA_DIR, create_survey_from_file
survey = create_survey_from_file(path=DATA_DIR / "springtails.json")
user = User.objects.create_user("bench@podura.example", None)
EmailAddress.objects.create(user=user, email=user.email, primary=True, verified=True)
session = import_module(settings.SESSION_ENGINE).SessionStore()
session["_auth_user_id"] = str(user.pk)
session["_auth_user_backend"] = "django.contrib.auth.backends.ModelBackend"
session["_auth_user_hash"] = user.get_session_auth_hash()
session.save()
print(session.session_key, survey.slug)
"""


def run(quick: bool) -> list[dict[str, Any]]:  # noqa: FBT001  (the signature of all benchmarks)
    photos = 60 if quick else 500
    with tempfile.TemporaryDirectory(prefix="podura-bench-") as folder:
        environment = _environment(folder)
        with _database(environment):
            prepared = subprocess.run(
                [sys.executable, "-c", PREPARE], cwd=CHECKOUT, env=environment, stdout=subprocess.PIPE, text=True,
                check=True,
            )  # fmt: skip
            session, survey = prepared.stdout.split()[-2:]
            paths = _make_photos(Path(folder) / "photos", photos)
            with _web_server(environment) as (port, pid):
                answers, growth_mb = _send(port, pid, session, survey, paths)
    slowest, median = max(answers), sorted(answers)[len(answers) // 2]
    common: dict[str, Any] = {"photos": photos, "cores": len(os.sched_getaffinity(0))}
    return [
        {
            "name": "upload",
            "ratio": round(growth_mb / MAX_GROWTH_MB, 3),
            "target": 1.0,
            "better": "lower",
            "holds": growth_mb < MAX_GROWTH_MB,
            "grew_mb": round(growth_mb, 1),
        }
        | common,
        {
            "name": "upload, slowest answer",
            "ratio": round(slowest / MAX_ANSWER_S, 3),
            "target": 1.0,
            "better": "lower",
            "holds": slowest <= MAX_ANSWER_S,
            "slowest_s": round(slowest, 3),
            "median_s": round(median, 3),
        }
        | common,
    ]


def _environment(folder: str) -> dict[str, str]:
    return os.environ | {
        "DJANGO_SETTINGS_MODULE": "project.settings",
        "PODURA_DB_NAME": DATABASE,
        "STORAGE_URL": f"file://{folder}/media",
        "SECRET_KEY": "only-for-benchmarks-only-for-benchmarks-only",
        "DEBUG": "0",
        "DEMO": "0",
        "HTTPS": "0",
        "STATIC_MANIFEST": "0",
        "LOG_LEVEL": "ERROR",
        "THROTTLE_UPLOAD": "100000/hour",
        "PYTHONPATH": str(CHECKOUT),
    }


@contextmanager
def _database(environment: dict[str, str]) -> Iterator[None]:
    """A database of its own beside the configured one, new each time."""
    code = (
        "import sys, django; django.setup()\n"
        "from django.db import connection\n"
        "with connection._nodb_cursor() as cursor:\n"
        f"    cursor.execute('DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)')\n"
        f"    if sys.argv[1] == 'make': cursor.execute('CREATE DATABASE {DATABASE}')\n"
    )
    command = [sys.executable, "-c", code]
    subprocess.run([*command, "make"], cwd=CHECKOUT, env=environment, check=True)
    try:
        yield
    finally:
        subprocess.run([*command, "drop"], cwd=CHECKOUT, env=environment, check=True)


@contextmanager
def _web_server(environment: dict[str, str]) -> Iterator[tuple[int, int]]:
    """Port and process id of the one worker of a gunicorn."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "gunicorn", "project.wsgi", "--bind", f"127.0.0.1:{port}"]
    server = subprocess.Popen(command, cwd=CHECKOUT, env=environment, start_new_session=True)
    try:
        deadline = time.monotonic() + 60
        while not _answers(port):
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the web process does not start")
            time.sleep(0.2)
        children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
        yield port, int(children[0])
    finally:
        server.terminate()
        server.wait(60)


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/healthz", headers={"Host": "localhost"})
        return connection.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
    finally:
        connection.close()


def _memory_mb(pid: int) -> float:
    """Resident memory of the web process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


class _Person:
    """A signed-in browser, as far as the send page uses it."""

    def __init__(self, port: int, session: str) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        self.csrf = uuid.uuid4().hex
        self.session = session

    def post(
        self, path: str, fields: dict[str, str], file: tuple[str, bytes] | None = None
    ) -> tuple[int, float]:
        """Status, and seconds from the last byte sent to the first received."""
        boundary = uuid.uuid4().hex
        body = BytesIO()
        for name, value in fields.items():
            body.write(
                f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
            )
        if file:
            head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{file[0]}"\r\n'
            body.write(head.encode() + b"Content-Type: image/jpeg\r\n\r\n" + file[1] + b"\r\n")
        body.write(f"--{boundary}--\r\n".encode())
        csrf = self.csrf[:32]
        headers = {
            "Host": "localhost",
            "Content-Type": f"multipart/form-data; boundary={boundary}",
            "Cookie": f"sessionid={self.session}; csrftoken={csrf}",
            "X-CSRFToken": csrf,
        }
        self.connection.request("POST", path, body.getvalue(), headers)
        sent = time.perf_counter()
        answer = self.connection.getresponse()
        seconds = time.perf_counter() - sent
        text = answer.read()
        if answer.status not in (
            http.HTTPStatus.OK,
            http.HTTPStatus.CREATED,
        ):  # a redirect would mean: signed out
            raise RuntimeError(f"{path}: {answer.status} {text[:500]!r}")
        return answer.status, seconds


def _make_photos(folder: Path, number: int) -> list[Path]:
    """Different photos, made beforehand so that making them costs no processor time while we measure."""
    folder.mkdir()
    paths = []
    for index, content in zip(range(number), _photos(), strict=False):
        paths.append(folder / f"{index}.jpg")
        paths[-1].write_bytes(content)
    return paths


def _photos() -> Iterator[bytes]:
    """Endless different photos: a sample with a number written into its pixels."""
    from PIL import Image, ImageDraw

    tiles = [Image.open(path).convert("RGB") for path in sorted(SAMPLES.glob("*.jpg"))]
    large = Image.new("RGB", (4000, 3000))
    for place in range(7 * 5):
        large.paste(tiles[place % len(tiles)], (place % 7 * 640, place // 7 * 640))
    for number in count():
        picture = (large if number % 10 == 9 else tiles[number % len(tiles)]).copy()
        ImageDraw.Draw(picture).text((5, 5), f"{uuid.uuid4()}", fill=(255, 255, 255))
        file = BytesIO()
        picture.save(file, "JPEG", quality=90)
        yield file.getvalue()


def _send(port: int, pid: int, session: str, survey: str, photos: list[Path]) -> tuple[list[float], float]:
    """Seconds of each answer, and by how much the web process grew at most after its first photos."""
    batch = str(uuid.uuid4())
    person = _Person(port, session)
    details = {"survey": survey, "licence": "CC-BY-4.0", "visibility": "public"}
    answers = [person.post(f"/send/{batch}/", details)[1]]
    answers += [
        person.post(f"/send/{batch}/file/", {}, (path.name, path.read_bytes()))[1]
        for path in photos[:WARM_UP]
    ]
    before = _memory_mb(pid)
    peak = [before]
    lock = threading.Lock()
    left = iter(photos[WARM_UP:])
    errors: list[BaseException] = []

    def lane() -> None:
        mine = _Person(port, session)
        try:
            while True:
                with lock:
                    path = next(left, None)
                if path is None:
                    return
                seconds = mine.post(f"/send/{batch}/file/", {}, (path.name, path.read_bytes()))[1]
                with lock:
                    answers.append(seconds)
                    peak[0] = max(peak[0], _memory_mb(pid))
        except BaseException as error:  # noqa: BLE001  (a thread's error is raised by the one that waits for it)
            errors.append(error)

    lanes = [threading.Thread(target=lane) for _ in range(AT_ONCE)]
    for thread in lanes:
        thread.start()
    for thread in lanes:
        thread.join()
    if errors:
        raise errors[0]
    answers.append(_Person(port, session).post(f"/send/{batch}/end/", {})[1])
    return answers, peak[0] - before


if __name__ == "__main__":
    print(json.dumps(run("--quick" in sys.argv), indent=1))

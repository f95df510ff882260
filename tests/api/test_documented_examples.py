"""docs/api.md: its curl examples are sent as they stand, and what it says of codes and limits is true."""

import json
import re
import shlex
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.conf import settings
from django.core.files.uploadedfile import SimpleUploadedFile

from apps.accounts.api.tokens import give_tokens
from apps.common import parsers
from apps.common.heartbeat import broker, record_sign
from apps.observations.services import identify as service
from tests.api.conftest import Caller, verified_user
from tests.factories import PASSWORD
from tests.support.pictures import jpeg
from tests.support.stub_detector import StubDetector

TEXT = (Path(settings.BASE_DIR) / "docs" / "api.md").read_text()
pytestmark = pytest.mark.django_db


def examples() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    commands = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [command for command in commands if command.startswith("curl")]


def run(command: str, variables: dict[str, str]):
    """Send what curl would send."""
    for name, value in variables.items():
        command = command.replace(f"${name}", value)
    words = iter(shlex.split(command)[1:])
    method, address, headers, body, form = "GET", "", {}, None, {}
    for word in words:
        match word:
            case "-s":
                pass
            case "-X":
                method = next(words)
            case "-H":
                name, value = next(words).split(": ", 1)
                headers[name] = value
            case "-d":
                method, body = "POST", next(words)
            case "-F":
                method = "POST"
                name, value = next(words).split("=", 1)
                seed = len(form.get(name, []))
                file = SimpleUploadedFile(value[1:], jpeg(seed=seed)) if value.startswith("@") else value
                form.setdefault(name, []).append(file)
            case _:
                address = word
    parts = urlsplit(address)
    path = f"{parts.path}?{parts.query}" if parts.query else parts.path
    caller = Caller(headers=headers)
    if form:
        return caller.post(path, form)
    return caller.generic(method, path, body or "", content_type=headers.get("Content-Type", ""))


def test_every_example_is_answered(survey, monkeypatch):
    user = verified_user(email="contributor@podura.example")
    version = survey.registered_model.production_version
    monkeypatch.setattr(
        service, "production_detector", lambda _model: (version, StubDetector(("CER", "ISO_MIN")))
    )
    monkeypatch.setattr(service, "send", lambda _task: service.serve_identifications())
    record_sign(name="docs@here", queues=["inference"])
    pair = give_tokens(user=user)
    variables = {"SITE": "http://localhost:8000", "ACCESS": pair.access, "REFRESH": pair.refresh}
    commands = examples()
    # Deleting comes before identifying in the text, and nothing after it needs the observation.
    assert len(commands) == 10
    statuses = []
    for command in commands:
        response = run(command.replace("…", PASSWORD), variables)
        assert response.status_code < 300, (command, response.content)
        statuses.append(response.status_code)
        if response.status_code == 202:
            assert len(response.json()["photos"]) == 2
            variables["OBSERVATION"] = response.json()["id"]
        if "token/refresh" in command:
            variables["ACCESS"] = response.json()["access"]
    assert statuses.count(202) == statuses.count(204) == 1
    broker().delete(f"{settings.CELERY_BROKER_TRANSPORT_OPTIONS['global_keyprefix']}workers")


def test_the_json_examples_are_json():
    for block in re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL):
        json.loads(block)


def test_every_code_that_the_code_knows_is_in_the_table():
    written = set(re.findall(r"`([a-z_]+)`", TEXT[TEXT.index("| status | code |") :]))
    files = [
        *Path(settings.BASE_DIR, "apps/common").glob("problems.py"),
        *Path(settings.BASE_DIR, "apps/accounts/api").glob("*.py"),
        *Path(settings.BASE_DIR, "apps/observations/api").glob("*.py"),
        *Path(settings.BASE_DIR, "apps/annotation/api").glob("*.py"),
    ]
    known = {
        code
        for file in files
        for code in re.findall(
            r'(?:Problem|_try_again)\(\s*(?:status=\d+,\s*)?code="(\w+)"', file.read_text()
        )
    }
    rare = {
        "bad_request",
        "cut",
        "invalid_value",
        "method_not_allowed",
        "not_acceptable",
        "bad_content_length",
    }
    assert len(known) > 15
    assert known - rare <= written, known - rare - written


def test_the_limits_it_names_are_those_of_the_code():
    assert f"1 to {parsers.StrictMultiPartParser.max_files} files" in TEXT
    assert (
        f"{settings.PICTURE_MAX_BYTES // 1024**2} MB and {settings.PICTURE_MAX_PIXELS // 10**6} megapixels"
        in TEXT
    )
    assert settings.SIMPLE_JWT["ACCESS_TOKEN_LIFETIME"].total_seconds() == 15 * 60
    assert settings.SIMPLE_JWT["REFRESH_TOKEN_LIFETIME"].days == 14

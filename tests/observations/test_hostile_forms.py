"""Whatever a form or the page's script is sent: an answer below 500, and nothing half-stored."""

import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from apps.accounts.models import User
from apps.observations.models import Observation, Photo
from tests.factories import ObservationFactory, PhotoFactory, SurveyFactory, UserFactory
from tests.support.pictures import jpeg

pytestmark = pytest.mark.django_db
BATCH = uuid.UUID("7c9e6679-7425-40de-944b-e07fc1f90ae7")
HOSTILE_TEXTS = {
    "nul": "a\0b",
    "surrogate": "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"),
    "direction": "\u202egpj.exe",
    "control": "a\x1b[31mb\x07",
    "huge": "x" * 200_000,
    "number": "9" * 400,
    "minus": "-0",
    "nan": "NaN",
    "infinity": "-Infinity",
    "exponent": "1e999",
    "arabic digits": "\u0663\u0664",
    "formula": "=cmd|' /C calc'!A0",
    "template": "{{ 7|add:7 }}{% debug %}",
    "percent": "%s%n%(x)s",
    "markup": "<script>alert(1)</script>",
    "sql": "' OR 1=1 --",
    "path": "../../../../etc/passwd",
    "empty": "",
    "spaces": "  \t\r\n ",
}


@pytest.fixture
def client() -> Client:
    return Client(raise_request_exception=False)


@pytest.fixture
def person(client: Client) -> User:
    user = UserFactory()
    client.force_login(user)
    return user


@pytest.fixture
def pages(person: User) -> dict[str, tuple[str, dict[str, Any]]]:
    """Each form's address with values that it takes."""
    SurveyFactory(slug="springtails")
    observation = ObservationFactory(contributor=person, public_id=uuid.UUID(int=5))
    PhotoFactory(observation=observation)
    details: dict[str, Any] = {
        "title": "Moss",
        "observed_on": "2026-05-12",
        "observed_time": "12:30",
        "latitude": "48.8",
        "longitude": "2.3",
        "place_name": "Paris",
        "comment": "",
        "licence": "CC-BY-4.0",
        "visibility": "public",
    }
    send = details | {"survey": "springtails", "batch": str(BATCH), "separate": ""}
    return {
        "send": (reverse("observations:send"), send),
        "begin": (reverse("observations:send_begin", args=[BATCH]), send),
        "edit": (reverse("observations:edit", args=[observation.public_id]), details),
        "mine_delete": (
            reverse("observations:mine_delete"),
            {"chosen": str(uuid.UUID(int=7)), "confirmed": "1"},
        ),
        "leave": (reverse("observations:leave"), {"password": "x"}),
        "proposals": (
            reverse("observations:settle_proposals", args=[observation.public_id]),
            {"answer": "accept"},
        ),
        "comment": (
            reverse("observations:comment_on_observation", args=[observation.public_id]),
            {"body": "Fine"},
        ),
        "profile": (reverse("accounts:profile"), {"display_name": "Ada", "language": "fr"}),
        "apply": (
            reverse("accounts:apply_expert"),
            {"motivation": "I know them", "affiliation": "", "orcid": ""},
        ),
    }


@pytest.mark.slow
@pytest.mark.parametrize("hostile", HOSTILE_TEXTS)
@pytest.mark.parametrize(
    "page", ["send", "begin", "edit", "mine_delete", "leave", "proposals", "comment", "profile", "apply"]
)
def test_no_text_in_any_field_breaks_a_form(
    client: Client, pages: dict[str, tuple[str, dict[str, Any]]], page: str, hostile: str
) -> None:
    url, good = pages[page]
    for field in good:
        answer = client.post(url, good | {field: HOSTILE_TEXTS[hostile]})
        assert answer.status_code < 500, (field, answer.content[:500])
        if answer.get("Content-Type", "").startswith("text/html"):
            assert HOSTILE_TEXTS["markup"] not in answer.content.decode(errors="replace")


@pytest.mark.parametrize("field", ["q", "state", "before", "after", "survey", "batch", "next"])
@pytest.mark.parametrize("hostile", sorted(set(HOSTILE_TEXTS) - {"huge"}))
def test_no_address_breaks_a_page(
    client: Client, pages: dict[str, tuple[str, dict[str, Any]]], field: str, hostile: str
) -> None:
    for url in ("/mine/", "/send/", "/account/", pages["edit"][0], "/accounts/login/"):
        answer = client.get(url, {field: HOSTILE_TEXTS[hostile]})
        assert answer.status_code < 500, (url, answer.content[:500])
        assert HOSTILE_TEXTS["markup"] not in answer.content.decode(errors="replace")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[" * 100_000,
        b'{"sha256": ' + b"[" * 100_000,
        b'{"sha256": {}}',
        b'{"sha256": [1]}',
        b'{"sha256": ["' + b"0" * 63 + b'\\n"]}',
        b'{"sha256": [' + b"9" * 5_000 + b"]}",
        b'{"sha256": NaN}',
        b"\xff\xfe",
        b'"\\ud800"',
        json.dumps({"sha256": ["0" * 64] * 501}).encode(),
        b"null",
    ],
)
def test_malformed_json_is_refused(client: Client, pages: dict[str, Any], body: bytes) -> None:
    url, good = pages["begin"]
    assert client.post(url, good).status_code == 201
    answer = client.post(f"{url}known/", body, content_type="application/json")
    assert answer.status_code == 400
    assert answer["Content-Type"] == "application/problem+json"


def _parts(boundary: str, disposition: str, content: bytes = b"x") -> bytes:
    return f"--{boundary}\r\n{disposition}\r\n\r\n".encode() + content + f"\r\n--{boundary}--\r\n".encode()


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=", b"x"),
        ("multipart/form-data; boundary=\xe9", b"x"),
        ("multipart/form-data; boundary=a", b"--a\r\n"),
        ("multipart/form-data; boundary=a", b"no boundary at all"),
        ("multipart/form-data; boundary=a", _parts("a", 'Content-Disposition: form-data; name="file"')),
        (
            "multipart/form-data; boundary=a",
            _parts("a", 'Content-Disposition: form-data; name="file"; filename=""'),
        ),
        ("multipart/form-data; boundary=a", _parts("a", "Content-Disposition: form-data")),
        (
            "multipart/form-data; boundary=a",
            _parts(
                "a",
                'Content-Disposition: form-data; name="file"; filename="x"\r\nContent-Transfer-Encoding: base64',
                b"!",
            ),
        ),
        ("application/x-www-form-urlencoded; charset=utf-7", b"survey=springtails"),
        ("application/x-www-form-urlencoded; charset=nonsense", b"survey=springtails"),
        ("application/x-www-form-urlencoded", b"&".join(b"a=%d" % n for n in range(2_000))),
        ("application/x-www-form-urlencoded", b"title=" + b"x" * 3_000_000),
        ("text/plain", b"survey"),
        ("", b""),
    ],
)
def test_malformed_bodies_are_refused(
    client: Client, pages: dict[str, Any], content_type: str, body: bytes
) -> None:
    assert client.post(*pages["begin"]).status_code == 201
    before = Observation.objects.count()
    for url in (pages["send"][0], pages["begin"][0], pages["begin"][0] + "file/", pages["edit"][0]):
        answer = client.generic("POST", url, body, content_type=content_type)
        assert 400 <= answer.status_code < 500, (url, answer.status_code)
    assert Observation.objects.count() == before


NAMES: dict[str, Callable[[], str]] = {
    "path": lambda: "../../etc/passwd.jpg",
    "windows": lambda: "C:\\Users\\ada\\plate.jpg",
    "direction": lambda: "\u202egpj.exe",
    "long": lambda: "x" * 5_000 + ".jpg",
    "markup": lambda: "<script>alert(1)</script>.jpg",
    "formula": lambda: "=1+1.jpg",
    "dots": lambda: "...",
    "line": lambda: "a\r\nX-Evil: 1.jpg",
    "emoji": lambda: "🐜🐜.jpg",
    "decomposed": lambda: "e\u0301te\u0301.jpg",
}


@pytest.mark.parametrize("name", NAMES)
def test_odd_file_names_are_only_labels(client: Client, pages: dict[str, Any], name: str) -> None:
    url, good = pages["begin"]
    client.post(url, good)
    file = SimpleUploadedFile("x.jpg", jpeg(seed=hash(name) % 1_000))
    file.name = NAMES[name]()
    answer = client.post(f"{url}file/", {"file": file})
    assert answer.status_code == 201, answer.content
    photo = Photo.objects.latest("pk")
    assert 0 < len(photo.name) <= 255
    assert not set("/\\\r\n\u202e") & set(photo.name)
    assert NAMES[name]() not in photo.original.name
    page = client.get("/mine/", {"q": photo.name[:50]})
    assert "<script>alert" not in page.content.decode()


@pytest.mark.parametrize("method", ["put", "patch", "delete", "options", "head", "trace"])
def test_other_methods_are_answered(client: Client, pages: dict[str, Any], method: str) -> None:
    for url, _good in pages.values():
        assert getattr(client, method)(url).status_code < 500

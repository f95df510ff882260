"""Whatever answers with 400 or more under /api/ is a problem (RFC 9457), in the language asked for."""

import json

import pytest
from django.test import Client

from tests.api.conftest import Caller, assert_problem

PROTECTED = "/api/v1/protected/"
pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.api.urls_protected")]


@pytest.mark.parametrize(
    "path",
    [
        "/api/",
        "/api",
        "/api/v1/",
        "/api/v2/observations/",
        "/api/v1/nothing/",
        "/api/v1/token",
        "/api/v1/protected",
        "/api/v1/%00/",
        "/api/v1/%ff%fe/",
        "/api/v1/../../etc/passwd",
        "/api/v1/a%0Ab/",
        "/api/" + "x" * 5000,
    ],
)
@pytest.mark.parametrize("method", ["get", "post", "delete"])
def test_an_unknown_address_is_a_problem_for_every_method(anonymous, method, path):
    assert_problem(getattr(anonymous, method)(path), 404, "not_found")


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_a_method_that_an_address_lacks_is_a_problem(caller, method):
    response = caller.generic(method, PROTECTED)
    assert_problem(response, 405, "method_not_allowed")
    assert "GET" in response["Allow"]


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "BREW"])
def test_a_method_that_nobody_defined_is_a_problem(caller, method):
    assert_problem(caller.generic(method, PROTECTED), 405, "method_not_allowed")


@pytest.mark.parametrize(
    ("how", "status"), [("crash", 500), ("denied", 403), ("suspicious", 400), ("data", 400)]
)
def test_what_a_view_raises_is_a_problem_without_its_details(caller, how, status):
    body = assert_problem(caller.get(f"/api/v1/failing/{how}/"), status)
    assert "secret" not in json.dumps(body)
    assert "integer" not in json.dumps(body)


def test_a_crash_outside_the_views_of_the_api_is_a_problem_too(caller):
    body = assert_problem(caller.get("/api/v1/crash/"), 500, "server_error")
    assert "secret" not in json.dumps(body)


def test_a_crash_is_a_problem_even_while_debugging(caller, settings):
    settings.DEBUG = True
    assert_problem(caller.get("/api/v1/crash/"), 500, "server_error")
    assert_problem(caller.get("/api/v1/nothing/"), 404)


def test_a_wrong_host_is_a_problem(caller, settings):
    settings.ALLOWED_HOSTS = ["podura.example"]
    assert_problem(caller.get(PROTECTED, HTTP_HOST="evil.example"), 400)


@pytest.mark.parametrize("accept", ["text/html", "image/png", "application/xml;q=0.9", "nonsense/", "a/b/c"])
def test_a_format_that_is_not_json_is_a_problem(caller, accept):
    assert_problem(caller.get(PROTECTED, HTTP_ACCEPT=accept), 406, "not_acceptable")


@pytest.mark.parametrize("accept", ["*/*", "application/*", "application/json", "", "text/html,*/*;q=0.1"])
def test_usual_accept_headers_are_served(caller, accept):
    assert caller.get(PROTECTED, HTTP_ACCEPT=accept).status_code == 200


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/xml", "application/json-patch+json", "x", "image/jpeg", "/", "a" * 3000],
)
def test_a_body_in_another_format_is_a_problem(caller, content_type):
    assert_problem(caller.post(PROTECTED, b"x", content_type=content_type), 415, "unsupported_media_type")


@pytest.mark.parametrize("length", ["abc", "-1", "1e3", "9" * 30, "１２"])
def test_a_length_that_is_no_number_is_a_problem(caller, length):
    assert_problem(caller.post_json(PROTECTED, {}, CONTENT_LENGTH=length), 400, "bad_content_length")


def test_a_length_beyond_all_measure_is_refused_before_anything_is_read(caller):
    assert_problem(caller.post_json(PROTECTED, {}, CONTENT_LENGTH=str(10**12)), 413, "too_large")


def test_a_body_without_length_is_asked_for_one(caller):
    response = caller.post_json(PROTECTED, {}, CONTENT_LENGTH="", HTTP_TRANSFER_ENCODING="chunked")
    assert_problem(response, 411, "length_required")


HOSTILE_JSON = [
    b"",
    b"{",
    b"{'a': 1}",
    b"nul",
    b"\xff\xfe{}",
    b"\xef\xbb\xbf{}",
    b'{"a": NaN}',
    b'{"a": -Infinity}',
    b'{"a": 1e999}',
    b'{"a": ' + b"9" * 5000 + b"}",
    b"[" * 100_000,
    b"[" * 100_000 + b"]" * 100_000,
    b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    b'{"a": "\\u0000"}',
    b'{"\\u0000": 1}',
    b'{"a": "\\ud800"}',
    b'{"a": ["x", {"b": "\\udfff"}]}',
    b'{"a": 1, "a": 2}',
    b'{"a": "\x00"}',
    b'{"a": "\xc3\x28"}',
    b'{"a": 1} {"b": 2}',
]


@pytest.mark.parametrize("body", HOSTILE_JSON[1:], ids=lambda body: repr(body[:24]))
def test_json_made_to_hurt_is_a_problem(caller, body):
    assert_problem(caller.post(PROTECTED, body, content_type="application/json"), 400, "parse_error")


def test_escaped_backslashes_and_emoji_are_not_mistaken_for_nul_or_surrogates(caller):
    body = rb'{"a": "\\u0000", "b": "\ud83d\ude00"}'
    assert caller.post(PROTECTED, body, content_type="application/json").status_code == 200


def test_json_beyond_the_limit_is_too_large(caller, settings):
    body = json.dumps({"a": "x" * settings.DATA_UPLOAD_MAX_MEMORY_SIZE})
    assert_problem(caller.post(PROTECTED, body, content_type="application/json"), 413, "too_large")


@pytest.mark.parametrize("charset", ["utf-16", "nonsense", "\\x00"])
def test_an_odd_charset_does_not_break_anything(caller, charset):
    for kind in ("application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=b"):
        response = caller.generic("POST", PROTECTED, b"{}", content_type=f"{kind}; charset={charset}")
        assert response.status_code in (200, 400), response.content


def test_too_many_form_fields_are_a_problem(caller, settings):
    body = "&".join(f"f{n}=1" for n in range(settings.DATA_UPLOAD_MAX_NUMBER_FIELDS + 1))
    response = caller.post(PROTECTED, body, content_type="application/x-www-form-urlencoded")
    assert_problem(response, 413, "too_many_fields")


def multipart(*parts: bytes, end: bytes = b"--b--\r\n") -> dict[str, object]:
    body = b"".join(b"--b\r\n" + part + b"\r\n" for part in parts) + end
    return {"data": body, "content_type": "multipart/form-data; boundary=b"}


def file_part(content: bytes = b"x", name: bytes = b"a.jpg", headers: bytes = b"") -> bytes:
    disposition = b'Content-Disposition: form-data; name="photos"; filename="' + name + b'"\r\n'
    return disposition + headers + b"\r\n" + content


@pytest.mark.parametrize(
    "sent",
    [
        {"data": b"x", "content_type": "multipart/form-data"},
        {"data": b"x", "content_type": "multipart/form-data; boundary="},
        {"data": b"x", "content_type": "multipart/form-data; boundary=é"},
        multipart(file_part(headers=b"Content-Transfer-Encoding: base64\r\n", content=b"&&&&&")),
        multipart(file_part(b"cut short"), end=b""),
    ],
)
def test_a_broken_multipart_form_is_a_problem(caller, sent):
    assert_problem(caller.post(PROTECTED, **sent), 400, "parse_error")


@pytest.mark.parametrize(
    "sent",
    [
        {"data": b"not a part at all", "content_type": "multipart/form-data; boundary=b"},
        multipart(b"Content-Disposition: attachment\r\n\r\nx"),
        multipart(b"\r\n\r\nx"),
        multipart(b'Content-Disposition: form-data; name="a"\r\n\r\nx', end=b""),
    ],
)
def test_a_multipart_form_with_nothing_in_it_is_empty(caller, sent):
    assert caller.post(PROTECTED, **sent).status_code == 200


def test_a_file_whose_name_is_unusable_still_arrives(caller):
    sent = multipart(*(file_part(name=name) for name in (b"/", b"..", b"a/", b"\x01\x02")))
    assert caller.post(PROTECTED, **sent).json()["sizes"] == [1, 1, 1, 1]


def test_of_a_file_that_is_too_large_only_the_limit_is_kept(caller, settings):
    settings.PICTURE_MAX_BYTES = 100_000
    sent = multipart(file_part(b"x" * 300_000), file_part(b"y" * 50))
    assert caller.post(PROTECTED, **sent).json()["sizes"] == [100_001, 50]


def test_too_many_files_are_a_problem(caller):
    assert_problem(caller.post(PROTECTED, **multipart(*[file_part()] * 101)), 413, "too_many_files")


def test_a_form_field_beyond_the_limit_is_too_large(caller, settings):
    part = b'Content-Disposition: form-data; name="a"\r\n\r\n' + b"x" * (
        settings.DATA_UPLOAD_MAX_MEMORY_SIZE + 1
    )
    assert_problem(caller.post(PROTECTED, **multipart(part)), 413, "too_large")


def test_the_request_id_of_a_caller_is_taken_over_only_if_it_is_harmless(caller):
    assert caller.get(PROTECTED, HTTP_X_REQUEST_ID="0123-abcd-EF").headers["X-Request-ID"] == "0123-abcd-EF"
    for forged in ("short", "a" * 100, "line\nbreak12345", "é" * 10):
        assert caller.get(PROTECTED, HTTP_X_REQUEST_ID=forged).headers["X-Request-ID"] != forged


def test_a_database_that_is_away_means_try_again(caller, monkeypatch):
    from django.db import OperationalError

    from tests.api import urls_protected

    def fail(*_args, **_kwargs):
        raise OperationalError("server closed the connection at 10.0.0.1")

    monkeypatch.setattr(urls_protected.ProtectedView, "get", fail)
    response = caller.get(PROTECTED)
    body = assert_problem(response, 503, "unavailable")
    assert response["Retry-After"] == "5"
    assert "10.0.0.1" not in json.dumps(body)


def test_pages_outside_the_api_keep_their_own_errors(db):
    response = Client(raise_request_exception=False).get("/nothing-here/")
    assert response.status_code == 404
    assert "problem" not in response["Content-Type"]


def test_french_callers_are_answered_in_french(anonymous: Caller):
    response = anonymous.post_json(
        "/api/v1/token/refresh/", {}, HTTP_ACCEPT_LANGUAGE="fr-CA,fr;q=0.9,en;q=0.1"
    )
    assert response["Content-Language"] == "fr"
    assert assert_problem(response, 400)["errors"][0]["detail"] == "Ce champ est obligatoire."

"""Requests that nobody thought of: from the schema (schemathesis) and from hypothesis. None may crash the API."""

import json
from io import BytesIO
from typing import Any

import pytest
import schemathesis
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from rest_framework.throttling import SimpleRateThrottle
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from apps.observations.api.schema import openapi_document
from apps.observations.models import Observation, Photo
from project.wsgi import application
from tests.api.conftest import assert_problem
from tests.support.pictures import jpeg

pytestmark = pytest.mark.slow
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
QUIET = [
    HealthCheck.function_scoped_fixture,
    HealthCheck.too_slow,
    HealthCheck.filter_too_much,
    HealthCheck.data_too_large,
]
PATH = "/api/v1/observations/"


@pytest.fixture(autouse=True)
def _without_rate_limits(monkeypatch):
    for scope in list(SimpleRateThrottle.THROTTLE_RATES):
        monkeypatch.setitem(SimpleRateThrottle.THROTTLE_RATES, scope, None)


@pytest.fixture
def api_schema(db):
    """The schema, served by the real WSGI application inside this test's transaction."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield schemathesis.openapi.from_wsgi(
        "/api/schema/", application, headers={"Accept": "application/vnd.oai.openapi+json"}
    )
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


OPERATIONS = [
    ("POST", "/api/v1/token/"),
    ("POST", "/api/v1/token/refresh/"),
    ("GET", "/api/v1/observations/"),
    ("POST", "/api/v1/observations/"),
    ("GET", "/api/v1/observations/{public_id}/"),
    ("DELETE", "/api/v1/observations/{public_id}/"),
    ("GET", "/api/v1/observations/{public_id}/photos/"),
    ("POST", "/api/v1/identify/"),
    ("GET", "/api/v1/surveys/"),
    ("GET", "/api/v1/surveys/{slug}/"),
    ("GET", "/api/v1/labels/"),
    ("POST", "/api/v1/annotation/surveys/{slug}/next/"),
    ("GET", "/api/v1/annotation/tasks/{task_id}/"),
    ("PUT", "/api/v1/annotation/tasks/{task_id}/draft/"),
    ("POST", "/api/v1/annotation/tasks/{task_id}/lease/"),
    ("POST", "/api/v1/annotation/tasks/{task_id}/submit/"),
    ("POST", "/api/v1/annotation/tasks/{task_id}/skip/"),
    ("POST", "/api/v1/annotation/tasks/{task_id}/release/"),
]


def what_is_wrong_is_refused(context: Any, response: Any, case: Any) -> bool | None:
    """413 is a refusal too, which schemathesis does not count as one."""
    return None if response.status_code == 413 else negative_data_rejection(context, response, case)


@pytest.mark.parametrize("operation", OPERATIONS, ids=" ".join)
@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
def test_requests_made_from_the_schema_are_answered_as_it_says(api_schema, caller, survey, operation, mode):
    """Right and wrong requests alike; the answers have a status, type and shape that the schema names."""
    method, path = operation

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(case=api_schema[path][method].as_strategy(generation_mode=mode))
    def answered(case: Any) -> None:
        case.call_and_validate(
            headers={"Authorization": caller.defaults["HTTP_AUTHORIZATION"]},
            checks=[*CHECKS, *([what_is_wrong_is_refused] if mode.is_negative else [])],
        )

    answered()


def test_the_list_of_operations_is_complete():
    paths = openapi_document("en")["paths"]
    assert {(method.upper(), path) for path in paths for method in paths[path]} == set(OPERATIONS)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None, suppress_health_check=QUIET, derandomize=True)
@given(
    body=ANYTHING
    | st.dictionaries(st.sampled_from(["email", "password", "code", "client_id", "client_secret"]), ANYTHING)
)
@example(body={"email": "\ud800", "password": "x"})
@example(body={"email": float("nan"), "password": 10**400})
def test_any_json_is_answered_by_the_token_addresses(anonymous, body):
    content = json.dumps(body)
    for path in ("/api/v1/token/", "/api/v1/token/refresh/"):
        response = anonymous.post_json(path, content)
        assert response.status_code in (400, 401, 429), (response.status_code, content)
        assert_problem(response, response.status_code)


@settings(max_examples=150, deadline=None, suppress_health_check=QUIET, derandomize=True)
@given(content=st.binary(max_size=400))
def test_any_bytes_are_answered_in_any_format(caller, content):
    for kind in ("application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=b"):
        for path in ("/api/v1/token/", PATH, "/api/v1/identify/"):
            response = caller.generic("POST", path, content, content_type=kind)
            assert_problem(response, response.status_code)
            assert response.status_code in (400, 413, 415), (path, kind, content)


NAMES = [
    "survey",
    "observed_at",
    "latitude",
    "longitude",
    "title",
    "comment",
    "licence",
    "visibility",
    "photos",
    "x",
]
FIELDS = st.dictionaries(
    st.sampled_from(NAMES),
    st.text(max_size=30)
    | st.floats().map(str)
    | st.integers().map(str)
    | st.datetimes().map(lambda moment: moment.isoformat())
    | st.sampled_from(["springtails", "48.8", "2.3", "CC0-1.0", "public", "private"]),
)


@settings(max_examples=150, deadline=None, suppress_health_check=QUIET, derandomize=True)
@given(fields=FIELDS)
def test_any_fields_are_taken_whole_or_refused_whole(caller, survey, fields):
    sent = {
        "survey": "springtails",
        "photos": [SimpleUploadedFile("a.jpg", jpeg())],
        **{name: text.encode("utf-8", "replace").decode() for name, text in fields.items()},
    }
    response = caller.post(PATH, sent)
    if response.status_code == 202:
        observation = Observation.objects.get()
        assert observation.photos.count() == 1
        Observation.objects.all().delete()
    else:
        assert_problem(response, 400)
        assert not Observation.objects.exists()
        assert not Photo.objects.exists()


@settings(max_examples=150, deadline=None, suppress_health_check=QUIET, derandomize=True)
@given(
    query=st.dictionaries(
        st.sampled_from(
            [
                "mine",
                "survey",
                "label",
                "status",
                "observed_after",
                "observed_before",
                "bbox",
                "limit",
                "cursor",
            ]
        )
        | st.text(max_size=8),
        st.text(max_size=30)
        | st.lists(st.floats(), min_size=4, max_size=4).map(lambda box: ",".join(map(str, box)))
        | st.integers().map(str)
        | st.binary(max_size=12).map(repr),
        max_size=4,
    )
)
def test_any_query_is_answered(caller, survey, query):
    printable = {
        name.encode("utf-8", "replace").decode(): value.encode("utf-8", "replace").decode()
        for name, value in query.items()
    }
    for path in (PATH, "/api/v1/labels/", "/api/v1/surveys/"):
        response = caller.get(path, printable)
        assert response.status_code in (200, 400)
        if response.status_code == 400:
            assert_problem(response, 400, "invalid")


@settings(max_examples=100, deadline=None, suppress_health_check=QUIET, derandomize=True)
@given(
    damage=st.lists(st.tuples(st.integers(2, 700), st.binary(min_size=1, max_size=4)), min_size=1, max_size=6)
)
def test_any_damage_to_a_photo_is_taken_or_refused_but_never_crashes(caller, survey, damage):
    content = BytesIO(jpeg())
    for at, data in damage:
        content.seek(at)
        content.write(data)
    response = caller.post(
        PATH, {"survey": "springtails", "photos": SimpleUploadedFile("a.jpg", content.getvalue())}
    )
    assert response.status_code in (202, 400), response.content
    if response.status_code == 400:
        assert_problem(response, 400, "no_photo_accepted")

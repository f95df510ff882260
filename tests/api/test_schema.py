"""The OpenAPI document and its pages: valid, offline, within our content security policy, and true."""

import re
from typing import Any

import jsonschema
import pytest
import yaml
from django.contrib.staticfiles import finders
from django.core.files.uploadedfile import SimpleUploadedFile
from openapi_spec_validator import validate

from apps.observations.api.schema import openapi_document
from tests.api.conftest import Caller, assert_problem
from tests.factories import PASSWORD, DetectionFactory, ObservationFactory, PhotoFactory
from tests.support.pictures import jpeg

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return openapi_document("en")


def test_the_document_is_valid_openapi(document):
    validate(document)


def test_it_describes_every_address(document):
    assert set(document["paths"]) == {
        "/api/v1/token/",
        "/api/v1/token/refresh/",
        "/api/v1/observations/",
        "/api/v1/observations/{public_id}/",
        "/api/v1/observations/{public_id}/photos/",
        "/api/v1/identify/",
        "/api/v1/surveys/",
        "/api/v1/surveys/{slug}/",
        "/api/v1/labels/",
        "/api/v1/annotation/surveys/{slug}/next/",
        "/api/v1/annotation/tasks/{task_id}/",
        "/api/v1/annotation/tasks/{task_id}/draft/",
        "/api/v1/annotation/tasks/{task_id}/lease/",
        "/api/v1/annotation/tasks/{task_id}/submit/",
        "/api/v1/annotation/tasks/{task_id}/skip/",
        "/api/v1/annotation/tasks/{task_id}/release/",
    }


def test_every_operation_names_its_problems(document):
    for operations in document["paths"].values():
        for operation in operations.values():
            assert {"400", "429", "503", "default"} <= set(operation["responses"])
            assert operation["summary"]


def test_it_is_served_to_everyone_in_yaml_and_json(anonymous):
    answer = anonymous.get("/api/schema/")
    assert yaml.safe_load(answer.content)["openapi"].startswith("3.")
    assert anonymous.get("/api/schema/", HTTP_ACCEPT="application/vnd.oai.openapi+json").json()["paths"]
    assert_problem(anonymous.get("/api/schema/", HTTP_ACCEPT="image/png"), 406)


def test_a_wrong_token_does_not_close_the_documentation(anonymous):
    for path in ("/api/schema/", "/api/docs/"):
        assert anonymous.get(path, HTTP_AUTHORIZATION="Bearer x").status_code == 200


def test_the_page_needs_no_other_host_and_nothing_inline(anonymous):
    response = anonymous.get("/api/docs/")
    html = response.content.decode()
    assert "unsafe-inline" not in response["Content-Security-Policy"]
    assert not re.search(r"<style|style=|<script(?![^>]*src=)| on\w+=", html)
    addresses = re.findall(r'(?:src|href)="([^"]+)"', html)
    assert addresses
    assert all(address.startswith("/") for address in addresses), addresses
    for address in addresses:
        if address.startswith("/static/"):
            assert finders.find(address.removeprefix("/static/")), address


def test_the_start_script_comes_from_an_address_of_its_own(anonymous):
    [address] = re.findall(r'src="(/api/docs/[^"]+)"', anonymous.get("/api/docs/").content.decode())
    script = anonymous.get(address.replace("&amp;", "&"))
    assert script["Content-Type"].startswith("application/javascript")
    assert b"/api/schema/" in script.content
    assert not re.search(rb"https?://", script.content)


def _true_to_schema(document: dict[str, Any], path: str, method: str, response: Any) -> None:
    responses = document["paths"][path][method]["responses"]
    described = responses.get(str(response.status_code), responses["default"])
    if response.status_code == 204:
        return
    [(media_type, content)] = described["content"].items()
    assert response["Content-Type"] == media_type
    schema = _without_nullable({**content["schema"], "components": document["components"]})
    jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker()).validate(
        response.json()
    )


def _without_nullable(schema: Any) -> Any:
    """OpenAPI 3.0's `nullable` in the words of JSON Schema; and nothing may come that is not described."""
    if isinstance(schema, list):
        return [_without_nullable(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    changed = {name: _without_nullable(value) for name, value in schema.items() if name != "nullable"}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        changed["additionalProperties"] = (
            "code" in schema["properties"] and "request_id" in schema["properties"]
        )
    return {"anyOf": [changed, {"type": "null"}]} if schema.get("nullable") is True else changed


def test_the_answers_are_what_the_document_says(caller, anonymous, survey, document):
    version = survey.registered_model.production_version
    observation = ObservationFactory(survey=survey, contributor=caller.user)
    photo = PhotoFactory(
        observation=observation, status="done", model_version=version, detection_count=1, detection_ms=5
    )
    DetectionFactory(photo=photo, model_version=version, label=survey.labels.first())
    PhotoFactory(observation=observation, status="failed", failure_reason="corrupt")
    sent = {
        "survey": "springtails",
        "photos": [SimpleUploadedFile("a.jpg", jpeg()), SimpleUploadedFile("b", b"x")],
    }
    credentials = {"email": caller.user.email, "password": PASSWORD}
    one = f"/api/v1/observations/{observation.public_id}/"
    refused = {"survey": "springtails", "photos": [SimpleUploadedFile("b", b"x")]}
    answers = [
        ("/api/v1/token/", "post", anonymous.post_json("/api/v1/token/", credentials)),
        ("/api/v1/token/", "post", anonymous.post_json("/api/v1/token/", {})),
        ("/api/v1/token/refresh/", "post", anonymous.post_json("/api/v1/token/refresh/", {"refresh": "x"})),
        ("/api/v1/observations/", "get", caller.get("/api/v1/observations/")),
        ("/api/v1/observations/", "get", caller.get("/api/v1/observations/?x=1")),
        ("/api/v1/observations/", "get", anonymous.get("/api/v1/observations/")),
        ("/api/v1/observations/", "post", caller.post("/api/v1/observations/", sent)),
        ("/api/v1/observations/", "post", caller.post("/api/v1/observations/", refused)),
        ("/api/v1/observations/{public_id}/", "get", caller.get(one)),
        ("/api/v1/observations/{public_id}/photos/", "get", caller.get(f"{one}photos/")),
        ("/api/v1/observations/{public_id}/", "delete", caller.delete(one)),
        ("/api/v1/observations/{public_id}/", "delete", caller.delete(one)),
        ("/api/v1/surveys/", "get", caller.get("/api/v1/surveys/")),
        ("/api/v1/surveys/{slug}/", "get", caller.get("/api/v1/surveys/springtails/")),
        ("/api/v1/labels/", "get", caller.get("/api/v1/labels/")),
    ]
    assert [answer.status_code for _path, _method, answer in answers] == [
        200, 400, 401, 200, 400, 401, 202, 400, 200, 200, 204, 404, 200, 200, 200,
    ]  # fmt: skip
    for path, method, answer in answers:
        _true_to_schema(document, path, method, answer)


def test_the_document_comes_in_the_language_of_the_reader():
    response = Caller().get("/api/schema/", HTTP_ACCEPT_LANGUAGE="fr")
    assert response["Content-Language"] == "fr"

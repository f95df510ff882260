"""Logs: one JSON object a line, with the request's id, without secrets and coordinates."""

import json
import logging

import pytest
import structlog
from django.http import HttpResponse
from django.urls import path

from apps.common.request_log import loggable_path
from project.logs import LEFT_OUT, configure_logging


def boom(request):
    raise RuntimeError("a fault of ours")


def fine(request):
    structlog.get_logger("view").info("looked_at", latitude=48.1, note="postgis://podura:hunter2@db/podura")
    return HttpResponse("fine")


urlpatterns = [path("boom/", boom), path("fine/<str:rest>", fine), path("fine/", fine)]
handler500 = "apps.common.errors.server_error"


@pytest.fixture
def lines():
    """What the JSON handler would write, as dictionaries."""
    formatter_config = configure_logging(log_format="json", level="INFO")["formatters"]["structured"]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=formatter_config["foreign_pre_chain"], processors=formatter_config["processors"]
    )
    written = []

    class Keep(logging.Handler):
        def emit(self, record):
            written.append(json.loads(formatter.format(record)))

    handler = Keep()
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel("INFO")
    yield written
    root.removeHandler(handler)
    root.setLevel(level)


@pytest.mark.urls(__name__)
@pytest.mark.django_db
def test_every_line_of_a_request_carries_the_id_that_the_answer_shows(client, lines):
    answer = client.get("/fine/")
    ids = {
        line["request_id"]
        for line in lines
        if line["event"] in ("request_started", "looked_at", "request_finished")
    }
    assert ids == {answer["X-Request-ID"]}
    assert len(answer["X-Request-ID"]) == 36


@pytest.mark.urls(__name__)
@pytest.mark.django_db
def test_coordinates_credentials_and_queries_stay_out_of_the_logs(client, lines):
    client.get("/fine/?latitude=48.123456&token=abc", headers={"authorization": "Bearer abcdefghijklmnop"})
    text = json.dumps(lines)
    assert "48.1" not in text
    assert "hunter2" not in text
    assert "token=abc" not in text
    assert "abcdefghijklmnop" not in text
    assert next(line for line in lines if line["event"] == "looked_at")["latitude"] == LEFT_OUT


@pytest.mark.urls(__name__)
@pytest.mark.django_db
def test_a_forged_request_id_cannot_write_a_log_line(client, lines):
    client.get("/fine/", headers={"x-request-id": "x\nlevel=critical"})
    assert not any("critical" in json.dumps(line) for line in lines)


@pytest.mark.urls(__name__)
@pytest.mark.django_db
def test_an_error_page_shows_the_id_and_not_the_error(client, lines):
    client.raise_request_exception = False
    answer = client.get("/boom/")
    failed = next(line for line in lines if line["event"] == "request_failed")
    assert answer.status_code == 500
    assert failed["request_id"] in answer.content.decode()
    assert "a fault of ours" not in answer.content.decode()
    assert "a fault of ours" in failed["exception"]


@pytest.mark.parametrize(
    ("path_", "shown"),
    [
        ("/accounts/password/reset/key/3-c9x-abc/", "/accounts/password/reset/key/-/"),
        ("/accounts/confirm-email/MQ:1abc/", "/accounts/confirm-email/-/"),
        ("/a\nb\x1b[31m", "/a?b?[31m"),
        ("/" + "x" * 1000, "/" + "x" * 299),
    ],
)
def test_one_time_keys_and_control_characters_are_not_logged(path_, shown):
    assert loggable_path(path_) == shown

"""MLflow hears of runs and versions; whatever it does, nothing here waits for it or fails."""

import json
import os
import socket
import subprocess
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from django.core.files.base import ContentFile
from django.utils import timezone

from apps.common.heartbeat import broker
from apps.training.mlflow_client import MlflowClient, MlflowError
from apps.training.models import ModelVersion
from apps.training.services import mlflow_tracking
from apps.training.services.mlflow_tracking import has_news, tell_mlflow
from tests.training.factories import CandidateFactory, TrainingEpochFactory, TrainingRunFactory

pytestmark = pytest.mark.django_db
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _nothing_told_yet():
    def forget():
        for key in broker().scan_iter(mlflow_tracking._key("*")):
            broker().delete(key)

    forget()
    yield
    forget()


def a_run(*, status="processing", epochs=2, **fields):
    values = {"started_at": timezone.now(), "hardware": {"cpu": "two cores"}, "code_commit": "a" * 40}
    if status == "processing":
        values |= {"lease_token": "8a4f2f0e-5d6c-4b8e-9a61-000000000001", "lease_until": timezone.now()}
    else:
        values["finished_at"] = timezone.now()
    run = TrainingRunFactory(status=status, **values | fields)
    for epoch in range(1, epochs + 1):
        TrainingEpochFactory(run=run, epoch=epoch)
    return run


def a_version(run):
    version = CandidateFactory(registered_model=run.registered_model, number=7, weights_bytes=7)
    version.weights.save("mlflow.podura", ContentFile(b"weights"))
    version.save()
    run.version, run.status, run.finished_at = version, "done", timezone.now()
    run.lease_token = run.lease_until = None
    run.save()
    return version


def free_port():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


def test_without_an_address_there_is_no_news(settings):
    settings.MLFLOW_TRACKING_URI = ""
    a_run()
    assert not has_news()
    assert tell_mlflow() == 0


@pytest.mark.parametrize("address", ["file:///tmp/x", "sqlite:///x.db", "http://", "databricks"])
def test_an_address_that_is_none_is_logged_and_nothing_fails(settings, address):
    settings.MLFLOW_TRACKING_URI = address
    a_run()
    assert tell_mlflow() == 0


def test_an_mlflow_that_is_away_is_left_alone_for_a_while(settings):
    settings.MLFLOW_TRACKING_URI = f"http://127.0.0.1:{free_port()}"
    run = a_run(status="failed")
    assert has_news()
    assert tell_mlflow() == 0
    assert not has_news()
    run.refresh_from_db()
    assert run.tracked_at is None


class Answers(BaseHTTPRequestHandler):
    status, content, seconds, seen = 200, b"{}", 0.0, []

    def do_GET(self):
        self.seen.append((self.path, dict(self.headers)))
        time.sleep(self.seconds)
        self.send_response(self.status)
        if self.status == 302:
            self.send_header("Location", "http://127.0.0.1:9/elsewhere")
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        self.wfile.write(self.content)

    do_POST = do_GET  # noqa: N815 - the name that the server looks for

    def log_message(self, *_args):
        pass


@pytest.fixture
def answering():
    servers = []

    def start(**answers):
        handler = type("Handler", (Answers,), answers | {"seen": []})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}", handler.seen

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_an_mlflow_that_does_not_answer_is_given_up_in_time(answering, monkeypatch):
    monkeypatch.setattr("apps.training.mlflow_client._CALL_SECONDS", 0.2)
    address, _seen = answering(seconds=2.0)
    began = time.monotonic()
    with pytest.raises(MlflowError, match="cannot be reached"):
        MlflowClient(address).experiment_id("podura")
    assert time.monotonic() - began < 1.5


@pytest.mark.parametrize(
    "answer",
    [
        {"status": 500, "content": b"<html>broken</html>"},
        {"content": b"<html>a login page</html>"},
        {"content": b"[1]"},
        {"status": 302},
    ],
)
def test_an_answer_that_is_none_does_not_break_the_pass(answering, settings, answer):
    settings.MLFLOW_TRACKING_URI, _seen = answering(**answer)
    a_run()
    assert tell_mlflow() == 0


def test_a_run_that_mlflow_refuses_keeps_no_other_from_being_told_of(answering, settings, monkeypatch):
    content = json.dumps({"experiment": {"experiment_id": "3"}}).encode()
    settings.MLFLOW_TRACKING_URI, _seen = answering(content=content)
    refused, welcome = a_run(status="failed"), a_run(status="failed")
    told = []

    def follow(_client, _experiment, run):
        if run == refused:
            raise MlflowError("MLflow answered 400", status=400)
        told.append(run)

    monkeypatch.setattr(mlflow_tracking, "_follow", follow)
    assert tell_mlflow() == 1
    assert told == [welcome]
    assert not has_news(), "it is left alone for a while"


def test_a_proxy_that_takes_no_large_file_costs_the_file_only():
    run = a_run()
    version = a_version(run)
    run.mlflow_run_id = "theirs"
    told = []

    class Client:
        def upload(self, _place, name, _content, _size):
            if name != "card.md":
                raise MlflowError("MLflow answered 413", status=413)
            return True

        def log(self, _run_id, *, tags):
            told.append(tags)

        def ensure_model(self, *_told):
            pass

        def version_of(self, *_asked):
            return "1"

    mlflow_tracking._send_version(Client(), run, version, "mlflow-artifacts:/3")
    assert told == [{"version": str(version), "weights_sha256": version.weights_sha256}]


def test_the_token_or_the_name_in_the_address_is_sent(answering):
    content = json.dumps({"experiment": {"experiment_id": "3"}}).encode()
    address, seen = answering(content=content)
    assert MlflowClient(address, token="secret").experiment_id("podura") == "3"
    with_name = address.replace("http://", "http://kim:p%40ss@")
    assert MlflowClient(with_name, token="secret").experiment_id("podura") == "3"
    assert [headers["Authorization"] for _path, headers in seen] == ["Bearer secret", "Basic a2ltOnBAc3M="]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    mlflow = subprocess.run([ROOT / "bin/mlflow"], check=True, capture_output=True, text=True).stdout.strip()
    folder, port = tmp_path_factory.mktemp("mlflow"), free_port()
    command = [mlflow, "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination",
        f"{folder}/files",
    ]
    environment = {"PATH": f"{Path(mlflow).parent}:{os.environ['PATH']}", "HOME": str(folder)}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            try:
                with urllib.request.urlopen(f"{address}/health", timeout=2):
                    break
            except OSError:
                assert process.poll() is None, (folder / "log").read_text()[-2000:]
                time.sleep(0.5)
        warm = f"{address}/api/2.0/mlflow/experiments/get-by-name?experiment_name=Default"
        with urllib.request.urlopen(warm, timeout=120):  # the first request loads half of MLflow
            pass
        yield address
    finally:
        os.killpg(process.pid, 15)
        process.wait(30)


@pytest.mark.slow
def test_a_real_mlflow_has_the_run_its_epochs_its_files_and_what_serves(server, settings):
    settings.MLFLOW_TRACKING_URI = server
    client = MlflowClient(server)
    run = a_run(epochs=2)
    assert tell_mlflow() == 1
    run.refresh_from_db()
    assert run.mlflow_run_id
    assert run.tracked_at is None

    def known():
        return client.call("GET", "runs/get", {"run_id": run.mlflow_run_id})["run"]

    def history(key):
        wanted = {"run_id": run.mlflow_run_id, "metric_key": key}
        return [m["step"] for m in client.call("GET", "metrics/get-history", wanted)["metrics"]]

    first = known()
    tags = {tag["key"]: tag["value"] for tag in first["data"]["tags"]}
    params = {param["key"]: param["value"] for param in first["data"]["params"]}
    assert first["info"]["status"] == "RUNNING"
    assert tags["dataset_digest"] == run.dataset.digest
    assert tags["mlflow.source.git.commit"] == "a" * 40
    assert params["recipe.epochs"] == str(run.parameters["epochs"])
    assert history("map50") == [1, 2]

    TrainingEpochFactory(run=run, epoch=3)
    version = a_version(run)
    assert tell_mlflow() == 1
    assert history("map50") == [1, 2, 3]
    assert history("map50_95") == [1, 2, 3]
    last = known()
    assert last["info"]["status"] == "FINISHED"
    files = client.call("GET", "artifacts/list", {"run_id": run.mlflow_run_id})["files"]
    assert {file["path"]: int(file["file_size"]) for file in files}["weights.podura"] == 7
    assert "card.md" in {file["path"] for file in files}
    run.refresh_from_db()
    assert run.tracked_at

    model = run.registered_model
    number = client.version_of(model.name, run.mlflow_run_id)
    assert number == "1"

    def alias():
        found = client.call("GET", "registered-models/get", {"name": model.name})["registered_model"]
        return {each["alias"]: each["version"] for each in found.get("aliases", ())}

    assert alias() == {}
    ModelVersion.objects.filter(pk=version.pk).update(stage="production")
    assert has_news()
    assert tell_mlflow() == 0
    assert alias() == {"production": "1"}
    assert not has_news()
    ModelVersion.objects.filter(pk=version.pk).update(stage="archived")
    assert has_news()
    tell_mlflow()
    assert alias() == {}

    run.tracked_at = None  # a pass that was killed at its end is done again
    run.save()
    assert tell_mlflow() == 1
    assert history("map50") == [1, 2, 3]
    assert client.version_of(model.name, run.mlflow_run_id) == "1"
    experiment = client.experiment_id("podura")
    assert client.run_of(experiment, "podura_run", str(run.public_id))["info"]["run_id"] == run.mlflow_run_id


@pytest.mark.slow
@pytest.mark.parametrize(("status", "theirs"), [("failed", "FAILED"), ("cancelled", "KILLED")])
def test_a_real_mlflow_hears_how_a_run_ended(server, settings, status, theirs):
    settings.MLFLOW_TRACKING_URI = server
    run = a_run(status=status, failure_reason="disk_full")
    assert tell_mlflow() == 1
    run.refresh_from_db()
    known = MlflowClient(server).call("GET", "runs/get", {"run_id": run.mlflow_run_id})["run"]
    assert known["info"]["status"] == theirs
    assert tell_mlflow() == 0


def test_the_tracking_imports_no_mlflow():
    import sys

    assert "mlflow" not in sys.modules

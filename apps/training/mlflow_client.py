"""The few words of MLflow's REST interface that runs and versions need, by the standard library.

MLflow's own client brings twenty packages (a web framework and an SDK of a cloud among them) for nine requests, and may
wait for minutes by itself. Here each request has a time limit, and nothing is tried twice.
"""

import base64
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from typing import IO, Any, Final

_CALL_SECONDS: Final = 15.0
_UPLOAD_SECONDS: Final = 120.0
_MAX_ANSWER_BYTES: Final = 4 * 1024 * 1024
_LATER: Final = frozenset({401, 403, 404, 407, 408, 429})
"""Refusals that are about the server or the token, not about what was sent."""
_MOST_METRICS: Final = 1000
"""In one request, by MLflow's own limit; of parameters and tags 100."""


class MlflowError(Exception):
    """MLflow is away or said no; `code` is its own, empty when it was not reached."""

    def __init__(self, text: str, *, code: str = "", status: int = 0) -> None:
        super().__init__(text)
        self.code = code
        self.is_refusal = 400 <= status < 500 and status not in _LATER
        """It was reached and does not want just this: the next thing may be welcome."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The token goes to the address that was configured and to no other."""

    def redirect_request(self, *_args: Any, **_named: Any) -> None:
        return None


class MlflowClient:
    def __init__(self, uri: str, *, token: str = "") -> None:
        parts = urllib.parse.urlsplit(uri)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise MlflowError("MLFLOW_TRACKING_URI must be an address with http or https")
        place = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        self._root = (
            f"{parts.scheme}://{place}{f':{parts.port}' if parts.port else ''}{parts.path.rstrip('/')}"
        )
        self._headers = {"Accept": "application/json"}
        if parts.username:
            pair = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
            self._headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        elif token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._opener = urllib.request.build_opener(_NoRedirect)

    def call(self, method: str, path: str, values: Mapping[str, Any]) -> dict[str, Any]:
        address = f"{self._root}/api/2.0/mlflow/{path}"
        content = None
        headers = self._headers
        if method == "GET":
            address += "?" + urllib.parse.urlencode(values)
        else:
            content = json.dumps(values, allow_nan=False).encode()
            headers = headers | {"Content-Type": "application/json"}
        answer = self._send(method, address, content, headers, _CALL_SECONDS)
        try:
            document = json.loads(answer or b"{}")
        except ValueError as error:
            raise MlflowError("MLflow's answer is not JSON") from error
        return document if isinstance(document, dict) else {}

    def upload(self, artifact_uri: str, name: str, content: IO[bytes] | bytes, size: int) -> bool:
        """False where the server does not take files itself (`mlflow-artifacts:`)."""
        parts = urllib.parse.urlsplit(artifact_uri)
        if parts.scheme != "mlflow-artifacts":
            return False
        path = urllib.parse.quote(f"{parts.path.strip('/')}/{name}")
        address = f"{self._root}/api/2.0/mlflow-artifacts/artifacts/{path}"
        headers = self._headers | {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        self._send("PUT", address, content, headers, _UPLOAD_SECONDS)
        return True

    def _send(
        self,
        method: str,
        address: str,
        content: IO[bytes] | bytes | None,
        headers: Mapping[str, str],
        seconds: float,
    ) -> bytes:
        request = urllib.request.Request(address, content, dict(headers), method=method)  # noqa: S310 - checked above
        try:
            with self._opener.open(request, timeout=seconds) as answer:
                return bytes(answer.read(_MAX_ANSWER_BYTES))
        except urllib.error.HTTPError as error:
            with error:
                raise _refusal(error.code, error.read(10_000)) from error
        except (OSError, ValueError) as error:
            raise MlflowError(f"MLflow cannot be reached: {error}") from error

    def experiment_id(self, name: str) -> str:
        try:
            found = self.call("GET", "experiments/get-by-name", {"experiment_name": name})
            return str(found["experiment"]["experiment_id"])
        except MlflowError as error:
            if error.code != "RESOURCE_DOES_NOT_EXIST":
                raise
        return str(self.call("POST", "experiments/create", {"name": name})["experiment_id"])

    def run_of(self, experiment: str, tag: str, value: str) -> dict[str, Any] | None:
        """The run with this tag, or None."""
        wanted = {"experiment_ids": [experiment], "filter": f"tags.{tag} = '{value}'", "max_results": 1}
        runs = self.call("POST", "runs/search", wanted).get("runs") or []
        return dict(runs[0]) if runs else None

    def log(
        self,
        run_id: str,
        *,
        metrics: Sequence[Mapping[str, Any]] = (),
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, Any] | None = None,
    ) -> None:
        """Metrics with key, value, step and timestamp (ms); the same ones again do no harm."""
        first = {"params": _pairs(params or {}, 6000), "tags": _pairs(tags or {}, 5000)}
        if first["params"] or first["tags"]:
            self.call("POST", "runs/log-batch", {"run_id": run_id, **first})
        for start in range(0, len(metrics), _MOST_METRICS):
            batch = list(metrics[start : start + _MOST_METRICS])
            self.call("POST", "runs/log-batch", {"run_id": run_id, "metrics": batch})

    def ensure_model(self, name: str, description: str = "") -> None:
        try:
            self.call("POST", "registered-models/create", {"name": name, "description": description[:5000]})
        except MlflowError as error:
            if error.code != "RESOURCE_ALREADY_EXISTS":
                raise

    def version_of(self, model: str, run_id: str) -> str:
        """The number of the version that this run made; empty if there is none."""
        found = self.call(
            "GET", "model-versions/search", {"filter": f"run_id = '{run_id}'", "max_results": 50}
        )
        versions = [v for v in found.get("model_versions") or [] if v.get("name") == model]
        return str(versions[0]["version"]) if versions else ""

    def set_alias(self, model: str, alias: str, version: str) -> None:
        """To no version: the alias is taken away."""
        if version:
            values = {"name": model, "alias": alias, "version": version}
            self.call("POST", "registered-models/alias", values)
            return
        try:
            self.call("DELETE", "registered-models/alias", {"name": model, "alias": alias})
        except MlflowError as error:
            if error.code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise


def _refusal(status: int, content: bytes) -> MlflowError:
    try:
        document = json.loads(content)
        code, text = str(document.get("error_code", "")), str(document.get("message", ""))
    except (ValueError, AttributeError):
        code, text = "", ""
    return MlflowError(f"MLflow answered {status} {code} {text[:300]}".strip(), code=code, status=status)


def _pairs(values: Mapping[str, Any], longest: int) -> list[dict[str, str]]:
    return [{"key": key, "value": str(value)[:longest]} for key, value in values.items()]

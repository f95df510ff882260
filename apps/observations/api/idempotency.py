"""`Idempotency-Key`: however often a request with the same key arrives, it is done once and answered alike.

The row remembers the answer. While the request is worked on, a PostgreSQL advisory lock of the session is held:
it ends with the process, so a crash half-way leaves a key that the next attempt can take up, and no time limit has
to be guessed. (Session locks need a session: no transaction pooling between here and PostgreSQL.)
"""

import hashlib
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

from django.db import connection
from django.db.models.functions import Now
from django.http import QueryDict
from django.utils.translation import gettext as _
from rest_framework.request import Request

from apps.accounts.models import User
from apps.common.problems import FieldProblem, Problem
from apps.observations.models import IdempotencyKey

KEPT = timedelta(days=30)
"""A camera that was offline for a week may still send again what it had sent."""
_NAMESPACE = uuid.UUID("0b1c8a2e-7a4e-4a53-9d0b-5d3f4f6f2c11")


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: Any


def requested_key(request: Request) -> str | None:
    """The key of the request; None without one. 1 to 200 printable ASCII characters."""
    key = request.META.get("HTTP_IDEMPOTENCY_KEY")
    if key is None:
        return None
    if not (1 <= len(key) <= 200 and key.isascii() and key.isprintable()):
        detail = _("Use 1 to 200 printable ASCII characters, such as a UUID.")
        raise Problem(
            status=400,
            code="bad_idempotency_key",
            errors=[FieldProblem("Idempotency-Key", "invalid", detail)],
        )
    return str(key)


def request_digest(request: Request) -> str:
    """SHA-256 of what the request asks for: its fields in any order, its files by content in their order."""
    digest = hashlib.sha256()
    fields = cast("QueryDict", request.data)
    for name, values in sorted(fields.lists()):
        for value in values:
            digest.update(f"{name!r}=".encode())
            digest.update(_file_digest(value) if hasattr(value, "read") else repr(value).encode())
            digest.update(b"\n")
    return digest.hexdigest()


def _file_digest(file: Any) -> bytes:
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256").digest()
    file.seek(0)
    return digest


def once(*, user: User, key: str, digest: str, act: Callable[[uuid.UUID], Answer]) -> tuple[Answer, bool]:
    """The answer of `act`, done now or before (True). `act` is given the same id on each attempt.

    409 while the same request is being worked on, 422 where the key was used for another one.
    """
    with _exclusive(f"idempotency:{user.pk}:{key}"):
        record, is_new = IdempotencyKey.objects.get_or_create(
            user=user, key=key, defaults={"request_digest": digest}
        )
        if is_new:
            IdempotencyKey.objects.filter(user=user, created_at__lt=Now() - KEPT).delete()
        if record.request_digest != digest:
            raise Problem(
                status=422,
                code="idempotency_key_reused",
                detail=_("This Idempotency-Key was used for another request: take a new one."),
            )
        if record.status_code:
            return Answer(record.status_code, record.response), True
        answer = act(uuid.uuid5(_NAMESPACE, str(record.pk)))
        record.status_code, record.response = answer.status, answer.body
        record.save(update_fields=["status_code", "response"])
        return answer, False


@contextmanager
def _exclusive(name: str) -> Iterator[None]:
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [number])
        if not cursor.fetchone()[0]:
            raise Problem(
                status=409,
                code="in_progress",
                detail=_("The same request is still being worked on. Ask again in a moment."),
                headers={"Retry-After": "1"},
            )
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [number])

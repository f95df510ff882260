"""Weights from outside: received, examined in a process of its own, accepted or refused by a person.

Only the file that the examination wrote anew is ever used; the one that was sent is removed with its end.
"""

import hashlib
import shutil
import time
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

import structlog
from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.core.files import File
from django.core.files.storage import Storage
from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from apps.common.leased import LeaseLostError, WorkStatus, is_stopping, kept_lease
from apps.common.tasks import wake_once
from apps.training.engine.examination import examine_weights
from apps.training.engine.label_codes import label_code
from apps.training.engine.refusals import RefusedWeightsError, shown
from apps.training.engine.weights import file_sha256
from apps.training.hooks import names_of
from apps.training.models import ModelImport, ModelVersion, RegisteredModel
from apps.training.models.versions import private_storage
from apps.training.services.registry import register_model_version

logger = structlog.get_logger(__name__)

KEPT_FOR: Final = timedelta(days=30)
QUARANTINE: Final = "quarantine"
_ORPHANED_AFTER: Final = timedelta(hours=1)
"""What no row names by then was left between two steps by a process that was killed."""
Decision = ModelImport.Decision


class DecidedError(Exception):
    """Somebody decided on these weights already, or there is nothing to decide on."""


class _StoppedError(Exception):
    """The worker was told to end: the examination starts over elsewhere."""


def request_model_import(
    *,
    registered_model: RegisteredModel,
    file: Any,
    name: str,
    expected_sha256: str = "",
    licence: str = "",
    note: str = "",
    object_size_px: float | None = None,
    by: AbstractBaseUser | None = None,
) -> ModelImport:
    """Put a file into quarantine and have it examined. Raises `RefusedWeightsError` for what can be said at once.

    `file` is an open Django file or upload. The same file for the same model while it waits or is to be decided on
    is given again, unless more is said of it this time.
    """
    from apps.training.tasks.imports import examine_imports  # tasks call services

    sha256, size_bytes = _digest(file)
    expected = expected_sha256.strip().lower()
    if expected and expected != sha256:
        raise RefusedWeightsError("wrong_digest", found=sha256, expected=expected)
    if not size_bytes:
        raise RefusedWeightsError("empty")
    with transaction.atomic():
        RegisteredModel.objects.select_for_update(no_key=True).get(pk=registered_model.pk)
        said = {"licence": licence, "note": note, "findings__object_size_px": object_size_px}
        known = (
            ModelImport.objects.filter(registered_model=registered_model, sha256=sha256)
            .filter(decision=Decision.OPEN, **{name: value for name, value in said.items() if value})
            .exclude(status=WorkStatus.FAILED)
            .first()
        )
        if known is not None:
            wake_once(examine_imports)
            return cast("ModelImport", known)
        row = ModelImport(
            registered_model=registered_model,
            name=str(shown(Path(name).name))[:255] or "weights",
            size_bytes=size_bytes,
            sha256=sha256,
            licence=licence,
            note=note,
            requested_by_id=by.pk if by else None,
            findings={"object_size_px": object_size_px} if object_size_px else {},
        )
        file.seek(0)
        row.file.save(f"{row.public_id}.received", File(file), save=False)
        try:
            row.save(force_insert=True)
        except BaseException:
            row.file.storage.delete(str(row.file.name))
            raise
        wake_once(examine_imports)
    return row


def examine_next_import() -> bool:
    """Claim one and examine it; gives False when none waits."""
    return _examine_one(ModelImport.objects.all())


def examine_import(row: ModelImport, *, seconds: float = 1_800) -> ModelImport:
    """Examine this one now, or wait for the worker that already does; gives the row as it stands then."""
    rows = ModelImport.objects.filter(pk=row.pk)
    deadline = time.monotonic() + seconds
    while True:
        _examine_one(rows)
        found: ModelImport = rows.select_related("registered_model").get()
        if found.status in (WorkStatus.DONE, WorkStatus.FAILED) or time.monotonic() > deadline:
            return found
        time.sleep(0.5)


def _examine_one(rows: Any) -> bool:
    for row in rows.select_related("registered_model").claim(limit=1):
        token = row.lease_token
        # Of this claim alone: a worker that lost its lease cleans up after itself, not after the next one.
        folder = Path(settings.TRAINING_DIR) / "imports" / f"{row.public_id}.{str(token)[:8]}"
        try:
            with kept_lease(rows, token):
                _examine(row, folder)
        except LeaseLostError:
            logger.warning("model_import_lease_lost", model_import=row.pk)
        except _StoppedError:
            rows.release(token)
        except KeyboardInterrupt:  # whoever waits at the command has enough of it: a worker goes on at once
            rows.release(token)
            raise
        except RefusedWeightsError as error:
            _refuse(row, error)
        except Exception as error:
            logger.exception("model_import_failed", model_import=row.pk)
            rows.give_back_after_error(token, reason=f"{type(error).__name__}: {error}")
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return True
    return False


def accept_import(*, model_import: ModelImport, by: AbstractBaseUser | None = None) -> ModelVersion:
    """The weights become the model's next version, a candidate. Accepting twice gives the same version.

    Raises `DecidedError` when it was refused or is not examined yet, `RefusedWeightsError` when its file is gone.
    """
    with transaction.atomic():
        row: ModelImport = ModelImport.objects.select_for_update(no_key=True).get(pk=model_import.pk)
        if row.version is not None:
            return row.version
        if row.decision != Decision.OPEN or row.status != WorkStatus.DONE or not row.file:
            raise DecidedError(row.decision)
        folder = Path(settings.TRAINING_DIR) / "imports" / f"{row.public_id}-accepted"
        folder.mkdir(parents=True, exist_ok=True)
        try:
            path = _fetched(row, folder / "weights.podura", sha256=str(row.findings["sha256"]))
            version = register_model_version(
                registered_model=row.registered_model,
                weights_path=path,
                metrics={},  # what a file says of its own quality is no measurement
                origin=ModelVersion.Origin.IMPORTED,
            )
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        kept = str(row.file.name)
        row.version, row.file = version, None
        _decide(row, Decision.ACCEPTED, by)
        transaction.on_commit(partial(_remove, row.file.storage, kept))
    return version


def refuse_import(*, model_import: ModelImport, by: AbstractBaseUser | None = None) -> ModelImport:
    """A person does not want them: the file leaves quarantine. Raises `DecidedError` when they were accepted."""
    with transaction.atomic():
        row: ModelImport = ModelImport.objects.select_for_update(no_key=True).get(pk=model_import.pk)
        if row.decision == Decision.ACCEPTED:
            raise DecidedError(row.decision)
        if row.decision == Decision.OPEN:
            if row.status in (WorkStatus.PENDING, WorkStatus.PROCESSING):
                raise DecidedError(row.status)
            kept = str(row.file.name or "")
            row.file = None
            _decide(row, Decision.REFUSED, by)
            transaction.on_commit(partial(_remove, row.file.storage, kept))
    return row


def discard_imports() -> int:
    """Refuse what nobody decided on for 30 days, and remove files that a killed process left; gives how many."""
    old = ModelImport.objects.filter(decision=Decision.OPEN, finished_at__lt=Now() - KEPT_FOR)
    over = old.filter(status__in=(WorkStatus.DONE, WorkStatus.FAILED))
    count = _sweep_quarantine()
    for row in over.only("pk", "file", "decision"):
        storage, kept = row.file.storage, str(row.file.name or "")
        changes = {"decision": Decision.REFUSED, "decided_at": Now(), "problem": "abandoned", "file": ""}
        if ModelImport.objects.filter(pk=row.pk, decision=Decision.OPEN).update(**changes):
            _remove(storage, kept)
            count += 1
    scratch = Path(settings.TRAINING_DIR) / "imports"
    held = ModelImport.objects.filter(status=WorkStatus.PROCESSING).values_list("public_id", flat=True)
    running = {str(public_id) for public_id in held}
    for folder in scratch.glob("*") if scratch.is_dir() else ():
        if folder.name[:36] not in running and _age(folder) > _ORPHANED_AFTER:
            shutil.rmtree(folder, ignore_errors=True)  # of a worker that was killed
    return count


def _sweep_quarantine() -> int:
    storage, count = private_storage(), 0
    try:
        left = [f"{QUARANTINE}/{name}" for name in storage.listdir(QUARANTINE)[1]]
    except FileNotFoundError:
        return 0
    # Asked after the listing: a file that has a row by now had none only a moment ago.
    known = set(ModelImport.objects.filter(file__in=left).values_list("file", flat=True))
    for name in left:
        if name not in known and _stored_for(storage, name) > _ORPHANED_AFTER:
            _remove(storage, name)
            count += 1
    return count


def _stored_for(storage: Storage, name: str) -> timedelta:
    try:
        return timezone.now() - storage.get_modified_time(name)
    except FileNotFoundError:
        return timedelta(0)


def import_notes(row: ModelImport) -> list[tuple[str, dict[str, Any]]]:
    """What a curator should know before accepting: codes with details (`import_texts.note_text`)."""
    labels = [str(label) for label in row.findings.get("labels", ())]
    notes: list[tuple[str, dict[str, Any]]] = []
    known = names_of(row.registered_model)
    if unknown := [label for label in labels if label_code(label) not in known]:
        notes.append(("unknown_to_surveys", {"labels": unknown}))
    serving = row.registered_model.production_version
    if serving is not None:
        codes, serving_codes = [*map(label_code, labels)], [*map(label_code, serving.labels)]
        lost = [label for label, code in zip(serving.labels, serving_codes, strict=True) if code not in codes]
        new = [label for label, code in zip(labels, codes, strict=True) if code not in serving_codes]
        if lost:
            notes.append(("lost_labels", {"labels": lost}))
        if new:
            notes.append(("new_labels", {"labels": new}))
        if not lost and not new and codes != serving_codes:
            notes.append(("other_order", {}))
    if "object_size_assumed" in row.findings.get("notes", ()):
        notes.append(("object_size_assumed", {"size": row.findings.get("object_size_px")}))
    if not row.findings.get("licences"):
        notes.append(("no_licence", {}))
    same = ModelVersion.objects.filter(
        Q(weights_sha256=row.findings.get("sha256", "")), registered_model=row.registered_model
    ).exclude(imported_by=row.pk)
    if (version := same.first()) is not None:
        notes.append(("known_weights", {"version": str(version)}))
    return notes


def _digest(file: Any) -> tuple[str, int]:
    """SHA-256 and size, read in pieces and no further than the limit."""
    digest, size, most = hashlib.sha256(), 0, settings.MODEL_IMPORT_MAX_BYTES
    said = getattr(file, "size", None)
    if said is not None and said > most:
        raise RefusedWeightsError("too_large", size=said, most=most)
    for chunk in _chunks(file):
        size += len(chunk)
        if size > most:
            raise RefusedWeightsError("too_large", size=size, most=most)
        digest.update(chunk)
    return digest.hexdigest(), size


def _chunks(file: Any) -> Iterator[bytes]:
    file.seek(0)
    while chunk := file.read(1 << 20):
        yield chunk


def _examine(row: ModelImport, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    received = _fetched(row, folder / "received", sha256=row.sha256)
    options = {
        "name": Path(row.name).stem,
        "licence": row.licence,
        "note": row.note,
        "object_size_px": row.findings.get("object_size_px"),
    }
    examined, findings = examine_weights(
        received, sha256=row.sha256, folder=folder / "examined", options=options, between=partial(_pulse, row)
    )
    if file_sha256(examined) != findings["sha256"]:
        raise RefusedWeightsError("examination_failed", detail="SHA-256")
    storage, sent = row.file.storage, str(row.file.name)
    # Of this claim alone, as the folder: one that lost its lease must not remove what the next one wrote.
    name = f"{QUARANTINE}/{row.public_id}.{str(row.lease_token)[:8]}.podura"
    with examined.open("rb") as file:
        name = storage.save(name, File(file))
    try:
        row.finish(file=name, findings=findings, problem="", problem_details={})
    except BaseException:
        _remove(storage, name)
        raise
    _remove(storage, sent)


def _pulse(row: ModelImport) -> None:
    if is_stopping():
        raise _StoppedError
    if not ModelImport.objects.all().held(row.lease_token).filter(pk=row.pk).exists():
        raise LeaseLostError(f"ModelImport {row.pk}")


def _refuse(row: ModelImport, error: RefusedWeightsError) -> None:
    """The machine's word is final; the file leaves at once, its digest stays."""
    storage, sent = row.file.storage, str(row.file.name)
    logger.warning("model_import_refused", model_import=row.pk, code=error.code, **error.details)
    try:
        row.finish(
            file="",
            problem=error.code,
            problem_details=error.details,
            decision=Decision.REFUSED,
            decided_at=Now(),
        )
    except LeaseLostError:
        logger.warning("model_import_lease_lost", model_import=row.pk)
        return
    _remove(storage, sent)


def _fetched(row: ModelImport, path: Path, *, sha256: str) -> Path:
    try:
        with row.file.storage.open(str(row.file.name), "rb") as stored, path.open("wb") as target:
            shutil.copyfileobj(stored, target, 1 << 20)
    except FileNotFoundError:
        raise RefusedWeightsError("file_gone") from None
    if file_sha256(path) != sha256:
        raise RefusedWeightsError("wrong_digest", found=file_sha256(path), expected=sha256)
    return path


def _decide(row: ModelImport, decision: str, by: AbstractBaseUser | None) -> None:
    row.decision = decision
    row.decided_by_id = by.pk if by else None
    row.decided_at = Now()
    row.file = row.file.name or ""
    row.save(update_fields=["version", "file", "decision", "decided_by", "decided_at"])
    row.refresh_from_db()


def _remove(storage: Storage, name: str) -> None:
    """After the row does not know the file any more: one that cannot be removed now is swept (`discard_imports`)."""
    try:
        if name:
            storage.delete(name)
    except Exception as error:  # noqa: BLE001  (each storage raises the errors of its own library)
        logger.warning("quarantine_not_removed", name=name, error=str(error))


def _age(folder: Path) -> timedelta:
    try:
        return timedelta(seconds=time.time() - folder.stat().st_mtime)
    except OSError:
        return timedelta(0)


__all__ = [
    "DecidedError",
    "accept_import",
    "discard_imports",
    "examine_import",
    "examine_next_import",
    "import_notes",
    "refuse_import",
    "request_model_import",
]

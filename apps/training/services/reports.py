"""What evaluations leave in the storage: the report that people see, and the table of matches that comparisons need."""

import uuid
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from django.core.files.base import ContentFile
from django.core.files.storage import Storage, storages
from django.utils import timezone

from apps.common.leased import WorkStatus
from apps.training.engine.hardware import describe_hardware
from apps.training.engine.report import MAX_BYTES, Report, ReportDamagedError
from apps.training.models import Evaluation

if TYPE_CHECKING:
    from apps.training.engine.matches import MatchTable
    from apps.training.engine.measures import Measured

_REPORT: Final = ".json.gz"
_TABLE: Final = ".matches.npz"
_KEPT_OPEN: Final = 4


def store_evaluation(evaluation: Evaluation, measured: "Measured") -> Evaluation:
    """Write what was measured and end the evaluation: by its claim, where it has one.

    Raises `LeaseLostError` when the claim is over; then nothing is left behind.
    """
    storage = evaluation.report.storage
    names = _write(evaluation, measured, storage)
    changes: dict[str, Any] = {
        "metrics": measured.metrics,
        "by_label": measured.by_label,
        "hardware": describe_hardware() | {"runtime": measured.runtime},
        "photo_count": len(measured.report.pictures),
        "photos_done": len(measured.report.pictures),
    }
    try:
        if evaluation.lease_token:
            evaluation.finish(report=names[0], **changes)
            evaluation.refresh_from_db()
        else:
            _set(evaluation, changes)
            evaluation.report.name = names[0]
            evaluation.status, evaluation.finished_at = WorkStatus.DONE, timezone.now()
            evaluation.save()
    except BaseException:
        for name in names:
            storage.delete(name)
        raise
    return evaluation


def read_report(evaluation: Evaluation) -> Report:
    """The report of a finished evaluation. Raises `ReportDamagedError`, also where there is none."""
    return _read(_name(evaluation))


def latest_table(evaluation: Evaluation) -> "MatchTable":
    """The matches of a finished evaluation. Raises `ReportDamagedError`, also where there are none."""
    from apps.training.engine.tables import TableDamagedError, decode_table

    try:
        return decode_table(_content(_name(evaluation).removesuffix(_REPORT) + _TABLE))
    except TableDamagedError as error:
        raise ReportDamagedError(str(error)) from error


def discard_reports(evaluation: Evaluation) -> int:
    """Remove every file of an evaluation, those of lost attempts too; gives how many."""
    storage = evaluation.report.storage
    folder = _folder(evaluation)
    try:
        _folders, files = storage.listdir(folder)
    except FileNotFoundError:
        return 0
    for name in files:
        storage.delete(f"{folder}/{name}")
    return len(files)


@lru_cache(maxsize=_KEPT_OPEN)
def _read(name: str) -> Report:
    """A page asks for a dozen crops of one report. A file never changes: each attempt writes one of its own name."""
    return Report.decoded(_content(name))


def _content(name: str) -> bytes:
    try:
        with storages["default"].open(name, "rb") as file:
            content: bytes = file.read(MAX_BYTES)
    except FileNotFoundError as error:
        raise ReportDamagedError("the report is gone from the storage") from error
    return content


def _name(evaluation: Evaluation) -> str:
    if not evaluation.report:
        raise ReportDamagedError("there is no report yet")
    return str(evaluation.report.name)


def _folder(evaluation: Evaluation) -> str:
    return f"evaluations/{evaluation.public_id}"


def _write(evaluation: Evaluation, measured: "Measured", storage: Storage) -> tuple[str, str]:
    from apps.training.engine.tables import encode_table

    stem = f"{_folder(evaluation)}/{uuid.uuid4().hex[:12]}"
    table = storage.save(stem + _TABLE, ContentFile(encode_table(measured.table)))
    try:
        report = storage.save(stem + _REPORT, ContentFile(measured.report.encoded()))
    except BaseException:
        storage.delete(table)
        raise
    return report, table


def _set(evaluation: Evaluation, changes: Mapping[str, Any]) -> None:
    for name, value in changes.items():
        setattr(evaluation, name, value)

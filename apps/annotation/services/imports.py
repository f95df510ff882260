"""Labelled pictures from a zip: everything is checked first, then picture after picture is taken in, each exactly once.

A worker that dies leaves the position behind, and the next one goes on there. A picture between its storing and the
writing of its answer is recognised by its content, so it is there once, with one answer.
"""

from __future__ import annotations

import hashlib
import io
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, cast

import structlog
from django.conf import settings
from django.core.files import File
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from apps.accounts.models import User
from apps.annotation.answer_rules import MAX_BOXES
from apps.annotation.models import AnnotatedBox, Annotation, AnnotationTask, DatasetImport
from apps.annotation.services.import_labels import labels_by_name, make_labels
from apps.annotation.services.queue import enqueue_photos
from apps.annotation.signals import annotation_accepted
from apps.common.leased import LeasedWork, LeaseLostError, WorkStatus, is_stopping, kept_lease
from apps.common.tasks import wake_once
from apps.observations.models import Label, Licence, Observation, Photo, Survey
from apps.observations.services.deletion import discard_files
from apps.observations.services.intake import (
    RefusedPictureError,
    prepare,
    receive_photo,
    refusal_message,
)
from apps.observations.services.observations import clean_name, create_observation
from apps.training.formats import FormatError, LabelledImage, ReadLimits, ReadSet, read_set
from apps.training.formats.archive import ReadArchive
from apps.training.formats.problems import MAX_PROBLEMS, MESSAGES, Problem

logger = structlog.get_logger(__name__)

HAS_PROBLEMS: Final = "has_problems"


class _RefusedError(Exception):
    """What is wrong with an import, as it is kept in its row."""

    def __init__(self, problems: list[dict[str, Any]]) -> None:
        super().__init__(f"{len(problems)} problems")
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Opened:
    """An archive that was read, with its labels still as names."""

    archive: ReadArchive
    read: ReadSet

    @property
    def images(self) -> tuple[LabelledImage, ...]:
        return self.read.labelled.images

    @property
    def used(self) -> list[str]:
        """Names of the classes that boxes have, in the set's order."""
        there = {box.label for image in self.images for box in image.boxes}
        return [name for index, name in enumerate(self.read.labelled.labels) if index in there]

    def content(self, image: LabelledImage) -> bytes:
        return self.archive.read(self.read.pictures[image.path], limit=settings.PICTURE_MAX_BYTES)


def request_import(
    *,
    survey: Survey,
    by: User,
    file: File[Any],
    name: str,
    kind: str,
    licence: str,
    visibility: str,
    makes_labels: bool = False,
) -> DatasetImport:
    """Store the archive and have a worker read it. Raises `RefusedPictureError` for one that is too large."""
    from apps.annotation.tasks.datasets import import_waiting  # tasks call services

    size_bytes = file.seek(0, 2)
    if not size_bytes:
        raise RefusedPictureError("empty")
    if size_bytes > settings.ARCHIVE_MAX_BYTES:
        raise RefusedPictureError("archive_too_large", {"limit": settings.ARCHIVE_MAX_BYTES})
    row = DatasetImport(
        survey=survey,
        requested_by=by,
        name=clean_name(name),
        size_bytes=size_bytes,
        format=kind,
        licence=licence,
        visibility=visibility,
        makes_labels=makes_labels,
        priority=LeasedWork.Priority.BATCH,
    )
    file.seek(0)
    row.file.save(f"{uuid.uuid4()}.zip", File(file), save=False)
    try:
        with transaction.atomic():
            row.save(force_insert=True)
            wake_once(import_waiting)
    except BaseException:
        row.file.storage.delete(str(row.file.name))
        raise
    return row


def continue_next_import(*, seconds: float) -> bool:
    """Work on the next waiting import for some time; gives False when none waits."""
    rows = DatasetImport.objects.all()
    for row in rows.select_related("survey", "requested_by").claim(limit=1):
        try:
            with kept_lease(rows, row.lease_token):
                _continue(row, until=time.monotonic() + seconds)
        except LeaseLostError:
            logger.warning("import_in_other_hands", dataset_import=row.pk)
        except Exception as error:
            logger.exception("import_broke", dataset_import=row.pk)
            rows.give_back_after_error(row.lease_token, reason=f"{type(error).__name__}: {error}")
            return False
        return True
    return False


@transaction.atomic
def discard_failed_imports() -> int:
    """Have the zips of imports removed whose last attempt fell silent or broke; gives how many."""
    failed = DatasetImport.objects.filter(status=WorkStatus.FAILED).exclude(file="").select_for_update()
    names = dict(failed.values_list("pk", "file"))
    discard_files([("default", name) for name in names.values()])
    return DatasetImport.objects.filter(pk__in=names).update(file="")


def problem_message(problem: dict[str, Any]) -> str:
    """What is wrong, in the reader's language."""
    code, params = problem["code"], problem["params"]
    if code in MESSAGES:
        return str(_(MESSAGES[code]) % params)
    return refusal_message(code, params)


def _continue(row: DatasetImport, *, until: float) -> None:
    try:
        with _opened(row) as opened:
            if not row.is_checked and not _check(row, opened, until):
                DatasetImport.objects.all().release(row.lease_token)
                return
            is_through = _take_in(row, opened, until)
    except FormatError as error:
        _refuse(row, [problem.as_json() for problem in error.problems])
        return
    except _RefusedError as error:
        _refuse(row, error.problems)
        return
    if is_through:
        _finish(row)
    else:
        DatasetImport.objects.all().release(row.lease_token)


@contextmanager
def _opened(row: DatasetImport) -> Iterator[Opened]:
    limits = ReadLimits(
        entries=2 * settings.ARCHIVE_MAX_ENTRIES + 100,  # a picture and its labels
        total_bytes=settings.ARCHIVE_MAX_BYTES,
        picture_bytes=settings.PICTURE_MAX_BYTES,
        boxes=MAX_BOXES,
    )
    with row.file.open("rb") as file:
        stream = cast("BinaryIO", file)
        read = read_set(stream, row.format, limits=limits)
        # Each picture is read twice at most: to be checked, and to be taken in.
        with ReadArchive(stream, limits=ReadLimits(limits.entries, 2 * limits.total_bytes)) as archive:
            yield Opened(archive, read)


# --- First everything is checked --------------------------------------------------------------------------------


def _check(row: DatasetImport, opened: Opened, until: float) -> bool:
    """Gives True when all was checked and nothing is wrong; raises `FormatError` when something is.

    While it is checked, `next_picture` counts the pictures whose pixels were looked at.
    """
    problems: list[dict[str, Any]] = list(row.problems)
    if not row.next_picture:
        problems = [problem.as_json() for problem in _wrong_words(row, opened)]
        problems += [problem.as_json() for problem in _same_pictures(opened)]
        DatasetImport.objects.filter(pk=row.pk).update(total=len(opened.images))
    for index in range(row.next_picture, len(opened.images)):
        if len(problems) >= MAX_PROBLEMS:
            break
        if is_stopping() or time.monotonic() > until:
            return False
        if wrong := _wrong_picture(opened, opened.images[index]):
            problems.append(wrong)
        _advance(row, index + 1, problems=problems)
    if problems:
        raise _RefusedError(problems[:MAX_PROBLEMS])
    _begin(row, opened)
    return True


def _wrong_words(row: DatasetImport, opened: Opened) -> Iterator[Problem]:
    """Labels that the survey does not have, and licences that photos do not have here."""
    if not row.makes_labels:
        known = labels_by_name(row.survey, opened.used)
        for name in opened.used:
            if name not in known:
                yield Problem("unknown_label", field="names", params={"value": name})
    for image in opened.images:
        if image.licence and image.licence not in Licence.values:
            file = opened.read.pictures[image.path]
            yield Problem("bad_licence", file, "licence", params={"value": image.licence})


def _same_pictures(opened: Opened) -> Iterator[Problem]:
    """One picture under two names could have two answers; a photo has one."""
    first: dict[str, str] = {}
    for image in opened.images:
        path = opened.read.pictures[image.path]
        other = first.setdefault(hashlib.sha256(opened.content(image)).hexdigest(), path)
        if other != path:
            yield Problem("same_picture", path, params={"other": other})


def _wrong_picture(opened: Opened, image: LabelledImage) -> dict[str, Any] | None:
    """Decoded as intake will decode it: a picture that is cut off must not be found when half of them are in."""
    content = opened.content(image)
    try:
        prepare(io.BytesIO(content), size_bytes=len(content))
    except RefusedPictureError as error:
        return _wrong(opened, image, error)
    return None


def _wrong(opened: Opened, image: LabelledImage, error: RefusedPictureError) -> dict[str, Any]:
    file = opened.read.pictures[image.path]
    return {"code": error.code, "file": file, "field": "", "row": None, "params": error.params}


def _begin(row: DatasetImport, opened: Opened) -> None:
    """Nothing is wrong: from here on things are written."""
    with transaction.atomic():
        known = labels_by_name(row.survey, opened.used)
        make_labels(row.survey, opened.used, known)
        most_frequent = Counter(map(_credit, opened.images)).most_common(1)[0][0]
        row.observation = _observation(row, *most_frequent)
        _write(row, is_checked=True, next_picture=0, problems=[], observation=row.observation)
    row.is_checked, row.next_picture = True, 0


def _credit(image: LabelledImage) -> tuple[str, str]:
    return image.licence, image.attribution


def _observation(row: DatasetImport, licence: str, attribution: str) -> Observation:
    """Pictures of one author under one licence share an observation; the import's licence is for those without one."""
    licence = licence or row.licence
    public_id = uuid.uuid5(row.public_id, f"{licence}\n{attribution}")
    found = Observation.objects.filter(public_id=public_id).first()
    if found:
        return found
    comment = (
        _("Imported. To be named: %(attribution)s") % {"attribution": attribution} if attribution else ""
    )
    return create_observation(
        contributor=row.requested_by,
        survey=row.survey,
        title=row.name,
        comment=comment,
        licence=licence,
        visibility=row.visibility,
        public_id=public_id,
    )


# --- Then picture after picture is taken in ---------------------------------------------------------------------


def _take_in(row: DatasetImport, opened: Opened, until: float) -> bool:
    """Gives True when the last picture is in."""
    names = opened.read.labelled.labels
    labels = labels_by_name(row.survey, names)
    for index in range(row.next_picture, len(opened.images)):
        if is_stopping() or time.monotonic() > until:
            return False
        image = opened.images[index]
        try:
            photo, is_duplicate = _receive(row, opened, image)
        except RefusedPictureError as error:
            raise _RefusedError([_wrong(opened, image, error)]) from error
        enqueue_photos([photo.pk], imported=True)
        with transaction.atomic():
            _answer(photo, [(labels[names[box.label]], box) for box in image.boxes])
            _advance(row, index + 1, duplicates=F("duplicates") + int(is_duplicate))
    return True


def _receive(row: DatasetImport, opened: Opened, image: LabelledImage) -> tuple[Photo, bool]:
    if not Observation.objects.filter(pk=row.observation_id or 0).exists():
        raise RefusedPictureError("observation_deleted")  # somebody thought better of it
    observation = _observation(row, *_credit(image))
    content = io.BytesIO(opened.content(image))
    received = receive_photo(observation=observation, file=content, name=image.file_name)
    # One of this very import was stored by a worker that died before it wrote the position.
    is_duplicate = received.is_duplicate and received.photo.observation_id != observation.pk
    return received.photo, is_duplicate


def _answer(photo: Photo, boxes: list[tuple[Label, Any]]) -> None:
    """The answer that counts, unless the photo has one: what experts said here weighs more than a file."""
    task = AnnotationTask.objects.select_for_update(of=("self",)).filter(photo=photo).first()
    if task is None or task.accepted_id or task.annotations.exists():
        return
    annotation = Annotation.objects.create(
        task=task, origin=Annotation.Origin.IMPORT, is_empty=not boxes, box_count=len(boxes)
    )
    AnnotatedBox.objects.bulk_create(
        AnnotatedBox(
            annotation=annotation,
            number=number,
            label=label,
            x_min=box.x_min,
            y_min=box.y_min,
            x_max=box.x_max,
            y_max=box.y_max,
        )
        for number, (label, box) in enumerate(boxes, start=1)
    )
    AnnotationTask.objects.filter(pk=task.pk).update(
        state=AnnotationTask.State.DONE, accepted=annotation, accepted_at=Now()
    )

    def tell() -> None:
        annotation_accepted.send_robust(sender=AnnotationTask, task_id=task.pk, annotation_id=annotation.pk)

    transaction.on_commit(tell)


# --- The row -----------------------------------------------------------------------------------------------------


def _write(row: DatasetImport, **changes: Any) -> None:
    if not DatasetImport.objects.all().held(row.lease_token).filter(pk=row.pk).update(**changes):
        raise LeaseLostError(f"import {row.pk}")


def _advance(row: DatasetImport, next_picture: int, **changes: Any) -> None:
    """Write the position. An attempt that got further is not held against a long archive."""
    _write(row, next_picture=next_picture, attempts=1, **changes)
    row.next_picture = next_picture


def _refuse(row: DatasetImport, problems: list[dict[str, Any]]) -> None:
    with transaction.atomic():
        row.finish(status=WorkStatus.FAILED, reason=HAS_PROBLEMS, problems=problems, file="")
        discard_files([("default", str(row.file.name))])


def _finish(row: DatasetImport) -> None:
    with transaction.atomic():
        row.finish(file="")
        discard_files([("default", str(row.file.name))])

"""Freezing the accepted answers of a survey into a dataset that models are trained and measured on."""

from typing import Any, Final

from django.db import IntegrityError, connection, transaction

from apps.accounts.models import User
from apps.annotation.models import DatasetFreeze
from apps.common.leased import LeasedWork, WorkStatus
from apps.common.tasks import wake_once
from apps.observations.models import Label, Survey
from apps.observations.services.detection_results import labels_of
from apps.training.models import Dataset
from apps.training.services.datasets import FrozenBox, FrozenItem, create_dataset

NOTHING_ACCEPTED: Final = "nothing_accepted"

ACCEPTED_FROM: Final = """
FROM annotation_annotationtask AS task
JOIN annotation_annotation AS annotation ON annotation.id = task.accepted_id
JOIN annotation_photogroup AS photo_group ON photo_group.id = task.group_id
JOIN observations_photo AS photo ON photo.id = task.photo_id
JOIN observations_observation AS observation ON observation.id = photo.observation_id
"""
ACCEPTED_WHERE: Final = """
WHERE task.survey_id = ANY(%s) AND task.state = 'done'
    AND (observation.visibility = 'public' OR task.arm = 'imported' AND observation.visibility <> 'hidden')
"""
"""Which answers a dataset is made of."""

# One statement, so one snapshot: an answer that is corrected meanwhile is in it as it was before, wholly.
_ACCEPTED = f"""
SELECT photo.public_id::text, annotation.public_id::text, photo_group.split, photo_group.public_id::text,
    photo.original, photo.sha256, photo.width_px, photo.height_px, observation.licence, person.display_name,
    coalesce(
        (SELECT array_agg(ARRAY[box.x_min, box.y_min, box.x_max, box.y_max] ORDER BY box.number)
        FROM annotation_annotatedbox AS box WHERE box.annotation_id = annotation.id),
        ARRAY[]::float8[]
    ),
    coalesce(
        (SELECT array_agg(label.code ORDER BY box.number)
        FROM annotation_annotatedbox AS box JOIN observations_label AS label ON label.id = box.label_id
        WHERE box.annotation_id = annotation.id),
        ARRAY[]::text[]
    )
{ACCEPTED_FROM}
JOIN accounts_user AS person ON person.id = photo.contributor_id
{ACCEPTED_WHERE}
"""  # noqa: S608 (constants)


class NothingAcceptedError(Exception):
    """No photo of the survey has an answer that counts."""


def freeze_dataset(survey: Survey, *, by: User | None = None) -> Dataset:
    """All accepted answers of a survey, confirmed-empty photos included, as an immutable dataset.

    Photos that their contributor keeps private, or whose group lies in no split, are left out. Nothing new since the
    last time gives the same dataset. Raises `NothingAcceptedError`.
    """
    with connection.cursor() as cursor:
        cursor.execute(_ACCEPTED, [[survey.pk]])
        items = [_item(row) for row in cursor]
    if not items:
        raise NothingAcceptedError
    return create_dataset(
        name=survey.slug,
        labels=label_list(survey),
        items=items,
        registered_model=survey.registered_model,
        created_by=by,
    )


def label_list(survey: Survey) -> list[str]:
    """The survey's label codes in the order that every dataset of it keeps.

    First those of the last dataset, or of the production version where there is none yet, so that the classes of a
    network keep their places; then what came since, in the order it was made.
    """
    last = Dataset.objects.filter(name=survey.slug).order_by("-number").first()
    if last:
        first = list(last.labels)
    else:
        model = survey.registered_model
        version = model.production_version if model else None
        first = [label.code for label in labels_of(survey, version.labels)] if version else []
    since = (
        Label.objects.filter(survey=survey, is_active=True)
        | Label.objects.filter(survey=survey, annotated_boxes__annotation__accepted_for__isnull=False)
    ).distinct()
    codes = since.order_by("pk").values_list("code", flat=True)
    return list(dict.fromkeys([*first, *codes]))


@transaction.atomic
def request_freeze(*, survey: Survey, by: User | None) -> DatasetFreeze:
    """Have a worker freeze the survey; one that waits already is that one."""
    from apps.annotation.tasks.datasets import freeze_waiting  # tasks call services

    try:
        with transaction.atomic():
            freeze = DatasetFreeze.objects.create(
                survey=survey, requested_by=by, priority=LeasedWork.Priority.BATCH
            )
    except IntegrityError:
        freeze = DatasetFreeze.objects.get(
            survey=survey, status__in=(WorkStatus.PENDING, WorkStatus.PROCESSING)
        )
    wake_once(freeze_waiting)
    return freeze


def continue_freeze(freeze: DatasetFreeze) -> None:
    """The work of one claimed row. Done twice it finds the dataset of the first time."""
    try:
        dataset = freeze_dataset(freeze.survey, by=freeze.requested_by)
    except NothingAcceptedError:
        freeze.finish(status=WorkStatus.FAILED, reason=NOTHING_ACCEPTED)
    else:
        freeze.finish(dataset=dataset)


def _item(row: tuple[Any, ...]) -> FrozenItem:
    photo, annotation, split, group, file, sha256, width, height, licence, author, corners, codes = row
    boxes = tuple(
        FrozenBox(x_min, y_min, x_max, y_max, code)
        for (x_min, y_min, x_max, y_max), code in zip(corners, codes, strict=True)
    )
    return FrozenItem(
        photo, annotation, split, group, file, sha256, width, height, licence, author or "", boxes
    )

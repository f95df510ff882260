"""Thanking those whose photos taught a version that went into production; each once a version, whatever they sent."""

from typing import Final

from django.db import connection
from django.db.models import QuerySet
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from apps.accounts.models import User
from apps.annotation.models import Thanks
from apps.observations.models import Photo
from apps.training.models import ModelVersion, Split

SINCE_DAYS: Final = 7
"""Of versions promoted longer ago nobody is told any more: they were, or the site began to thank later."""

# All of a version's contributors at once, so that a version with any thanks has them all, and is not looked at again.
_RECORD = """
INSERT INTO annotation_thanks (contributor_id, version_id, photos)
SELECT photo.contributor_id, version.id, count(*)
FROM training_modelversion AS version
JOIN training_trainingrun AS run ON run.version_id = version.id
JOIN training_datasetitem AS item ON item.dataset_id = run.dataset_id AND item.split = 'train' AND NOT item.is_withdrawn
JOIN observations_photo AS photo ON photo.public_id = item.photo
JOIN observations_observation AS observation ON observation.id = photo.observation_id
JOIN accounts_user AS person ON person.id = photo.contributor_id
WHERE version.stage = 'production' AND version.promoted_at >= now() - make_interval(days => %s)
    AND NOT EXISTS (SELECT FROM annotation_thanks AS told WHERE told.version_id = version.id)
    AND observation.visibility <> 'hidden' AND person.is_active
GROUP BY photo.contributor_id, version.id
ON CONFLICT DO NOTHING
"""


def record_thanks() -> int:
    """Note who is to be thanked for versions promoted lately; gives how many are new. Asked twice it notes nothing."""
    with connection.cursor() as cursor:
        cursor.execute(_RECORD, [SINCE_DAYS])
        return int(cursor.rowcount)


def latest_of_each_model(thanks: QuerySet[Thanks]) -> list[Thanks]:
    """Who was away while three versions came is told of the last one."""
    newest = thanks.order_by("version__registered_model_id", "-version__number").distinct(
        "version__registered_model_id"
    )
    return list(newest.select_related("version__registered_model"))


def thanks_sentence(thanks: Thanks) -> str:
    """In the reader's language."""
    return ngettext(
        "%(n)s photo of yours taught version %(number)s of the detector “%(model)s”.",
        "%(n)s photos of yours taught version %(number)s of the detector “%(model)s”.",
        thanks.photos,
    ) % {
        "n": thanks.photos,
        "number": thanks.version.number,
        "model": thanks.version.registered_model.name,
    }


def versions_taught_by(photo: Photo) -> list[ModelVersion]:
    """Versions that went into production and had this photo among those they learned from, the first one first."""
    taught = ModelVersion.objects.filter(
        promoted_at__isnull=False,
        run__dataset__items__photo=photo.public_id,
        run__dataset__items__split=Split.TRAIN,
    )
    return list(taught.select_related("registered_model").order_by("registered_model", "number"))


def lesson_sentence(photo: Photo, reader: object) -> str:
    """What this photo taught, for its page; empty when it taught nothing yet."""
    versions = versions_taught_by(photo)
    if not versions:
        return ""
    is_own = isinstance(reader, User) and reader.pk == photo.contributor_id
    number = {"number": versions[0].number}
    if len(versions) == 1:
        text = (
            _("Your photo taught version %(number)s of the detector.")
            if is_own
            else _("This photo taught version %(number)s of the detector.")
        )
        return text % number
    text = (
        _("Your photo has taught the detector since its version %(number)s.")
        if is_own
        else _("This photo has taught the detector since its version %(number)s.")
    )
    return text % number

"""Photos that belong together, and the split each group lies in: decided once, when its first photo is queued.

A model that is tested on a photo must not have been trained on its neighbour: same observation, same day and camera,
near-duplicate. Such photos share a group, and the group has one split for ever. A photo that would tie groups of
different splits together gets no group and is in no dataset, because none of the groups can change any more.
"""

from datetime import datetime

from django.db import connection, transaction
from django.db.models import Exists, OuterRef
from django.utils import timezone

from apps.annotation.active_learning.strategies import draw, is_telling
from apps.annotation.models import (
    AnnotationPolicy,
    AnnotationTask,
    Arm,
    Assignment,
    GroupKey,
    PhotoGroup,
)
from apps.observations.models import Observation, Photo
from apps.training.models import ModelVersion
from apps.training.models.datasets import Split

# A look at each of 100,000 hashes takes some 10 ms; where a survey is a part of the table, the index `task_looks` has them.
_NEIGHBOURS = """
SELECT id, group_id FROM annotation_annotationtask
WHERE survey_id = %s AND perceptual_hash IS NOT NULL AND bit_count((perceptual_hash # %s)::bit(64)) <= %s
"""


def keys_of(photo: Photo, *, imported: bool = False) -> list[str]:
    """What makes a photo join a group, apart from how it looks. Pictures of one import have nothing in common."""
    if imported:
        return [f"photo:{photo.public_id}"]
    keys = [f"observation:{photo.observation_id}"]
    taken_at = photo.observation.observed_at or photo.proposed_at
    if taken_at and photo.camera:
        day = timezone.localtime(taken_at, timezone.get_default_timezone()).date()
        keys.append(f"camera:{photo.contributor_id}:{day}:{photo.camera}")
    return keys


def fate(policy: AnnotationPolicy, key: str, *, imported: bool = False) -> tuple[str, str, float]:
    """Arm, split and draw of the group that begins with this key; nothing but the rules and the key decides."""
    drawn = draw(policy.seed, f"group:{key}")
    if drawn < policy.control_fraction:
        return (Arm.IMPORTED if imported else Arm.CONTROL), Split.TEST, drawn
    validation = policy.validation_share / (1 - policy.control_fraction)
    is_validation = draw(policy.seed, f"split:{key}") < validation
    split = Split.VALIDATION if is_validation else Split.TRAIN
    return (Arm.IMPORTED if imported else Arm.ACTIVE), split, drawn


class Duplicates:
    """Photos that look the same, by the distance of their perceptual hashes."""

    def __init__(self, policy: AnnotationPolicy) -> None:
        self._policy = policy

    def of(self, perceptual_hash: int | None) -> list[tuple[int, int | None]]:
        """(task, group) of the queued photos of the survey that look like this."""
        if not is_telling(perceptual_hash):
            return []
        with connection.cursor() as cursor:
            distance = self._policy.duplicate_distance
            cursor.execute(_NEIGHBOURS, [self._policy.survey_id, perceptual_hash, distance])
            return [(task, group) for task, group in cursor]

    def wait_for(self, task: AnnotationTask) -> int:
        """Near-duplicates of a photo that an expert looks at wait until the next promotion; gives how many."""
        alike = [pk for pk, _group in self.of(task.perceptual_hash) if pk != task.pk]
        if not alike:
            return 0
        held = Assignment.objects.held().filter(task=OuterRef("pk"))
        waiting = AnnotationTask.objects.waiting().filter(~Exists(held), pk__in=alike, waits_for=None)
        # Locked rows are passed over: whoever holds them may be waiting for the photo that is opened here.
        pks = list(waiting.select_for_update(skip_locked=True, no_key=True).values_list("pk", flat=True))
        return AnnotationTask.objects.filter(pk__in=pks).update(waits_for=task)

    def looked_at(self, tasks: list[int]) -> int | None:
        """One of these tasks that experts have looked at since the last promotion."""
        recent = Assignment.objects.looked_at().filter(task__in=tasks)
        if promoted_at := self._promoted_at():
            recent = recent.filter(opened_at__gte=promoted_at)
        return recent.order_by("-opened_at").values_list("task_id", flat=True).first() if tasks else None

    def _promoted_at(self) -> datetime | None:
        versions = ModelVersion.objects.filter(
            registered_model__surveys=self._policy.survey_id, stage=ModelVersion.Stage.PRODUCTION
        )
        return versions.values_list("promoted_at", flat=True).first()


class GroupBook:
    """Gives photos their groups. From its making to the end of the transaction nobody else does so in this survey."""

    def __init__(self, policy: AnnotationPolicy) -> None:
        if not connection.in_atomic_block:
            raise transaction.TransactionManagementError("groups are decided within a transaction")
        self._policy = policy
        self._duplicates = Duplicates(policy)
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [f"groups:{policy.survey_id}"])

    def task_of(self, photo: Photo, *, imported: bool) -> AnnotationTask:
        """Write down the task of a photo that has none, with its group and arm."""
        policy = self._policy
        alike = self._duplicates.of(photo.perceptual_hash)
        group = self._group(photo, [group for _task, group in alike if group], imported=imported)
        arm = Arm.IMPORTED if imported else Arm.ACTIVE
        if not imported and group is not None and group.arm == Arm.CONTROL:
            arm = Arm.CONTROL
        return AnnotationTask.objects.create(
            survey_id=photo.survey_id,
            photo=photo,
            arm=arm,
            group=group,
            draw=draw(policy.seed, f"photo:{photo.public_id}"),
            is_public=photo.observation.visibility == Observation.Visibility.PUBLIC,
            perceptual_hash=photo.perceptual_hash if is_telling(photo.perceptual_hash) else None,
            answers_needed=policy.experts_per_photo,
            waits_for_id=self._duplicates.looked_at([task for task, _group in alike]),
        )

    def _group(self, photo: Photo, looks_like: list[int], *, imported: bool) -> PhotoGroup | None:
        keys = keys_of(photo, imported=imported)
        known = dict(
            GroupKey.objects.filter(survey=photo.survey_id, key__in=keys).values_list("key", "group_id")
        )
        linked = list(PhotoGroup.objects.filter(pk__in={*known.values(), *looks_like}).order_by("pk"))
        if linked:
            if not _may_join(linked, imported=imported):
                return None
            group = linked[0]
        else:
            arm, split, drawn = fate(self._policy, str(photo.public_id), imported=imported)
            group = PhotoGroup.objects.create(survey_id=photo.survey_id, arm=arm, split=split, draw=drawn)
        GroupKey.objects.bulk_create(
            GroupKey(survey_id=photo.survey_id, key=key, group=group) for key in keys if key not in known
        )
        return group


def _may_join(groups: list[PhotoGroup], *, imported: bool) -> bool:
    """Only groups of one split can be tied together. The test split is drawn: nothing joins that was not drawn for it,
    so imported pictures stay out of the control arm, and live ones out of the imported test pictures.
    """
    if len({group.split for group in groups}) > 1:
        return False
    return groups[0].split != Split.TEST or all((g.arm == Arm.IMPORTED) == imported for g in groups)

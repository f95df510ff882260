"""The experts' queue: photos come in, and are given to one expert at a time, the most uncertain one first."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from django.db import transaction
from django.db.models import Count, F, Q

from apps.accounts.models import User
from apps.annotation.models import AnnotationPolicy, AnnotationTask, Assignment, DatasetImport
from apps.annotation.services import selection
from apps.annotation.services.groups import GroupBook
from apps.annotation.services.leases import (
    LeaseLostError,
    held_by,
    hold,
    open_assignment,
    release,
    require_free,
    set_aside,
    skip,
)
from apps.annotation.services.policies import alone_in_queue, policy_of
from apps.annotation.services.scoring import score_tasks
from apps.common.leased import WorkStatus
from apps.observations.models import Observation, Photo, Survey
from apps.training.models import ModelVersion

__all__ = [
    "LeaseLostError",
    "QueueState",
    "enqueue_photos",
    "hold",
    "missing_photos",
    "next_task",
    "peek_next",
    "policy_of",
    "queue_state",
    "release",
    "set_aside",
    "skip",
]

_CHUNK = 500


@dataclass(frozen=True, slots=True)
class QueueState:
    """Where a survey's queue stands. `open` counts photos that experts have before them now; they are waiting ones."""

    is_open: bool
    missing_photos: int
    """How many more detected photos open the queue."""
    waiting: int
    open: int
    done: int
    conflict: int
    set_aside: int


def next_task(expert: User, survey: Survey) -> Assignment | None:
    """Give the expert the photo whose turn it is: first what they have open already, then by the queue's rules.

    None when the queue has not opened yet, or nothing is left for this expert; `queue_state` says which.
    """
    if resumed := _resumed(expert, survey):
        return resumed
    if missing_photos(survey):
        return None
    # One at a time and survey, for some milliseconds: the order and the control arm's share are exact that way.
    with alone_in_queue(policy_of(survey)) as policy:
        if resumed := _resumed(expert, survey):  # a second tab asked at the same moment
            return resumed
        passed_over: set[int] = set()
        while choice := selection.choose(policy, expert, leave_out=passed_over, lock=True):
            if choice.given_as == "golden":
                return open_assignment(choice.task, expert, choice.given_as)
            try:
                # Asked anew now that the row is locked: somebody may have opened it by a link meanwhile.
                require_free(choice.task, expert)
            except LeaseLostError:
                passed_over.add(choice.task.pk)
                continue
            assignment = open_assignment(choice.task, expert, choice.given_as)
            _count_given(policy, choice.given_as)
            return assignment
    return None


def peek_next(expert: User, survey: Survey, after: AnnotationTask | None = None) -> AnnotationTask | None:
    """Which photo would probably come next, for loading its picture early; nobody is promised anything."""
    if missing_photos(survey):
        return None
    taken = set(held_by(expert).filter(task__survey=survey).values_list("task_id", flat=True))
    if after is not None:
        taken.add(after.pk)
    choice = selection.choose(policy_of(survey), expert, leave_out=taken)
    return choice.task if choice else None


def missing_photos(survey: Survey) -> int:
    """How many more detected photos the survey needs before its queue opens."""
    detected = Photo.objects.filter(survey=survey, detection_count__isnull=False)
    return survey.minimum_photos - detected.order_by()[: survey.minimum_photos].count()


def queue_state(survey: Survey) -> QueueState:
    """Counts of the survey's photos that everybody may see."""
    rows = AnnotationTask.objects.filter(survey=survey, is_public=True).order_by().values_list("state")
    counts = dict(rows.annotate(photos=Count("pk")))
    missing = missing_photos(survey)
    held = Assignment.objects.held().filter(task__survey=survey, task__state=AnnotationTask.State.WAITING)
    return QueueState(
        is_open=not missing,
        missing_photos=missing,
        waiting=counts.get(AnnotationTask.State.WAITING, 0),
        open=held.values("task").distinct().count(),
        done=counts.get(AnnotationTask.State.DONE, 0),
        conflict=counts.get(AnnotationTask.State.CONFLICT, 0),
        set_aside=counts.get(AnnotationTask.State.SET_ASIDE, 0),
    )


def enqueue_photos(photo_ids: Iterable[int], *, imported: bool = False) -> int:
    """Queue detected photos that are not yet in the queue, and score those that are; gives how many are new.

    Photos that are gone or not detected yet are left out. `imported`: pictures of an import, which are split by their
    own hash whether detected or not.
    """
    ids = sorted(set(photo_ids))
    new = 0
    for start in range(0, len(ids), _CHUNK):
        chunk = ids[start : start + _CHUNK]
        surveys = Photo.objects.filter(pk__in=chunk).order_by().values_list("survey", flat=True).distinct()
        for survey_id in sorted(surveys):
            new += _enqueue(policy_of(survey_id), chunk, imported=imported)
    return new


@transaction.atomic
def _enqueue(policy: AnnotationPolicy, photo_ids: Collection[int], *, imported: bool) -> int:
    book = GroupBook(policy)  # serialises what joins the survey's groups
    photos = Photo.objects.filter(pk__in=photo_ids, survey=policy.survey_id)
    if not imported:
        photos = photos.filter(Q(status=WorkStatus.DONE) | Q(model_version__isnull=False))
    photos = photos.filter(annotation_task=None)
    # Locked against deletion, and against a change of visibility, until their tasks are committed; in the order in
    # which deletion locks them.
    of_photos = Observation.objects.filter(pk__in=list(photos.values_list("observation", flat=True)))
    observations = {row.pk: row for row in of_photos.select_for_update(no_key=True).order_by("pk")}
    # Whoever asks: the worker that detects an imported picture must not make it a live one.
    imports = DatasetImport.objects.filter(observation__in=observations)
    of_imports = set(imports.values_list("observation", flat=True))
    new = 0
    for photo in photos.select_for_update(of=("self",), no_key=True).order_by("pk"):
        if photo.observation_id in observations:
            photo.observation = observations[photo.observation_id]
            book.task_of(photo, imported=imported or photo.observation_id in of_imports)
            new += 1
    if new and policy.ranked_version_id is None:
        _note_first_version(policy)
    tasks = AnnotationTask.objects.filter(photo__in=photo_ids, survey=policy.survey_id)
    score_tasks(policy, list(tasks.order_by("pk").values_list("pk", flat=True)))
    return new


def _resumed(expert: User, survey: Survey) -> Assignment | None:
    own = held_by(expert).filter(task__survey=survey).select_related("task", "expert")
    last = own.order_by("-lease_until", "-pk").first()
    try:
        return hold(last.task, expert, last.given_as) if last else None
    except LeaseLostError:
        return None


def _note_first_version(policy: AnnotationPolicy) -> None:
    """The production version when the survey's first photo is queued: no promotion has put the queue in order yet."""
    version = ModelVersion.objects.filter(
        registered_model__surveys=policy.survey_id, stage=ModelVersion.Stage.PRODUCTION
    ).first()
    AnnotationPolicy.objects.filter(pk=policy.pk, ranked_version=None).update(ranked_version=version)


def _count_given(policy: AnnotationPolicy, arm: str) -> None:
    counter = "control_given" if arm == "control" else "active_given"
    AnnotationPolicy.objects.filter(pk=policy.pk).update(**{counter: F(counter) + 1})

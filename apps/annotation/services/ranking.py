"""Putting a survey's whole queue in order anew: after a promotion, or when its rules change.

A promotion goes through stages, each of which may be repeated: the ranks before are written down; waiting photos are
detected again and scored as their results arrive (in the inference workers, for hours if need be, while this row waits);
all are scored once more, in case a message was lost or the rules changed; the ranks after are written down. Changed rules
need no detection, only the scores.
"""

from collections.abc import Iterable
from functools import partial
from typing import Any, Final

from django.db import IntegrityError, connection, transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet

from apps.accounts.models import User
from apps.annotation.models import AnnotationPolicy, AnnotationTask, Assignment, QueueUpdate
from apps.annotation.models.tasks import AnnotationTaskQuerySet
from apps.annotation.services.policies import alone_in_queue, policy_of
from apps.annotation.services.scoring import CHUNK, score_tasks
from apps.annotation.services.settlement import settle
from apps.common.leased import LeasedWork, LeaseLostError, WorkStatus
from apps.common.tasks import wake_once
from apps.observations.models import Survey
from apps.observations.services.detection import request_later_look
from apps.training.models import ModelVersion

_UNDER_WAY: Final = (WorkStatus.PENDING, WorkStatus.PROCESSING)

# Locked in the order of their keys, as everywhere, so that two writers wait for each other and never block.
_WRITE_RANKS = """
UPDATE annotation_annotationtask AS task SET {column} = ranked.rank
FROM (
    SELECT task.id, given.rank FROM annotation_annotationtask AS task
    JOIN unnest(%s::bigint[], %s::int[]) AS given (id, rank) ON given.id = task.id
    ORDER BY task.id FOR NO KEY UPDATE OF task
) AS ranked
WHERE task.id = ranked.id AND task.{column} IS DISTINCT FROM ranked.rank
"""


def request_update(
    *,
    survey: Survey | int,
    reason: str,
    version: ModelVersion | None = None,
    by: User | None = None,
) -> QueueUpdate:
    """Have the survey's queue put in order. An update under way starts over; a promotion stays one."""
    from apps.annotation.tasks.queue import update_queues  # tasks call services

    survey_id = survey.pk if isinstance(survey, Survey) else survey
    wanted = {
        "reason": reason,
        "model_version": version,
        "requested_by": by,
        "priority": LeasedWork.Priority.BATCH,
    }
    # Both or nothing: a promotion that is noted without its update would be missed for ever.
    with transaction.atomic():
        wake_once(update_queues)
        if version is not None:
            policy_of(survey_id)
            AnnotationPolicy.objects.filter(survey=survey_id).update(ranked_version=version)
        try:
            with transaction.atomic():
                return QueueUpdate.objects.create(survey_id=survey_id, **wanted)
        except IntegrityError:
            current = _start_over(survey_id, wanted)
    return current or request_update(survey=survey, reason=reason, version=version, by=by)


def request_updates_for(version: ModelVersion) -> list[QueueUpdate]:
    """A version was promoted: every survey that uses its model and has a queue."""
    surveys = Survey.objects.filter(
        Exists(AnnotationTask.objects.filter(survey=OuterRef("pk"))),
        registered_model=version.registered_model_id,
    )
    promotion = QueueUpdate.Reason.PROMOTION
    return [request_update(survey=row, reason=promotion, version=version) for row in surveys]


def find_missed_promotions() -> int:
    """Put queues in order for production versions whose promotion no message told of; gives how many queues."""
    production = ModelVersion.objects.filter(
        registered_model__surveys=OuterRef("survey"), stage=ModelVersion.Stage.PRODUCTION
    )
    missed = AnnotationPolicy.objects.annotate(production=production.values("pk")[:1]).filter(
        production__isnull=False, ranked_version__isnull=False
    )
    found = 0
    for policy in missed.exclude(ranked_version=F("production")):
        version = ModelVersion.objects.get(pk=policy.production)
        request_update(survey=policy.survey_id, reason=QueueUpdate.Reason.PROMOTION, version=version)
        found += 1
    return found


def continue_update(update: QueueUpdate) -> bool:
    """Do what can be done now of a claimed update; gives whether it is finished.

    Raises `LeaseLostError` when the claim ended, or the update was started over, meanwhile.
    """
    policy = policy_of(update.survey_id)
    if update.reason != QueueUpdate.Reason.PROMOTION:
        if not update.next_task:
            _write(update, total=_waiting(update).count(), done=0)
        _score_all(update, policy, tells_progress=True)
        update.finish()
        return True
    if not update.has_asked_for_detection:
        write_ranks(policy, "rank_before", partial(_require_held, update))
        _write(update, has_asked_for_detection=True)
    _ask_for_detection(update)
    _score_changed(update, policy)
    if _count(update):
        _write(update, attempts=1)  # it goes on: that workers were restarted meanwhile does not add up
        return False
    _score_all(update, policy, tells_progress=False)
    write_ranks(policy, "rank_after", partial(_require_held, update))
    _free_duplicates(update, policy)
    update.finish()
    return True


def write_ranks(policy: AnnotationPolicy, column: str, between: Any = lambda: None) -> int:
    """Write down the place of every waiting photo by score, 1 for the first; gives how many there are."""
    waiting = AnnotationTask.objects.waiting().filter(survey=policy.survey_id)
    order = list(waiting.by_uncertainty().values_list("pk", flat=True))
    ranks = sorted((pk, rank) for rank, pk in enumerate(order, start=1))
    for start in range(0, len(ranks), CHUNK):
        between()
        chunk = ranks[start : start + CHUNK]
        with alone_in_queue(policy), connection.cursor() as cursor:
            statement = _WRITE_RANKS.format(column=column)
            cursor.execute(statement, [[pk for pk, _rank in chunk], [rank for _pk, rank in chunk]])
    return len(ranks)


def _start_over(survey_id: int, wanted: dict[str, Any]) -> QueueUpdate | None:
    """Reset the update under way; None when it has ended meanwhile. Its worker can write nothing any more."""
    with transaction.atomic():
        open_ones = QueueUpdate.objects.select_for_update(of=("self",)).filter(
            survey=survey_id, status__in=_UNDER_WAY
        )
        current: QueueUpdate | None = open_ones.first()
        if current is None:
            return None
        promotion = QueueUpdate.Reason.PROMOTION
        if current.reason != promotion or wanted["reason"] == promotion:
            for field, value in wanted.items():
                setattr(current, field, value)
            current.has_asked_for_detection = False
        current.status, current.attempts, current.failure_reason = WorkStatus.PENDING, 0, ""
        current.lease_token = current.lease_until = None
        current.next_task = current.total = current.done = 0
        current.save()
    return current


def _score_all(update: QueueUpdate, policy: AnnotationPolicy, *, tells_progress: bool) -> None:
    """Score every waiting photo; the place where it stands is written with each chunk."""
    while chunk := list(
        _waiting(update).filter(pk__gte=update.next_task).order_by("pk").values_list("pk", flat=True)[:CHUNK]
    ):
        with transaction.atomic():
            score_tasks(policy, chunk)
            done = update.done + len(chunk) if tells_progress else update.done
            _write(update, next_task=chunk[-1] + 1, done=done)
        _need_answers(policy, chunk)


def _need_answers(policy: AnnotationPolicy, pks: list[int]) -> None:
    """Waiting photos want as many answers as the rules say now; one that has as many is settled."""
    needed = policy.experts_per_photo
    tasks = AnnotationTask.objects.waiting().exclude(answers_needed=needed)
    with transaction.atomic():
        for task in tasks.filter(pk__in=pks).select_for_update(no_key=True).order_by("pk"):
            AnnotationTask.objects.filter(pk=task.pk).update(answers_needed=needed)
            if task.answers >= needed:
                settle(task=task)


def _waiting(update: QueueUpdate) -> AnnotationTaskQuerySet:
    return AnnotationTask.objects.waiting().filter(survey=update.survey_id)


def _ask_for_detection(update: QueueUpdate) -> None:
    """Of waiting photos that nobody has open and the new version has not seen. Asking again asks for the rest."""
    stale = _stale(update).exclude(photo__status__in=(*_UNDER_WAY, WorkStatus.FAILED))
    last = 0
    while chunk := list(stale.filter(pk__gt=last).order_by("pk").values_list("pk", "photo")[:CHUNK]):
        _require_held(update)
        last = chunk[-1][0]
        request_later_look([photo for _task, photo in chunk], version_id=update.model_version_id)


def _score_changed(update: QueueUpdate, policy: AnnotationPolicy) -> None:
    """Score what was detected and whose message was lost."""
    changed = _waiting(update).exclude(scored_version=F("photo__model_version")).order_by("pk")
    pks = list(changed.values_list("pk", flat=True))
    for start in range(0, len(pks), CHUNK):
        _require_held(update)
        score_tasks(policy, pks[start : start + CHUNK])


def _count(update: QueueUpdate) -> int:
    """Write down how far it is; gives how many photos still wait for their detection."""
    left = _stale(update).exclude(photo__status=WorkStatus.FAILED).count()
    total = _waiting(update).count()
    _write(update, total=total, done=total - left)
    return left


def _stale(update: QueueUpdate) -> QuerySet[AnnotationTask]:
    """Waiting photos that nobody has open and that show another version's boxes than the promoted one's."""
    held = Assignment.objects.held().filter(task=OuterRef("pk"))
    return _waiting(update).filter(~Exists(held)).exclude(photo__model_version=update.model_version_id)


def _free_duplicates(update: QueueUpdate, policy: AnnotationPolicy) -> None:
    """What waited for photos that experts looked at before this promotion waits no longer."""
    still = Assignment.objects.filter(task=OuterRef("waits_for")).filter(
        Q(state=Assignment.State.OPEN) | Q(opened_at__gte=update.queued_at)
    )
    tasks = AnnotationTask.objects.filter(~Exists(still), survey=update.survey_id, waits_for__isnull=False)
    pks = list(tasks.order_by("pk").values_list("pk", flat=True))
    for start in range(0, len(pks), CHUNK):
        with alone_in_queue(policy):
            chunk = AnnotationTask.objects.filter(pk__in=_locked(pks[start : start + CHUNK]))
            chunk.update(waits_for=None)


def _locked(pks: Iterable[int]) -> list[int]:
    rows = AnnotationTask.objects.filter(pk__in=list(pks)).select_for_update(no_key=True).order_by("pk")
    return list(rows.values_list("pk", flat=True))


def _require_held(update: QueueUpdate) -> None:
    """Go on only while the claim holds: an update started over belongs to somebody else."""
    if not QueueUpdate.objects.held(update.lease_token).filter(pk=update.pk).exists():
        raise LeaseLostError(f"update of a queue {update.pk}")


def _write(update: QueueUpdate, **changes: Any) -> None:
    """Progress, if the claim still holds."""
    if not QueueUpdate.objects.held(update.lease_token).filter(pk=update.pk).update(**changes):
        raise LeaseLostError(f"update of a queue {update.pk}")
    for field, value in changes.items():
        setattr(update, field, value)

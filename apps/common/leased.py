"""Work as rows: guarded states, a lease by the database's clock, a heartbeat, at most N attempts.

No setting of Celery and Redis keeps the promise "no job is lost, none is done twice", so the row is the truth
and Celery only wakes workers. A worker *claims* rows (a short transaction), works outside any transaction,
and *finishes* them with the token of its claim: a worker that lost its lease can no longer write.
"""

import mmap
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Self

import structlog
from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connection, models, transaction
from django.db.models import Case, F, Q, Value, When
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

logger = structlog.get_logger(__name__)

# One byte that a worker's children share with it: they are forked after this module was imported. Celery tells the
# parent only that it should end; a child that does not know would start the next batch.
_stopping = mmap.mmap(-1, 1)


def ask_to_stop(*_args: Any, **_kwargs: Any) -> None:
    """Have the loops of this worker's processes end after what they have begun."""
    _stopping[0] = 1


def is_stopping() -> bool:
    return bool(_stopping[0])


class WorkStatus(models.TextChoices):
    PENDING = "pending", _("Waiting")
    PROCESSING = "processing", _("In progress")
    DONE = "done", _("Done")
    FAILED = "failed", _("Failed")


class LeaseLostError(Exception):
    """Somebody else holds this row now: drop the result."""


class LeasedWorkQuerySet(models.QuerySet[Any]):
    def claimable(self) -> Self:
        """Waiting rows, and rows whose worker fell silent, that still have an attempt left."""
        return self.filter(attempts__lt=settings.JOB_MAX_ATTEMPTS).filter(
            Q(status=WorkStatus.PENDING) | Q(status=WorkStatus.PROCESSING, lease_until__lt=Now())
        )

    def claim(self, *, limit: int, only_fresh: bool = False) -> list[Any]:
        """Take up to `limit` rows for one worker; all carry the same `lease_token`.

        A row that already cost a worker its life (attempts > 0) is claimed alone, so that one poisonous
        input cannot take its neighbours with it. `only_fresh` leaves such rows to a later claim.
        """
        waiting = self.claimable()
        if only_fresh:
            waiting = waiting.filter(attempts=0)
        with transaction.atomic():
            rows = list(
                waiting.select_for_update(skip_locked=True, of=("self",))
                .order_by("priority", "queued_at", "pk")
                .values_list("pk", "attempts")[:limit]
            )
            fresh = [pk for pk, attempts in rows if attempts == 0]
            chosen = fresh if rows and rows[0][1] == 0 else [pk for pk, _attempts in rows[:1]]
            if not chosen:
                return []
            token = uuid.uuid4()
            self.model._default_manager.filter(pk__in=chosen).update(
                status=WorkStatus.PROCESSING,
                lease_token=token,
                lease_until=Now() + timedelta(seconds=settings.JOB_LEASE_SECONDS),
                attempts=F("attempts") + 1,
                started_at=Now(),
                failure_reason="",
            )
        claimed = {row.pk: row for row in self.filter(pk__in=chosen)}
        return [claimed[pk] for pk in chosen if pk in claimed]

    def held(self, token: uuid.UUID | None) -> Self:
        """Rows that the claim with this token still holds."""
        return self.filter(lease_token=token, status=WorkStatus.PROCESSING)

    def heartbeat(self, token: uuid.UUID) -> int:
        """Extend the lease; gives the number of rows still held."""
        return self.held(token).update(lease_until=Now() + timedelta(seconds=settings.JOB_LEASE_SECONDS))

    def release(self, token: uuid.UUID | None) -> int:
        """Give rows back untouched (a worker told to stop): the attempt does not count."""
        return self.held(token).update(
            status=WorkStatus.PENDING, lease_token=None, lease_until=None, attempts=F("attempts") - 1
        )

    def give_back_after_error(self, token: uuid.UUID, *, reason: str) -> int:
        """End the attempt of rows whose work broke: they wait for their next one, or fail with the reason."""
        is_last = Q(attempts__gte=settings.JOB_MAX_ATTEMPTS)
        return self.held(token).update(
            status=Case(When(is_last, then=Value(WorkStatus.FAILED)), default=Value(WorkStatus.PENDING)),
            finished_at=Case(When(is_last, then=Now()), default=None),
            failure_reason=reason[:500],
            lease_token=None,
            lease_until=None,
        )

    def exhausted(self) -> Self:
        """Rows whose last attempt fell silent too."""
        return self.filter(
            status=WorkStatus.PROCESSING, lease_until__lt=Now(), attempts__gte=settings.JOB_MAX_ATTEMPTS
        )

    def give_up_exhausted(self) -> int:
        return self.exhausted().update(
            status=WorkStatus.FAILED,
            failure_reason="worker_lost",
            finished_at=Now(),
            lease_token=None,
            lease_until=None,
        )

    def requeue(self, *, priority: int | None = None) -> int:
        """Start over: a person asked for it, so attempts are counted anew."""
        changes: dict[str, Any] = {
            "status": WorkStatus.PENDING,
            "attempts": 0,
            "failure_reason": "",
            "lease_token": None,
            "lease_until": None,
            "queued_at": Now(),
            "finished_at": None,
        }
        if priority is not None:
            changes["priority"] = priority
        return self.exclude(status=WorkStatus.PROCESSING, lease_until__gte=Now()).update(**changes)


class LeasedWork(models.Model):
    """A row that stands for one piece of background work."""

    class Priority(models.IntegerChoices):
        INTERACTIVE = 0, _("someone is waiting")
        BATCH = 10, _("batch")
        LOW = 20, _("low")

    status = models.CharField(
        _("status"), max_length=12, choices=WorkStatus, default=WorkStatus.PENDING, editable=False
    )
    priority = models.SmallIntegerField(
        _("priority"), choices=Priority, default=Priority.INTERACTIVE, editable=False
    )
    attempts = models.PositiveSmallIntegerField(_("attempts"), default=0, editable=False)
    lease_token = models.UUIDField(null=True, editable=False)
    lease_until = models.DateTimeField(_("leased until"), null=True, editable=False)
    failure_reason = models.CharField(_("reason of failure"), max_length=500, blank=True, editable=False)
    queued_at = models.DateTimeField(_("queued at"), db_default=Now(), editable=False)
    started_at = models.DateTimeField(_("started at"), null=True, editable=False)
    finished_at = models.DateTimeField(_("finished at"), null=True, editable=False)

    objects = LeasedWorkQuerySet.as_manager()

    class Meta:
        abstract = True
        indexes = [
            models.Index(
                fields=["priority", "queued_at", "id"],
                name="%(class)s_waiting",
                condition=Q(status__in=(WorkStatus.PENDING, WorkStatus.PROCESSING)),
            )
        ]
        constraints = [
            models.CheckConstraint(
                name="%(class)s_processing_is_leased",
                condition=~Q(status=WorkStatus.PROCESSING)
                | Q(lease_token__isnull=False, lease_until__isnull=False),
            )
        ]

    def finish(self, *, status: WorkStatus = WorkStatus.DONE, reason: str = "", **changes: Any) -> None:
        """End this attempt if its claim still holds, else raise `LeaseLostError`; nothing is written then."""
        rows: models.QuerySet[Any] = type(self)._default_manager.filter(pk=self.pk)
        done = rows.filter(lease_token=self.lease_token, status=WorkStatus.PROCESSING).update(
            status=status,
            failure_reason=reason[:500],
            finished_at=Now(),
            lease_token=None,
            lease_until=None,
            **changes,
        )
        if not done:
            raise LeaseLostError(f"{type(self).__name__} {self.pk}")


@contextmanager
def kept_lease(rows: LeasedWorkQuerySet, token: uuid.UUID) -> Iterator[None]:
    """Extend the lease of a claim for as long as the block runs, from a thread with a connection of its own.

    The thread connects at its first beat only, so that short work costs nothing.
    """
    ended = threading.Event()

    def beat() -> None:
        try:
            while not ended.wait(settings.JOB_LEASE_SECONDS / 3):
                try:
                    if not rows.all().heartbeat(token):
                        return
                except DatabaseError as error:
                    # The work goes on: if the database is back before the lease ends, nothing happened.
                    logger.warning("heartbeat_not_written", error=str(error))
                    connection.close()
        finally:
            connection.close()

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()

"""What a running training tells, written down as it comes. Only the holder of the run's lease writes."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import structlog
from django.db import InterfaceError, OperationalError, connection, transaction

from apps.common.leased import LeaseLostError, is_stopping
from apps.training.models import TrainingEpoch, TrainingLogLine, TrainingRun
from apps.training.services.run_worker.checkpoints import StoredCheckpoint
from apps.training.services.run_worker.ends import CancelledError, StoppedError, readable

logger = structlog.get_logger(__name__)

PULSE_S: Final = 1.0
"""How often the row is asked whether somebody cancelled it."""
_COUNTED_EVERY_S: Final = 10.0
"""How often the time spent is written between two epochs."""
MOST_WORDS: Final = 2_000
"""Lines of the trainer's own words that a run keeps."""
_LONGEST_LINE: Final = 1_000
_LEVELS: Final = frozenset(TrainingLogLine.Level.values)


@contextmanager
def unless_away(run: TrainingRun) -> Iterator[None]:
    """The training goes on without the database; nobody else can take the run meanwhile."""
    try:
        yield
    except (OperationalError, InterfaceError) as error:
        logger.warning("database_away", run=run.pk, error=str(error))
        if not connection.in_atomic_block:
            connection.close()


class RunRecord:
    """The rows of one run while its lease is held. Each write raises `LeaseLostError` when it is not any more."""

    def __init__(self, run: TrainingRun) -> None:
        self.run = run
        self.batch: int | None = run.batch
        self.epochs_done = run.epochs_done
        self._token = run.lease_token
        self._began = time.monotonic()
        self._spent_before = run.seconds_spent
        self._last_pulse = 0.0
        self._last_counted = self._began
        self._words_left = max(0, MOST_WORDS - run.log_lines.filter(code="").count())

    @property
    def seconds_spent(self) -> float:
        return self._spent_before + time.monotonic() - self._began

    def change(self, **values: Any) -> None:
        held = TrainingRun.objects.all().held(self._token).filter(pk=self.run.pk)
        if not held.update(seconds_spent=self.seconds_spent, **values):
            raise LeaseLostError(f"TrainingRun {self.run.pk}")

    def note(self, code: str, *, level: str = "info", **details: Any) -> None:
        TrainingLogLine.objects.create(run=self.run, code=code, level=level, details=readable(details))

    def pulse(self, *, is_due: bool = False) -> None:
        """Raises `StoppedError`, `CancelledError` or `LeaseLostError` when the work must end."""
        if is_stopping():
            raise StoppedError
        now = time.monotonic()
        if not is_due and now - self._last_pulse < PULSE_S:
            return
        self._last_pulse = now
        with unless_away(self.run):
            held = TrainingRun.objects.all().held(self._token).filter(pk=self.run.pk)
            row = held.values_list("cancel_requested_at").first()
            if row is None:
                raise LeaseLostError(f"TrainingRun {self.run.pk}")
            if row[0] is not None:
                raise CancelledError
            if now - self._last_counted > _COUNTED_EVERY_S:
                self._last_counted = now
                self.change()

    def hold(self) -> None:
        """From here to the end of the transaction nobody can cancel. Raises `CancelledError` when somebody has."""
        held = TrainingRun.objects.all().held(self._token).filter(pk=self.run.pk)
        row = held.select_for_update().values_list("cancel_requested_at").first()
        if row is None:
            raise LeaseLostError(f"TrainingRun {self.run.pk}")
        if row[0] is not None:
            raise CancelledError

    def write(self, events: Sequence[dict[str, Any]], words: Sequence[str]) -> bool:
        """Keep what the job told; False when the database is away and it must be told again later."""
        if not events and not words:
            return True
        words_left, is_written = self._words_left, False
        with unless_away(self.run):
            with transaction.atomic():
                changes: dict[str, Any] = {}
                for event in events:
                    changes |= self._kept(readable(event))
                self._keep_words(words)
                self.change(**changes)
            is_written = True
        if not is_written:
            self._words_left = words_left
        return is_written

    def keep_checkpoint(self, stored: StoredCheckpoint) -> str:
        """The row knows the new checkpoint; gives the name of the one before."""
        before = str(self.run.checkpoint.name or "")
        self.change(checkpoint=stored.name, checkpoint_sha256=stored.sha256, checkpoint_epoch=stored.epoch)
        self.run.checkpoint.name = stored.name
        self.run.checkpoint_sha256, self.run.checkpoint_epoch = stored.sha256, stored.epoch
        return before

    def _kept(self, event: dict[str, Any]) -> dict[str, Any]:
        """Write an event's rows; gives the columns of the run that it changes."""
        kind = event.get("event")
        if kind == "epoch":
            return self._keep_epoch(event)
        if kind == "hardware":
            hardware = {key: value for key, value in event.items() if key != "event"}
            return {"hardware": self.run.hardware | hardware}
        if kind == "prepared":
            self.note("prepared", training=event.get("training"), validation=event.get("validation"))
            return {"stage": TrainingRun.Stage.TRAINING}
        if kind == "log":
            self._keep_line(event)
        return {}

    def _keep_epoch(self, event: dict[str, Any]) -> dict[str, Any]:
        epoch, batch = int(event["epoch"]), int(event.get("batch") or self.batch or 1)
        TrainingEpoch.objects.update_or_create(
            run=self.run,
            epoch=epoch,
            defaults={
                "metrics": {key: value for key, value in event["metrics"].items() if value is not None},
                "seconds": float(event.get("seconds") or 0.0),
                "batch": batch,
            },
        )
        self.batch, self.epochs_done = batch, epoch
        # It goes on: reboots meanwhile do not add up.
        return {
            "epochs_done": epoch,
            "epochs": int(event.get("epochs") or self.run.epochs),
            "batch": batch,
            "stage": TrainingRun.Stage.TRAINING,
            "attempts": 1,
        }

    def _keep_line(self, event: dict[str, Any]) -> None:
        level = event.get("level")
        details = event.get("details")
        TrainingLogLine.objects.create(
            run=self.run,
            level=level if level in _LEVELS else TrainingLogLine.Level.INFO,
            code=str(event.get("code") or "")[:40],
            details=details if isinstance(details, dict) else {},
            text=str(event.get("text") or "")[:_LONGEST_LINE],
        )

    def _keep_words(self, words: Sequence[str]) -> None:
        kept = list(words)[: self._words_left]
        TrainingLogLine.objects.bulk_create(
            TrainingLogLine(run=self.run, text=str(readable(line))[:_LONGEST_LINE]) for line in kept
        )
        if self._words_left and len(words) >= self._words_left:
            self.note("log_cut")
        self._words_left -= len(kept)

"""Detection of waiting photos: claim a micro-batch, run the model, write the results.

One call is one flow: while the model runs, the next pictures are read and decoded, also across the border between two
batches. Each batch is saved in one short transaction of its own, guarded by the token of its claim.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from uuid import UUID

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.utils.translation import gettext as _

from apps.common.leased import LeasedWork, WorkStatus, is_stopping, kept_lease
from apps.common.tasks import send_once, wake_once
from apps.observations.models import Photo, Survey
from apps.observations.services.detection_results import Outcome, save_outcomes
from apps.observations.services.intake import is_refusal_code, picture_limits, refusal_message
from apps.training.engine.pictures import PictureError
from apps.training.engine.types import DetectedBoxes
from apps.training.inference import ModelUnavailableError, production_detector
from apps.training.models import ModelVersion

logger = structlog.get_logger(__name__)

MODEL_UNAVAILABLE = "model_unavailable"
ORIGINAL_MISSING = "original_missing"
DETECTOR_FAILED = "detector_failed"
READ_AHEAD = 2


class StorageUnavailableError(Exception):
    """The originals cannot be read just now; that is no fault of the photos."""


def detect_batch() -> int:
    """One claim of waiting photos; gives how many were settled, 0 when none can be worked on."""
    return detect_photos(batches=1)


def detect_photos(
    *, seconds: float = math.inf, batches: float = math.inf, between: Callable[[], object] = lambda: None
) -> int:
    """Work on waiting photos until none is left, `seconds` or `batches` are used up, or the worker is to stop.

    `between` is called before each claim. Gives how many photos were settled, well or badly. Photos of a survey whose
    model has no production version, or whose weights cannot be loaded, stay waiting.
    """
    budget = _Budget(time.monotonic() + seconds, batches, between)
    settled, unavailable = 0, set[int]()
    while budget.may_claim() and (survey := _next_survey(unavailable)) is not None:
        assert survey.registered_model_id is not None
        try:
            found = production_detector(survey.registered_model_id)
        except ModelUnavailableError as error:
            _note_unavailable(survey.registered_model_id, str(error))
            found = None
        if found is None:
            unavailable.add(survey.registered_model_id)
            continue
        done = _Flow(survey, found[0], budget).run(found[1].detect_encoded)
        settled += done
        if not done:
            break  # what is there is in other hands, or broke: the next sweep tries again
    return settled


def request_detection(photos: QuerySet[Photo], *, priority: int = LeasedWork.Priority.BATCH) -> int:
    """Detect again with the version then in production; gives how many photos were queued.

    The present result is shown until the new one is there. Photos a worker holds at this moment are left to it.
    """
    from apps.observations.tasks import detect_waiting  # tasks call services

    ids = list(photos.values_list("pk", flat=True))
    queued = Photo.objects.filter(pk__in=ids).requeue(priority=priority)
    wake_once(detect_waiting)
    return queued


def request_later_look(photo_ids: Collection[int], *, version_id: int | None) -> int:
    """Have photos that show another version's result looked at again when nothing else is to do; gives how many.

    Those that wait or are worked on already are left alone: somebody may be waiting for them. Locked in the order of their
    keys, since a promotion has several apps ask for the same photos at once.
    """
    from apps.observations.tasks import detect_waiting  # tasks call services

    with transaction.atomic():
        stale = Photo.objects.filter(pk__in=photo_ids, status=WorkStatus.DONE).exclude(
            model_version=version_id
        )
        pks = list(stale.select_for_update(no_key=True).order_by("pk").values_list("pk", flat=True))
        queued = Photo.objects.filter(pk__in=pks).requeue(priority=LeasedWork.Priority.LOW)
        if queued:
            wake_once(detect_waiting)
    return queued


def failure_message(photo: Photo) -> str:
    """Why detection of a photo failed, or why it waits, in the reader's language; empty when there is nothing to say."""
    code = photo.failure_reason.partition(":")[0]
    if not code:
        return ""
    if code == MODEL_UNAVAILABLE:
        return _(
            "The model of this survey cannot be used at the moment. Your photo waits; you need not do anything."
        )
    if photo.model_version_id:
        return _("A later look at this photo failed. The earlier result stands.")
    if code == ORIGINAL_MISSING:
        return _("The stored original cannot be found. Please send the photo again.")
    if is_refusal_code(code):
        return refusal_message(code, {})
    return _("The detector failed on this photo several times. You can delete it and send it again.")


def _next_survey(unavailable: set[int]) -> Survey | None:
    """The survey of the photo that should be next, among those whose model is in production."""
    head = (
        Photo.objects.all()
        .claimable()
        .filter(survey__registered_model__versions__stage=ModelVersion.Stage.PRODUCTION)
        .exclude(survey__registered_model__in=unavailable)
        .order_by("priority", "queued_at", "pk")
        .select_related("survey")
        .first()
    )
    return head.survey if head else None


def _note_unavailable(registered_model_id: int, reason: str) -> None:
    """Let curators read on the waiting rows why they wait."""
    text = f"{MODEL_UNAVAILABLE}: {reason}"[:500]
    Photo.objects.filter(survey__registered_model=registered_model_id, status=WorkStatus.PENDING).exclude(
        failure_reason=text
    ).update(failure_reason=text)


@dataclass(slots=True)
class _Budget:
    """When to stop claiming."""

    until: float
    batches: float
    between: Callable[[], object]

    def may_claim(self) -> bool:
        self.between()
        return not is_stopping() and self.batches > 0 and time.monotonic() < self.until

    def spend(self) -> None:
        self.batches -= 1


@dataclass(slots=True)
class _Batch:
    """Photos of one claim, in the order they are given to the model, and what became of them."""

    token: UUID
    photos: list[Photo]
    outcomes: dict[int, Outcome] = field(default_factory=dict)

    @property
    def is_complete(self) -> bool:
        return len(self.outcomes) == len(self.photos)


Detect = Callable[..., Iterator[DetectedBoxes | PictureError]]


class _Flow:
    """One uninterrupted run of one version over photos of one survey."""

    def __init__(self, survey: Survey, version: ModelVersion, budget: _Budget) -> None:
        self._survey, self._version, self._budget = survey, version, budget
        self._batches: deque[_Batch] = deque()
        self._given: deque[tuple[_Batch, Photo]] = deque()
        self._settled = 0
        self._leases = ExitStack()

    def run(self, detect: Detect) -> int:
        try:
            with self._leases:
                results = detect(
                    self._pictures(),
                    confidence=self._survey.kept_threshold,
                    object_size_px=self._survey.object_size_px,
                    limits=picture_limits(),
                )
                for result in results:
                    batch, photo = self._given.popleft()
                    batch.outcomes[photo.pk] = result.code if isinstance(result, PictureError) else result
                    self._save_complete()
                self._save_complete()
                self._give_back_rest()
        except StorageUnavailableError as error:
            logger.warning("originals_unreadable", error=str(error))
            self._budget.batches = 0
            self._release()
        except Exception as error:
            # Which photo it was cannot be told: each gets its next attempt alone, and the guilty one fails alone.
            logger.exception("detection_broke", survey=self._survey.slug, version=str(self._version))
            for batch in self._batches:
                Photo.objects.all().give_back_after_error(batch.token, reason=f"{DETECTOR_FAILED}: {error}")
        except BaseException:
            self._release()
            raise
        return self._settled

    def _pictures(self) -> Iterator[bytes]:
        """The bytes of claimed photos; claims the next batch when the last one is given away."""
        with ThreadPoolExecutor(1, thread_name_prefix="read") as pool:
            while batch := self._claim():
                waiting: deque[tuple[Photo, Future[bytes | None]]] = deque()
                coming = iter(batch.photos)
                for photo in batch.photos:
                    if is_stopping():
                        return
                    while len(waiting) < READ_AHEAD and (following := next(coming, None)) is not None:
                        waiting.append((following, pool.submit(_read_original, following)))
                    content = waiting.popleft()[1].result()
                    if content is None:
                        batch.outcomes[photo.pk] = ORIGINAL_MISSING
                        continue
                    self._given.append((batch, photo))
                    yield content
                if batch.photos[0].attempts > 1:
                    return  # it cost a worker its life once: nothing else is in the model's hands meanwhile

    def _claim(self) -> _Batch | None:
        is_first = not self._batches and not self._settled
        if not is_first and not self._budget.may_claim():
            return None
        photos = (
            Photo.objects.filter(survey=self._survey)
            .select_related("observation")
            .claim(limit=settings.DETECTION_BATCH_PHOTOS, only_fresh=not is_first)
        )
        if not photos:
            return None
        self._budget.spend()
        if is_first and len(photos) == settings.DETECTION_BATCH_PHOTOS:
            _wake_another()
        batch = _Batch(photos[0].lease_token, photos)
        self._batches.append(batch)
        self._leases.enter_context(kept_lease(Photo.objects.all(), batch.token))
        return batch

    def _save_complete(self) -> None:
        while self._batches and self._batches[0].is_complete:
            batch = self._batches[0]
            save_outcomes(
                token=batch.token, survey=self._survey, version=self._version, outcomes=batch.outcomes
            )
            self._batches.popleft()
            self._settled += len(batch.photos)

    def _give_back_rest(self) -> None:
        """The worker is to stop: what is done is saved, the rest waits for another one."""
        for batch in self._batches:
            save_outcomes(
                token=batch.token, survey=self._survey, version=self._version, outcomes=batch.outcomes
            )
            self._settled += len(batch.outcomes)
        self._release()

    def _release(self) -> None:
        for batch in self._batches:
            Photo.objects.all().release(batch.token)


def _wake_another() -> None:
    """A full claim means that more may wait than one worker should keep to itself."""
    from apps.observations.tasks import detect_waiting  # tasks call services

    send_once(detect_waiting)


def _read_original(photo: Photo) -> bytes | None:
    """None for a file that is gone. Raises `StorageUnavailableError` when the storage does not answer."""
    try:
        with photo.original.open("rb") as file:
            content: bytes = file.read()
            return content
    except FileNotFoundError:
        return None
    except Exception as error:
        # Each storage raises the errors of its own library.
        raise StorageUnavailableError(f"{type(error).__name__}: {error}") from error

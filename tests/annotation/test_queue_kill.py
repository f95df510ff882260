"""kill -9 of a worker in the middle of a queue's update: another one goes on, and the queue ends in its order."""

import time

import pytest

from apps.annotation.models import AnnotationTask, QueueUpdate
from apps.annotation.services.ranking import request_update
from apps.annotation.tasks import sweep
from apps.annotation.tasks.queue import enqueue_detected, update_queues
from apps.common.leased import WorkStatus
from apps.common.tasks import send
from apps.observations.models import Detection, Photo
from tests.annotation.queues import photo_of, queued
from tests.factories import new_digest
from tests.support.processes import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.serial, pytest.mark.django_db(transaction=True)]
FAST = {"JOB_LEASE_SECONDS": "3", "JOB_SWEEP_SECONDS": "1"}
PHOTOS = 4_000


@pytest.fixture
def crowded():
    """A survey with thousands of photos in its queue, none of which has its score yet."""
    survey = queued([0.9])
    model = Photo.objects.get()
    fields = {
        field.attname: getattr(model, field.attname)
        for field in Photo._meta.concrete_fields
        if field.attname not in ("id", "public_id", "sha256")
    }
    copies = [Photo(**fields, sha256=new_digest()) for _ in range(PHOTOS)]
    photos = Photo.objects.bulk_create(copies, batch_size=1_000)
    label = Detection.objects.get().label
    Detection.objects.bulk_create(
        Detection(
            photo=photo,
            model_version_id=photo.model_version_id,
            number=1,
            label=label,
            score=0.5 + n % 400 / 1000,
            class_scores=[0.5 + n % 400 / 1000],
            x_min=1,
            y_min=1,
            x_max=9,
            y_max=9,
        )
        for n, photo in enumerate(photos)
    )
    AnnotationTask.objects.bulk_create(
        AnnotationTask(survey=survey, photo=photo, draw=0.5, scored_version_id=photo.model_version_id)
        for photo in photos
    )
    return survey


def test_a_queue_whose_worker_was_killed_is_ranked_by_the_next_one(crowded, start_worker):
    first = start_worker(queues="default", env=FAST)
    update = request_update(survey=crowded, reason=QueueUpdate.Reason.CURATOR)

    def has_begun():
        send(update_queues)
        return QueueUpdate.objects.get(pk=update.pk).done

    wait_until(has_begun, seconds=60, what="the first thousand is scored")
    first.kill()
    first.kill_children()
    update.refresh_from_db()
    assert update.status == WorkStatus.PROCESSING, "it was killed in the middle"
    assert AnnotationTask.objects.filter(scored_at=None).exists()
    start_worker(queues="default", env=FAST)

    def is_done():
        send(sweep)
        time.sleep(0.5)
        return QueueUpdate.objects.get(pk=update.pk).status == WorkStatus.DONE

    wait_until(is_done, seconds=120, what="the second worker finished")
    update.refresh_from_db()
    assert (update.done, update.attempts) == (PHOTOS + 1, 2)
    scored = AnnotationTask.objects.values_list("score", "photo__detections__score")
    assert len(scored) == PHOTOS + 1
    assert all(score == pytest.approx(2 - 2 * confidence) for score, confidence in scored)


def test_a_detected_photo_comes_into_the_queue_through_a_real_worker(start_worker):
    survey = queued([])
    photo = photo_of(survey)
    start_worker(queues="default", env=FAST)
    send(enqueue_detected, photo_ids=[photo.pk])
    wait_until(lambda: AnnotationTask.objects.filter(photo=photo).exists(), seconds=60, what="it is queued")
    second = photo_of(survey)

    def is_found():
        send(sweep)
        time.sleep(0.5)
        return AnnotationTask.objects.filter(photo=second).exists()

    wait_until(is_found, seconds=60, what="the sweep queues what no message brought")

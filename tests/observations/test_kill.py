"""kill -9 of the worker, of its child, of Redis: every photo is done exactly once, and nobody has to help.

Real Celery workers and a real beat on the test's database and on a Redis without persistence. Only a supervisor's part
(starting again what ended) is played by the test.
"""

import random
import shutil
import sys
import time
from io import BytesIO
from pathlib import Path

import pytest
from django.core.files.storage import storages
from django.db.models import Count, F, Max

from apps.common.leased import WorkStatus
from apps.common.tasks import send
from apps.observations.models import ArchiveUpload, Detection, DiscardedFile, Photo, RefusedFile, TilePyramid
from apps.observations.pyramid import tile_count
from apps.observations.services.archives import receive_archive
from apps.observations.services.intake import receive_photo
from apps.observations.tasks import detect_waiting
from tests.factories import ObservationFactory, SurveyFactory
from tests.support.pictures import jpeg, zip_of
from tests.support.processes import RealProcess, children_of, site_environment, wait_until
from tests.support.stub_detector import POISON, expected_boxes, stub_version

pytestmark = [pytest.mark.slow, pytest.mark.serial, pytest.mark.django_db(transaction=True)]
PHOTOS = 40
FAST = {"JOB_LEASE_SECONDS": "3", "JOB_SWEEP_SECONDS": "1", "STUB_SECONDS_A_PICTURE": "0.04"}


@pytest.fixture
def dice():
    return random.Random(20)


@pytest.fixture
def observation(transactional_db):
    survey = SurveyFactory()
    stub_version(survey.registered_model, "CER", "ISO_MIN")
    return ObservationFactory(survey=survey)


@pytest.fixture
def worker(start_worker):
    """`worker()` starts a worker for all queues."""
    return lambda **options: start_worker(queues="inference,default", env=FAST, **options)


@pytest.fixture
def beat(throwaway_broker, tmp_path):
    scheduler = RealProcess(
        [sys.executable, "-m", "celery", "-A", "project", "beat", "-s", str(tmp_path / "beat"), "--pidfile="],
        env=site_environment(redis_url=throwaway_broker.url) | FAST,
    )
    yield scheduler
    scheduler.kill()


def send_photos(observation, count=PHOTOS):
    for seed in range(count):
        receive_photo(observation=observation, file=BytesIO(jpeg(seed=seed)), name=f"{seed}.jpg")


def done() -> int:
    return Photo.objects.filter(status=WorkStatus.DONE).count()


def settle(process=None, *, count=PHOTOS, seconds=90):
    wait_until(
        lambda: not Photo.objects.filter(status__in=("pending", "processing")).exists(),
        seconds=seconds,
        what=f"{count} photos settled: {dict(Photo.objects.values_list('status').annotate(Count('pk')))}"
        + (process.text()[-3000:] if process else ""),
    )


def assert_each_done_exactly_once(count=PHOTOS):
    assert done() == Photo.objects.count() == count, list(
        Photo.objects.exclude(status="done").values("name", "status", "attempts", "failure_reason")
    )
    for photo in Photo.objects.annotate(boxes=Count("detections")):
        assert photo.boxes == photo.detection_count == expected_boxes(photo.original.read())
        assert 1 <= photo.attempts <= 3
        assert photo.lease_token is None
    assert not Detection.objects.values("photo", "number").annotate(n=Count("pk")).filter(n__gt=1).exists()
    assert not Detection.objects.exclude(model_version=F("photo__model_version")).exists()


def test_the_worker_is_killed_again_and_again(observation, worker, beat, dice):
    send_photos(observation)
    for _death in range(4):
        before = done()
        process = worker()
        wait_until(lambda before=before: done() > before or done() == PHOTOS, seconds=30, what=process.text())
        time.sleep(dice.uniform(0, 0.4))
        process.kill()
    settle(worker())
    assert_each_done_exactly_once()


def test_the_child_is_killed_again_and_again_under_a_living_worker(observation, worker, beat, dice):
    process = worker()
    send_photos(observation)
    for _death in range(4):
        before = done()
        wait_until(lambda before=before: done() > before or done() == PHOTOS, seconds=40, what=process.text())
        time.sleep(dice.uniform(0, 0.3))
        process.kill_children()
    settle(process)
    assert process.is_alive()
    assert_each_done_exactly_once()


def test_redis_is_killed_again_and_again_and_loses_every_message(
    observation, worker, beat, throwaway_broker, dice
):
    process = worker()
    for seed in range(PHOTOS):
        if seed in (5, 15, 25):
            throwaway_broker.kill()
        receive_photo(observation=observation, file=BytesIO(jpeg(seed=seed)), name=f"{seed}.jpg")
        if seed in (12, 20, 35):
            time.sleep(dice.uniform(0, 0.5))
            throwaway_broker.start()
    settle(process)
    assert process.is_alive()
    assert beat.is_alive()
    assert_each_done_exactly_once()
    assert Photo.objects.aggregate(most=Max("attempts"))["most"] == 1


def test_several_workers_share_the_photos_and_none_is_done_twice(observation, worker, beat):
    send_photos(observation)
    worker(concurrency=2)
    settle(worker(concurrency=2))
    assert_each_done_exactly_once()
    assert Photo.objects.aggregate(most=Max("attempts"))["most"] == 1


def test_a_photo_that_kills_whoever_looks_at_it_fails_alone(observation, worker, beat):
    send_photos(observation, 12)
    poison = receive_photo(
        observation=observation, file=BytesIO(jpeg(seed=99) + POISON), name="poison.jpg"
    ).photo
    send_photos(ObservationFactory(survey=observation.survey), 6)
    settle(worker(), count=19)
    poison.refresh_from_db()
    assert (poison.status, poison.attempts, poison.failure_reason) == (WorkStatus.FAILED, 3, "worker_lost")
    assert done() == 18


def test_a_worker_told_to_end_does_so_in_time_and_leaves_no_claim(observation, worker):
    send_photos(observation)
    process = worker()
    wait_until(lambda: done() > 0, seconds=30, what=process.text())
    process.process.terminate()
    assert process.process.wait(30) == 0
    assert not Photo.objects.filter(status=WorkStatus.PROCESSING).exists()
    assert Photo.objects.filter(status=WorkStatus.PENDING).exists()
    assert not Photo.objects.filter(status=WorkStatus.PENDING, attempts__gt=0).exists()
    settle(worker())
    assert_each_done_exactly_once()
    assert Photo.objects.aggregate(most=Max("attempts"))["most"] == 1


def test_a_worker_that_starts_finds_what_waits_without_any_message(observation, throwaway_broker, worker):
    throwaway_broker.kill()
    send_photos(observation, 5)
    throwaway_broker.start()
    settle(worker(), count=5, seconds=30)
    assert_each_done_exactly_once(5)


def test_an_archive_is_read_exactly_once_though_its_workers_are_killed(observation, worker, beat, dice):
    files = {f"{seed}.jpg": jpeg(seed=seed) for seed in range(PHOTOS)} | {
        f"{n}.txt": b"no picture" for n in range(4)
    }
    receive_archive(observation=observation, file=BytesIO(zip_of(**files)), name="plates.zip")
    for _death in range(3):
        before = Photo.objects.count()
        process = worker()
        wait_until(
            lambda before=before: Photo.objects.count() > before or Photo.objects.count() == PHOTOS,
            seconds=30,
            what=process.text(),
        )
        time.sleep(dice.uniform(0, 0.5))
        process.kill()
    process = worker()
    wait_until(
        lambda: ArchiveUpload.objects.get().status == WorkStatus.DONE,
        seconds=90,
        what=f"archive read {process.text()}",
    )
    settle(process)
    assert_each_done_exactly_once()
    assert RefusedFile.objects.count() == 4


def test_tiles_are_whole_and_none_is_left_over_though_their_workers_are_killed(
    observation, worker, beat, dice
):
    shutil.rmtree(storages["renditions"].path("tiles"), ignore_errors=True)
    content = jpeg(width=7_000, height=6_000)
    receive_photo(observation=observation, file=BytesIO(content), name="plate.jpg")

    def folders() -> list[Path]:
        root = Path(storages["renditions"].path("tiles"))
        return list(root.iterdir()) if root.exists() else []

    for death in range(2):
        process = worker()
        wait_until(
            lambda death=death: len(folders()) > death or TilePyramid.objects.get().status == WorkStatus.DONE,
            seconds=60,
            what=process.text(),
        )
        time.sleep(dice.uniform(0, 0.3))
        process.kill()
    process = worker()
    wait_until(
        lambda: TilePyramid.objects.get().status == WorkStatus.DONE and not DiscardedFile.objects.exists(),
        seconds=90,
        what=f"tiles cut {TilePyramid.objects.values()} {process.text()}",
    )
    pyramid = TilePyramid.objects.get()
    assert [folder.name for folder in folders()] == [str(pyramid.folder)]
    assert len(list(folders()[0].rglob("*.jpg"))) == pyramid.tiles == tile_count(7_000, 6_000)


def test_hundreds_of_wake_ups_at_once_do_no_harm(observation, worker):
    send_photos(observation, 5)
    for _message in range(300):
        send(detect_waiting)
    process = worker()
    settle(process, count=5)
    assert children_of(process.pid)
    assert_each_done_exactly_once(5)

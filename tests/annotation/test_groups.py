"""Splits are decided once for photos that belong together, and nothing that comes later changes them."""

import random
import threading
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from itertools import combinations

import pytest
from django.db import connection, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from apps.annotation.active_learning.strategies import hamming, is_telling
from apps.annotation.models import AnnotationPolicy, AnnotationTask, DatasetImport, GroupKey, PhotoGroup
from apps.annotation.services.groups import Duplicates, fate, keys_of
from apps.annotation.services.policies import policy_of
from apps.annotation.services.queue import enqueue_photos
from apps.observations.models import Photo, Survey
from tests.annotation.queues import different_hash, photo_of
from tests.factories import ObservationFactory, PhotoFactory, SurveyFactory, UserFactory
from tests.support.examples import examples

DAY = datetime(2026, 5, 4, 9, tzinfo=UTC)


def survey_with(**rules: object) -> Survey:
    survey: Survey = SurveyFactory(minimum_photos=1)
    AnnotationPolicy.objects.create(survey=survey, **{"seed": 11} | rules)
    return survey


def groups(photos: list[Photo]) -> list[int | None]:
    found = dict(AnnotationTask.objects.filter(photo__in=photos).values_list("photo_id", "group_id"))
    return [found[photo.pk] for photo in photos]


@pytest.mark.django_db
def test_photos_of_one_observation_share_a_group_whenever_they_come() -> None:
    survey = survey_with()
    observation = ObservationFactory(survey=survey)
    first = photo_of(survey, observation=observation)
    enqueue_photos([first.pk])
    second = photo_of(survey, observation=observation)
    enqueue_photos([second.pk])
    stranger = photo_of(survey)
    enqueue_photos([stranger.pk])
    one, other, third = groups([first, second, stranger])
    assert one == other != third


@pytest.mark.django_db
def test_one_day_of_one_camera_is_one_group_and_needs_both() -> None:
    survey = survey_with()
    person = UserFactory()

    def taken(camera: str, at: datetime | None, *, by: object = person) -> Photo:
        observation = ObservationFactory(survey=survey, contributor=by, observed_at=at)
        return photo_of(survey, observation=observation, camera=camera)

    photos = [
        taken("Leica", DAY),
        taken("Leica", DAY + timedelta(hours=3)),
        taken("Leica", DAY + timedelta(days=1)),
        taken("Nikon", DAY),
        taken("", DAY),
        taken("Leica", None),
        taken("Leica", DAY, by=UserFactory()),
    ]
    enqueue_photos([photo.pk for photo in photos])
    first, same, *others = groups(photos)
    assert first == same
    assert len({first, *others}) == 1 + len(others)


@pytest.mark.django_db
def test_the_date_from_the_file_counts_where_the_observation_has_none() -> None:
    photo = PhotoFactory(camera="Leica", proposed_at=DAY)
    assert f"camera:{photo.contributor_id}:2026-05-04:Leica" in keys_of(photo)


@pytest.mark.django_db
def test_near_duplicates_share_a_group_and_blank_pictures_do_not() -> None:
    survey = survey_with(duplicate_distance=4)
    looks = 0x0F0F33335555A5A5
    photos = [
        photo_of(survey, perceptual_hash=value)
        for value in (
            looks,
            looks ^ 0b1111,
            looks ^ 0b111110000,
            0,
            0,
            -1,
            -1,
            -(1 << 63),
            -(1 << 63),
            None,
            None,
        )
    ]
    for photo in photos:
        enqueue_photos([photo.pk])
    first, near, far, *blank = groups(photos)
    assert first == near
    assert len({first, far, *blank}) == 2 + len(blank)


@pytest.mark.django_db
def test_near_duplicates_are_sought_in_the_same_survey_only() -> None:
    looks = different_hash(3)
    photos = [photo_of(survey_with(), perceptual_hash=looks) for _ in range(2)]
    enqueue_photos([photo.pk for photo in photos])
    one, other = groups(photos)
    assert one != other


@pytest.mark.django_db
def test_a_photo_that_links_groups_of_different_splits_has_none_and_changes_neither() -> None:
    survey = survey_with(control_fraction=0.5, duplicate_distance=2)
    looks = {}
    for n in range(16):
        photo = photo_of(survey, perceptual_hash=different_hash(n))
        enqueue_photos([photo.pk])
        task = AnnotationTask.objects.get(photo=photo)
        assert task.group is not None
        looks[task.group.split] = (photo, task.group_id)
    (control, control_group), (active, active_group) = looks["test"], looks["train"]
    between = photo_of(survey, observation=active.observation, perceptual_hash=control.perceptual_hash)
    enqueue_photos([between.pk])
    assert groups([between, control, active]) == [None, control_group, active_group]
    assert AnnotationTask.objects.get(photo=between).arm == "active"


@pytest.mark.django_db
def test_a_photo_that_links_groups_of_one_split_joins_the_older() -> None:
    survey = survey_with(control_fraction=0, validation_share=0, duplicate_distance=2)
    older = photo_of(survey, perceptual_hash=different_hash(1))
    younger = photo_of(survey, perceptual_hash=different_hash(2))
    enqueue_photos([older.pk])
    enqueue_photos([younger.pk])
    between = photo_of(survey, observation=younger.observation, perceptual_hash=older.perceptual_hash)
    enqueue_photos([between.pk])
    assert groups([between]) == groups([older]) != groups([younger])


@pytest.mark.django_db
def test_imported_pictures_are_split_one_by_one_and_stay_out_of_the_control_arm() -> None:
    survey = survey_with(control_fraction=0.3, validation_share=0.3, duplicate_distance=2)
    observation = ObservationFactory(survey=survey)
    pictures = [photo_of(survey, observation=observation) for _ in range(60)]
    enqueue_photos([picture.pk for picture in pictures], imported=True)
    tasks = AnnotationTask.objects.filter(photo__in=pictures)
    assert len(set(groups(pictures))) == 60
    assert set(tasks.values_list("arm", flat=True)) == {"imported"}
    assert set(tasks.values_list("group__split", flat=True)) == {"train", "validation", "test"}
    control = next(
        photo
        for photo in (photo_of(survey, perceptual_hash=different_hash(n)) for n in range(16))
        if enqueue_photos([photo.pk]) and AnnotationTask.objects.get(photo=photo).arm == "control"
    )
    twin = photo_of(survey, observation=observation, perceptual_hash=control.perceptual_hash)
    enqueue_photos([twin.pk], imported=True)
    assert groups([twin]) == [None]


@pytest.mark.django_db
def test_a_picture_of_an_import_is_one_whoever_queues_it() -> None:
    survey = survey_with()
    observation = ObservationFactory(survey=survey)
    DatasetImport.objects.create(
        survey=survey,
        requested_by=observation.contributor,
        name="plates.zip",
        size_bytes=1,
        format="yolo",
        observation=observation,
    )
    picture = photo_of(survey, observation=observation)
    enqueue_photos([picture.pk])
    assert AnnotationTask.objects.get(photo=picture).arm == "imported"


@pytest.mark.django_db
def test_the_shares_of_the_splits_follow_the_rules() -> None:
    policy = policy_of(SurveyFactory())
    assert (policy.control_fraction, policy.validation_share) == (0.10, 0.20)
    policy.seed = 5
    splits = [fate(policy, f"photo {n}")[1] for n in range(20_000)]
    shares = {split: splits.count(split) / len(splits) for split in ("train", "validation", "test")}
    assert shares == pytest.approx({"train": 0.7, "validation": 0.2, "test": 0.1}, abs=0.01)


@pytest.mark.django_db
def test_rules_changed_later_leave_what_was_decided() -> None:
    survey = survey_with()
    photos = [photo_of(survey) for _ in range(10)]
    enqueue_photos([photo.pk for photo in photos])
    before = list(
        AnnotationTask.objects.order_by("pk").values("photo", "group", "arm", "group__split", "draw")
    )
    AnnotationPolicy.objects.update(
        control_fraction=0.5, validation_share=0.4, seed=99, duplicate_distance=20
    )
    enqueue_photos([photo.pk for photo in photos])
    after = list(
        AnnotationTask.objects.order_by("pk").values("photo", "group", "arm", "group__split", "draw")
    )
    assert after == before


@pytest.mark.django_db(transaction=True)
def test_photos_of_one_observation_queued_at_once_end_in_one_group() -> None:
    survey = survey_with()
    observation = ObservationFactory(survey=survey)
    photos = [photo_of(survey, observation=observation, perceptual_hash=different_hash(n)) for n in range(6)]
    together = threading.Barrier(len(photos))

    def queue(photo: Photo) -> None:
        try:
            together.wait()
            enqueue_photos([photo.pk])
        finally:
            connection.close()

    threads = [threading.Thread(target=queue, args=(photo,)) for photo in photos]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(groups(photos))) == 1
    assert GroupKey.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_groups_are_decided_within_a_transaction_only() -> None:
    from apps.annotation.services.groups import GroupBook

    with pytest.raises(transaction.TransactionManagementError):
        GroupBook(policy_of(SurveyFactory()))


@pytest.mark.django_db
def test_near_duplicates_found_by_the_database_are_those_of_the_formula() -> None:
    survey = survey_with(duplicate_distance=10)
    dice = random.Random(3)
    centre = dice.getrandbits(64)
    hashes = []
    for _ in range(60):
        value = centre
        for bit in dice.sample(range(64), dice.randint(0, 20)):
            value ^= 1 << bit
        hashes.append(value - (1 << 64) if value >> 63 else value)
    photos = [photo_of(survey, perceptual_hash=value) for value in hashes]
    enqueue_photos([photo.pk for photo in photos])
    tasks = dict(AnnotationTask.objects.values_list("photo", "pk"))
    duplicates = Duplicates(policy_of(survey))
    for photo in photos[:10]:
        expected = {
            tasks[other.pk]
            for other in photos
            if hamming(photo.perceptual_hash or 0, other.perceptual_hash or 0) <= 10
        }
        assert {task for task, _group in duplicates.of(photo.perceptual_hash)} == expected


LOOKS = [different_hash(n) for n in range(4)]


@pytest.mark.slow
class TestSplitsHold(TestCase):
    """Photos of few observations, days and looks arrive in any order, in batches of any size, over many rounds."""

    photo = st.tuples(
        st.integers(0, 5),  # observation
        st.sampled_from(["", "Leica", "Nikon"]),
        st.integers(0, 2),  # day
        st.integers(0, 3),  # look
        st.lists(st.integers(0, 63), max_size=5, unique=True),  # bits that differ from it
        st.booleans(),  # of an import
    )

    @settings(max_examples=examples(40), deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        rounds=st.lists(st.lists(photo, min_size=1, max_size=5), min_size=1, max_size=6),
        seed=st.integers(0, 2**62),
        distance=st.integers(0, 8),
    )
    def test_nothing_that_belongs_together_lies_in_two_splits(
        self, rounds: list[list[tuple[int, str, int, int, list[int], bool]]], seed: int, distance: int
    ) -> None:
        survey = survey_with(
            seed=seed, control_fraction=0.3, validation_share=0.3, duplicate_distance=distance
        )
        person = UserFactory()
        observations = [
            ObservationFactory(survey=survey, contributor=person, observed_at=DAY + timedelta(days=n % 3))
            for n in range(6)
        ]
        import_box = ObservationFactory(survey=survey, contributor=person)
        decided: dict[int, tuple[object, ...]] = {}
        for arriving in rounds:
            batch = {True: [], False: []}
            for observation, camera, _day, look, bits, imported in arriving:
                value = LOOKS[look]
                for bit in bits:
                    value ^= 1 << bit if bit < 63 else -(1 << 63)
                home = import_box if imported else observations[observation]
                photo = photo_of(survey, observation=home, camera=camera, perceptual_hash=value)
                batch[imported].append(photo.pk)
            for imported, photos in batch.items():
                enqueue_photos(photos, imported=imported)
            now = {
                task.pk: (
                    task.group_id,
                    task.arm,
                    task.draw,
                    task.group and (task.group.split, task.group.arm),
                )
                for task in AnnotationTask.objects.filter(survey=survey).select_related("group")
            }
            assert decided.items() <= now.items(), "what was decided has changed"
            decided = now
        self.check(survey, distance)

    def check(self, survey: Survey, distance: int) -> None:
        tasks = list(
            AnnotationTask.objects.filter(survey=survey, group__isnull=False).select_related(
                "group", "photo__observation"
            )
        )
        by_key = defaultdict(set)
        for task in tasks:
            assert task.group is not None
            for key in keys_of(task.photo, imported=task.arm == "imported"):
                by_key[key].add(task.group.split)
            if task.arm != "imported":
                assert (task.arm == "control") == (task.group.split == "test")
        assert all(len(splits) == 1 for splits in by_key.values())
        for one, other in combinations(tasks, 2):
            looks = one.photo.perceptual_hash, other.photo.perceptual_hash
            if is_telling(looks[0]) and is_telling(looks[1]) and hamming(*looks) <= distance:
                assert one.group.split == other.group.split
        for group in PhotoGroup.objects.filter(survey=survey).exclude(arm="imported"):
            assert (group.arm == "control") == (group.split == "test")

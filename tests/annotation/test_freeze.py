"""Freezing a survey: what is in the dataset, what is not, and in which order the labels stand."""

import pytest
from django.core.management import CommandError, call_command

from apps.annotation.models import AnnotationTask, DatasetFreeze
from apps.annotation.services.datasets import NothingAcceptedError, freeze_dataset, label_list, request_freeze
from apps.annotation.tasks.datasets import freeze_waiting, sweep_datasets
from apps.observations.services.deletion import delete_photo
from apps.training.services.datasets import read_manifest
from tests.annotation.factories import (
    AnnotatedBoxFactory,
    AnnotationFactory,
    PhotoGroupFactory,
    TaskFactory,
)
from tests.factories import LabelFactory, ModelVersionFactory, PhotoFactory, SurveyFactory, UserFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def survey():
    return SurveyFactory(slug="springtails")


def answered(survey, *, boxes=(), split="train", visibility="public", arm="active", **fields):
    """A photo whose answer counts; `boxes` are the labels of its boxes."""
    group = PhotoGroupFactory(survey=survey, arm="control" if split == "test" else arm, split=split)
    task = TaskFactory(
        photo=PhotoFactory(observation__survey=survey, observation__visibility=visibility),
        group=group,
        arm=group.arm,
        **fields,
    )
    answer = AnnotationFactory(task=task, is_empty=not boxes, box_count=len(boxes))
    for number, label in enumerate(boxes, start=1):
        AnnotatedBoxFactory(annotation=answer, number=number, label=label, x_min=float(number))
    accept(task, answer)
    return task


def accept(task, answer):
    AnnotationTask.objects.filter(pk=task.pk).update(
        state="done", accepted=answer, accepted_at="2026-11-01T00:00Z"
    )
    task.refresh_from_db()


def test_the_accepted_answers_are_frozen_with_their_boxes_and_empty_photos(survey):
    cer, lep = LabelFactory(survey=survey, code="CER"), LabelFactory(survey=survey, code="LEP")
    animals = answered(survey, boxes=[lep, cer])
    nothing = answered(survey, split="test")
    dataset = freeze_dataset(survey)
    items = {item.photo: item for item in read_manifest(dataset).items}
    assert set(items) == {str(animals.photo.public_id), str(nothing.photo.public_id)}
    found = items[str(animals.photo.public_id)]
    assert [(box.label, box.x_min) for box in found.boxes] == [("LEP", 1.0), ("CER", 2.0)]
    assert found.annotation == str(animals.accepted.public_id)
    assert (found.file, found.file_sha256) == (animals.photo.original.name, animals.photo.sha256)
    assert found.attribution == animals.photo.contributor.display_name
    assert items[str(nothing.photo.public_id)].boxes == ()
    assert items[str(nothing.photo.public_id)].split == "test"
    assert dataset.registered_model == survey.registered_model


def test_what_does_not_count_is_left_out(survey):
    kept = answered(survey)
    answered(survey, visibility="private")
    answered(survey, visibility="hidden", arm="imported")
    answered(survey).group  # noqa: B018
    AnnotationTask.objects.exclude(pk=kept.pk).filter(photo__observation__visibility="public").update(
        group=None
    )
    TaskFactory(photo__observation__survey=survey)  # waits
    answered(SurveyFactory())  # of another survey
    imported = answered(survey, visibility="private", arm="imported")
    photos = {item.photo for item in read_manifest(freeze_dataset(survey)).items}
    assert photos == {str(kept.photo.public_id), str(imported.photo.public_id)}


def test_nothing_new_gives_the_same_dataset_and_a_correction_another(survey):
    task = answered(survey)
    first = freeze_dataset(survey)
    assert freeze_dataset(survey) == first
    accept(task, AnnotationFactory(task=task))
    second = freeze_dataset(survey)
    assert second.number == 2
    assert read_manifest(first).items[0].annotation != read_manifest(second).items[0].annotation


def test_labels_keep_their_places_for_ever(survey):
    cer, lep = LabelFactory(survey=survey, code="CER"), LabelFactory(survey=survey, code="LEP", position=5)
    ModelVersionFactory(registered_model=survey.registered_model, labels=["LEP", "CER"])
    answered(survey, boxes=[cer])
    assert freeze_dataset(survey).labels == ["LEP", "CER"]
    LabelFactory(survey=survey, code="AAA", position=0)
    LabelFactory(survey=survey, code="OLD", is_active=False)
    lep.is_active = False
    lep.save()
    ModelVersionFactory(registered_model=survey.registered_model, labels=["AAA", "CER"], stage="candidate")
    assert label_list(survey) == ["LEP", "CER", "AAA"]
    assert freeze_dataset(survey).labels == ["LEP", "CER", "AAA"]


def test_a_survey_without_an_answer_cannot_be_frozen(survey):
    TaskFactory(photo__observation__survey=survey)
    with pytest.raises(NothingAcceptedError):
        freeze_dataset(survey)
    with pytest.raises(CommandError, match="accepted answer"):
        call_command("freeze_dataset", "springtails")
    with pytest.raises(CommandError, match="There are: springtails"):
        call_command("freeze_dataset", "bees")


def test_freezing_takes_one_query_however_many_photos(survey, django_assert_max_num_queries):
    label = LabelFactory(survey=survey)
    for _number in range(5):
        answered(survey, boxes=[label] * 3)
    with django_assert_max_num_queries(16):
        freeze_dataset(survey)


def test_a_curators_wish_is_done_by_a_worker_once(survey):
    answered(survey)
    by = UserFactory()
    freeze = request_freeze(survey=survey, by=by)
    assert request_freeze(survey=survey, by=UserFactory()) == freeze
    freeze_waiting()
    freeze_waiting()
    freeze.refresh_from_db()
    assert (freeze.status, freeze.dataset.photo_count, freeze.dataset.created_by) == ("done", 1, by)


def test_a_worker_that_died_while_freezing_is_followed_by_another(survey):
    answered(survey)
    request_freeze(survey=survey, by=None)
    DatasetFreeze.objects.all().claim(limit=1)
    DatasetFreeze.objects.update(lease_until="2020-01-01T00:00Z")
    sweep_datasets()
    freeze_waiting()
    freeze = DatasetFreeze.objects.get()
    assert (freeze.status, freeze.attempts, freeze.dataset.number) == ("done", 2, 1)


def test_a_wish_that_cannot_be_met_says_why(survey, client):
    request_freeze(survey=survey, by=None)
    freeze_waiting()
    assert DatasetFreeze.objects.get().failure_reason == "nothing_accepted"
    client.force_login(UserFactory(is_staff=True, is_superuser=True))
    page = client.get("/admin/annotation/datasetfreeze/").content.decode()
    assert "No photo of this survey has an answer that counts yet." in page


def test_a_curator_freezes_and_looks_into_the_dataset_in_the_console(
    survey, client, django_capture_on_commit_callbacks
):
    from django.contrib.auth.models import Group

    cer = LabelFactory(survey=survey, code="CER")
    task = answered(survey, boxes=[cer])
    curator = UserFactory(is_staff=True)
    curator.groups.add(Group.objects.get(name="Curators"))
    client.force_login(curator)
    assert client.post("/admin/annotation/datasetfreeze/add/", {"survey": survey.pk}).status_code == 302
    freeze_waiting()
    dataset = DatasetFreeze.objects.get().dataset
    page = client.get(f"/admin/training/dataset/{dataset.pk}/change/").content.decode()
    assert "The test split has no photos." in page
    assert dataset.digest in page
    download = client.get(f"/admin/training/dataset/{dataset.pk}/manifest/")
    assert str(task.photo.public_id) in b"".join(download.streaming_content).decode()
    assert client.get("/admin/training/dataset/").status_code == 200
    items = client.get(f"/admin/training/datasetitem/?dataset__id__exact={dataset.pk}").content.decode()
    assert str(task.photo.public_id) in items


@pytest.mark.parametrize("is_staff", [False, True])
def test_a_manifest_is_not_for_everybody(survey, client, is_staff):
    answered(survey)
    dataset = freeze_dataset(survey)
    client.force_login(UserFactory(is_staff=is_staff))
    assert client.get(f"/admin/training/dataset/{dataset.pk}/manifest/").status_code in (302, 403)


def test_a_dataset_says_which_of_its_photos_were_deleted_since(survey, client):
    gone, kept = answered(survey, boxes=[LabelFactory(survey=survey)]), answered(survey)
    dataset = freeze_dataset(survey)
    delete_photo(photo=gone.photo)
    withdrawn = dataset.items.filter(is_withdrawn=True).values_list("photo", flat=True)
    assert list(withdrawn) == [gone.photo.public_id]
    assert dataset.items.get(photo=kept.photo.public_id).is_withdrawn is False
    client.force_login(UserFactory(is_staff=True, is_superuser=True))
    page = client.get(f"/admin/training/dataset/{dataset.pk}/change/").content.decode()
    assert "Photos deleted since: 1." in page
    assert str(gone.photo.public_id) in {item.photo for item in read_manifest(dataset).items}

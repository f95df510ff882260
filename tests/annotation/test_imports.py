"""Importing labelled photos: all or nothing, each picture once, whatever dies on the way."""

import io
from unittest import mock

import pytest
from django.core.files.base import ContentFile
from django.core.files.uploadedfile import SimpleUploadedFile
from PIL import Image

from apps.annotation.models import AnnotatedBox, Annotation, AnnotationTask, DatasetImport
from apps.annotation.services import imports
from apps.annotation.services.datasets import freeze_dataset
from apps.annotation.services.imports import request_import
from apps.annotation.tasks.datasets import import_waiting, sweep_datasets
from apps.observations.models import DiscardedFile, Label, Observation, Photo
from apps.training.formats import LabelledBox, LabelledImage, LabelledSet, read_set, write_set
from apps.training.services.exports import request_dataset_export
from apps.training.tasks.exports import pack_dataset_exports
from tests.annotation.factories import AnnotationFactory
from tests.factories import LabelFactory, SurveyFactory, UserFactory
from tests.training.formats.support import changed

pytestmark = pytest.mark.django_db
KINDS = ["yolo", "coco", "voc"]


def noise(image):
    """A picture that looks like no other, so that it is nobody's near-duplicate."""
    number = sum(image.file_name.encode())
    picture = Image.effect_noise((image.width_px, image.height_px), 80 + number % 40).convert("RGB")
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def survey():
    survey = SurveyFactory(slug="springtails")
    LabelFactory(survey=survey, code="CER", scientific_name="Ceratophysella sp.")
    LabelFactory(survey=survey, code="LEP", scientific_name="Lepidocyrtus sp.")
    return survey


@pytest.fixture
def curator():
    return UserFactory(display_name="Curator")


def some_set(**fields):
    boxes = (LabelledBox(0, 0, 64, 48, 1), LabelledBox(1.5, 2.25, 30.125, 20, 0))
    values = {
        "labels": ("LEP", "CER"),
        "images": (
            LabelledImage("a.png", 64, 48, boxes, "train"),
            LabelledImage("b.png", 50, 40, (), "validation"),
            LabelledImage("c.png", 40, 60, boxes[1:], "test"),
        ),
    }
    return LabelledSet(**values | fields)


def archive(labelled=None, kind="yolo"):
    pictures = {}
    out = io.BytesIO()
    write_set(labelled or some_set(), kind, out, lambda image: pictures.setdefault(image.path, noise(image)))
    return out.getvalue()


def requested(survey, by, content, kind="yolo", **options):
    values = {"licence": "CC-BY-4.0", "visibility": "public"} | options
    return request_import(
        survey=survey, by=by, file=ContentFile(content), name="set.zip", kind=kind, **values
    )


def imported(*args, **options):
    row = requested(*args, **options)
    import_waiting()
    row.refresh_from_db()
    return row


def nothing_was_written():
    return not (Photo.objects.exists() or Observation.objects.exists() or AnnotationTask.objects.exists())


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_and_answers_are_taken_in(survey, curator, kind):
    row = imported(survey, curator, archive(kind=kind), kind)
    assert (row.status, row.failure_reason, row.next_picture, row.total, row.duplicates) == (
        "done", "", 3, 3, 0,
    )  # fmt: skip
    assert row.observation.contributor == curator
    photos = {photo.name: photo for photo in Photo.objects.filter(observation=row.observation)}
    assert sorted(photos) == ["a.png", "b.png", "c.png"]
    task = photos["a.png"].annotation_task
    assert (task.state, task.arm, task.accepted.origin, task.accepted.author) == (
        "done",
        "imported",
        "import",
        None,
    )
    boxes = task.accepted.boxes.order_by("number")
    assert [(box.label.code, box.x_min, box.x_max) for box in boxes] == [("CER", 0, 64), ("LEP", 1.5, 30.125)]
    assert photos["b.png"].annotation_task.accepted.is_empty


@pytest.mark.parametrize("kind", KINDS)
def test_importing_again_adds_nothing(survey, curator, kind):
    content = archive(kind=kind)
    imported(survey, curator, content, kind)
    before = (Photo.objects.count(), Annotation.objects.count(), AnnotatedBox.objects.count())
    again = imported(survey, curator, content, kind)
    assert (again.status, again.duplicates) == ("done", 3)
    assert (Photo.objects.count(), Annotation.objects.count(), AnnotatedBox.objects.count()) == before


def test_what_an_expert_said_weighs_more_than_a_file(survey, curator):
    content = archive()
    imported(survey, curator, content)
    task = AnnotationTask.objects.get(photo__name="a.png")
    answer = AnnotationFactory(task=task)
    AnnotationTask.objects.filter(pk=task.pk).update(accepted=answer)
    imported(survey, curator, content)
    task.refresh_from_db()
    assert task.accepted == answer


@pytest.mark.parametrize("kind", KINDS)
def test_a_frozen_import_is_exported_as_it_came(survey, curator, kind):
    imported(survey, curator, archive(kind=kind), kind)
    dataset = freeze_dataset(survey)
    export = request_dataset_export(dataset=dataset, kind=kind)
    pack_dataset_exports()
    export.refresh_from_db()
    found = read_set(io.BytesIO(export.file.read()), kind).labelled
    sent = some_set()
    boxes = {
        tuple((found.labels[b.label], b.x_min, b.y_min, b.x_max, b.y_max) for b in i.boxes)
        for i in found.images
    }
    assert boxes == {
        tuple((sent.labels[b.label], b.x_min, b.y_min, b.x_max, b.y_max) for b in i.boxes)
        for i in sent.images
    }


def test_anything_wrong_and_nothing_is_written(survey, curator):
    content = changed(archive(), labels__train__a_txt="0 0.5 0.5 2 1\n9 0.5 0.5 0.1 0.1\n").getvalue()
    row = imported(survey, curator, content)
    assert (row.status, row.failure_reason) == ("failed", "has_problems")
    assert [(p["file"], p["field"], p["row"]) for p in row.problems][-1] == ("labels/train/a.txt", "class", 2)
    assert nothing_was_written()
    assert DiscardedFile.objects.exists()


def test_a_picture_that_is_cut_off_refuses_all(survey, curator):
    whole = noise(LabelledImage("c.png", 40, 60))
    row = imported(
        survey, curator, changed(archive(), images__test__c_png=whole[: len(whole) // 2]).getvalue()
    )
    assert [(p["code"], p["file"]) for p in row.problems] == [("truncated", "images/test/c.png")]
    assert nothing_was_written()


def test_the_same_picture_under_two_names_is_refused(survey, curator):
    whole = noise(LabelledImage("a.png", 64, 48))
    labelled = some_set(images=(LabelledImage("a.png", 64, 48), LabelledImage("b.png", 64, 48)))
    content = changed(
        archive(labelled), images__default__a_png=whole, images__default__b_png=whole
    ).getvalue()
    assert [problem["code"] for problem in imported(survey, curator, content).problems] == ["same_picture"]


def test_unknown_labels_are_refused_or_made(survey, curator):
    labelled = some_set(labels=("Folsomia candida", "lepidocyrtus SP."))
    content = archive(labelled)
    row = imported(survey, curator, content)
    assert [(p["code"], p["params"]) for p in row.problems] == [
        ("unknown_label", {"value": "Folsomia candida"})
    ]
    assert nothing_was_written()
    row = imported(survey, curator, content, makes_labels=True)
    assert row.status == "done"
    made = Label.objects.get(code="folsomia-candida")
    assert (made.scientific_name, made.rank) == ("Folsomia candida", "other")
    codes = set(AnnotatedBox.objects.values_list("label__code", flat=True))
    assert codes == {"folsomia-candida", "LEP"}
    assert Label.objects.filter(survey=survey).count() == 3


def test_licences_and_authors_in_the_archive_are_kept(survey, curator):
    images = tuple(
        LabelledImage(f"{n}.png", 40 + n, 30, (), None, licence, author)
        for n, (licence, author) in enumerate([("CC0-1.0", "Ada"), ("CC-BY-NC-4.0", "Bo"), ("", "")])
    )
    imported(survey, curator, archive(some_set(images=images)))
    rows = Photo.objects.order_by("name").values_list("observation__licence", "observation__comment")
    assert [licence for licence, _comment in rows] == ["CC0-1.0", "CC-BY-NC-4.0", "CC-BY-4.0"]
    assert "Ada" in rows[0][1]
    row = imported(survey, curator, archive(some_set(images=(LabelledImage("z.png", 9, 9, licence="MIT"),))))
    assert [problem["code"] for problem in row.problems] == ["bad_licence"]


class _KilledError(BaseException):
    pass


@pytest.mark.parametrize(
    "place", ["_wrong_picture", "_begin", "_receive", "enqueue_photos", "_answer", "_advance"]
)
@pytest.mark.parametrize("when", [0, 2])
@pytest.mark.parametrize("is_after", [False, True])
def test_a_worker_that_dies_anywhere_leaves_nothing_double(survey, curator, place, when, is_after):
    row = requested(survey, curator, archive())
    real, calls = getattr(imports, place), []

    def dying(*args, **options):
        calls.append(1)
        if len(calls) == when + 1 and not is_after:
            raise _KilledError
        found = real(*args, **options)
        if len(calls) == when + 1:
            raise _KilledError
        return found

    with mock.patch.object(imports, place, dying):
        try:
            import_waiting()
        except _KilledError:
            DatasetImport.objects.update(lease_until="2020-01-01T00:00Z")
            sweep_datasets()
            import_waiting()
    row.refresh_from_db()
    assert (row.status, row.problems, row.duplicates) == ("done", [], 0)
    assert Observation.objects.count() == 1
    assert Photo.objects.count() == 3
    assert Annotation.objects.count() == AnnotationTask.objects.filter(state="done").count() == 3
    assert AnnotatedBox.objects.count() == 3


def test_an_import_goes_on_where_its_time_was_up(survey, curator, monkeypatch):
    monkeypatch.setattr("apps.annotation.tasks.datasets.IMPORT_SECONDS", -1.0)
    row = requested(survey, curator, archive())
    import_waiting()
    row.refresh_from_db()
    assert (row.status, row.attempts, row.is_checked) == ("pending", 0, False)
    monkeypatch.setattr("apps.annotation.tasks.datasets.IMPORT_SECONDS", 60.0)
    import_waiting()
    row.refresh_from_db()
    assert row.status == "done"


def test_an_import_whose_observation_was_deleted_stops(survey, curator):
    row = requested(survey, curator, archive())
    real = imports._begin

    def begin(*args):
        real(*args)
        Observation.objects.all().delete()

    with mock.patch.object(imports, "_begin", begin):
        import_waiting()
    row.refresh_from_db()
    assert [problem["code"] for problem in row.problems] == ["observation_deleted"]
    assert not Photo.objects.exists()


def test_a_zip_of_an_import_that_broke_is_removed(survey, curator):
    row = requested(survey, curator, archive())
    with mock.patch.object(imports, "_begin", side_effect=ZeroDivisionError):
        for _attempt in range(3):
            import_waiting()
    row.refresh_from_db()
    assert row.status == "failed"
    sweep_datasets()
    row.refresh_from_db()
    assert not row.file


def test_a_curator_imports_in_the_console_and_reads_what_is_wrong(survey, client):
    from django.contrib.auth.models import Group

    curator = UserFactory(is_staff=True)
    curator.groups.add(Group.objects.get(name="Curators"))
    client.force_login(curator)
    assert client.get("/admin/annotation/datasetimport/add/").status_code == 200
    wrong = changed(archive(), labels__train__a_txt="9 0.5 0.5 0.1 0.1\n").getvalue()
    form = {"format": "yolo", "survey": survey.pk, "licence": "CC0-1.0", "visibility": "private"}
    address = "/admin/annotation/datasetimport/add/"
    sent = client.post(address, form | {"file": SimpleUploadedFile("set.zip", wrong)})
    assert sent.status_code == 302
    import_waiting()
    row = DatasetImport.objects.get()
    assert row.requested_by == curator
    page = client.get(f"/admin/annotation/datasetimport/{row.pk}/change/").content.decode()
    assert "labels/train/a.txt" in page
    assert "“9” is none of the classes of this set." in page
    assert "1 problem" in client.get("/admin/annotation/datasetimport/").content.decode()
    refused = client.post(address, form | {"file": SimpleUploadedFile("set.zip", b"no zip")})
    assert "not a zip archive" in refused.content.decode()
    client.post(address, form | {"file": SimpleUploadedFile("set.zip", archive())})
    import_waiting()
    assert DatasetImport.objects.latest("pk").status == "done"
    assert Observation.objects.get().visibility == "private"


@pytest.mark.parametrize("is_staff", [False, True])
def test_importing_is_not_for_everybody(client, is_staff):
    client.force_login(UserFactory(is_staff=is_staff))
    assert client.get("/admin/annotation/datasetimport/add/").status_code in (302, 403)

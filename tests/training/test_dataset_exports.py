"""Packing frozen datasets: what is in the zip, who gets it, and workers that die on the way."""

import hashlib
import io

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.utils import timezone
from PIL import Image

from apps.training.formats import read_set
from apps.training.models import DatasetExport, DatasetItem
from apps.training.services.datasets import FrozenBox, FrozenItem, create_dataset
from apps.training.services.exports import request_dataset_export
from apps.training.tasks.exports import pack_dataset_exports, sweep_dataset_exports
from tests.factories import UserFactory
from tests.training.formats.support import files

pytestmark = pytest.mark.django_db
KINDS = ["yolo", "coco", "voc", "label_studio", "csv"]


def item(number, *, split="train", boxes=(), licence="CC-BY-4.0", kind="JPEG", size=(40, 30)):
    out = io.BytesIO()
    exif = Image.Exif()
    exif[0x010E] = "taken at my secret pond"
    Image.new("RGB", size, (number, 90, 90)).save(out, kind, exif=exif)
    name = storages["default"].save(f"originals/{number}.{kind.lower()}", ContentFile(out.getvalue()))
    return FrozenItem(
        photo=f"00000000-0000-4000-8000-{number:012d}",
        annotation=f"00000000-0000-4000-9000-{number:012d}",
        split=split,
        group=str(number),
        file=name,
        file_sha256=hashlib.sha256(out.getvalue()).hexdigest(),
        width_px=size[0],
        height_px=size[1],
        licence=licence,
        attribution="Ada",
        boxes=tuple(boxes),
    )


@pytest.fixture
def dataset():
    return create_dataset(
        name="springtails",
        labels=["LEP", "CER"],
        items=[
            item(1, boxes=[FrozenBox(0.1, 0, 40.3, 30, "CER"), FrozenBox(1, 2, 3.123456789, 4, "LEP")]),
            item(2, split="validation"),
            item(3, split="test", licence="CC-BY-NC-4.0", kind="PNG"),
        ],
    )


def packed(dataset, kind="yolo", **options):
    export = request_dataset_export(dataset=dataset, kind=kind, **options)
    pack_dataset_exports()
    export.refresh_from_db()
    return export


@pytest.mark.parametrize("kind", KINDS)
def test_a_dataset_is_packed_with_pictures_without_metadata(dataset, kind):
    export = packed(dataset, kind)
    assert (export.status, export.photos_done, export.failure_reason) == ("done", 3, "")
    entries = files(export.file.read())
    assert export.size_bytes == export.file.size
    pictures = [name for name in entries if name.endswith((".jpg", ".png"))]
    assert len(pictures) == 3
    assert not any(b"secret" in content for content in entries.values())
    assert "Ada" in entries["ATTRIBUTION.md"].decode()


@pytest.mark.parametrize("kind", ["yolo", "coco", "voc"])
def test_what_was_packed_reads_back_with_splits_and_label_order(dataset, kind):
    found = read_set(io.BytesIO(packed(dataset, kind).file.read()), kind).labelled
    assert found.labels == ("LEP", "CER")
    assert [image.split for image in found.images] == ["train", "validation", "test"]
    first = found.images[0]
    assert [(box.label, box.x_min, box.x_max) for box in first.boxes] == [(1, 0.1, 40.0), (0, 1.0, 3.123457)]
    assert first.source_id == "00000000-0000-4000-8000-000000000001"


def test_photos_not_free_for_profit_can_be_left_out(dataset):
    export = packed(dataset, leaves_out_noncommercial=True)
    assert export.photos_done == 2
    assert b"-NC-" not in files(export.file.read())["LICENCES.csv"]


def test_asking_again_gives_what_is_there(dataset):
    first = request_dataset_export(dataset=dataset, kind="coco")
    assert request_dataset_export(dataset=dataset, kind="coco") == first
    pack_dataset_exports()
    assert request_dataset_export(dataset=dataset, kind="coco") == first
    assert request_dataset_export(dataset=dataset, kind="voc") != first


def test_the_same_dataset_gives_the_same_bytes(dataset):
    first = packed(dataset).file.read()
    DatasetExport.objects.all().delete()
    assert packed(dataset).file.read() == first


def test_a_deleted_photo_is_in_no_export_any_more(dataset, client):
    export = packed(dataset)
    DatasetItem.objects.filter(position=0).update(is_withdrawn=True)
    client.force_login(UserFactory(is_staff=True, is_superuser=True))
    assert client.get(f"/admin/training/datasetexport/{export.pk}/file/").status_code == 404
    assert request_dataset_export(dataset=dataset, kind="yolo") != export
    sweep_dataset_exports()
    assert not DatasetExport.objects.filter(pk=export.pk).exists()
    pack_dataset_exports()
    again = DatasetExport.objects.get()
    assert again.photos_done == 2
    sweep_dataset_exports()
    assert DatasetExport.objects.filter(pk=again.pk, status="done").exists()


def test_exports_end_after_a_month(dataset):
    export = packed(dataset)
    assert 29 <= (export.expires_at - timezone.now()).days <= 30
    DatasetExport.objects.update(expires_at="2020-01-01T00:00Z")
    sweep_dataset_exports()
    assert not DatasetExport.objects.exists()
    assert not export.file.storage.exists(export.file.name)


def test_a_worker_that_died_is_followed_by_another(dataset):
    request_dataset_export(dataset=dataset, kind="yolo")
    DatasetExport.objects.all().claim(limit=1)
    DatasetExport.objects.update(lease_until="2020-01-01T00:00Z")
    sweep_dataset_exports()
    pack_dataset_exports()
    pack_dataset_exports()
    export = DatasetExport.objects.get()
    assert (export.status, export.attempts) == ("done", 2)


def test_a_changed_original_fails_the_export_and_says_which(dataset):
    name = dataset.items.get(position=1).file
    storages["default"].delete(name)
    storages["default"].save(name, ContentFile(b"other"))
    export = packed(dataset)
    assert export.status == "failed"
    assert "00000000-0000-4000-8000-000000000002" in export.failure_reason


def test_nothing_left_is_said(dataset, client):
    DatasetItem.objects.update(is_withdrawn=True)
    assert packed(dataset).failure_reason == "nothing_left"
    client.force_login(UserFactory(is_staff=True, is_superuser=True))
    assert "No photo is left" in client.get("/admin/training/datasetexport/").content.decode()


def test_a_curator_asks_for_an_export_and_downloads_it(dataset, client):
    from django.contrib.auth.models import Group

    curator = UserFactory(is_staff=True)
    curator.groups.add(Group.objects.get(name="Curators"))
    client.force_login(curator)
    page = client.get(f"/admin/training/dataset/{dataset.pk}/change/").content.decode()
    assert f"/admin/training/datasetexport/add/?frozen={dataset.pk}" in page
    assert client.get(f"/admin/training/datasetexport/add/?frozen={dataset.pk}").status_code == 200
    sent = client.post("/admin/training/datasetexport/add/", {"frozen": dataset.pk, "format": "coco"})
    assert sent.status_code == 302
    pack_dataset_exports()
    export = DatasetExport.objects.get()
    assert export.requested_by == curator
    page = client.get("/admin/training/datasetexport/").content.decode()
    assert f"/admin/training/datasetexport/{export.pk}/file/" in page
    response = client.get(f"/admin/training/datasetexport/{export.pk}/file/")
    content = b"".join(response.streaming_content)
    assert read_set(io.BytesIO(content), "coco").labelled.labels == ("LEP", "CER")


@pytest.mark.parametrize("is_staff", [False, True])
def test_an_export_is_not_for_everybody(dataset, client, is_staff):
    export = packed(dataset)
    client.force_login(UserFactory(is_staff=is_staff))
    assert client.get(f"/admin/training/datasetexport/{export.pk}/file/").status_code in (302, 403)
    assert client.get("/admin/training/datasetexport/add/").status_code in (302, 403)


def test_a_box_outside_of_its_picture_fails_the_export_and_is_not_left_out():
    outside = item(7, boxes=[FrozenBox(50, 1, 60, 9, "CER")])
    export = packed(create_dataset(name="odd", labels=["CER"], items=[outside]))
    assert export.status == "failed"
    assert f"{outside.photo}.jpg" in export.failure_reason

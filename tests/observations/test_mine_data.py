"""Downloading all of one's data, and leaving."""

import csv
import io
import json
import zipfile
from datetime import timedelta

import pytest
from allauth.account.models import EmailAddress
from django.contrib.gis.geos import Point
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from apps.accounts.models import User
from apps.observations import tasks
from apps.observations.models import Comment, DataExport, DiscardedFile, Observation, Photo
from apps.observations.services import data_export
from apps.observations.services.intake import receive_photo
from tests.factories import (
    PASSWORD,
    CommentFactory,
    DetectionFactory,
    ModelVersionFactory,
    ObservationFactory,
    PhotoFactory,
    UserFactory,
)
from tests.support.pictures import jpeg

pytestmark = pytest.mark.django_db
PAGE = "/account/data/"
LEAVE = "/account/leave/"


@pytest.fixture
def person(client: Client) -> User:
    user = UserFactory(display_name="=Ada", language="en")
    client.force_login(user)
    return user


def packed(export: DataExport) -> zipfile.ZipFile:
    export.refresh_from_db()
    assert export.status == "done"
    return zipfile.ZipFile(io.BytesIO(export.file.read()))


def file_url(export: DataExport) -> str:
    return reverse("observations:export_file", args=[export.public_id])


# --- Download ---------------------------------------------------------------------------------------------


def test_the_zip_holds_originals_results_and_comments(client: Client, person: User) -> None:
    observation = ObservationFactory(
        contributor=person, title="Plate", location=Point(2.35, 48.85, srid=4326)
    )
    content = jpeg(seed=1)
    photo = receive_photo(observation=observation, file=io.BytesIO(content), name="../=evil.jpg").photo
    version = ModelVersionFactory()
    Photo.objects.filter(pk=photo.pk).update(model_version=version, status="done", detection_count=1)
    photo.refresh_from_db()
    DetectionFactory(photo=photo, model_version=version, number=1)
    CommentFactory(author=person, body="Mine")
    CommentFactory(body="Not mine")
    ObservationFactory(title="Someone else's")

    assert client.post(PAGE)["Location"] == PAGE
    tasks.pack_exports()

    archive = packed(DataExport.objects.get())
    assert archive.testzip() is None
    data = json.loads(archive.read("data.json"))
    assert data["account"]["email"] == person.email
    assert [row["title"] for row in data["observations"]] == ["Plate"]
    [photo_body] = data["observations"][0]["photos"]
    assert photo_body["detections"][0]["number"] == 1
    assert archive.read(photo_body["file"]) == content
    assert not any(".." in name or name.startswith("/") for name in archive.namelist())
    assert [row["body"] for row in data["comments"]] == ["Mine"]
    rows = list(csv.DictReader(io.StringIO(archive.read("detections.csv").decode("utf-8-sig"))))
    assert len(rows) == 1
    assert rows[0]["licence"] == "CC-BY-4.0"
    assert rows[0]["contributor"] == "'=Ada"


def test_several_observations_share_one_csv_header(person: User) -> None:
    for _number in range(3):
        PhotoFactory(observation=ObservationFactory(contributor=person))
    export = data_export.request_export(user=person)
    assert data_export.pack_next_export()
    lines = packed(export).read("detections.csv").decode("utf-8-sig").splitlines()
    assert len(lines) == 4
    assert sum(line.startswith("observation,") for line in lines) == 1


def test_an_account_without_anything_gets_a_zip_too(person: User) -> None:
    export = data_export.request_export(user=person)
    data_export.pack_next_export()
    assert json.loads(packed(export).read("data.json"))["observations"] == []


def test_asking_twice_packs_once_and_the_task_may_run_twice(client: Client, person: User) -> None:
    client.post(PAGE)
    client.post(PAGE)
    tasks.pack_exports()
    tasks.pack_exports()
    assert DataExport.objects.get().status == "done"


def test_the_page_tells_how_far_it_is_and_offers_the_zip(client: Client, person: User) -> None:
    assert "Pack my data" in client.get(PAGE).content.decode()
    client.post(PAGE)
    waiting = client.get(PAGE, headers={"hx-request": "true"})
    assert "every 2s" in waiting.content.decode()
    assert "HX-Refresh" not in waiting
    tasks.pack_exports()
    assert client.get(PAGE, headers={"hx-request": "true"})["HX-Refresh"] == "true"
    export = DataExport.objects.get()
    assert file_url(export) in client.get(PAGE).content.decode()
    answer = client.get(file_url(export))
    assert answer["Content-Disposition"] == 'attachment; filename="podura-data.zip"'
    assert zipfile.is_zipfile(io.BytesIO(b"".join(answer.streaming_content)))  # type: ignore[attr-defined]


def test_the_zip_is_its_owners_alone(client: Client, person: User) -> None:
    export = data_export.request_export(user=person)
    data_export.pack_next_export()
    assert Client().get(file_url(export)).status_code == 302
    assert Client().get(PAGE)["Location"].startswith(reverse("account_login"))
    client.force_login(UserFactory(is_staff=True))
    assert client.get(file_url(export)).status_code == 404


def test_the_zip_is_gone_after_a_week(client: Client, person: User) -> None:
    export = data_export.request_export(user=person)
    data_export.pack_next_export()
    DataExport.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert client.get(file_url(export)).status_code == 404
    assert "Pack my data" in client.get(PAGE).content.decode()
    assert data_export.discard_exports() == 1
    assert DiscardedFile.objects.filter(storage="default").count() == 1


def test_asking_too_often_is_answered_by_429(client: Client, person: User) -> None:
    answers = [client.post(PAGE).status_code for _time in range(11)]
    assert answers == [302] * 10 + [429]


def test_an_export_that_breaks_is_tried_again_and_then_fails_with_its_reason(
    person: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_args: object) -> None:
        raise OSError("disk full")

    export = data_export.request_export(user=person)
    monkeypatch.setattr(data_export, "_write_zip", broken)
    for _attempt in range(3):
        assert data_export.pack_next_export()
    assert not data_export.pack_next_export()
    export.refresh_from_db()
    assert (export.status, export.failure_reason) == ("failed", "OSError")


def test_a_missing_original_does_not_stop_the_rest(person: User) -> None:
    photo = PhotoFactory(observation=ObservationFactory(contributor=person))
    photo.original.storage.delete(photo.original.name)
    export = data_export.request_export(user=person)
    data_export.pack_next_export()
    assert packed(export).namelist() == ["data.json", "detections.csv", "README.txt"]


# --- Leaving ----------------------------------------------------------------------------------------------


def test_leaving_is_explained_first(client: Client, person: User) -> None:
    page = client.get(LEAVE)
    assert page.status_code == 200
    assert reverse("observations:export") in page.content.decode()


def test_leaving_needs_the_password(client: Client, person: User) -> None:
    for password in ("", "wrong", "\0"):
        answer = client.post(LEAVE, {"password": password})
        assert answer.status_code == 422
        assert answer.context["form"].errors
    assert User.objects.get(pk=person.pk).is_active


def test_guessing_the_password_is_limited(client: Client, person: User) -> None:
    answers = [client.post(LEAVE, {"password": "wrong"}).status_code for _time in range(11)]
    assert answers[-1] == 429


def test_leaving_hides_everything_at_once_and_erases_it_soon(client: Client, person: User) -> None:
    EmailAddress.objects.create(user=person, email=person.email, primary=True, verified=True)
    observation = ObservationFactory(contributor=person)
    PhotoFactory(observation=observation)
    theirs = PhotoFactory()
    CommentFactory(author=person, observation=theirs.observation)
    export = data_export.request_export(user=person)
    data_export.pack_next_export()

    assert client.post(LEAVE, {"password": PASSWORD})["Location"] == reverse("home")
    assert client.get("/mine/").status_code == 302
    page = reverse("observations:observation", args=[observation.public_id])
    assert client.get(page).status_code == 404
    assert not Client().login(email=person.email, password=PASSWORD)

    tasks.erase_closed()
    tasks.erase_closed()
    assert not User.objects.filter(pk=person.pk).exists()
    assert list(Observation.objects.all()) == [theirs.observation]
    assert not Comment.objects.exists()
    assert not DataExport.objects.filter(pk=export.pk).exists()
    assert DiscardedFile.objects.count() == 4


def test_tokens_end_with_the_account(client: Client, person: User) -> None:
    EmailAddress.objects.create(user=person, email=person.email, primary=True, verified=True)
    credentials = {"email": person.email, "password": PASSWORD}
    tokens = Client().post("/api/v1/token/", credentials, content_type="application/json").json()
    api = Client(headers={"authorization": f"Bearer {tokens['access']}"})
    assert api.get("/api/v1/observations/").status_code == 200
    client.post(LEAVE, {"password": PASSWORD})
    assert api.get("/api/v1/observations/").status_code == 401
    refreshed = Client().post(
        "/api/v1/token/refresh/", {"refresh": tokens["refresh"]}, content_type="application/json"
    )
    assert refreshed.status_code == 401


def test_the_address_is_free_again(client: Client, person: User) -> None:
    client.post(LEAVE, {"password": PASSWORD})
    UserFactory(email=person.email)


def test_leaving_needs_a_person_and_a_token(client: Client, person: User) -> None:
    assert Client().get(LEAVE)["Location"].startswith(reverse("account_login"))
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(person)
    assert strict.post(LEAVE, {"password": PASSWORD}).status_code == 403
    assert User.objects.get(pk=person.pk).is_active

import hashlib
import uuid

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse

from apps.accounts.models import User
from apps.observations.models import ArchiveUpload, Observation, Photo, RefusedFile, Survey
from tests.factories import ObservationFactory, SurveyFactory, UserFactory
from tests.support.pictures import jpeg, zip_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def survey() -> Survey:
    return SurveyFactory(slug="springtails")


@pytest.fixture
def contributor(client: Client) -> User:
    user = UserFactory()
    client.force_login(user)
    return user


def upload(content: bytes, name: str = "plate.jpg") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, content, "image/jpeg")


def details(chosen: Survey, **changes: object) -> dict[str, object]:
    return {
        "survey": chosen.slug,
        "batch": str(uuid.uuid4()),
        "licence": "CC-BY-4.0",
        "visibility": "public",
    } | changes


def begin(client: Client, survey: Survey, **changes: object) -> uuid.UUID:
    batch = uuid.uuid4()
    answer = client.post(reverse("observations:send_begin", args=[batch]), details(survey, **changes))
    assert answer.status_code == 201, answer.content
    return batch


def send_file(client: Client, batch: uuid.UUID, file: SimpleUploadedFile, **more: str) -> HttpResponse:
    return client.post(reverse("observations:send_file", args=[batch]), {"file": file, **more})


# --- Without JavaScript -----------------------------------------------------------------------------------


def test_a_stranger_is_told_why_an_account_is_needed_and_comes_back(client: Client, survey: Survey) -> None:
    answer = client.get(reverse("observations:send") + "?survey=springtails")
    assert answer.status_code == 200
    assert b"next=/send/%3Fsurvey%3Dspringtails" in answer.content


def test_the_form_sends_several_photos_as_one_observation(
    client: Client, survey: Survey, contributor: User
) -> None:
    data = details(survey, title="Moss", latitude="48.5", longitude="2.25", observed_on="2026-05-12")
    answer = client.post(
        reverse("observations:send"), data | {"files": [upload(jpeg(seed=1)), upload(jpeg(seed=2))]}
    )
    observation = Observation.objects.get()
    assert answer.status_code == 302
    assert answer["Location"] == reverse("observations:observation", args=[observation.public_id])
    assert observation.photos.count() == 2
    assert observation.contributor == contributor
    assert (observation.title, observation.location.x, observation.location.y) == ("Moss", 2.25, 48.5)
    assert observation.observed_at is not None


def test_the_form_posted_twice_creates_nothing_twice(
    client: Client, survey: Survey, contributor: User
) -> None:
    data = details(survey)
    for _time in range(2):
        client.post(
            reverse("observations:send"), data | {"files": [upload(jpeg(seed=1)), upload(jpeg(seed=2))]}
        )
    assert (Observation.objects.count(), Photo.objects.count()) == (1, 2)


def test_photos_can_be_one_observation_each(client: Client, survey: Survey, contributor: User) -> None:
    data = details(survey, separate="1")
    for _time in range(2):
        answer = client.post(
            reverse("observations:send"), data | {"files": [upload(jpeg(seed=1)), upload(jpeg(seed=2))]}
        )
    assert answer["Location"] == reverse("observations:mine")
    assert sorted(Observation.objects.values_list("photos__name", flat=True)) == ["plate.jpg", "plate.jpg"]


def test_refused_files_are_named_and_the_rest_goes_on(
    client: Client, survey: Survey, contributor: User
) -> None:
    files = [upload(jpeg(seed=1)), upload(b"<svg/>", "drawing.jpg"), upload(jpeg(seed=2)[:400], "cut.jpg")]
    client.post(reverse("observations:send"), details(survey) | {"files": files})
    observation = Observation.objects.get()
    assert observation.photos.count() == 1
    assert {(r.name, r.code) for r in observation.refused_files.all()} == {
        ("drawing.jpg", "unsupported_format"),
        ("cut.jpg", "truncated"),
    }


def test_nothing_is_stored_when_no_file_can_be_taken(
    client: Client, survey: Survey, contributor: User
) -> None:
    answer = client.post(
        reverse("observations:send"), details(survey) | {"files": [upload(b"no picture", "x.jpg")]}
    )
    assert answer.status_code == 422
    assert b"x.jpg" in answer.content
    assert not Observation.objects.exists()
    assert not RefusedFile.objects.exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("observed_on", "2999-01-01"),
        ("observed_on", "1999-12-31"),
        ("observed_on", "0000-00-00"),
        ("latitude", "91"),
        ("latitude", "nan"),
        ("longitude", "inf"),
        ("longitude", "12"),
        ("licence", "mine"),
        ("visibility", "hidden"),
        ("survey", "elsewhere"),
        ("batch", "1"),
        ("title", "a\0b"),
        ("comment", "x" * 4001),
        ("observed_time", "12:00"),
    ],
)
def test_bad_details_are_refused_beside_their_field(
    client: Client, survey: Survey, contributor: User, field: str, value: str
) -> None:
    data = details(survey, **{field: value}) | {"files": [upload(jpeg())]}
    answer = client.post(reverse("observations:send"), data)
    assert answer.status_code == 422
    assert answer.context["form"].errors
    assert not Observation.objects.exists()


def test_a_survey_that_is_closed_takes_nothing(client: Client, survey: Survey, contributor: User) -> None:
    Survey.objects.update(is_open=False)
    assert client.get(reverse("observations:send")).status_code == 200
    assert (
        client.post(reverse("observations:send"), details(survey) | {"files": [upload(jpeg())]}).status_code
        == 422
    )


# --- With JavaScript --------------------------------------------------------------------------------------


def test_files_come_one_by_one_into_their_batch(client: Client, survey: Survey, contributor: User) -> None:
    batch = begin(client, survey)
    assert send_file(client, batch, upload(jpeg(seed=1))).status_code == 201
    again = send_file(client, batch, upload(jpeg(seed=1)))
    assert (again.status_code, again.json()["is_here"]) == (200, True)
    answer = client.post(reverse("observations:send_end", args=[batch])).json()
    assert answer == {"url": reverse("observations:observation", args=[batch]), "is_empty": False}
    assert Photo.objects.count() == 1


def test_beginning_twice_meets_the_same_observation(
    client: Client, survey: Survey, contributor: User
) -> None:
    batch = begin(client, survey)
    assert client.post(reverse("observations:send_begin", args=[batch]), details(survey)).status_code == 201
    assert Observation.objects.get().public_id == batch


def test_a_photo_sent_earlier_is_recognised_with_its_day(
    client: Client, survey: Survey, contributor: User
) -> None:
    send_file(client, begin(client, survey), upload(jpeg(seed=1)))
    batch = begin(client, survey)
    digest = hashlib.sha256(jpeg(seed=1)).hexdigest()
    url = reverse("observations:send_known", args=[batch])
    known = client.post(url, {"sha256": [digest, "0" * 64]}, "application/json").json()["known"]
    assert set(known) == {digest}
    assert known[digest]["is_here"] is False
    assert known[digest]["note"].startswith("You sent this on")
    answer = send_file(client, batch, upload(jpeg(seed=1)))
    assert (answer.status_code, answer.json()["state"]) == (200, "known")
    assert client.post(reverse("observations:send_end", args=[batch])).json()["is_empty"] is True
    assert Observation.objects.count() == 1


@pytest.mark.parametrize("body", ["[", "{}", '{"sha256": "x"}', '{"sha256": ["nothex"]}', "[" * 100_000])
def test_malformed_questions_are_refused(
    client: Client, survey: Survey, contributor: User, body: str
) -> None:
    url = reverse("observations:send_known", args=[begin(client, survey)])
    assert client.post(url, body, "application/json").status_code == 400


def test_a_refused_file_says_why_in_the_language_of_the_page(
    client: Client, survey: Survey, contributor: User
) -> None:
    batch = begin(client, survey)
    answer = send_file(client, batch, upload(b"", "empty.jpg"), remember="1")
    assert answer.status_code == 422
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.json()["code"] == "empty"
    assert RefusedFile.objects.get().name == "empty.jpg"
    assert client.post(reverse("observations:send_file", args=[batch])).status_code == 400


def test_a_zip_is_queued(client: Client, survey: Survey, contributor: User) -> None:
    batch = begin(client, survey)
    answer = send_file(client, batch, upload(zip_of(**{"a.jpg": jpeg()}), "plates.zip"))
    assert answer.status_code == 201
    assert ArchiveUpload.objects.get().entries == 1
    assert client.post(reverse("observations:send_end", args=[batch])).json()["is_empty"] is False


def test_someone_elses_batch_is_not_there(client: Client, survey: Survey, contributor: User) -> None:
    theirs = ObservationFactory(survey=survey).public_id
    assert client.post(reverse("observations:send_begin", args=[theirs]), details(survey)).status_code == 404
    assert send_file(client, theirs, upload(jpeg())).status_code == 404
    url = reverse("observations:send_known", args=[theirs])
    assert client.post(url, {"sha256": []}, "application/json").status_code == 404
    client.post(reverse("observations:send_end", args=[theirs]))
    assert Observation.objects.filter(public_id=theirs).exists()


def test_strangers_send_nothing(client: Client, survey: Survey) -> None:
    batch = uuid.uuid4()
    assert client.post(reverse("observations:send_begin", args=[batch]), details(survey)).status_code == 302
    assert (
        client.post(reverse("observations:send"), details(survey) | {"files": [upload(jpeg())]}).status_code
        == 200
    )
    assert not Observation.objects.exists()


def test_very_many_files_are_asked_to_come_later(
    client: Client, survey: Survey, contributor: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apps.observations.views.send.UploadThrottle.rate", "1/hour", raising=False)
    batch = begin(client, survey)
    send_file(client, batch, upload(jpeg(seed=1)))
    answer = send_file(client, batch, upload(jpeg(seed=2)))
    assert answer.status_code == 429
    assert int(answer["Retry-After"]) > 0


def test_what_is_sent_twice_after_a_lost_answer_is_there_once(
    client: Client, survey: Survey, contributor: User
) -> None:
    batch = begin(client, survey)
    for expected in (201, 200):
        assert send_file(client, batch, upload(zip_of(a=jpeg()), "plates.zip")).status_code == expected
    for _time in range(2):
        assert send_file(client, batch, upload(b"text", "notes.jpg"), remember="1").status_code == 422
    assert ArchiveUpload.objects.count() == 1
    assert RefusedFile.objects.count() == 1


def test_corrected_details_are_kept_when_a_batch_is_begun_again(
    client: Client, survey: Survey, contributor: User
) -> None:
    batch = begin(client, survey, title="Mos")
    client.post(reverse("observations:send_begin", args=[batch]), details(survey, title="Moss"))
    assert Observation.objects.get().title == "Moss"
    Observation.objects.update(visibility="hidden")
    client.post(reverse("observations:send_begin", args=[batch]), details(survey, title="Moss"))
    assert Observation.objects.get().visibility == "hidden"

"""POST observations/: photos in, ids out; what cannot be taken is listed, and nothing is stored by halves."""

import json
import threading

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import override_settings

from apps.observations.models import IdempotencyKey, Observation, Photo, RefusedFile
from tests.api.conftest import Caller, assert_problem
from tests.support.pictures import jpeg, png, refused_pictures, taken_pictures, zip_of

PATH = "/api/v1/observations/"


def file(content: bytes, name: str = "plate.jpg") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, content, content_type="application/octet-stream")


def send(caller, *contents: bytes, key: str | None = None, **fields):
    headers = {"HTTP_IDEMPOTENCY_KEY": key} if key is not None else {}
    photos = [content if hasattr(content, "read") else file(content) for content in contents]
    return caller.post(PATH, {"survey": "springtails", "photos": photos, **fields}, **headers)


def nothing_stored() -> bool:
    return (
        not Observation.objects.exists() and not Photo.objects.exists() and not RefusedFile.objects.exists()
    )


def test_one_photo_becomes_an_observation_that_waits_for_its_animals(caller, survey, person):
    response = send(caller, jpeg(seed=1))
    assert response.status_code == 202, response.content
    body = response.json()
    observation = Observation.objects.get()
    assert body["id"] == str(observation.public_id)
    assert body["is_new"]
    assert body["refused"] == []
    assert [photo["status"] for photo in body["photos"]] == ["pending"]
    assert [photo["is_duplicate"] for photo in body["photos"]] == [False]
    assert observation.contributor == person
    assert response["Location"] == body["links"]["self"]
    assert caller.get(body["links"]["self"]).json()["id"] == body["id"]


def test_all_that_can_be_said_of_photos_is_kept(caller, survey):
    response = send(
        caller,
        jpeg(seed=1),
        jpeg(seed=2),
        observed_at="2026-05-12T14:30:00+02:00",
        latitude="48.8566",
        longitude="2.3522",
        title="Compost",
        comment="Under bark\r\nin the rain \U0001f327",
        licence="CC0-1.0",
        visibility="private",
    )
    assert response.status_code == 202
    observation = Observation.objects.get()
    assert observation.photos.count() == 2
    assert observation.observed_at.isoformat() == "2026-05-12T12:30:00+00:00"
    assert observation.location.coords == (2.3522, 48.8566)
    assert observation.comment == "Under bark\nin the rain \U0001f327"
    assert (observation.title, observation.licence, observation.visibility) == (
        "Compost",
        "CC0-1.0",
        "private",
    )


def test_a_time_without_offset_is_utc_whatever_the_zone_of_the_server(caller, survey):
    caller.cookies["timezone"] = "Asia/Tokyo"
    assert send(caller, jpeg(), observed_at="2026-05-12T14:30:00").status_code == 202
    assert Observation.objects.get().observed_at.isoformat() == "2026-05-12T14:30:00+00:00"


def test_a_stranger_without_token_cannot_send(anonymous, survey):
    assert_problem(send(anonymous, jpeg()), 401, "not_authenticated")
    assert nothing_stored()


def test_every_sound_picture_is_taken_whatever_its_name_says(caller, survey):
    for name, content in taken_pictures().items():
        response = send(caller, file(content, name))
        assert response.status_code == 202, (name, response.content)
    assert Photo.objects.count() == len(taken_pictures())


@pytest.mark.parametrize("name", sorted(refused_pictures()))
def test_a_hostile_file_alone_is_refused_with_its_reason_and_nothing_is_stored(caller, survey, name):
    body = assert_problem(send(caller, file(refused_pictures()[name], name)), 400, "no_photo_accepted")
    assert [error["field"] for error in body["errors"]] == ["photos.0"]
    assert [refused["name"] for refused in body["refused"]] == [name]
    assert nothing_stored()


def test_hostile_files_among_good_ones_are_listed_and_the_good_ones_go_on(caller, survey):
    hostile = refused_pictures()
    good = [file(jpeg(seed=seed), f"good-{seed}.jpg") for seed in range(3)]
    bad = [file(content, name) for name, content in sorted(hostile.items())]
    response = send(caller, good[0], *bad[:18], good[1], *bad[18:], good[2])
    assert response.status_code == 202
    body = response.json()
    assert [photo["name"] for photo in body["photos"]] == ["good-0.jpg", "good-1.jpg", "good-2.jpg"]
    assert [photo["index"] for photo in body["photos"]] == [0, 19, len(bad) + 2]
    assert [refused["name"] for refused in body["refused"]] == sorted(hostile)
    assert all(refused["code"] and refused["detail"] for refused in body["refused"])
    assert RefusedFile.objects.count() == len(hostile)


def test_a_zip_is_refused_with_what_to_do_instead(caller, survey):
    body = assert_problem(send(caller, file(zip_of(a=jpeg()), "plates.zip")), 400)
    assert body["errors"][0]["code"] == "archive"


def test_a_photo_larger_than_allowed_is_refused_and_the_others_go_on(caller, survey, settings):
    settings.PICTURE_MAX_BYTES = 50_000
    body = send(caller, jpeg(seed=1) + b"\0" * 60_000, jpeg(seed=2)).json()
    assert [refused["code"] for refused in body["refused"]] == ["too_many_bytes"]
    assert len(body["photos"]) == 1


def test_a_photo_sent_before_is_named_with_its_first_id(caller, survey):
    first = send(caller, jpeg(seed=1)).json()
    second = send(caller, jpeg(seed=1), jpeg(seed=2)).json()
    assert [photo["is_duplicate"] for photo in second["photos"]] == [True, False]
    assert second["photos"][0]["id"] == first["photos"][0]["id"]
    assert second["photos"][0]["observation"] == first["id"]
    assert Photo.objects.count() == 2


def test_sending_only_photos_sent_before_creates_nothing(caller, survey):
    first = send(caller, jpeg(seed=1)).json()
    response = send(caller, jpeg(seed=1))
    assert response.status_code == 202
    assert response.json()["id"] == first["id"]
    assert not response.json()["is_new"]
    assert Observation.objects.count() == Photo.objects.count() == 1


def test_the_same_photo_twice_in_one_request_is_stored_once(caller, survey):
    body = send(caller, jpeg(seed=1), jpeg(seed=1)).json()
    assert [photo["is_duplicate"] for photo in body["photos"]] == [False, True]
    assert Photo.objects.count() == 1


def test_two_people_may_send_the_same_photo(caller, stranger, survey):
    bodies = [send(who, jpeg(seed=1)).json() for who in (caller, stranger)]
    assert bodies[0]["photos"][0]["id"] != bodies[1]["photos"][0]["id"]


BAD_FIELDS = [
    ({"survey": "nothing"}, "survey", "unknown_survey"),
    ({"survey": ""}, "survey", "blank"),
    ({"survey": "x" * 100}, "survey", None),
    ({"survey": "spring\0tails"}, "survey", None),
    ({"observed_at": "yesterday"}, "observed_at", "invalid"),
    ({"observed_at": "2026-02-30T10:00:00Z"}, "observed_at", "invalid"),
    ({"observed_at": "0000-00-00T00:00:00Z"}, "observed_at", "invalid"),
    ({"observed_at": "0001-01-01T00:00:00+23:59"}, "observed_at", None),
    ({"observed_at": "9999-12-31T23:59:59-23:59"}, "observed_at", None),
    ({"observed_at": "1999-12-31T23:59:59Z"}, "observed_at", "too_early"),
    ({"observed_at": "2999-01-01T00:00:00Z"}, "observed_at", "too_late"),
    ({"observed_at": "1e400"}, "observed_at", "invalid"),
    ({"observed_at": "2026-05-12T14:30:00\0"}, "observed_at", "invalid"),
    ({"observed_at": "٢٠٢٦-05-12T14:30:00"}, "observed_at", "invalid"),
    ({"observed_at": "2" * 100_000}, "observed_at", "invalid"),
    ({"latitude": "48.8"}, "longitude", "required"),
    ({"longitude": "2.3"}, "latitude", "required"),
    ({"latitude": "91", "longitude": "0"}, "latitude", "max_value"),
    ({"latitude": "-90.0001", "longitude": "0"}, "latitude", "min_value"),
    ({"latitude": "0", "longitude": "181"}, "longitude", "max_value"),
    ({"latitude": "NaN", "longitude": "0"}, "latitude", "invalid"),
    ({"latitude": "Infinity", "longitude": "0"}, "latitude", "invalid"),
    ({"latitude": "-inf", "longitude": "nan"}, "latitude", "invalid"),
    ({"latitude": "1e999", "longitude": "0"}, "latitude", "invalid"),
    ({"latitude": "48,85", "longitude": "2,35"}, "latitude", "invalid"),
    ({"latitude": "4_8", "longitude": "0"}, "latitude", "invalid"),
    ({"latitude": "٤٨", "longitude": "0"}, "latitude", "invalid"),
    ({"latitude": "0x10", "longitude": "0"}, "latitude", "invalid"),
    ({"latitude": "1" * 10_000, "longitude": "0"}, "latitude", "invalid"),
    ({"latitude": "48°51'N", "longitude": "2°21'E"}, "latitude", "invalid"),
    ({"latitude": "{}", "longitude": "[]"}, "latitude", "invalid"),
    ({"comment": "a\0b"}, "comment", None),
    ({"comment": "bell \a"}, "comment", "control"),
    ({"comment": "x" * 4001}, "comment", "max_length"),
    ({"title": "x" * 161}, "title", "max_length"),
    ({"title": "\x1b[31m"}, "title", "control"),
    ({"licence": "all rights reserved"}, "licence", "invalid_choice"),
    ({"licence": "CC-BY-4.0\0"}, "licence", "invalid_choice"),
    ({"visibility": "hidden"}, "visibility", "invalid_choice"),
    ({"surprise": "1"}, "surprise", "unknown_field"),
    ({"contributor": "1"}, "contributor", "unknown_field"),
    ({"id": "60579fe6-002d-483f-8a7a-a61ef409c0de"}, "id", "unknown_field"),
    ({"a\0b\x1b": "1"}, None, "unknown_field"),
    ({"survey": ["springtails", "springtails"]}, "survey", "repeated_field"),
    ({"photos": "not a file"}, None, "invalid"),
    ({"photos": ["a", "b"]}, None, "invalid"),
    ({"photos": []}, "photos", None),
    ({"survey": file(b"springtails", "survey.txt")}, "survey", None),
    ({"comment": file(jpeg(), "comment.jpg")}, "comment", None),
    ({"other": file(jpeg(), "other.jpg")}, "other", "unknown_field"),
]


@pytest.mark.parametrize(("fields", "field", "code"), BAD_FIELDS, ids=lambda value: str(value)[:40])
def test_a_bad_field_is_named_and_nothing_is_stored(caller, survey, fields, field, code):
    sent = {"survey": "springtails", "photos": [file(jpeg())], **fields}
    body = assert_problem(caller.post(PATH, sent), 400, "invalid")
    if field:
        assert field in {error["field"] for error in body["errors"]}
    if code:
        assert code in {error["code"] for error in body["errors"]}
    assert nothing_stored()


@pytest.mark.parametrize("missing", ["survey", "photos"])
def test_what_is_missing_is_named(caller, survey, missing):
    sent = {"survey": "springtails", "photos": [file(jpeg())]}
    del sent[missing]
    body = assert_problem(caller.post(PATH, sent), 400)
    assert {error["field"] for error in body["errors"]} == {missing}


def test_a_closed_survey_takes_no_photos(caller, survey):
    survey.is_open = False
    survey.save()
    body = assert_problem(send(caller, jpeg()), 400)
    assert body["errors"][0]["code"] == "survey_closed"


@pytest.mark.parametrize("kind", ["application/json", "application/x-www-form-urlencoded", "image/jpeg", ""])
def test_only_a_multipart_form_can_carry_photos(caller, survey, kind):
    response = caller.generic("POST", PATH, b'{"survey": "springtails"}', content_type=kind)
    assert response.status_code in (400, 415)
    assert_problem(response, response.status_code)


def test_more_photos_than_one_request_may_hold_are_refused_before_any_is_looked_at(caller, survey):
    assert_problem(send(caller, *[b"x"] * 101), 413, "too_many_files")
    assert nothing_stored()


NAMES = [
    "../../etc/passwd",
    "..\\..\\windows\\win.ini",
    "/absolute.jpg",
    "a" * 600 + ".jpg",
    "line\nbreak.jpg",
    "right\u202eto\u202cleft.gpj",
    "=cmd|'/C calc'!A0.jpg",
    "<script>alert(1)</script>.jpg",
    "'; DROP TABLE photos; --.jpg",
    "con.jpg",
    "été \u00e9 e\u0301 \U0001f41e.jpg",
    ".",
    "%2e%2e%2f.jpg",
    "&#0;.jpg",
]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: repr(name[:20]))
def test_an_odd_file_name_is_only_a_label(caller, survey, name):
    boundary = "BoUnDaRy"
    disposition = f'form-data; name="photos"; filename="{name}"'.replace("\n", "%0A").encode()
    body = b"".join(
        [
            f'--{boundary}\r\nContent-Disposition: form-data; name="survey"\r\n\r\nspringtails\r\n'.encode(),
            f"--{boundary}\r\nContent-Disposition: ".encode(),
            disposition,
            b"\r\n\r\n",
            jpeg(),
            b"\r\n",
            f"--{boundary}--\r\n".encode(),
        ]
    )
    response = caller.generic("POST", PATH, body, content_type=f"multipart/form-data; boundary={boundary}")
    assert response.status_code == 202, response.content
    photo = Photo.objects.get()
    assert len(photo.name) <= 255
    assert photo.name.isprintable()
    assert "/" not in photo.name
    assert photo.name not in photo.original.name


def test_text_that_is_not_utf8_is_refused(caller, survey):
    part = b'--b\r\nContent-Disposition: form-data; name="comment"\r\n\r\ncaf\xe9\r\n--b--\r\n'
    response = caller.generic("POST", PATH, part, content_type="multipart/form-data; boundary=b")
    body = assert_problem(response, 400, "invalid")
    assert ("comment", "not_utf8") in {(error["field"], error["code"]) for error in body["errors"]}


def test_a_key_makes_a_repeat_harmless(caller, survey):
    first = send(caller, jpeg(seed=1), key="abc")
    again = send(caller, jpeg(seed=1), key="abc")
    assert (again.status_code, again.json()) == (202, first.json())
    assert again["Idempotent-Replayed"] == "true"
    assert again["Location"] == first["Location"]
    assert Observation.objects.count() == Photo.objects.count() == 1


def test_a_key_remembers_partial_refusals_and_does_not_store_them_twice(caller, survey):
    first = send(caller, jpeg(seed=1), b"nonsense", key="abc")
    assert send(caller, jpeg(seed=1), b"nonsense", key="abc").json() == first.json()
    assert RefusedFile.objects.count() == 1


def test_a_key_remembers_that_nothing_was_accepted(caller, survey):
    for _attempt in range(2):
        body = assert_problem(send(caller, b"nonsense", key="abc"), 400, "no_photo_accepted")
        assert body["refused"][0]["code"] == "not_a_picture"
    assert nothing_stored()


@pytest.mark.parametrize("change", ["file", "field", "order", "more"])
def test_a_key_used_for_another_request_is_refused(caller, survey, change):
    assert send(caller, jpeg(seed=1), jpeg(seed=2), key="abc").status_code == 202
    sent = {
        "file": lambda: send(caller, jpeg(seed=1), jpeg(seed=3), key="abc"),
        "field": lambda: send(caller, jpeg(seed=1), jpeg(seed=2), key="abc", comment="new"),
        "order": lambda: send(caller, jpeg(seed=2), jpeg(seed=1), key="abc"),
        "more": lambda: send(caller, jpeg(seed=1), jpeg(seed=2), jpeg(seed=3), key="abc"),
    }[change]()
    assert_problem(sent, 422, "idempotency_key_reused")
    assert Photo.objects.count() == 2


def test_keys_of_two_people_do_not_meet(caller, stranger, survey):
    ids = [send(who, jpeg(seed=1), key="abc").json()["id"] for who in (caller, stranger)]
    assert ids[0] != ids[1]


@pytest.mark.parametrize("key", ["", "x" * 201, "é", "a\tb", "a\x7f"])
def test_a_key_that_is_no_key_is_refused(caller, survey, key):
    assert_problem(send(caller, jpeg(), key=key), 400, "bad_idempotency_key")
    assert nothing_stored()


def test_a_request_refused_for_its_fields_does_not_use_up_the_key(caller, survey):
    assert_problem(send(caller, jpeg(), key="abc", licence="x"), 400)
    assert send(caller, jpeg(), key="abc").status_code == 202


def test_after_a_crash_half_way_the_same_key_completes_the_same_observation(caller, survey, monkeypatch):
    from apps.observations.api import sending

    whole = sending.receive_photo
    calls = []

    def crash_at_the_second(**arguments):
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("power cut")
        return whole(**arguments)

    monkeypatch.setattr(sending, "receive_photo", crash_at_the_second)
    assert_problem(send(caller, jpeg(seed=1), jpeg(seed=2), key="abc"), 500)
    started = Observation.objects.get()
    monkeypatch.setattr(sending, "receive_photo", whole)
    response = send(caller, jpeg(seed=1), jpeg(seed=2), key="abc")
    assert response.status_code == 202
    assert response.json()["id"] == str(started.public_id)
    assert [photo["is_duplicate"] for photo in response.json()["photos"]] == [False, False]
    assert Observation.objects.count() == 1
    assert started.photos.count() == 2
    assert send(caller, jpeg(seed=1), jpeg(seed=2), key="abc").json() == response.json()


@pytest.mark.parametrize("key", [None, "abc"])
def test_after_a_crash_before_the_first_photo_nothing_is_left(caller, survey, monkeypatch, key):
    from apps.observations.api import sending

    def crash(**_arguments):
        raise RuntimeError("power cut")

    monkeypatch.setattr(sending, "receive_photo", crash)
    assert_problem(send(caller, jpeg(seed=1), key=key), 500)
    assert nothing_stored()
    monkeypatch.undo()
    assert send(caller, jpeg(seed=1), key=key).status_code == 202


@pytest.mark.django_db(transaction=True)
def test_of_twins_sent_at_once_one_is_done_and_both_learn_its_answer(caller, survey):
    """Eight threads, one key: one observation; the others hear the same answer, or 409 with Retry-After."""
    caller_token = caller.defaults["HTTP_AUTHORIZATION"]
    answers, barrier = [], threading.Barrier(8)

    def twin() -> None:
        try:
            one = Caller()
            one.defaults["HTTP_AUTHORIZATION"] = caller_token
            barrier.wait()
            answers.append(send(one, jpeg(seed=1), jpeg(seed=2), key="twins"))
        finally:
            connection.close()

    threads = [threading.Thread(target=twin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done = [answer for answer in answers if answer.status_code == 202]
    waiting = [answer for answer in answers if answer.status_code == 409]
    assert len(answers) == len(done) + len(waiting) == 8
    assert done
    assert all(answer.json() == done[0].json() for answer in done)
    assert all(int(answer["Retry-After"]) >= 1 for answer in waiting)
    assert Observation.objects.count() == 1
    assert Photo.objects.count() == 2
    assert IdempotencyKey.objects.count() == 1
    assert send(caller, jpeg(seed=1), jpeg(seed=2), key="twins").json() == done[0].json()


@pytest.mark.django_db(transaction=True)
def test_of_twins_without_a_key_each_photo_is_stored_once(caller, survey):
    caller_token = caller.defaults["HTTP_AUTHORIZATION"]
    answers, barrier = [], threading.Barrier(4)

    def twin() -> None:
        try:
            one = Caller()
            one.defaults["HTTP_AUTHORIZATION"] = caller_token
            barrier.wait()
            answers.append(send(one, jpeg(seed=1)))
        finally:
            connection.close()

    threads = [threading.Thread(target=twin) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer.status_code for answer in answers] == [202] * 4
    assert len({answer.json()["photos"][0]["id"] for answer in answers}) == 1
    assert Photo.objects.count() == Observation.objects.count() == 1


def test_uploads_have_a_limit_of_their_own(caller, survey):
    from rest_framework.throttling import ScopedRateThrottle

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ScopedRateThrottle.THROTTLE_RATES, "upload", "2/hour")
        answers = [send(caller, jpeg(seed=seed)) for seed in range(3)]
    assert [answer.status_code for answer in answers] == [202, 202, 429]
    assert int(answers[2]["Retry-After"]) > 0
    assert caller.get(PATH).status_code == 200


def test_without_redis_photos_are_still_taken(caller, survey):
    away = {
        "default": {
            "BACKEND": "apps.common.cache.ForgivingRedisCache",
            "LOCATION": "redis://127.0.0.1:1/0",
            "OPTIONS": {"socket_connect_timeout": 0.2},
        }
    }
    with override_settings(CACHES=away):
        assert send(caller, jpeg(seed=1)).status_code == 202


def test_a_refusal_is_told_in_the_language_of_the_caller_also_when_replayed(caller, survey):
    response = caller.post(
        PATH,
        {"survey": "springtails", "photos": [file(b"nonsense")]},
        HTTP_ACCEPT_LANGUAGE="fr",
        HTTP_IDEMPOTENCY_KEY="abc",
    )
    assert response["Content-Language"] == "fr"
    assert json.loads(response.content)["refused"][0]["code"] == "not_a_picture"


def test_png_and_jpeg_can_be_mixed(caller, survey):
    assert len(send(caller, jpeg(seed=1), png(seed=2)).json()["photos"]) == 2

"""The drawing page's addresses from end to end: get a photo, draw, send, correct, pass on."""

import uuid

import pytest
from django.test import Client

from apps.annotation.models import Annotation, AnnotationTask, Assignment
from tests.annotation.drawing import API, answer, box, draft, drawing_survey, drawn, path, queued
from tests.annotation.factories import AssignmentFactory
from tests.api.conftest import Caller, assert_problem, verified_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def expert():
    return verified_user(is_expert=True)


@pytest.fixture
def caller(expert):
    return Caller(expert)


@pytest.fixture
def survey():
    return drawing_survey()


def test_an_expert_gets_a_photo_draws_and_sends(caller, survey):
    task = queued(survey)
    given = caller.post_json(f"{API}surveys/springtails/next/", {}).json()["task"]
    assert given["id"] == str(task.public_id)
    assert [(p["number"], p["is_weak"]) for p in given["proposals"]] == [(1, False), (2, False), (3, True)]
    assert given["lease"]["is_mine"]
    assert 890 < given["lease"]["seconds_left"] <= 900
    saved = caller.put(path(task, "draft"), draft([box()]), content_type="application/json").json()
    assert saved["version"] == 1
    sent = answer([box(), box(2, label="ISO")], model_version=given["model_version"])
    response = caller.post_json(path(task, "submit"), sent)
    assert response.status_code == 201, response.content
    task.refresh_from_db()
    assert task.state == AnnotationTask.State.DONE
    kept = Annotation.objects.get()
    assert str(kept.public_id) == response.json()["annotation"]
    assert kept.changes == {"kept": [1], "moved": [], "relabelled": [2], "deleted": [], "drawn": 0}
    assert response.json()["progress"] == {
        "mine_today": 1, "mine_total": 1, "median_seconds": 12.5, "team_done": 1, "team_total": 1, "waiting": 0,
    }  # fmt: skip


def test_the_same_answer_sent_twice_is_one(caller, survey):
    task = queued(survey)
    sent = answer([])
    first, second = (caller.post_json(path(task, "submit"), sent) for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json()["annotation"] == second.json()["annotation"]
    assert Annotation.objects.count() == 1


def test_sending_gives_the_next_photo_or_says_why_not(caller, survey):
    first, second = queued(survey), queued(survey)
    body = caller.post_json(path(first, "submit"), answer([drawn()], next=True)).json()
    assert body["next"]["id"] == str(second.public_id)
    body = caller.post_json(path(second, "submit"), answer([], next=True)).json()
    assert body["next"] is None
    assert body["waiting"]["code"] == "nothing_left"


def test_those_who_are_no_experts_are_told_how_to_become_one(survey):
    body = assert_problem(
        Caller(verified_user()).post_json(f"{API}surveys/springtails/next/", {}), 403, "not_an_expert"
    )
    assert body["apply"].endswith("/account/expert/")
    assert_problem(Caller().post_json(f"{API}surveys/springtails/next/", {}), 401)
    assert (
        Caller(verified_user(is_staff=True)).post_json(f"{API}surveys/springtails/next/", {}).status_code
        == 200
    )


def test_private_photos_are_not_there(caller, survey):
    task = queued(survey)
    task.photo.observation.visibility = "private"
    task.photo.observation.save()
    for response in (
        caller.get(path(task)),
        caller.post_json(path(task, "lease"), {}),
        caller.post_json(path(task, "submit"), answer([])),
    ):
        assert_problem(response, 404)


def test_another_window_s_draft_is_not_overwritten(caller, survey):
    task = queued(survey)

    def put(boxes, **changes):
        return caller.put(path(task, "draft"), draft(boxes, **changes), content_type="application/json")

    assert put([box()]).json()["version"] == 1
    assert put([box()]).json()["version"] == 1
    conflict = put([box(), box(2)], client=str(uuid.uuid4()))
    body = assert_problem(conflict, 409, "draft_conflict")
    assert body["draft"]["version"] == 1
    assert body["draft"]["client"] == draft([])["client"]
    assert body["draft"]["boxes"] == [box()]
    assert put([], base_version=1).json()["version"] == 2


def test_a_photo_that_somebody_else_holds_cannot_be_answered(caller, survey):
    task = queued(survey)
    AssignmentFactory(task=task)
    assert not caller.get(path(task)).json()["lease"]["is_mine"]
    body = assert_problem(caller.post_json(path(task, "submit"), answer([])), 409, "lease_lost")
    assert body["reason"] == "held"
    assert not Annotation.objects.exists()


def test_an_own_answer_is_corrected_by_a_new_one(caller, survey):
    task = queued(survey)
    first = caller.post_json(path(task, "submit"), answer([drawn()])).json()["annotation"]
    opened = caller.get(path(task)).json()
    assert opened["my_annotation"]["id"] == first
    assert opened["lease"]["is_mine"]
    assert_problem(caller.post_json(path(task, "submit"), answer([])), 409, "superseded")
    second = caller.post_json(path(task, "submit"), answer([], supersedes=first))
    assert second.status_code == 201
    assert_problem(caller.post_json(path(task, "submit"), answer([], supersedes=first)), 409, "superseded")
    old, new = Annotation.objects.order_by("pk")
    assert (old.is_current, new.is_current, new.supersedes) == (False, True, old)
    task.refresh_from_db()
    assert task.accepted == new


def test_skipping_gives_the_next_and_releasing_gives_back(caller, survey, expert):
    first, second = queued(survey, score=2), queued(survey, score=1)
    assert caller.post_json(f"{API}surveys/springtails/next/", {}).json()["task"]["id"] == str(
        first.public_id
    )
    body = caller.post_json(path(first, "skip"), {"reason": "blurred"}).json()
    assert body["task"]["id"] == str(second.public_id)
    assert caller.post_json(path(second, "release"), {}).status_code == 204
    assert Assignment.objects.get(task=second, expert=expert).state == "returned"


def test_a_browser_s_session_may_draw_with_its_csrf_token_only(expert, survey):
    task = queued(survey)
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(expert)
    page = browser.get("/annotate/")
    assert page.status_code == 200
    assert_problem(
        browser.post(path(task, "lease"), "{}", content_type="application/json"), 403, "csrf_failed"
    )
    token = browser.get("/annotate/session/") and browser.cookies["csrftoken"].value
    response = browser.post(
        path(task, "lease"), "{}", content_type="application/json", HTTP_X_CSRFTOKEN=token
    )
    assert response.status_code == 200, response.content


def test_drafts_have_a_limit_of_their_own(caller, survey, monkeypatch):
    from rest_framework.throttling import SimpleRateThrottle

    monkeypatch.setitem(SimpleRateThrottle.THROTTLE_RATES, "draft", "3/min")
    task = queued(survey)
    answers = [
        caller.put(path(task, "draft"), draft([box()]), content_type="application/json") for _ in range(4)
    ]
    assert [one.status_code for one in answers] == [200, 200, 200, 429]
    assert answers[-1]["Retry-After"]
    assert caller.get(path(task)).status_code == 200


def test_leases_and_peeks_hold_and_promise_nothing_to_others(caller, survey):
    task = queued(survey)
    peeked = caller.post_json(f"{API}surveys/springtails/next/", {"peek": True}).json()["task"]
    assert peeked["id"] == str(task.public_id)
    assert not peeked["lease"]["is_mine"]
    colleague = Caller(verified_user(is_expert=True))
    assert colleague.post_json(path(task, "lease"), {}).json()["is_mine"]
    assert_problem(caller.post_json(path(task, "lease"), {}), 409, "lease_lost")
    assert caller.post_json(f"{API}surveys/springtails/next/", {"peek": True}).json()["task"] is None

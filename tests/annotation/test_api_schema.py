"""Every answer of the experts' addresses is what the OpenAPI document says, and reading takes a fixed number of queries."""

import pytest
from django.test.utils import CaptureQueriesContext

from apps.annotation.models import AnswerComparison, GoldenPhoto
from apps.observations.api.schema import openapi_document
from tests.annotation.drawing import API, answer, box, draft, drawing_survey, drawn, path, queued
from tests.annotation.factories import AnnotationFactory, AssignmentFactory
from tests.api.conftest import Caller, verified_user
from tests.api.test_schema import _true_to_schema
from tests.factories import CommentFactory, DetectionFactory, PhotoFactory, SurveyFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def caller():
    return Caller(verified_user(is_expert=True))


def test_the_answers_are_what_the_document_says(caller):
    document = openapi_document("en")
    survey = drawing_survey()
    task, other = queued(survey), queued(survey)
    CommentFactory(observation=task.photo.observation, photo=task.photo, box_number=1)
    version = str(task.photo.model_version)
    SurveyFactory(slug="empty")

    def put(content):
        return caller.put(path(task, "draft"), content, content_type="application/json")

    def post(one, action, body):
        return caller.post_json(path(one, action), body)

    sent = answer([box(proposed_label="Mite")], model_version=version, next=True)
    steps = [
        ("surveys/{slug}/next/", "post", caller.post_json(f"{API}surveys/empty/next/", {}), 200),
        ("surveys/{slug}/next/", "post", caller.post_json(f"{API}surveys/springtails/next/", {}), 200),
        ("surveys/{slug}/next/", "post", caller.post_json(f"{API}surveys/springtails/next/", {"peek": True}), 200),
        ("surveys/{slug}/next/", "post", caller.post_json(f"{API}surveys/springtails/next/", {"peek": 1}), 400),
        ("tasks/{task_id}/draft/", "put", put(draft([box()])), 200),
        ("tasks/{task_id}/draft/", "put", put(draft([box(2)])), 409),
        ("tasks/{task_id}/draft/", "put", put(draft([box(x_min="x")])), 400),
        ("tasks/{task_id}/", "get", caller.get(path(task)), 200),
        ("tasks/{task_id}/lease/", "post", post(task, "lease", {}), 200),
        ("tasks/{task_id}/submit/", "post", post(task, "submit", {**sent, "boxes": [box(label="X")]}), 400),
        ("tasks/{task_id}/submit/", "post", post(task, "submit", sent), 201),
        ("tasks/{task_id}/submit/", "post", post(task, "submit", sent), 200),
        ("tasks/{task_id}/submit/", "post", post(task, "submit", answer([])), 409),
        ("tasks/{task_id}/", "get", caller.get(path(task)), 200),
        ("tasks/{task_id}/", "get", Caller(verified_user()).get(path(task)), 403),
        ("tasks/{task_id}/release/", "post", post(other, "release", {}), 204),
        ("tasks/{task_id}/skip/", "post", post(other, "skip", {"reason": "blurred"}), 200),
    ]  # fmt: skip
    assert [response.status_code for *_place, response, _status in steps] == [step[3] for step in steps]
    for place, method, response, _status in steps:
        _true_to_schema(document, f"{API}{place}", method, response)


def test_a_photo_with_many_boxes_takes_no_more_queries(caller):
    survey = drawing_survey()
    few, many = queued(survey, boxes=1), queued(survey, boxes=60, weak=60)
    CommentFactory.create_batch(5, observation=many.photo.observation, photo=many.photo)
    counts = []
    for task in (few, few, many):
        from django.db import connection

        with CaptureQueriesContext(connection) as queries:
            assert caller.get(path(task)).status_code == 200
        counts.append(len(queries))
    assert counts[1] == counts[2]
    assert counts[1] <= 18


def test_nothing_tells_a_photo_with_a_known_answer_from_any_other(caller):
    survey = drawing_survey()
    plain, golden = queued(survey), queued(survey)
    known = AnnotationFactory(task=golden)
    type(golden).objects.filter(pk=golden.pk).update(
        state="done", accepted=known, accepted_at=known.created_at, answers=1
    )
    GoldenPhoto.objects.create(task=golden, answer=known)
    for task, given_as in ((plain, "active"), (golden, "golden")):
        AssignmentFactory(task=task, expert=caller.user, given_as=given_as)
    first, second = (caller.get(path(task)).json() for task in (plain, golden))
    for body in (first, second):
        assert body["state"] == "waiting"
        assert body["my_annotation"] is None
        assert "golden" not in str(body)
    assert first.keys() == second.keys()
    assert first["why"].keys() == second["why"].keys()
    assert first["lease"]["is_mine"]
    assert second["lease"]["is_mine"]


def test_other_experts_answers_and_drafts_are_not_shown(caller):
    task = queued(drawing_survey(), answers_needed=2)
    colleague = Caller(verified_user(is_expert=True))
    seen_by = [colleague, caller]
    secret = drawn(note="I am sure of this one")
    seen_by[0].put(path(task, "draft"), draft([secret]), content_type="application/json")
    assert "I am sure" not in seen_by[1].get(path(task)).content.decode()
    assert seen_by[0].post_json(path(task, "submit"), answer([secret])).status_code == 201
    body = seen_by[1].get(path(task)).json()
    assert "I am sure" not in str(body)
    assert body["my_annotation"] is None
    assert not AnswerComparison.objects.filter(kind="experts").exists()


def test_a_promotion_meanwhile_does_not_exchange_the_boxes_of_an_open_photo(caller):
    survey = drawing_survey()
    task = queued(survey)
    old = str(task.photo.model_version)
    assert caller.post_json(path(task, "lease"), {}).status_code == 200
    caller.put(path(task, "draft"), draft([box()]), content_type="application/json")
    from tests.factories import ModelVersionFactory

    type(task.photo.model_version).objects.update(stage="archived")
    new = ModelVersionFactory(registered_model=survey.registered_model, labels=["CER", "ISO"])
    DetectionFactory(photo=task.photo, model_version=new, number=1, label=survey.labels.get(code="ISO"))
    type(task.photo).objects.filter(pk=task.photo_id).update(model_version=new, detection_count=1)
    body = caller.get(path(task)).json()
    assert body["model_version"] == old
    assert len(body["proposals"]) == 3
    sent = answer([box(), box(2)], model_version=old)
    assert caller.post_json(path(task, "submit"), sent).status_code == 201
    kept = task.annotations.get()
    assert str(kept.model_version) == old
    assert kept.changes["kept"] == [1, 2]


def test_file_names_are_shown_to_their_sender_only(caller):
    survey = drawing_survey()
    task = queued(survey)
    assert task.photo.name not in caller.get(path(task)).content.decode()
    staff = Caller(verified_user(is_staff=True))
    assert staff.get(path(task)).json()["photo"]["name"] == task.photo.name


def test_why_this_photo_names_the_margins_most_uncertain_first(caller):
    survey = drawing_survey()
    task = queued(
        survey, boxes=1, weak=0, uncertainty=1.3, score=2.3, commented_boxes=1, rank_before=5, rank_after=2
    )
    DetectionFactory(
        photo=task.photo,
        model_version=task.photo.model_version,
        number=2,
        label=survey.labels.get(code="CER"),
        score=0.5,
        class_scores=[0.5, 0.45],
        is_weak=False,
    )
    why = caller.get(path(task)).json()["why"]
    assert [(row["number"], row["p1"], row["p2"], row["u"]) for row in why["boxes"]] == [
        (2, 0.5, 0.45, 0.95),
        (1, 0.7, 0.2, 0.5),
    ]
    assert (why["rank_before"], why["rank_after"], why["score"], why["comments"]) == (5, 2, 2.3, 1)
    assert "1.30" in why["aggregate_text"]


def test_photos_of_a_queue_that_is_not_open_are_not_given(caller):
    survey = SurveyFactory(slug="few", minimum_photos=3)
    PhotoFactory(observation__survey=survey, status="done", detection_count=0, detection_ms=1)
    body = caller.post_json(f"{API}surveys/few/next/", {}).json()
    assert body["task"] is None
    assert body["waiting"]["missing_photos"] == 2
    assert "2 more photos" in body["waiting"]["message"]

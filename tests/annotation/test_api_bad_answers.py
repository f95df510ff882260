"""Answers made to hurt, or just wrong: refused with the field and the row; the draft stays."""

import json
import uuid

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from apps.annotation.models import AnnotatedBox, Annotation, Assignment
from tests.annotation.drawing import answer, box, draft, drawing_survey, drawn, path, queued
from tests.annotation.factories import AnnotationFactory
from tests.api.conftest import Caller, verified_user
from tests.factories import LabelFactory
from tests.support.examples import examples

pytestmark = pytest.mark.django_db
QUIET = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]


@pytest.fixture
def expert():
    return verified_user(is_expert=True)


@pytest.fixture
def caller(expert):
    return Caller(expert)


@pytest.fixture
def task():
    return queued(drawing_survey())


def version_of(task):
    return str(task.photo.model_version)


def refused(response, status=400):
    """The problem's errors as (field, row, code)."""
    assert response.status_code == status, response.content[:500]
    assert response["Content-Type"] == "application/problem+json"
    errors = response.json()["errors"]
    assert all(error["detail"] for error in errors)
    return [(error["field"], error.get("row"), error["code"]) for error in errors]


def send(caller, task, boxes, **changes):
    sent = answer(boxes, model_version=version_of(task), **changes)
    return caller.post(path(task, "submit"), json.dumps(sent), content_type="application/json")


BAD_BOXES = [
    ({"x_max": float("nan")}, "x_max", "not_finite"),
    ({"x_max": float("inf")}, "x_max", "not_finite"),
    ({"y_min": float("-inf")}, "y_min", "not_finite"),
    ({"x_min": -5}, "x_min", "negative"),
    ({"y_min": -0.6}, "y_min", "negative"),
    ({"x_max": 641}, "x_max", "out_of_picture"),
    ({"y_max": 1e5}, "y_max", "out_of_picture"),
    ({"y_max": 10**400}, "y_max", "out_of_picture"),
    ({"x_max": 5}, "x_max", "reversed"),
    ({"y_max": 19.9}, "y_max", "reversed"),
    ({"x_max": 10.0}, "x_max", "no_area"),
    ({"y_max": 20.0}, "y_max", "no_area"),
    ({"x_min": None}, "x_min", "required"),
    ({"x_min": "10"}, "x_min", "not_a_number"),
    ({"x_min": True}, "x_min", "not_a_number"),
    ({"x_min": [10]}, "x_min", "not_a_number"),
    ({"label": ""}, "label", "required"),
    ({"label": None}, "label", "required"),
    ({"label": 3}, "label", "not_a_text"),
    ({"label": "NEVER"}, "label", "unknown_label"),
    ({"label": "OTHERS"}, "label", "unknown_label"),
    ({"label": "OLD"}, "label", "retired_label"),
    ({"label": "x" * 41}, "label", "too_long"),
    ({"proposal": 4}, "proposal", "unknown_proposal"),
    ({"proposal": 0}, "proposal", "not_a_number"),
    ({"proposal": True}, "proposal", "not_a_number"),
    ({"proposal": 1.0}, "proposal", "not_a_number"),
    ({"proposal": "1"}, "proposal", "not_a_number"),
    ({"proposal": 2**70}, "proposal", "not_a_number"),
    ({"note": "x" * 501}, "note", "too_long"),
    ({"note": "a\x07b"}, "note", "control"),
    ({"note": {}}, "note", "not_a_text"),
    ({"is_uncertain": 1}, "is_uncertain", "not_a_boolean"),
    ({"is_uncertain": "yes"}, "is_uncertain", "not_a_boolean"),
    ({"proposed_label": "x" * 161}, "proposed_label", "too_long"),
    ({"score": 0.5}, "score", "unknown_field"),
]


@pytest.mark.parametrize(("changes", "field", "code"), BAD_BOXES, ids=lambda value: str(value)[:40])
def test_a_wrong_box_is_refused_by_its_row_and_field_and_the_draft_stays(
    caller, expert, task, changes, field, code
):
    LabelFactory(code="OTHERS")
    kept = caller.put(path(task, "draft"), draft([box()]), content_type="application/json")
    assert kept.status_code == 200
    response = send(caller, task, [box(2), box(1, **changes)])
    assert refused(response) == [(f"boxes[1].{field}", 1, code)]
    assert not Annotation.objects.exists()
    assignment = Assignment.objects.get(task=task, expert=expert)
    assert (assignment.state, assignment.draft_version) == ("open", 1)
    assert assignment.draft["boxes"] == [box()]


def test_everything_wrong_is_told_at_once(caller, task):
    boxes = [box(1, x_max=-3, label="NEVER"), "box", box(1), box(1, note=7)]
    response = send(caller, task, boxes, seconds=-1, key="no", is_empty="no", extra=1)
    errors = refused(response)
    assert {field for field, _row, _code in errors} >= {"seconds", "key", "is_empty", "extra"}
    assert ("boxes[1]", 1, "not_a_box") in errors
    assert ("boxes[3].note", 3, "not_a_text") in errors
    assert refused(send(caller, task, boxes)) == [
        ("boxes[0].x_max", 0, "negative"),
        ("boxes[0].label", 0, "unknown_label"),
        ("boxes[1]", 1, "not_a_box"),
        ("boxes[2].proposal", 2, "repeated_proposal"),
        ("boxes[3].note", 3, "not_a_text"),
        ("boxes[3].proposal", 3, "repeated_proposal"),
    ]


@pytest.mark.parametrize("count", [2_001, 10_000])
def test_too_many_boxes_are_refused_with_their_count(caller, task, count):
    thin = {"x_min": 1, "y_min": 1, "x_max": 9, "y_max": 9, "label": "CER"}
    for response in (
        send(caller, task, [thin] * count),
        caller.put(path(task, "draft"), draft([thin] * count), content_type="application/json"),
    ):
        assert refused(response) == [("boxes", None, "too_many")]
        assert f"{count:,}" in response.json()["errors"][0]["detail"]


def test_two_thousand_boxes_are_an_answer(caller, task):
    thin = {"x_min": 1, "y_min": 1, "x_max": 9, "y_max": 9, "label": "CER"}
    assert send(caller, task, [thin] * 2_000).status_code == 201
    assert AnnotatedBox.objects.count() == 2_000


def test_a_payload_of_ten_megabytes_is_too_large(caller, task):
    for response in (
        send(caller, task, [box(note="x" * 10 * 1024 * 1024)]),
        caller.put(
            path(task, "draft"), json.dumps(draft([box(note="x" * 10**7)])), content_type="application/json"
        ),
    ):
        assert response.status_code == 413
        assert response.json()["code"] == "too_large"


def test_what_is_out_by_a_rounding_is_clipped(caller, task):
    sent = [drawn(x_min=-0.5, y_min=-0.1, x_max=640.5, y_max=640.2)]
    assert send(caller, task, sent).status_code == 201
    kept = AnnotatedBox.objects.get()
    assert (kept.x_min, kept.y_min, kept.x_max, kept.y_max) == (0, 0, 640, 640)


@pytest.mark.parametrize("content", ["[" * 100_000, '{"boxes": NaN', b"\xff", "nul", '{"a": 1, "a": 2}'])
def test_what_is_no_json_is_a_problem(caller, task, content):
    response = caller.post(path(task, "submit"), content, content_type="application/json")
    assert response.status_code == 400
    assert response.json()["code"] == "parse_error"


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_text_that_cannot_be_stored_is_named_by_its_row_and_field(caller, task, text):
    boxes = [box(), box(note=text)]
    sent = {"key": str(uuid.uuid4()), "boxes": boxes}
    response = caller.post(path(task, "submit"), json.dumps(sent), content_type="application/json")
    assert refused(response) == [("boxes[1].note", 1, "control")]


@pytest.mark.parametrize("body", ["[]", "3", "null", "NaN", '"x"', '[{"key": 1}]'])
def test_a_body_of_another_kind_is_refused(caller, task, body):
    for action in ("submit", "skip", "lease", "release"):
        response = caller.post(path(task, action), body, content_type="application/json")
        assert response.status_code == 400, (action, response.content)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"seconds": float("nan")}, "seconds"),
        ({"seconds": float("inf")}, "seconds"),
        ({"seconds": 10**400}, "seconds"),
        ({"seconds": True}, "seconds"),
        ({"seconds": -0.1}, "seconds"),
        ({"seconds": 700_000}, "seconds"),
        ({"key": 5}, "key"),
        ({"key": None}, "key"),
        ({"is_empty": 0}, "is_empty"),
        ({"next": "true"}, "next"),
        ({"supersedes": 7}, "supersedes"),
        ({"supersedes": "x"}, "supersedes"),
        ({"model_version": 3}, "model_version"),
        ({"model_version": "model-0 v999"}, "model_version"),
        ({"boxes": {}}, "boxes"),
        ({"boxes": None}, "boxes"),
        ({"boxes": "box"}, "boxes"),
        ({"other": 1}, "other"),
    ],
    ids=str,
)
def test_a_wrong_field_is_named(caller, task, changes, field):
    sent = {**answer([box()], model_version=version_of(task)), **changes}
    response = caller.post(path(task, "submit"), json.dumps(sent), content_type="application/json")
    assert [name for name, _row, _code in refused(response)] == [field]


def test_an_answer_without_boxes_must_say_that_it_is_empty(caller, task):
    assert refused(send(caller, task, [], is_empty=False)) == [("is_empty", None, "not_confirmed")]
    assert refused(send(caller, task, [box()], is_empty=True)) == [("is_empty", None, "not_empty")]
    assert send(caller, task, []).status_code == 201


def test_another_s_answer_cannot_be_superseded(caller, task):
    foreign = AnnotationFactory(task=task)
    elsewhere = AnnotationFactory(author=caller.user)
    for one in (foreign, elsewhere):
        response = send(caller, task, [], supersedes=str(one.public_id))
        assert refused(response) == [("supersedes", None, "unknown_annotation")]


def test_a_key_cannot_be_used_for_another_photo(caller, task):
    sent = answer([])
    other = queued(task.survey)
    assert caller.post_json(path(task, "submit"), sent).status_code == 201
    assert refused(caller.post_json(path(other, "submit"), sent), 409) == [("key", None, "key_reused")]


def test_unknown_photos_and_surveys_are_not_there(caller, task):
    for address in (
        f"/api/v1/annotation/tasks/{uuid.uuid4()}/submit/",
        "/api/v1/annotation/surveys/none/next/",
    ):
        assert caller.post_json(address, {}).status_code == 404
    assert caller.get("/api/v1/annotation/tasks/none/").status_code == 404


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"reason": "tired"},
        {"reason": 3},
        {"reason": "other", "note": "x" * 501},
        {"reason": "other", "a": 1},
        {"reason": "other", "note": 5},
        {"reason": "other", "note": True},
    ],
)
def test_a_photo_is_not_skipped_without_a_good_reason(caller, task, fields):
    caller.post_json(path(task, "lease"), {})
    assert refused(caller.post_json(path(task, "skip"), fields))
    assert Assignment.objects.get().state == "open"


def test_a_draft_may_be_unfinished_but_is_finite(caller, task):
    def put(**changes):
        return caller.put(
            path(task, "draft"),
            json.dumps(draft([box(**changes)], base_version=99)),
            content_type="application/json",
        )

    for unfinished in ({"label": ""}, {"x_max": 0}, {"x_min": -50}, {"label": "NEVER"}, {"proposal": 77}):
        assert put(**unfinished).status_code == 200, unfinished
    for bad in ({"x_max": float("nan")}, {"x_min": 1e9}, {"note": "x" * 501}, {"label": 5}, {"z": 1}):
        [(field, row, _code)] = refused(put(**bad))
        assert (field, row) == (f"boxes[0].{next(iter(bad))}", 0)


def test_refusals_come_in_the_expert_s_language(caller, task):
    sent = answer([box(x_max=float("nan"))])
    response = caller.post(
        path(task, "submit"), json.dumps(sent), content_type="application/json", HTTP_ACCEPT_LANGUAGE="fr"
    )
    assert response["Content-Language"] == "fr"


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=8), children, max_size=3)
    ),
    max_leaves=8,
)
FIELDS = st.dictionaries(st.sampled_from([*box(), "z"]), ANYTHING | st.floats(-10, 700) | st.just("CER"))


@pytest.mark.slow
@settings(max_examples=examples(200), deadline=None, suppress_health_check=QUIET, derandomize=True)
@given(boxes=st.lists(FIELDS.map(lambda fields: {**box(), **fields}) | ANYTHING, max_size=4) | ANYTHING)
@example(boxes=[box(x_min=5e-324, x_max=1e-323)])
@example(boxes=[box(label="\u212b", note="\u0958" * 300)])
def test_any_boxes_are_kept_whole_or_refused_whole(caller, task, boxes):
    for action, body in (("draft", draft(boxes)), ("submit", answer(boxes, is_empty=False))):
        method = "PUT" if action == "draft" else "POST"
        response = caller.generic(
            method, path(task, action), json.dumps(body), content_type="application/json"
        )
        assert response.status_code in (200, 201, 400), response.content
        if response.status_code == 400 and response.json()["code"] == "invalid":
            assert response.json()["errors"]
    Assignment.objects.all().delete()
    if Annotation.objects.exists():
        kept = Annotation.objects.get()
        assert kept.boxes.count() == kept.box_count == len(boxes)
        assert all(0 <= b.x_min < b.x_max <= 640 and 0 <= b.y_min < b.y_max <= 640 for b in kept.boxes.all())
        type(task).objects.filter(pk=task.pk).update(
            state="waiting", accepted=None, accepted_at=None, answers=0
        )
        Annotation.objects.all().delete()

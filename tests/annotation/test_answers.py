"""Answers: one transaction, kept for good, numbered as a text is read, compared with what was proposed."""

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection, transaction
from django.db.utils import IntegrityError
from hypothesis import given
from hypothesis import strategies as st

from apps.annotation.answer_rules import CleanBox, ModelBox, changes_of, iou
from apps.annotation.models import Annotation, AnnotationTask, Assignment
from apps.annotation.services.answers import (
    Answer,
    DraftConflictError,
    SupersededError,
    pass_on,
    save_draft,
    submit_answer,
    take_up,
)
from apps.annotation.services.leases import LeaseLostError
from apps.annotation.signals import annotation_accepted
from tests.annotation.drawing import box, drawing_survey, drawn, queued
from tests.annotation.factories import AssignmentFactory, ExpertFactory
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db


def give(task, expert, *boxes, **fields):
    version = str(task.photo.model_version)
    sent = {
        "boxes": list(boxes),
        "is_empty": not boxes,
        "key": uuid.uuid4(),
        "model_version": version,
        **fields,
    }
    return submit_answer(task=task, expert=expert, answer=Answer(**sent))


def content(*boxes):
    return {"boxes": list(boxes), "is_empty": False, "seconds": 1.0}


def test_boxes_are_numbered_as_a_text_is_read():
    task = queued(drawing_survey())
    below = drawn(y_min=300.0, y_max=350.0, label="ISO")
    right = drawn(x_min=300.0, x_max=340.0)
    kept = give(task, ExpertFactory(), below, right, drawn()).annotation
    assert [(b.number, b.x_min, b.y_min) for b in kept.boxes.order_by("number")] == [
        (1, 10.0, 20.0),
        (2, 300.0, 20.0),
        (3, 10.0, 300.0),
    ]


def test_the_changes_say_what_became_of_each_proposal():
    task = queued(drawing_survey(), boxes=5, weak=2)
    boxes = [
        box(1),
        box(2, x_max=31.0),
        box(3, label="ISO"),
        box(4, label="ISO", y_max=90.0),
        box(6),
        drawn(),
    ]
    kept = give(task, ExpertFactory(), *boxes).annotation
    assert kept.changes == {"kept": [1, 6], "moved": [2, 4], "relabelled": [3, 4], "deleted": [5], "drawn": 1}
    assert kept.boxes.get(proposal_number=6).proposal_score == 0.7


CORNERS = st.tuples(*(st.floats(0, 600) for _ in range(4))).map(
    lambda c: (c[0], c[1], c[0] + 1 + c[2], c[1] + 1 + c[3])
)


@given(
    shown=st.lists(CORNERS, max_size=6),
    weak=st.lists(CORNERS, max_size=3),
    picks=st.lists(st.tuples(st.integers(1, 9), CORNERS, st.sampled_from("AB")), unique_by=lambda p: p[0]),
)
def test_every_shown_proposal_is_accounted_for_once(shown, weak, picks):
    corners = [*shown, *weak]
    proposals = {n: ModelBox(n, "A", 0.5, n > len(shown), c) for n, c in enumerate(corners, start=1)}
    boxes = [CleanBox(*c, label=label, proposal=n) for n, c, label in picks]
    changes = changes_of(proposals, boxes)
    touched = {*changes["kept"], *changes["moved"], *changes["relabelled"]}
    assert not touched & set(changes["deleted"])
    assert {*touched, *changes["deleted"]} >= {n for n, p in proposals.items() if not p.is_weak}
    assert not set(changes["kept"]) & {*changes["moved"], *changes["relabelled"]}
    assert len(touched) + changes["drawn"] == len(boxes)


@given(a=CORNERS, b=CORNERS)
def test_iou_is_symmetric_and_one_only_for_the_same_box(a, b):
    assert iou(a, b) == iou(b, a)
    assert 0 <= iou(a, b) <= 1 + 1e-12
    assert iou(a, a) == pytest.approx(1)


def test_an_answer_cannot_be_altered_afterwards():
    task = queued(drawing_survey())
    kept = give(task, ExpertFactory(), box()).annotation
    for change in ({"seconds_spent": 1}, {"changes": {}}, {"box_count": 7}, {"key": uuid.uuid4()}):
        with pytest.raises(IntegrityError), transaction.atomic():
            Annotation.objects.filter(pk=kept.pk).update(**change)
    with pytest.raises(IntegrityError), transaction.atomic():
        kept.boxes.update(x_min=1)


def test_news_of_the_accepted_answer_comes_after_the_commit(django_capture_on_commit_callbacks):
    heard = []

    def listen(sender, task_id, annotation_id, **_kwargs):
        heard.append((task_id, annotation_id))

    annotation_accepted.connect(listen)
    try:
        task = queued(drawing_survey())
        with django_capture_on_commit_callbacks(execute=True):
            kept = give(task, ExpertFactory(), box()).annotation
            assert heard == []
    finally:
        annotation_accepted.disconnect(listen)
    assert heard == [(task.pk, kept.pk)]


def test_a_lease_that_ran_out_is_taken_again_if_nobody_else_did(settings):
    task, expert = queued(drawing_survey()), ExpertFactory()
    take_up(task=task, expert=expert)
    Assignment.objects.update(lease_until="2020-01-01T00:00Z")
    assert give(task, expert, box()).is_new
    other = queued(task.survey)
    take_up(task=other, expert=expert)
    Assignment.objects.filter(task=other).update(lease_until="2020-01-01T00:00Z")
    AssignmentFactory(task=other)
    with pytest.raises(LeaseLostError):
        give(other, expert, box())
    assert not Annotation.objects.filter(task=other).exists()


def test_the_draft_outlives_a_lost_lease_and_ends_with_the_answer():
    task, expert = queued(drawing_survey()), ExpertFactory()
    saved = save_draft(task=task, expert=expert, content=content(box()), base_version=0, client=uuid.uuid4())
    assert saved.draft_version == 1
    Assignment.objects.update(lease_until="2020-01-01T00:00Z")
    other = AssignmentFactory(task=task)
    with pytest.raises(LeaseLostError):
        save_draft(task=task, expert=expert, content=content(), base_version=1, client=uuid.uuid4())
    saved.refresh_from_db()
    assert len(saved.draft["boxes"]) == 1
    other.delete()
    give(task, expert, box())
    saved.refresh_from_db()
    assert (saved.state, saved.draft, saved.draft_version) == ("submitted", None, 1)


def test_a_draft_of_a_correction_needs_no_lease():
    task, expert = queued(drawing_survey()), ExpertFactory()
    first = give(task, expert, box()).annotation
    save_draft(task=task, expert=expert, content=content(box(2)), base_version=0, client=uuid.uuid4())
    second = give(task, expert, box(2), supersedes=first.public_id).annotation
    assert second.supersedes == first


def test_the_same_draft_again_keeps_its_version_whoever_sends_it():
    task, expert = queued(drawing_survey()), ExpertFactory()
    for _ in range(3):
        saved = save_draft(
            task=task, expert=expert, content=content(box()), base_version=0, client=uuid.uuid4()
        )
    assert saved.draft_version == 1
    with pytest.raises(DraftConflictError) as caught:
        save_draft(task=task, expert=expert, content=content(), base_version=0, client=uuid.uuid4())
    assert caught.value.assignment.draft_version == 1


def test_what_a_review_replaced_cannot_be_corrected():
    task, expert = queued(drawing_survey()), ExpertFactory()
    first = give(task, expert, box()).annotation
    Annotation.objects.filter(pk=first.pk).update(is_current=False)
    with pytest.raises(SupersededError) as caught:
        give(task, expert, supersedes=first.public_id)
    assert caught.value.current is None
    with pytest.raises(LeaseLostError):
        give(task, expert)


def test_a_curator_who_draws_settles_what_experts_disagree_about():
    task = queued(drawing_survey(), answers_needed=2)
    for label in ("CER", "ISO"):
        give(task, ExpertFactory(), drawn(label=label))
    task.refresh_from_db()
    assert task.state == AnnotationTask.State.CONFLICT
    with pytest.raises(LeaseLostError):
        give(task, ExpertFactory(), drawn())
    curator = UserFactory(is_staff=True, is_superuser=True)
    decided = give(task, curator, drawn(label="ISO")).annotation
    task.refresh_from_db()
    assert decided.origin == "curator"
    assert (task.state, task.accepted) == ("done", decided)


def test_passing_on_what_is_answered_or_taken_changes_nothing():
    task, expert = queued(drawing_survey()), ExpertFactory()
    give(task, expert, box())
    pass_on(task=task, expert=expert, reason="blurred", note="")
    assert Assignment.objects.get().state == "submitted"
    other = queued(task.survey)
    AssignmentFactory(task=other)
    pass_on(task=other, expert=expert, reason="blurred", note="")
    assert not Assignment.objects.filter(task=other, expert=expert).exists()


def test_a_photo_deleted_meanwhile_is_told_as_one_that_is_no_longer_there():
    task, expert = queued(drawing_survey()), ExpertFactory()
    stale = AnnotationTask.objects.select_related("photo__model_version", "survey").get(pk=task.pk)
    task.photo.delete()
    with pytest.raises(LeaseLostError):
        give(stale, expert, box())
    with pytest.raises(LeaseLostError):
        save_draft(task=stale, expert=expert, content=content(), base_version=0, client=uuid.uuid4())


def test_an_answer_that_cannot_be_settled_is_not_kept(monkeypatch):
    task, expert = queued(drawing_survey()), ExpertFactory()
    save_draft(task=task, expert=expert, content=content(box()), base_version=0, client=uuid.uuid4())

    def fail(**_kwargs):
        raise RuntimeError("the machine died here")

    monkeypatch.setattr("apps.annotation.services.answers.settle", fail)
    with pytest.raises(RuntimeError), transaction.atomic():
        give(task, expert, box())
    assert not Annotation.objects.exists()
    assignment = Assignment.objects.get()
    assert (assignment.state, len(assignment.draft["boxes"])) == ("open", 1)


@pytest.mark.django_db(transaction=True)
def test_the_same_answer_sent_by_many_threads_at_once_is_one():
    task, expert = queued(drawing_survey()), ExpertFactory()
    key = uuid.uuid4()

    def send(_n):
        try:
            return give(task, expert, box(), key=key)
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as threads:
        sent = list(threads.map(send, range(8)))
    assert sum(one.is_new for one in sent) == 1
    assert len({one.annotation.pk for one in sent}) == 1
    assert Annotation.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_of_two_experts_at_the_same_instant_one_answer_is_kept():
    task = queued(drawing_survey())

    def send(expert):
        try:
            return give(task, expert, box()).is_new
        except LeaseLostError:
            return False
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(send, [ExpertFactory() for _ in range(4)])) == 1
    task.refresh_from_db()
    assert (task.state, task.answers) == ("done", 1)


@pytest.mark.django_db(transaction=True)
def test_drafts_of_two_windows_at_the_same_instant_are_never_lost_unseen():
    task, expert = queued(drawing_survey()), ExpertFactory()
    take_up(task=task, expert=expert)

    def save(n):
        try:
            return save_draft(
                task=task, expert=expert, content=content(box(n)), base_version=0, client=uuid.uuid4()
            ).draft_version
        except DraftConflictError:
            return None
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as threads:
        versions = list(threads.map(save, range(1, 5)))
    assert sorted(version for version in versions if version) == [1]

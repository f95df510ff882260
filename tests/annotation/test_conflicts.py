"""Disagreements settled in the console."""

import re
import threading
import uuid

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from apps.annotation.models import Annotation, AnnotationTask, AnswerComparison, Assignment, Review
from apps.annotation.services.answers import save_draft
from apps.annotation.services.conflicts import (
    AlreadySettledError,
    answer_set,
    rows_to_decide,
    seen_mark,
    take_version,
)
from tests.admin.conftest import curator, root  # noqa: F401
from tests.annotation.factories import ExpertFactory
from tests.annotation.several import at, say, survey_of_several, task_for
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db
State = AnnotationTask.State
LIST = "admin:annotation_conflict_changelist"


def disagreement(*, experts=2, answers=None):
    """Anna and Bruno agree about one animal, name another one differently, and Bruno has one more."""
    task = task_for(survey_of_several(experts))
    anna, bruno = ExpertFactory(display_name="Anna"), ExpertFactory(display_name="Bruno")
    first = say(task, at(100), at(300, "CER"), by=anna)
    second = say(task, at(102), at(300, "ISO"), at(500, note="in the moss"), by=bruno)
    task.refresh_from_db()
    assert task.state == State.CONFLICT
    return task, first, second


def address(task):
    return reverse("admin:annotation_conflict_change", args=[task.pk])


def mark(task):
    return seen_mark(answer_set(task))


@pytest.fixture
def console(client, curator):  # noqa: F811
    client.force_login(curator)
    return client


def test_the_list_shows_what_is_to_be_decided_and_what_was(console, django_assert_max_num_queries):
    task, *_answers = disagreement()
    settled, first, _second = disagreement_in(task.survey)
    take_version(task=settled, by=UserFactory(), answer=first.public_id, seen=mark(settled))
    with django_assert_max_num_queries(14):
        page = console.get(reverse(LIST)).content.decode()
    assert address(task) in page
    assert address(settled) not in page
    assert reverse("annotation:agreement", args=[task.survey.slug]) in page
    page = console.get(reverse(LIST), {"decision": "settled"}).content.decode()
    assert address(settled) in page
    assert address(task) not in page


def disagreement_in(survey):
    task = task_for(survey)
    first, second = say(task, at(100)), say(task, at(100, "ISO"))
    task.refresh_from_db()
    return task, first, second


def test_the_page_lays_the_versions_over_the_photo_and_lists_what_differs(console):
    task, first, second = disagreement()
    page = console.get(address(task)).content.decode()
    assert "Anna" in page
    assert "Bruno" in page
    keys, drawn_boxes, boxes_of_the_model = 3, 5, 2
    assert page.count('class="version__line"') == keys + drawn_boxes + boxes_of_the_model
    assert "A1" in page
    assert "B3" in page
    assert "named differently" in page
    assert "drawn by 1 of 2" in page
    assert "in the moss" in page
    assert f"take:{first.public_id}" in page
    assert f"take:{second.public_id}" in page


def test_one_click_takes_a_version(console, curator):  # noqa: F811
    task, _first, second = disagreement()
    response = console.post(
        address(task), {"action": f"take:{second.public_id}", "seen": mark(task), "note": "B is right"}
    )
    assert response["Location"] == reverse(LIST)
    task.refresh_from_db()
    answer = task.accepted
    assert (task.state, answer.origin, answer.author, answer.box_count) == (State.DONE, "curator", curator, 3)
    assert [row.label.code for row in answer.boxes.order_by("number")] == ["CER", "ISO", "CER"]
    assert [row.agreement for row in answer.boxes.order_by("number")] == [1, 0.5, 0.5]
    review = Review.objects.get()
    assert (review.kind, review.reviewer, review.before, review.after, review.note) == (
        "settled", curator, second, answer, "B is right",
    )  # fmt: skip
    assert AnswerComparison.objects.filter(kind="consensus", second=answer).count() == 2
    assert Annotation.objects.current().by_experts().filter(task=task).count() == 2, "answers stay"


def test_each_difference_can_be_decided_by_itself(console):
    task, *_answers = disagreement()
    wanted = rows_to_decide(answer_set(task).consensus)
    (named, _animal), (alone, _other) = wanted
    response = console.post(
        address(task),
        {"action": "rows", "seen": mark(task), f"row-{named}": "ISO", f"row-{alone}": "none"},
    )
    assert response.status_code == 302
    task.refresh_from_db()
    rows = list(task.accepted.boxes.order_by("number"))
    assert [(row.label.code, row.x_min) for row in rows] == [("CER", 101), ("ISO", 300)]
    assert rows[1].votes == {"CER": 1, "ISO": 1}


def test_all_differences_need_a_choice_and_those_made_are_kept(console):
    task, *_answers = disagreement()
    (named, _animal), (alone, _other) = rows_to_decide(answer_set(task).consensus)
    response = console.post(
        address(task), {"action": "rows", "seen": mark(task), f"row-{named}": "ISO", f"row-{alone}": "XXX"}
    )
    assert response.status_code == 422
    page = response.content.decode()
    assert "1 difference has no choice yet." in page
    assert re.search(rf'name="row-{named}" value="ISO" required checked', page)
    task.refresh_from_db()
    assert task.state == State.CONFLICT
    assert not Review.objects.exists()


def test_a_curator_can_decide_that_nothing_is_there(console):
    task = task_for(survey_of_several(2))
    say(task, at(100))
    say(task)
    task.refresh_from_db()
    console.post(address(task), {"action": "rows", "seen": mark(task), "row-0": "none"})
    task.refresh_from_db()
    assert task.accepted.is_empty


def test_three_who_each_saw_another_animal_can_be_settled_row_by_row(console):
    task = task_for(survey_of_several(3))
    for x in (100, 300, 500):
        say(task, at(x))
    task.refresh_from_db()
    assert task.state == State.CONFLICT
    assert "drawn by 1 of 3" in console.get(address(task)).content.decode()
    choices = {"row-0": "CER", "row-1": "none", "row-2": "CER"}
    console.post(address(task), {"action": "rows", "seen": mark(task), **choices})
    task.refresh_from_db()
    assert [row.x_min for row in task.accepted.boxes.order_by("number")] == [100, 500]


def test_drawing_starts_from_a_version_and_settles_it(console, curator):  # noqa: F811
    task, _first, second = disagreement()
    response = console.post(address(task), {"action": f"draw:{second.public_id}", "seen": mark(task)})
    assert response["Location"] == reverse("annotation:task", args=[task.public_id])
    draft = Assignment.objects.get(task=task, expert=curator).draft
    assert [(row["x_min"], row["label"], row["note"]) for row in draft["boxes"]] == [
        (102, "CER", ""), (300, "ISO", ""), (500, "CER", "in the moss"),
    ]  # fmt: skip
    assert console.get(response["Location"]).status_code == 200
    drawn = say(task, at(100), at(300, "ISO"), by=curator)
    task.refresh_from_db()
    assert (drawn.origin, task.state, task.accepted) == ("curator", State.DONE, drawn)


@pytest.mark.parametrize("has_draft", [False, True])
def test_a_curator_who_is_one_of_those_who_disagree_decides_and_corrects_nothing(
    console,
    curator,  # noqa: F811
    has_draft,
):
    task = task_for(survey_of_several(2))
    own, other = say(task, at(100), by=curator), say(task, at(100, "ISO"))
    task.refresh_from_db()
    assert task.state == State.CONFLICT
    if has_draft:  # begun as a correction
        _keep_draft(task, curator, at(100))
    console.post(address(task), {"action": f"draw:{other.public_id}", "seen": mark(task)})
    _keep_draft(task, curator, at(100, "ISO"))
    drawn = say(task, at(100, "ISO"), by=curator, supersedes=own.public_id)  # as the drawing page sends it
    task.refresh_from_db()
    own.refresh_from_db()
    assert (drawn.origin, drawn.supersedes, task.state, task.accepted) == ("curator", None, State.DONE, drawn)
    assert (own.is_current, own.origin) == (True, "expert")
    assert Review.objects.get().after == drawn


def test_a_curator_who_corrects_their_own_answer_decides_nothing(curator):  # noqa: F811
    task = task_for(survey_of_several(2))
    own = say(task, at(100), by=curator)
    say(task, at(100, "ISO"))
    corrected = say(task, at(300), by=curator, supersedes=own.public_id)
    task.refresh_from_db()
    assert (corrected.origin, corrected.supersedes, task.state) == ("expert", own, State.CONFLICT)


def _keep_draft(task, expert, *boxes):
    assignment = Assignment.objects.get(task=task, expert=expert)
    content = {"boxes": list(boxes), "is_empty": False, "seconds": 1.0}
    save_draft(
        task=task,
        expert=expert,
        content=content,
        base_version=assignment.draft_version,
        client=uuid.uuid4(),
    )


def test_the_list_asks_the_database_the_same_for_one_and_for_many(console):
    task, *_answers = disagreement()
    counts = []
    for more in (0, 6):
        for _row in range(more):
            disagreement_in(task.survey)
        with CaptureQueriesContext(connection) as queries:
            page = console.get(reverse(LIST)).content.decode()
        assert len(set(re.findall(r"annotation/conflict/(\d+)/change", page))) == 1 + more
        counts.append(len(queries))
    assert counts[0] == counts[1]


def test_a_draft_that_is_there_already_is_not_overwritten(console, curator):  # noqa: F811
    task, first, second = disagreement()
    console.post(address(task), {"action": f"draw:{second.public_id}", "seen": mark(task)})
    console.post(address(task), {"action": f"draw:{first.public_id}", "seen": mark(task)})
    assert len(Assignment.objects.get(task=task, expert=curator).draft["boxes"]) == 3


def test_the_second_of_two_curators_is_told_who_was_first(console, curator):  # noqa: F811
    task, first, second = disagreement()
    seen = mark(task)
    other = UserFactory(display_name="Clara")
    take_version(task=task, by=other, answer=first.public_id, seen=seen)
    response = console.post(address(task), {"action": f"take:{second.public_id}", "seen": seen}, follow=True)
    page = response.content.decode()
    assert "Clara has settled this photo already" in page
    assert "Settled by Clara" in page
    assert "Version A was taken." in page
    assert "Take version" not in page
    assert Review.objects.count() == 1


def test_the_same_click_twice_is_one_decision(console):
    task, first, _second = disagreement()
    data = {"action": f"take:{first.public_id}", "seen": mark(task)}
    for _time in range(2):
        response = console.post(address(task), data, follow=True)
    assert "You have settled this photo already" in response.content.decode()
    assert Review.objects.count() == 1
    assert Annotation.objects.filter(origin="curator").count() == 1


def test_a_correction_meanwhile_is_not_decided_over_unseen(console):
    task, first, second = disagreement()
    seen = mark(task)
    say(task, at(100), by=first.author, supersedes=first.public_id)
    response = console.post(address(task), {"action": f"take:{second.public_id}", "seen": seen}, follow=True)
    assert "has corrected their answer" in response.content.decode()
    task.refresh_from_db()
    assert task.state == State.CONFLICT


def test_experts_who_agree_meanwhile_leave_nothing_to_decide(console):
    task = task_for(survey_of_several(2))
    first, _second = say(task, at(100)), say(task, at(100, "ISO"))
    task.refresh_from_db()
    seen = mark(task)
    say(task, at(100, "ISO"), by=first.author, supersedes=first.public_id)
    response = console.post(address(task), {"action": f"take:{first.public_id}", "seen": seen}, follow=True)
    assert "The experts agree meanwhile" in response.content.decode()


@pytest.mark.parametrize(
    "action", ["", "take:", "take:0", "take:7d7a6a0c-6a4f-4d0e-9a55-e6d0d3c2a111", "eat"]
)
def test_a_choice_that_is_none_changes_nothing(console, action):
    task, *_answers = disagreement()
    response = console.post(address(task), {"action": action, "seen": mark(task), "note": "\0"}, follow=True)
    assert response.status_code == 200
    task.refresh_from_db()
    assert task.state == State.CONFLICT


def test_only_who_may_review_sees_and_settles(client):
    task, first, _second = disagreement()
    staff = UserFactory(is_staff=True)
    client.force_login(staff)
    assert client.get(reverse(LIST)).status_code == 403
    assert client.get(address(task)).status_code == 403
    data = {"action": f"take:{first.public_id}", "seen": mark(task)}
    assert client.post(address(task), data).status_code == 403
    client.force_login(ExpertFactory())
    assert client.post(address(task), data).status_code == 302
    task.refresh_from_db()
    assert task.state == State.CONFLICT


def test_unknown_rows_are_not_found(console):
    for key in ("999999", "x", "9" * 30):
        assert console.get(reverse(LIST) + f"{key}/change/").status_code == 404


@pytest.mark.django_db(transaction=True)
def test_two_curators_at_the_same_instant_make_one_decision():
    task, first, second = disagreement()
    seen = mark(task)
    curators = [UserFactory(), UserFactory()]
    barrier = threading.Barrier(2)
    outcomes: list[str] = []

    def decide(number: int) -> None:
        try:
            barrier.wait(10)
            answer = (first, second)[number].public_id
            take_version(task=task, by=curators[number], answer=answer, seen=seen)
            outcomes.append("settled")
        except AlreadySettledError as error:
            outcomes.append("too late" if error.review else "?")
        finally:
            connection.close()

    threads = [threading.Thread(target=decide, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(outcomes) == ["settled", "too late"]
    assert Review.objects.count() == Annotation.objects.filter(origin="curator").count() == 1

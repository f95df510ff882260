"""Photos whose answer is known: chosen, given unnoticed, told kindly, and added up."""

import json

import pytest
from django.urls import reverse

from apps.annotation.models import (
    Annotation,
    AnnotationTask,
    AnswerComparison,
    GoldenPhoto,
    GoldenResult,
)
from apps.annotation.services.golden import (
    Reliability,
    choose_golden,
    reliability_of,
    retire_golden,
    use_golden,
)
from apps.annotation.services.policies import policy_of
from apps.annotation.services.queue import next_task
from tests.admin.conftest import curator  # noqa: F401
from tests.annotation.drawing import answer, box, drawing_survey, path, queued
from tests.annotation.factories import AssignmentFactory, ExpertFactory
from tests.annotation.several import at, say
from tests.api.conftest import Caller, verified_user
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db
State = AnnotationTask.State


@pytest.fixture
def survey():
    survey = drawing_survey()
    policy = policy_of(survey)
    policy.golden_rate = 0.5
    policy.save()
    return survey


@pytest.fixture
def expert():
    return verified_user(is_expert=True)


def golden_photo(survey, *boxes):
    """A done photo with a known answer of two animals, or of these boxes."""
    task = queued(survey)
    say(task, *(boxes or (box(1), at(300, "ISO"))), model_version=str(task.photo.model_version))
    task.refresh_from_db()
    choose_golden(tasks=[task], by=UserFactory())
    return task


def give(task, expert):
    return AssignmentFactory(
        task=task, expert=expert, given_as="golden", model_version=task.photo.model_version
    )


# --- Choosing ------------------------------------------------------------------------------------------------


def test_curators_choose_among_done_photos_once(survey):
    by = UserFactory()
    waiting, done = queued(survey), queued(survey)
    say(done, at(100))
    done.refresh_from_db()
    assert choose_golden(tasks=[waiting, done], by=by) == 1
    assert choose_golden(tasks=[waiting, done], by=by) == 0
    golden = GoldenPhoto.objects.get()
    assert (golden.task, golden.answer, golden.added_by, golden.is_active) == (done, done.accepted, by, True)


def test_one_taken_out_of_use_can_be_put_in_again_while_its_answer_counts(survey):
    task = golden_photo(survey)
    every = GoldenPhoto.objects.all()
    assert retire_golden(every) == 1
    assert retire_golden(every) == 0
    assert use_golden(every) == 1
    retire_golden(every)
    AnnotationTask.objects.filter(pk=task.pk).update(state=State.WAITING, accepted=None)
    assert use_golden(every) == 0


def test_a_corrected_answer_is_the_known_one_from_then_on(survey):
    task = golden_photo(survey)
    author = task.accepted.author
    new = say(task, at(100), by=author, supersedes=task.accepted.public_id)
    assert GoldenPhoto.objects.get().answer == new


# --- Given and told ------------------------------------------------------------------------------------------


def test_an_answer_is_compared_told_kindly_and_counts_for_nothing(survey, expert):
    task = golden_photo(survey)
    known = task.accepted
    give(task, expert)
    sent = answer([box(1), at(300, "CER"), at(500)], model_version=str(task.photo.model_version))
    response = Caller(expert).post_json(path(task, "submit"), sent)
    assert response.status_code == 201
    feedback = response.json()["feedback"]
    text = feedback.pop("text")
    assert feedback == {"matched": 1, "mislabelled": 1, "missed": 0, "extra": 1}
    assert text == (
        "The answer to this photo was known. You found 2 of its 2 animals. 1 has another name there."
        " 1 of your boxes is not in it. Known answers can be wrong too: a comment on the photo tells a curator."
    )
    task.refresh_from_db()
    assert (task.state, task.accepted, task.answers) == (State.DONE, known, 1)
    assert not AnswerComparison.objects.filter(first__author=expert).exists()
    again = Caller(expert).post_json(path(task, "submit"), sent)
    assert (again.status_code, again.json()["feedback"]["text"]) == (200, text)
    assert GoldenResult.objects.count() == 1


@pytest.mark.parametrize(
    ("known", "given", "told"),
    [
        ([at(100)], [at(100)], "You found its animal, under the same name."),
        ([at(100), at(300)], [at(100), at(300)], "You found all its 2 animals, under the same names."),
        ([], [], "It is empty, as you say."),
        ([at(100)], [], "You found 0 of its 1 animal."),
        ([], [at(100)], "1 of your boxes is not in it."),
    ],
)
def test_feedback_says_what_was_alike_first(survey, expert, known, given, told):
    task = queued(survey)
    say(task, *known)
    task.refresh_from_db()
    choose_golden(tasks=[task], by=UserFactory())
    give(task, expert)
    text = Caller(expert).post_json(path(task, "submit"), answer(given)).json()["feedback"]["text"]
    assert text.startswith("The answer to this photo was known.")
    assert told in text


def test_other_answers_get_no_feedback(survey, expert):
    task = queued(survey)
    response = Caller(expert).post_json(path(task, "submit"), answer([at(100)]))
    assert response.json()["feedback"] is None


def test_only_the_first_answer_says_how_reliable_somebody_is(survey, expert):
    task = golden_photo(survey)
    give(task, expert)
    first = say(task, at(500), by=expert)
    say(task, box(1), at(300, "ISO"), by=expert, supersedes=first.public_id)
    result = GoldenResult.objects.get()
    assert (result.annotation, result.matched, result.missed) == (first, 0, 2)
    task.refresh_from_db()
    assert task.answers == 1


def test_answers_of_a_closed_account_still_count_for_nothing(survey, expert):
    task = golden_photo(survey)
    known = task.accepted
    give(task, expert)
    say(task, at(500), by=expert)
    expert.delete()
    say(task, at(100), at(300), by=known.author, supersedes=known.public_id)
    task.refresh_from_db()
    assert (task.state, task.answers, task.accepted.author) == (State.DONE, 1, known.author)


def test_nothing_tells_a_known_photo_from_any_other_beforehand(survey, expert):
    """The same fields with the same kinds of values, and no word of it anywhere."""
    ordinary, golden = queued(survey), golden_photo(survey)
    AssignmentFactory(task=ordinary, expert=expert, model_version=ordinary.photo.model_version)
    give(golden, expert)
    caller = Caller(expert)
    bodies = [caller.get(path(task)).json() for task in (ordinary, golden)]
    for body in bodies:
        assert "golden" not in json.dumps(body).lower()
    plain, known = bodies
    assert plain.keys() == known.keys()
    for field in ("state", "my_annotation", "draft", "comments", "progress", "survey", "recent_labels"):
        assert plain[field] == known[field], field
    assert plain["lease"]["is_mine"] is known["lease"]["is_mine"] is True
    for field in ("arm", "strategy", "rank_before", "rank_after", "comments"):
        assert plain["why"][field] == known["why"][field], field
    for task in (ordinary, golden):
        lease = caller.post_json(path(task, "lease"), {})
        assert lease.status_code == 200
        assert lease.json()["is_mine"]


@pytest.mark.slow
def test_the_queue_weaves_them_in_and_nobody_gets_their_own(survey):
    task = golden_photo(survey)
    for _photo in range(12):
        queued(survey)
    author, other = task.accepted.author, ExpertFactory()
    for expert, is_given in ((author, False), (other, True)):
        given = []
        while assignment := next_task(expert, survey):
            given.append(assignment)
            say(assignment.task, at(100), by=expert)
        golden = [each for each in given if each.given_as == "golden"]
        assert bool(golden) is is_given
        for photo in AnnotationTask.objects.filter(state=State.DONE).exclude(pk=task.pk):
            AnnotationTask.objects.filter(pk=photo.pk).update(state=State.WAITING, answers=0)


# --- Added up ------------------------------------------------------------------------------------------------


def test_reliability_is_shares_with_their_intervals(survey, expert):
    for boxes in ([box(1), at(300, "ISO")], [box(1), at(300, "CER")], [box(1), at(500)]):
        task = golden_photo(survey)
        give(task, expert)
        say(task, *boxes, by=expert)
    sums = reliability_of(expert, survey)
    assert sums == Reliability(3, 4, 1, 1, 1, pytest.approx(5))
    assert (sums.precision.successes, sums.precision.n) == (5, 6)
    assert (sums.recall.successes, sums.recall.n) == (5, 6)
    assert sums.label_accuracy.value == pytest.approx(0.8)
    assert 0.37 < sums.label_accuracy.low < 0.38
    assert sums.label_accuracy.high < 1
    assert reliability_of(expert, drawing_survey(slug="other")).photos == 0


def test_the_page_about_oneself_tells_each_answer_newest_first(client, survey, expert):
    client.force_login(expert)
    assert "No photo with a known answer yet" in client.get(reverse("annotation:me")).content.decode()
    for boxes in ([box(1), at(300, "ISO")], [at(500)]):
        task = golden_photo(survey)
        give(task, expert)
        say(task, *boxes, by=expert)
    page = client.get(reverse("annotation:me")).content.decode()
    assert page.index("You found 0 of its 2 animals.") < page.index("You found all its 2 animals")
    assert "From 2 photos." in page
    client.force_login(ExpertFactory())
    assert "You found" not in client.get(reverse("annotation:me")).content.decode()


def test_photos_withdrawn_since_are_told_without_their_picture(client, survey, expert):
    task = golden_photo(survey)
    give(task, expert)
    say(task, box(1), by=expert)
    observation = task.photo.observation
    observation.visibility = "private"
    observation.save()
    client.force_login(expert)
    page = client.get(reverse("annotation:me")).content.decode()
    assert str(task.photo.public_id) not in page
    assert "no longer public" in page


# --- In the console ------------------------------------------------------------------------------------------


def test_curators_choose_them_in_the_queue_and_see_who_is_reliable(client, curator, survey, expert):  # noqa: F811
    done, waiting = queued(survey), queued(survey)
    say(done, box(1))
    client.force_login(curator)
    data = {"action": "make_golden", "_selected_action": [done.pk, waiting.pk]}
    page = client.post(reverse("admin:annotation_annotationtask_changelist"), data, follow=True)
    assert "1 photo is given as one with a known answer from now on." in page.content.decode()
    give(done, expert)
    say(done, box(1, label="ISO"), at(300), by=expert)
    listing = client.get(reverse("admin:annotation_goldenphoto_changelist")).content.decode()
    assert "1 / 1" in listing
    golden = GoldenPhoto.objects.get()
    assert (
        str(expert)
        in client.get(reverse("admin:annotation_goldenphoto_change", args=[golden.pk])).content.decode()
    )
    address = reverse("admin:annotation_reliability")
    for query in ({}, {"survey": survey.slug}, {"survey": "no-such"}):
        page = client.get(address, query).content.decode()
        assert str(expert) in page
        assert "n = 2" in page
    data = {"action": "take_out", "_selected_action": [golden.pk]}
    client.post(reverse("admin:annotation_goldenphoto_changelist"), data)
    golden.refresh_from_db()
    assert not golden.is_active


def test_staff_without_the_permission_see_none_of_it(client, survey):
    client.force_login(UserFactory(is_staff=True))
    assert client.get(reverse("admin:annotation_reliability")).status_code == 403
    assert client.get(reverse("admin:annotation_goldenphoto_changelist")).status_code == 403
    task = golden_photo(survey)
    GoldenPhoto.objects.all().delete()
    data = {"action": "make_golden", "_selected_action": [task.pk]}
    client.post(reverse("admin:annotation_annotationtask_changelist"), data)
    assert not GoldenPhoto.objects.exists()
    assert Annotation.objects.count() == 1

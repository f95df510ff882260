"""From answers to the answer that counts."""

import threading

import pytest
from django.db import connection

from apps.annotation.models import (
    AnnotatedBox,
    Annotation,
    AnnotationTask,
    AnswerComparison,
    Review,
)
from apps.annotation.services.answers import SupersededError
from apps.annotation.services.bulk import relabel_boxes, send_back, undo
from apps.annotation.services.leases import LeaseLostError
from apps.annotation.services.settlement import settle
from apps.annotation.signals import annotation_accepted
from tests.admin.conftest import curator  # noqa: F401
from tests.annotation.drawing import box, drawing_survey, queued
from tests.annotation.factories import ExpertFactory
from tests.annotation.several import at, say, survey_of_several, task_for

pytestmark = pytest.mark.django_db
State = AnnotationTask.State
Kind = AnswerComparison.Kind


@pytest.fixture
def accepted():
    """Ids of the answers told of."""
    told: list[int] = []

    def note(annotation_id: int, **_news: object) -> None:
        told.append(annotation_id)

    annotation_accepted.connect(note)
    yield told
    annotation_accepted.disconnect(note)


def test_one_answer_settles_a_photo_that_needs_one(accepted, django_capture_on_commit_callbacks):
    task = queued(drawing_survey())
    with django_capture_on_commit_callbacks(execute=True):
        answer = say(task, at(100))
    task.refresh_from_db()
    assert (task.state, task.accepted, task.answers) == (State.DONE, answer, 1)
    assert accepted == [answer.pk]


def test_it_waits_for_the_second_expert_and_then_both_make_the_answer(
    accepted, django_capture_on_commit_callbacks
):
    task = task_for(survey_of_several(2))
    with django_capture_on_commit_callbacks(execute=True):
        say(task, at(100), at(200))
    task.refresh_from_db()
    assert (task.state, task.accepted, task.answers) == (State.WAITING, None, 1)
    assert accepted == []
    with django_capture_on_commit_callbacks(execute=True):
        say(task, at(102), at(200))
    task.refresh_from_db()
    consensus = task.accepted
    assert (task.state, task.answers) == (State.DONE, 2)
    assert (consensus.origin, consensus.author, consensus.box_count) == ("consensus", None, 2)
    first, second = consensus.boxes.order_by("number")
    assert (first.x_min, first.x_max, first.votes, first.agreement) == (101, 121, {"CER": 2}, 1)
    assert first.mean_iou == pytest.approx(19 / 21)
    assert second.mean_iou == pytest.approx(1)
    assert accepted == [consensus.pk]


def test_two_who_name_an_animal_differently_leave_it_to_a_curator(
    accepted, django_capture_on_commit_callbacks
):
    task = task_for(survey_of_several(2))
    with django_capture_on_commit_callbacks(execute=True):
        say(task, at(100, "CER"))
        say(task, at(100, "ISO"))
    task.refresh_from_db()
    assert (task.state, task.accepted, task.accepted_at) == (State.CONFLICT, None, None)
    assert accepted == []
    assert Annotation.objects.count() == 2


def test_of_three_the_majority_decides():
    task = task_for(survey_of_several(3))
    say(task, at(100, "CER"), at(300))
    say(task, at(100, "ISO"))
    say(task, at(100, "ISO"))
    task.refresh_from_db()
    assert task.state == State.DONE
    (animal,) = task.accepted.boxes.all()
    assert (animal.label.code, animal.votes) == ("ISO", {"ISO": 2, "CER": 1})
    assert animal.agreement == pytest.approx(2 / 3)


def test_experts_who_all_confirm_it_empty_agree():
    task = task_for(survey_of_several(2))
    say(task)
    say(task)
    task.refresh_from_db()
    assert task.state == State.DONE
    assert task.accepted.is_empty


def test_settling_again_changes_nothing(accepted, django_capture_on_commit_callbacks):
    task = task_for(survey_of_several(2))
    with django_capture_on_commit_callbacks(execute=True):
        say(task, at(100))
        say(task, at(100))
    task.refresh_from_db()
    before = (task.accepted_id, task.accepted_at, list(AnswerComparison.objects.values_list("pk", flat=True)))
    with django_capture_on_commit_callbacks(execute=True):
        for _time in range(2):
            settle(task=task)
    task.refresh_from_db()
    now = (task.accepted_id, task.accepted_at, list(AnswerComparison.objects.values_list("pk", flat=True)))
    assert now == before
    assert len(accepted) == 1
    assert Annotation.objects.count() == 3


def test_a_correction_supersedes_the_consensus():
    task = task_for(survey_of_several(2))
    anna = ExpertFactory()
    mine = say(task, at(100), by=anna)
    say(task, at(100))
    task.refresh_from_db()
    former = task.accepted
    say(task, at(104), by=anna, supersedes=mine.public_id)
    task.refresh_from_db()
    former.refresh_from_db()
    assert (task.state, task.accepted.supersedes, former.is_current) == (State.DONE, former, False)
    assert task.accepted.boxes.get().x_min == 102
    assert Annotation.objects.current().filter(origin="consensus").count() == 1


def test_a_correction_can_end_the_agreement_and_another_one_restore_it():
    task = task_for(survey_of_several(2))
    anna = ExpertFactory()
    mine = say(task, at(100), by=anna)
    say(task, at(100))
    mine = say(task, at(100, "ISO"), by=anna, supersedes=mine.public_id)
    task.refresh_from_db()
    assert (task.state, task.accepted, task.accepted_at) == (State.CONFLICT, None, None)
    assert not Annotation.objects.current().filter(origin="consensus").exists()
    say(task, at(100), by=anna, supersedes=mine.public_id)
    task.refresh_from_db()
    assert task.state == State.DONE
    assert Annotation.objects.current().get(origin="consensus") == task.accepted


def test_what_a_curator_draws_settles_a_disagreement_for_good(curator):  # noqa: F811
    task = task_for(survey_of_several(2))
    anna = ExpertFactory()
    mine = say(task, at(100), by=anna)
    say(task, at(100, "ISO"))
    task.refresh_from_db()
    drawn = say(task, at(100, "ISO"), at(300), by=curator)
    task.refresh_from_db()
    assert (drawn.origin, task.state, task.accepted) == ("curator", State.DONE, drawn)
    review = Review.objects.get()
    assert (review.kind, review.reviewer, review.after) == ("settled", curator, drawn)
    say(task, at(100, "ISO"), by=anna, supersedes=mine.public_id)
    task.refresh_from_db()
    assert task.accepted == drawn, "what a curator decided stands"


def test_a_review_of_crops_stands_over_later_corrections():
    survey = survey_of_several(2)
    task = task_for(survey)
    anna = ExpertFactory()
    mine = say(task, at(100), by=anna)
    say(task, at(100))
    task.refresh_from_db()
    relabel_boxes(survey=survey, by=anna, boxes=[(task.accepted.public_id, 1)], code="ISO")
    say(task, at(100), at(300), by=anna, supersedes=mine.public_id)
    task.refresh_from_db()
    assert task.accepted.origin == "bulk"


def test_a_photo_sent_back_and_restored_has_its_consensus_again():
    survey = survey_of_several(2)
    task = task_for(survey)
    anna = ExpertFactory()
    say(task, at(100))
    say(task, at(100))
    task.refresh_from_db()
    consensus = task.accepted
    batch = send_back(survey=survey, by=anna, boxes=[(consensus.public_id, 1)]).batch
    task.refresh_from_db()
    settle(task=task)
    task.refresh_from_db()
    assert (task.state, task.answers) == (State.WAITING, 0)
    undo(batch=batch, by=anna)
    task.refresh_from_db()
    settle(task=task)
    task.refresh_from_db()
    assert (task.state, task.accepted) == (State.DONE, consensus)


def test_a_consensus_tells_what_became_of_the_models_boxes():
    """Both kept #1, both removed #2; the consensus began as the same boxes of the same version."""
    task = task_for(survey_of_several(2))
    version = str(task.photo.model_version)
    for _expert in range(2):
        say(task, box(1), at(300), model_version=version)
    task.refresh_from_db()
    changes = task.accepted.changes
    assert task.accepted.model_version == task.photo.model_version
    assert (changes["kept"], changes["deleted"], changes["drawn"]) == ([1], [2], 1)
    first = task.accepted.boxes.get(number=1)
    assert (first.proposal_number, first.proposal_score) == (1, 0.7)


def test_two_animals_do_not_begin_as_the_same_box_of_the_model():
    task = task_for(survey_of_several(2))
    version = str(task.photo.model_version)
    say(task, at(100, proposal=1), at(300, proposal=2), model_version=version)
    say(task, at(100, proposal=2), at(300, proposal=1), model_version=version)
    task.refresh_from_db()
    assert set(task.accepted.boxes.values_list("proposal_number", flat=True)) == {1, None}


def test_nobody_is_shown_or_takes_the_photo_once_it_has_its_answers():
    task = task_for(survey_of_several(2))
    say(task, at(100))
    say(task, at(100))
    task.refresh_from_db()
    with pytest.raises(LeaseLostError):
        say(task, at(100))


def test_an_expert_answers_a_photo_once():
    task = task_for(survey_of_several(2))
    anna = ExpertFactory()
    say(task, at(100), by=anna)
    with pytest.raises(SupersededError):
        say(task, at(100), by=anna)


# --- Comparisons ---------------------------------------------------------------------------------------------


def test_answers_are_compared_with_each_other_the_consensus_and_the_model():
    task = task_for(survey_of_several(2))
    version = str(task.photo.model_version)
    anna, bruno = ExpertFactory(), ExpertFactory()
    say(task, box(1), at(300), by=bruno, model_version=version)
    say(task, box(1), at(302), by=anna, model_version=version)
    task.refresh_from_db()
    experts = AnswerComparison.objects.get(kind=Kind.EXPERTS)
    assert (experts.first_expert, experts.second_expert) == (anna, bruno), "always in the same direction"
    assert (experts.matched, experts.missed, experts.extra) == (2, 0, 0)
    assert experts.label_pairs == [["CER", "CER", 2]]
    assert experts.by_label["CER"][1:] == [experts.missed, experts.extra]
    assert experts.by_label["CER"][0] == pytest.approx(experts.iou_sum)
    assert experts.iou_sum == pytest.approx(1 + 18 / 22)
    with_consensus = AnswerComparison.objects.filter(kind=Kind.CONSENSUS)
    assert {row.first_expert for row in with_consensus} == {anna, bruno}
    assert {row.second for row in with_consensus} == {task.accepted}
    with_model = AnswerComparison.objects.get(kind=Kind.MODEL, first_expert=anna)
    assert (with_model.matched, with_model.missed, with_model.extra) == (1, 1, 1), (
        "the weak box was not shown"
    )


def test_one_answer_is_compared_with_the_model_alone():
    task = queued(drawing_survey())
    say(task, box(1, label="ISO"), model_version=str(task.photo.model_version))
    (row,) = AnswerComparison.objects.all()
    assert (row.kind, row.label_pairs, row.missed) == ("model", [["ISO", "CER", 1]], 1)
    assert row.by_label == {"CER": [row.iou_sum, 1, 0], "ISO": [row.iou_sum, 0, 0]}


def test_comparisons_of_a_corrected_answer_are_replaced():
    task = task_for(survey_of_several(2))
    anna = ExpertFactory()
    mine = say(task, at(100, "ISO"), by=anna)
    say(task, at(100))
    assert AnswerComparison.objects.filter(kind=Kind.CONSENSUS).count() == 0
    new = say(task, at(100), by=anna, supersedes=mine.public_id)
    rows = AnswerComparison.objects.all()
    assert not rows.filter(first=mine).exists()
    assert rows.get(kind=Kind.EXPERTS).label_pairs == [["CER", "CER", 1]]
    assert rows.filter(first=new, kind=Kind.CONSENSUS).exists()


def test_settling_takes_a_bounded_number_of_queries(django_assert_max_num_queries):
    task = task_for(survey_of_several(2))
    say(task, *(at(25.0 * n) for n in range(20)))
    say(task, *(at(25.0 * n) for n in range(20)))
    with django_assert_max_num_queries(16):
        settle(task=task)


# --- At the same instant -------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("labels", [("CER", "CER"), ("CER", "ISO")])
def test_two_experts_who_submit_at_the_same_instant_settle_it_once(labels):
    task = task_for(survey_of_several(2))
    experts = [ExpertFactory(), ExpertFactory()]
    barrier = threading.Barrier(2)
    failures: list[BaseException] = []

    def submit(number: int) -> None:
        try:
            barrier.wait(10)
            say(task, at(100, labels[number]), by=experts[number])
        except BaseException as error:  # noqa: BLE001 (told by the test)
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=submit, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failures == []
    task.refresh_from_db()
    agree = labels[0] == labels[1]
    assert task.answers == 2
    assert task.state == (State.DONE if agree else State.CONFLICT)
    assert Annotation.objects.filter(origin="consensus").count() == int(agree)
    assert AnswerComparison.objects.filter(kind=Kind.EXPERTS).count() == 1
    assert AnnotatedBox.objects.count() == 2 + int(agree)

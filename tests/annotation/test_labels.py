"""Labels that experts propose: made once, accepted with all their boxes, or refused."""

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection

from apps.annotation.models import AnnotatedBox, Annotation, AnnotationTask, LabelProposal
from apps.annotation.services.answers import Answer, submit_answer
from apps.annotation.services.labels import (
    CodeTakenError,
    ProposalDecidedError,
    accept_proposal,
    label_proposals,
    refuse_proposal,
)
from apps.observations.models import Label
from tests.annotation.drawing import drawing_survey, drawn, queued
from tests.annotation.factories import ExpertFactory, PolicyFactory
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db
NEW = {"code": "MITE", "scientific_name": "Acari", "rank": "order", "colour": "#2a7f62"}


@pytest.fixture
def survey():
    return drawing_survey()


@pytest.fixture
def curator():
    return UserFactory(is_staff=True)


def give(task, expert, *boxes):
    sent = Answer(boxes=list(boxes), is_empty=not boxes, key=uuid.uuid4(), seconds=5)
    return submit_answer(task=task, expert=expert, answer=sent).annotation


def test_a_name_is_proposed_once_in_whatever_case(survey):
    give(queued(survey), ExpertFactory(), drawn(proposed_label="Red mite"), drawn(proposed_label="red MITE"))
    give(queued(survey), ExpertFactory(), drawn(proposed_label="  RED   mite "))
    proposal = LabelProposal.objects.get()
    assert proposal.name.lower() == "red mite"
    assert proposal.boxes.count() == 3
    assert set(proposal.boxes.values_list("label__code", flat=True)) == {"CER"}


def test_names_of_other_surveys_are_proposals_of_their_own(survey):
    other = drawing_survey("mites")
    for one in (survey, other):
        label_proposals(survey=one, names={"Red mite"}, by=None)
    assert LabelProposal.objects.count() == 2


def test_accepting_makes_a_label_and_gives_it_to_the_boxes_by_new_answers(survey, curator):
    expert, task = ExpertFactory(), queued(survey)
    old = give(task, expert, drawn(proposed_label="Mite"), drawn(x_min=200.0, x_max=230.0))
    proposal = LabelProposal.objects.get()
    accepted = accept_proposal(proposal=proposal, by=curator, **NEW)
    assert (accepted.boxes, accepted.left_alone) == (1, 0)
    task.refresh_from_db()
    new = task.accepted
    assert new.supersedes == old
    assert sorted(new.boxes.values_list("label__code", flat=True)) == ["CER", "MITE"]
    assert sorted(old.boxes.values_list("label__code", flat=True)) == ["CER", "CER"]
    old.refresh_from_db()
    assert (old.is_current, new.is_current) == (False, True)
    proposal.refresh_from_db()
    assert (proposal.status, proposal.label.code, proposal.decided_by) == ("accepted", "MITE", curator)


def test_answers_that_wait_for_a_second_expert_stay_their_experts_own(survey, curator):
    PolicyFactory(survey=survey, experts_per_photo=2)
    expert, task = ExpertFactory(), queued(survey, answers_needed=2)
    old = give(task, expert, drawn(proposed_label="Mite"))
    assert accept_proposal(proposal=LabelProposal.objects.get(), by=curator, **NEW).boxes == 1
    new = Annotation.objects.get(supersedes=old)
    assert (new.author, new.origin, new.is_current, new.seconds_spent) == (expert, "expert", True, 5)
    assert new.boxes.get().label.code == "MITE"
    task.refresh_from_db()
    assert (task.state, task.answers) == ("waiting", 1)
    colleague = give(task, ExpertFactory(), drawn(label="MITE"))
    task.refresh_from_db()
    assert task.state == AnnotationTask.State.DONE
    assert task.accepted.origin == "consensus"
    assert colleague.boxes.get().label.code == "MITE"


def test_a_proposal_may_be_a_label_that_is_there_under_another_name(survey, curator):
    task = queued(survey)
    give(task, ExpertFactory(), drawn(proposed_label="Isotoma"))
    existing = survey.labels.get(code="ISO")
    count = Label.objects.count()
    accept_proposal(proposal=LabelProposal.objects.get(), by=curator, existing=existing)
    assert Label.objects.count() == count
    task.refresh_from_db()
    assert task.accepted.boxes.get().label == existing


def test_an_accepted_name_is_its_label_from_then_on(survey, curator):
    give(queued(survey), ExpertFactory(), drawn(proposed_label="Mite"))
    accept_proposal(proposal=LabelProposal.objects.get(), by=curator, **NEW)
    later = give(queued(survey), ExpertFactory(), drawn(proposed_label="MITE"))
    box = later.boxes.get()
    assert (box.label.code, box.label_proposal) == ("MITE", None)


@pytest.mark.django_db(transaction=True)
def test_answers_sent_while_a_name_is_accepted_get_the_label_too():
    survey, curator = drawing_survey(), UserFactory(is_staff=True)
    tasks = [queued(survey) for _ in range(7)]
    give(tasks[0], ExpertFactory(), drawn(proposed_label="Mite"))
    proposal = LabelProposal.objects.get()

    def answer(task):
        try:
            give(task, ExpertFactory(), drawn(proposed_label="mite"))
        finally:
            connection.close()

    def accept():
        try:
            accept_proposal(proposal=proposal, by=curator, **NEW)
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as threads:
        jobs = [threads.submit(answer, task) for task in tasks[1:4]]
        jobs.append(threads.submit(accept))
        jobs += [threads.submit(answer, task) for task in tasks[4:]]
        for job in jobs:
            job.result()
    counting = AnnotatedBox.objects.filter(annotation__accepted_for__isnull=False)
    assert set(counting.values_list("label__code", "label_proposal")) == {("MITE", None)}
    assert counting.count() == 7


def test_nothing_is_decided_twice(survey, curator):
    give(queued(survey), ExpertFactory(), drawn(proposed_label="Mite"))
    proposal = LabelProposal.objects.get()
    refuse_proposal(proposal=proposal, by=curator)
    for decide in (refuse_proposal, accept_proposal):
        with pytest.raises(ProposalDecidedError):
            decide(proposal=proposal, by=curator)
    assert AnnotatedBox.objects.get().label.code == "CER"


def test_a_code_that_is_taken_changes_nothing(survey, curator):
    give(queued(survey), ExpertFactory(), drawn(proposed_label="Mite"))
    proposal = LabelProposal.objects.get()
    with pytest.raises(CodeTakenError):
        accept_proposal(proposal=proposal, by=curator, **{**NEW, "code": "ISO"})
    proposal.refresh_from_db()
    assert proposal.status == "pending"

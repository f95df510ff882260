"""The console's pages of answers and of proposed labels."""

import uuid

import pytest
from django.contrib.auth.models import Group
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from apps.annotation.models import AnnotatedBox, Annotation, LabelProposal
from apps.annotation.services.answers import Answer, submit_answer
from apps.observations.models import Label
from tests.annotation.drawing import box, drawing_survey, drawn, queued
from tests.annotation.factories import AnnotationFactory, ExpertFactory
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db
LIST = "/admin/annotation/annotation/"
PROPOSALS = "/admin/annotation/labelproposal/"


@pytest.fixture
def curator():
    user = UserFactory(is_staff=True)
    user.groups.add(Group.objects.get(name="Curators"))
    return user


@pytest.fixture
def client(curator):
    client = Client()
    client.force_login(curator)
    return client


def give(task, *boxes, expert=None):
    version = str(task.photo.model_version)
    sent = Answer(boxes=list(boxes), is_empty=not boxes, key=uuid.uuid4(), seconds=75, model_version=version)
    return submit_answer(task=task, expert=expert or ExpertFactory(), answer=sent).annotation


def text(response):
    assert response.status_code == 200, response.status_code
    return " ".join(response.content.decode().split())


def test_the_list_says_what_became_of_the_proposals(client):
    answer = give(queued(drawing_survey()), box(label="ISO"), drawn())
    html = text(client.get(LIST))
    assert "1 relabelled, 1 deleted, 1 drawn" in html
    assert "1 min 15 s" in html
    assert answer.author.display_name in html


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", 4),
        ("?changes=none", 1),
        ("?changes=relabelled", 1),
        ("?changes=deleted", 2),
        ("?changes=drawn", 1),
        ("?is_empty__exact=1", 2),
        ("?origin__exact=consensus", 1),
        ("?is_current__exact=0", 0),
        ("?q=nobody@podura.example", 0),
    ],
)
def test_the_list_is_filtered(client, query, found):
    survey = drawing_survey()
    give(queued(survey), box(1), box(2))
    give(queued(survey), box(label="ISO"), drawn())
    give(queued(survey, boxes=1))
    AnnotationFactory(origin="consensus", author=None)
    response = client.get(LIST + query)
    assert response.status_code == 200
    assert len(response.context["cl"].result_list) == found


def test_the_page_draws_the_answer_over_the_proposals_and_lists_the_difference(client):
    task = queued(drawing_survey(), boxes=3)
    answer = give(
        task, box(1), box(2, label="ISO", x_max=33.0), drawn(note="<b>sure</b>", proposed_label="Mite")
    )
    html = text(client.get(f"{LIST}{answer.pk}/change/"))
    assert html.count('class="podura-overlay__dashed"') == 3
    assert "moved and relabelled" in html
    assert "× 3" in html
    assert "&lt;b&gt;sure&lt;/b&gt;" in html
    assert "proposes “Mite”" in html
    assert "<b>sure" not in html


def test_all_versions_of_an_answer_are_listed(client):
    task, expert = queued(drawing_survey()), ExpertFactory()
    first = give(task, box(1), expert=expert)
    correction = Answer(boxes=[], is_empty=True, key=uuid.uuid4(), supersedes=first.public_id)
    second = submit_answer(task=task, expert=expert, answer=correction).annotation
    html = text(client.get(f"{LIST}{second.pk}/change/"))
    assert f"{LIST}{first.pk}/change/" in html
    assert "superseded" in html
    assert "Confirmed empty" in html


def test_nothing_can_be_changed_added_or_deleted(client):
    answer = give(queued(drawing_survey()), box())
    for address in (f"{LIST}add/", f"{LIST}{answer.pk}/delete/"):
        assert client.get(address).status_code == 403
    assert client.post(f"{LIST}{answer.pk}/change/", {"is_empty": "on"}).status_code == 403


def test_others_than_curators_do_not_see_it():
    client = Client()
    client.force_login(UserFactory(is_staff=True))
    assert client.get(LIST).status_code == 403
    assert client.get(PROPOSALS).status_code == 403


def test_the_number_of_queries_does_not_grow_with_the_rows(client):
    survey = drawing_survey()
    counts = []
    for more in (1, 30):
        for _ in range(more):
            AnnotationFactory(task__photo__observation__survey=survey)
        with CaptureQueriesContext(connection) as queries:
            text(client.get(LIST))
        counts.append(len(queries))
    assert counts[0] == counts[1]


@pytest.fixture
def proposal():
    give(queued(drawing_survey()), drawn(proposed_label="Red mite"), drawn(x_min=200.0, x_max=230.0))
    return LabelProposal.objects.get()


def test_a_proposal_is_accepted_on_a_page_that_asks(client, proposal):
    html = text(client.get(f"{PROPOSALS}{proposal.pk}/change/"))
    assert f"{PROPOSALS}{proposal.pk}/accept/" in html
    form = text(client.get(f"{PROPOSALS}{proposal.pk}/accept/"))
    assert 'value="RED_MIT"' in form
    assert "1 box carries it" in form
    sent = {"code": "RED_MIT", "scientific_name": "Acari", "rank": "order", "colour": "#97203b"}
    html = text(client.post(f"{PROPOSALS}{proposal.pk}/accept/", sent, follow=True))
    assert "is the label RED_MIT now; 1 box carries it." in html
    assert AnnotatedBox.objects.filter(label__code="RED_MIT", annotation__is_current=True).count() == 1
    assert "decided about this proposal before" in text(
        client.post(f"{PROPOSALS}{proposal.pk}/accept/", sent, follow=True)
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"code": "ISO"}, "has a label of this code already"),
        ({"code": ""}, "Give a code, or choose a label"),
        ({"code": "a b"}, "valid"),
        ({"colour": "red"}, "A colour such as"),
        ({"rank": "kingdom"}, "valid choice"),
        ({"existing": "999999"}, "valid choice"),
    ],
)
def test_a_wrong_form_is_given_back_with_what_was_written(client, proposal, changes, said):
    sent = {"code": "MITE", "scientific_name": "Acari", "rank": "order", "colour": "#97203b", **changes}
    response = client.post(f"{PROPOSALS}{proposal.pk}/accept/", sent)
    assert response.status_code == 422
    assert said in response.content.decode()
    assert "Acari" in response.content.decode()
    proposal.refresh_from_db()
    assert proposal.status == "pending"


def test_a_proposal_is_refused_on_a_page_that_asks(client, proposal):
    assert "keeps the label" in text(client.get(f"{PROPOSALS}{proposal.pk}/refuse/"))
    text(client.post(f"{PROPOSALS}{proposal.pk}/refuse/", follow=True))
    proposal.refresh_from_db()
    assert proposal.status == "refused"
    assert not Label.objects.filter(code="RED_MIT").exists()
    assert f"{PROPOSALS}{proposal.pk}/accept/" not in text(client.get(f"{PROPOSALS}{proposal.pk}/change/"))


def test_only_who_may_change_proposals_decides(proposal):
    from django.contrib.auth.models import Permission

    user = UserFactory(is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_labelproposal"))
    client = Client()
    client.force_login(user)
    assert client.get(f"{PROPOSALS}{proposal.pk}/change/").status_code == 200
    for way in ("accept", "refuse"):
        assert client.post(f"{PROPOSALS}{proposal.pk}/{way}/").status_code == 403
    assert Annotation.objects.count() == 1

"""The experts' home: each queue's state, one's own work, and for others what experts do."""

import pytest
from django.test import Client
from django.utils import timezone

from apps.accounts.models import ExpertApplication
from tests.annotation.drawing import answer, drawing_survey, drawn, path, queued
from tests.annotation.factories import AnnotationFactory, AssignmentFactory, ExpertFactory
from tests.api.conftest import Caller
from tests.factories import PhotoFactory, SurveyFactory, UserFactory

pytestmark = pytest.mark.django_db
HOME = "/annotate/"


def page(user=None, query=""):
    client = Client()
    if user:
        client.force_login(user)
    response = client.get(HOME + query)
    assert response.status_code == 200
    return " ".join(response.content.decode().split())


def test_strangers_are_told_what_experts_do_and_asked_to_sign_in():
    html = page()
    assert "What experts do" in html
    assert "/accounts/login/?next=%2Fannotate%2F" in html
    assert ">Annotate</a>" not in html


def test_contributors_are_led_to_the_application_and_see_its_state():
    user = UserFactory()
    assert 'href="/account/expert/">Apply as an expert' in page(user)
    application = ExpertApplication.objects.create(user=user, motivation="mites")
    assert "Waiting for a decision" in page(user)
    ExpertApplication.objects.filter(pk=application.pk).update(
        status="refused", decided_at=timezone.now(), decision_note="Which mites?"
    )
    html = page(user)
    assert "Which mites?" in html
    assert "Apply again" in html


def test_a_queue_that_is_not_open_says_how_many_photos_are_missing():
    survey = SurveyFactory(minimum_photos=20)
    for _ in range(8):
        PhotoFactory(observation__survey=survey, status="done", detection_count=0, detection_ms=1)
    html = page(ExpertFactory())
    assert "12 photos more before the queue starts." in html
    assert '<progress class="progress" max="20" value="8"' in html
    assert f"/annotate/{survey.slug}/draw/" not in html


def test_an_open_queue_says_what_waits_and_starts():
    survey = drawing_survey()
    queued(survey), queued(survey)
    hidden = queued(survey)
    hidden.photo.observation.visibility = "private"
    hidden.photo.observation.save()
    html = page(ExpertFactory())
    assert "2 photos wait." in html
    assert f'href="/annotate/{survey.slug}/draw/"' in html
    assert "Start drawing" in html
    assert ">Annotate</a>" in html


def test_own_figures_and_answers_are_shown_and_can_be_corrected():
    expert, survey = ExpertFactory(), drawing_survey()
    first, second = queued(survey), queued(survey)
    caller = Client()
    caller.force_login(expert)
    for task, seconds in ((first, 40), (second, 90)):
        sent = answer([drawn()], seconds=seconds, model_version=str(task.photo.model_version))
        assert caller.post(path(task, "submit"), sent, content_type="application/json").status_code == 201
    html = page(expert)
    assert "<dd>1 min 5 s</dd>" in html
    assert "Together: 2 of 2 photos (100 %)" in html
    assert "you: 2, today 2" in html
    assert html.count(">counts<") == 2
    assert f'href="/annotate/photos/{first.public_id}/"' in html
    assert "1 drawn" in html
    assert "2 removed" in html


def test_a_corrected_answer_is_listed_once():
    expert = ExpertFactory()
    old = AnnotationFactory(author=expert, is_current=False)
    AnnotationFactory(author=expert, task=old.task, supersedes=old)
    assert page(expert).count('class="answer"') == 1


def test_what_was_revised_sent_back_or_is_disputed_is_told():
    expert = ExpertFactory()
    revised = AnnotationFactory(author=expert, is_current=False)
    AnnotationFactory(author=ExpertFactory(), origin="bulk", task=revised.task, supersedes=revised)
    sent_back = AnnotationFactory(author=expert, is_current=False)
    disputed = AnnotationFactory(author=expert)
    type(disputed.task).objects.filter(pk=disputed.task.pk).update(state="conflict")
    html = page(expert)
    assert "revised by a reviewer" in html
    assert f'href="/annotate/photos/{sent_back.task.public_id}/">Answer again' in html
    assert f'href="/annotate/photos/{disputed.task.public_id}/">Look again' in html


def test_a_draft_whose_time_ran_out_is_offered_again():
    assignment = AssignmentFactory(state="returned", lease_until=None)
    assignment.draft = {"boxes": [], "is_empty": False, "seconds": 3}
    assignment.save()
    html = page(assignment.expert)
    assert "unfinished draft" in html
    assert f'href="/annotate/photos/{assignment.task.public_id}/">Go on' in html


def test_the_answers_are_paged_by_key_with_a_fixed_number_of_queries(django_assert_max_num_queries):
    expert = ExpertFactory()
    AnnotationFactory.create_batch(30, author=expert)
    client = Client()
    client.force_login(expert)
    seen, query = [], ""
    for _ in range(3):
        with django_assert_max_num_queries(20 if query else 26):  # the surveys stand on the first page
            response = client.get(HOME + query)
        listed = response.context["page"]
        seen += [one.pk for one in listed.answers]
        query = f"?before={listed.older}"
    assert len(seen) == len(set(seen)) == 30
    assert seen == sorted(seen, reverse=True)
    assert listed.older is None
    back = client.get(f"{HOME}?after={seen[23]}").context["page"]
    assert [one.pk for one in back.answers] == seen[11:23]
    assert client.get(f"{HOME}?before=nonsense").status_code == 200
    assert "Back to the first page" in page(expert, "?before=1")


def test_staff_may_look_without_being_experts():
    assert "For experts" in page(UserFactory(is_staff=True))


def test_the_api_s_address_to_apply_is_the_page_s():
    body = Caller(UserFactory()).get(path(AnnotationFactory().task)).json()
    assert body["apply"].endswith("/account/expert/")

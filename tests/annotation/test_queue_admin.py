"""The queue in the curators' console."""

import re
from datetime import timedelta

import pytest
from django.contrib.auth.models import Group
from django.db import connection
from django.db.models.functions import Now
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import translation

from apps.accounts.models import User
from apps.annotation.models import (
    AnnotationPolicy,
    AnnotationTask,
    AnswerComparison,
    Assignment,
    GoldenPhoto,
    QueueUpdate,
    Review,
)
from apps.annotation.services.bulk import undo
from apps.annotation.services.queue import next_task, skip
from apps.observations.models import Survey
from tests.annotation.factories import AnnotationFactory, ExpertFactory
from tests.annotation.queues import queued
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db
LIST = "admin:annotation_annotationtask_changelist"


@pytest.fixture
def curator(db: None) -> User:
    user: User = UserFactory(is_staff=True)
    user.groups.add(Group.objects.get(name="Curators"))
    return user


@pytest.fixture
def console(client: Client, curator: User) -> Client:
    client.force_login(curator)
    return client


@pytest.fixture
def survey() -> Survey:
    return queued([0.9, 0.7, 0.5])


def act(console: Client, action: str, *tasks: AnnotationTask) -> str:
    data = {"action": action, "_selected_action": [task.pk for task in tasks]}
    response = console.post(reverse(LIST), data, follow=True)
    assert response.status_code == 200
    return response.content.decode()


def shown(console: Client, **query: object) -> list[int]:
    response = console.get(reverse(LIST), query)
    assert response.status_code == 200
    return [task.pk for task in response.context["cl"].result_list]


def answered(task: AnnotationTask) -> AnnotationTask:
    known = AnnotationFactory(task=task)
    Assignment.objects.create(task=task, expert=known.author, state="submitted", given_as="active")
    AnnotationTask.objects.filter(pk=task.pk).update(
        state="done", accepted=known, accepted_at=known.created_at, answers=1
    )
    task.refresh_from_db()
    return task


@pytest.mark.parametrize("language", ["en", "fr"])
def test_the_list_says_what_comes_next_why_and_who_has_it(
    console: Client, survey: Survey, language: str
) -> None:
    holder = ExpertFactory(display_name="Dr. Mite")
    assignment = next_task(holder, survey)
    AnnotationTask.objects.filter(pk=assignment.task_id).update(rank_before=12, rank_after=3)
    with translation.override(language):
        response = console.get(reverse(LIST), headers={"Accept-Language": language})
    text = response.content.decode()
    assert "Dr. Mite" in text
    assert "1.000" in text
    assert "12 → 3" in text
    best_first = list(AnnotationTask.objects.by_uncertainty().values_list("pk", flat=True))
    assert [task.pk for task in response.context["cl"].result_list] == best_first


def test_the_page_of_a_photo_shows_its_margins_and_who_passed_it_on(console: Client, survey: Survey) -> None:
    assignment = next_task(ExpertFactory(display_name="Dr. Mite"), survey)
    skip(assignment, "other", "a hand <b>in</b> the picture")
    page = reverse("admin:annotation_annotationtask_change", args=[assignment.task_id])
    text = console.get(page).content.decode()
    assert "P1" in text
    assert "0.500" in text
    assert "Dr. Mite" in text
    assert "a hand &lt;b&gt;in&lt;/b&gt; the picture" in text


def test_the_filters_find_held_ones_and_disagreements(console: Client, survey: Survey) -> None:
    assignment = next_task(ExpertFactory(), survey)
    first, second, third = AnnotationTask.objects.order_by("pk")
    assert shown(console, held="yes") == [assignment.task_id]
    assert len(shown(console, held="no")) == 2
    AnnotationTask.objects.filter(pk=first.pk).update(state="conflict")
    one, other = AnnotationFactory(task=second), AnnotationFactory(task=second)
    AnswerComparison.objects.create(
        task=second, kind="experts", first=one, second=other, matched=1, missed=1, extra=0, iou_sum=1
    )
    assert shown(console, disagreement="open") == [first.pk]
    assert shown(console, disagreement="boxes") == [second.pk]
    assert shown(console, state__exact="waiting", survey__id__exact=survey.pk) == [third.pk, second.pk]
    assert shown(console, arm__exact="control") == []
    assert shown(console, q=str(second.photo.public_id)) == [second.pk]


def test_a_curator_takes_a_photo_from_who_has_it_open(console: Client, survey: Survey) -> None:
    assignment = next_task(ExpertFactory(), survey)
    act(console, "give_back", assignment.task)
    assignment.refresh_from_db()
    assert assignment.state == "returned"


def test_what_was_sent_back_is_given_again_and_can_be_undone(
    console: Client, curator: User, survey: Survey
) -> None:
    waiting, done = AnnotationTask.objects.order_by("pk")[:2]
    answered(done)
    GoldenPhoto.objects.create(task=done, answer=done.accepted)
    text = act(console, "send_back", waiting, done)
    assert "1 photo was changed" in text
    assert "1 photo was left as it was" in text
    done.refresh_from_db()
    assert (done.state, done.accepted, done.answers) == ("waiting", None, 0)
    assert not GoldenPhoto.objects.get().is_active
    assert Assignment.objects.get().state == "returned"
    review = Review.objects.get()
    assert (review.kind, review.reviewer) == ("sent_back", curator)
    undo(batch=review.batch, by=curator)
    done.refresh_from_db()
    assert (done.state, done.accepted) == ("done", review.before)


def test_what_was_set_aside_comes_back_also_to_those_who_passed_it_on(
    console: Client, survey: Survey
) -> None:
    expert = ExpertFactory()
    assignment = next_task(expert, survey)
    task = assignment.task
    skip(assignment, "blurred")
    act(console, "set_aside", task)
    assert AnnotationTask.objects.get(pk=task.pk).state == "set_aside"
    assert next_task(expert, survey).task != task
    Assignment.objects.filter(expert=expert, state="open").update(state="returned", lease_until=None)
    act(console, "bring_back", task)
    assert next_task(expert, survey).task == task
    assert Review.objects.get().undone_at is not None


def test_a_curator_has_a_queue_ranked_anew(console: Client, curator: User, survey: Survey) -> None:
    act(console, "rank_anew", *AnnotationTask.objects.all())
    update = QueueUpdate.objects.get()
    assert (update.survey, update.reason, update.requested_by) == (survey, "curator", curator)
    text = console.get(reverse("admin:annotation_queueupdate_changelist")).content.decode()
    assert "0 / 0" in text
    console.post(reverse("admin:annotation_queueupdate_add"), {"survey": survey.pk})
    assert QueueUpdate.objects.count() == 1, "the one under way starts over"


def test_changed_rules_rank_the_queue_anew_and_keep_the_counters(console: Client, survey: Survey) -> None:
    policy = AnnotationPolicy.objects.get(survey=survey)
    page = reverse("admin:annotation_annotationpolicy_change", args=[policy.pk])
    form = console.get(page).context["adminform"].form
    data = {name: form.get_initial_for_field(field, name) for name, field in form.fields.items()}
    AnnotationPolicy.objects.update(active_given=41)
    assert console.post(page, data).status_code == 302
    assert not QueueUpdate.objects.exists()
    assert console.post(page, data | {"strategy": "margin_max"}).status_code == 302
    policy.refresh_from_db()
    assert (policy.strategy, policy.active_given, policy.seed) == ("margin_max", 41, 7)
    assert QueueUpdate.objects.get().reason == "rules"


def test_shares_that_leave_nothing_for_training_are_refused_at_their_field(
    console: Client, survey: Survey
) -> None:
    policy = AnnotationPolicy.objects.get(survey=survey)
    page = reverse("admin:annotation_annotationpolicy_change", args=[policy.pk])
    form = console.get(page).context["adminform"].form
    data = {name: form.get_initial_for_field(field, name) for name, field in form.fields.items()}
    response = console.post(page, data | {"control_fraction": "0.5", "validation_share": "0.5"})
    assert response.status_code == 200
    assert "validation_share" in response.context["adminform"].form.errors


@pytest.mark.parametrize("model", ["annotationtask", "annotationpolicy", "queueupdate"])
def test_others_do_not_get_in(client: Client, survey: Survey, model: str) -> None:
    url = reverse(f"admin:annotation_{model}_changelist")
    client.force_login(ExpertFactory())
    assert client.get(url, follow=True).status_code == 403
    client.force_login(UserFactory(is_staff=True))
    assert client.get(url).status_code == 403


def test_who_may_only_look_has_no_actions(client: Client, survey: Survey) -> None:
    from django.contrib.auth.models import Permission

    reader = UserFactory(is_staff=True)
    reader.user_permissions.add(Permission.objects.get(codename="view_annotationtask"))
    client.force_login(reader)
    task = AnnotationTask.objects.earliest("pk")
    client.post(reverse(LIST), {"action": "set_aside", "_selected_action": [task.pk]})
    task.refresh_from_db()
    assert task.state == "waiting"


def queries(console: Client, url: str) -> int:
    console.get(url)
    with CaptureQueriesContext(
        connection,
    ) as captured:
        assert console.get(url).status_code == 200
    return len(captured)


def test_the_list_takes_the_same_number_of_queries_for_any_number_of_photos(console: Client) -> None:
    survey = queued([0.9] * 3)
    next_task(ExpertFactory(), survey)
    few = queries(console, reverse(LIST))
    for n in range(3):
        other = queued([0.5 + n / 10] * 5)
        next_task(ExpertFactory(), other)
    assert queries(console, reverse(LIST)) == few


def test_an_ended_lease_is_not_shown_as_a_hold(console: Client, survey: Survey) -> None:
    next_task(ExpertFactory(display_name="Dr. Gone"), survey)
    Assignment.objects.update(lease_until=Now() - timedelta(minutes=1))
    text = console.get(reverse(LIST)).content.decode()
    assert not re.search("Dr. Gone", text)


def test_a_failed_update_is_tried_again_as_a_new_one(console: Client, survey: Survey) -> None:
    failed = [
        QueueUpdate.objects.create(survey=survey, reason="promotion", status="failed") for _ in range(2)
    ]
    version = survey.registered_model.production_version
    data = {"action": "try_again", "_selected_action": [update.pk for update in failed]}
    response = console.post(reverse("admin:annotation_queueupdate_changelist"), data, follow=True)
    assert response.status_code == 200
    update = QueueUpdate.objects.exclude(status="failed").get()
    assert (update.reason, update.model_version) == ("promotion", version)


@pytest.mark.parametrize(
    "query", [{"state": "\0"}, {"arm__exact": "\0"}, {"q": "\0"}, {"survey__id__exact": "x"}]
)
def test_an_address_that_no_database_understands_breaks_no_list(
    console: Client, query: dict[str, str]
) -> None:
    assert console.get(reverse(LIST), query).status_code in (200, 302)


@pytest.mark.parametrize("key", ["\0", "x", "9" * 30])
def test_a_ticked_row_that_cannot_be_one_is_left_out(console: Client, key: str) -> None:
    task = AnnotationTask.objects.get(survey=queued([0.5]))
    sent = {"action": "set_aside", "_selected_action": [key, str(task.pk)], "index": "0"}
    assert console.post(reverse(LIST), sent).status_code == 302
    task.refresh_from_db()
    assert task.state == AnnotationTask.State.SET_ASIDE

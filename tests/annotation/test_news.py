"""What contributors are told of experts' answers: in the database, on the photo's page, by mail."""

import re
import threading
from datetime import timedelta
from typing import Any

import pytest
from django.core import mail
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone, translation

from apps.accounts.mails import send_due_mails
from apps.accounts.models import OutgoingMail, User
from apps.accounts.services import write_to
from apps.accounts.unsubscribing import unsubscribe_address
from apps.annotation.models import AnnotatedBox, Annotation, AnnotationTask, ContributorNews
from apps.annotation.services.bulk import relabel_boxes, send_back
from apps.annotation.services.news import (
    PHOTOS_IN_A_MAIL,
    mail_due_news,
    mail_news,
    people_to_mail,
    record_news,
)
from apps.annotation.stories import BoxStory, sentences, story_of
from apps.annotation.tasks.news import sweep_news
from apps.observations.models import Label
from tests.annotation.factories import AnnotatedBoxFactory, AnnotationFactory, ExpertFactory
from tests.annotation.test_bulk import accept, answered
from tests.factories import LabelFactory, ModelVersionFactory, SurveyFactory, UserFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def label() -> Label:
    return LabelFactory(survey=SurveyFactory(), code="A", scientific_name="Folsomia candida")


def rested_news(answer: Annotation) -> ContributorNews:
    """The answer's news, old enough to be mailed."""
    record_news()
    news = ContributorNews.objects.get(annotation=answer)
    ContributorNews.objects.filter(pk=news.pk).update(created_at=timezone.now() - timedelta(hours=2))
    return news


def give(answer: Annotation, contributor: User) -> Annotation:
    photo = answer.task.photo
    photo.contributor = contributor
    photo.observation.contributor = contributor
    photo.observation.save()
    photo.save()
    return answer


# --- What is noted ------------------------------------------------------------------------------------------


def test_an_answer_that_counts_is_news_once(label: Label) -> None:
    answer = answered(label.survey, label)
    assert record_news() == 1
    assert record_news() == 0
    news = ContributorNews.objects.get()
    assert (news.annotation, news.contributor) == (answer, answer.task.photo.contributor)


def test_own_answers_imports_and_hidden_photos_are_no_news(label: Label) -> None:
    own = answered(label.survey, label)
    give(own, own.author)  # type: ignore[arg-type]
    answered(label.survey, label, origin="import", author=None)
    hidden = answered(label.survey, label).task.photo.observation
    hidden.visibility = "hidden"
    hidden.save()
    assert record_news() == 0


def test_an_answer_that_does_not_count_is_no_news(label: Label) -> None:
    AnnotationFactory()
    assert record_news() == 0


def test_a_consensus_without_an_author_is_news(label: Label) -> None:
    answered(label.survey, label, origin="consensus", author=None)
    assert record_news() == 1


# --- The story ----------------------------------------------------------------------------------------------


def test_the_story_tells_what_became_of_each_box() -> None:
    a, b = LabelFactory(scientific_name="Folsomia candida"), LabelFactory(scientific_name="Hypogastrura")
    story = story_of(
        is_empty=False,
        moved=[5],
        proposals={1: (a, False), 3: (a, False), 4: (a, False), 5: (a, False), 6: (a, True), 7: (a, True)},
        boxes=[
            BoxStory(1, a),
            BoxStory(3, b),
            BoxStory(5, a),
            BoxStory(6, b),
            BoxStory(None, b),
        ],
    )
    assert sentences(story) == [
        "Confirmed: #1.",
        "Corrected: #3 is Hypogastrura, not Folsomia candida.",
        "Confirmed, with a better outline: #5.",
        "Found as well: 2 animals, Hypogastrura.",
        "No animal: #4.",
    ]


def test_a_photo_without_animals_and_a_crowded_one_are_told_shortly() -> None:
    a, b = LabelFactory(), LabelFactory()
    empty = story_of(is_empty=True, moved=[], proposals={1: (a, False)}, boxes=[])
    assert sentences(empty) == ["There is no animal on this photo.", "No animal: #1."]
    proposals = dict.fromkeys(range(1, 101), (a, False))
    crowd = story_of(
        is_empty=False,
        moved=[],
        proposals=proposals,
        boxes=[BoxStory(n, a if n < 50 else b) for n in proposals],
    )
    lines = sentences(crowd)
    assert len(lines) == 14
    assert lines[0].endswith("#12 and 37 more.")
    assert lines[-1] == "39 more were corrected."


# --- The photo's page ---------------------------------------------------------------------------------------


def photo_page(answer: Annotation, client: Client | None = None) -> str:
    response = (client or Client()).get(reverse("observations:photo", args=[answer.task.photo.public_id]))
    assert response.status_code == 200
    return response.content.decode()


def test_the_photos_page_tells_and_shows_the_answer(label: Label) -> None:
    answer = answered(label.survey, label)
    other = LabelFactory(survey=label.survey, scientific_name="Isotoma <viridis>")
    corrected = AnnotationFactory(
        task=answer.task,
        author__display_name="Ada <Expert>",
        is_empty=False,
        box_count=1,
        model_version=answer.model_version,
        supersedes=answer,
    )
    AnnotatedBoxFactory(annotation=corrected, number=1, label=other, proposal_number=2)
    accept(corrected)
    text = photo_page(corrected)
    assert "Ada &lt;Expert&gt;" in text
    assert "Corrected: #2 is Isotoma &lt;viridis&gt;, not Folsomia candida." in text
    assert "No animal: #1." in text
    assert "1 earlier answer" in text
    assert "mark--corrected" in text
    assert "plate__boxes--answer" in text
    assert "<viridis>" not in text


def test_an_author_without_a_public_name_is_an_expert(label: Label) -> None:
    answer = answered(label.survey, label, author=ExpertFactory(display_name=""))
    text = photo_page(answer)
    assert "An expert" in text
    assert answer.author
    assert answer.author.email not in text


def test_whose_boxes_a_review_has_relabelled_stays_told(label: Label) -> None:
    other = LabelFactory.create(survey=label.survey, code="B")
    answer = answered(label.survey, label, author=ExpertFactory.create(display_name="Ada"))
    reviewer = ExpertFactory.create(display_name="Bo")
    relabel_boxes(survey=label.survey, by=reviewer, boxes=[(answer.public_id, 1)], code=other.code)
    text = photo_page(answer)
    assert "Ada, reviewed by Bo" in text
    assert 'font-size="' in text.partition("data-answer-marks")[2][:300]
    assert 'font-size=""' not in text


def test_above_ones_own_observations_stands_what_experts_answered_lately(label: Label) -> None:
    contributor = UserFactory.create()
    client = Client()
    client.force_login(contributor)
    address = reverse("observations:mine")
    assert "lately__photos" not in client.get(address).content.decode()
    answers = [give(answered(label.survey, label), contributor) for _ in range(2)]
    answered(label.survey, label)
    record_news()
    text = client.get(address).content.decode()
    assert "Experts have lately looked at 2 of your photos." in text
    ContributorNews.objects.update(created_at=timezone.now() - timedelta(days=20))
    assert "lately__photos" not in client.get(address).content.decode()
    assert answers


def test_numbers_of_an_older_version_are_explained_and_mark_nothing(label: Label) -> None:
    answer = answered(label.survey, label)
    photo = answer.task.photo
    photo.model_version = ModelVersionFactory()
    photo.save()
    text = photo_page(answer)
    assert "another version has looked at the photo since" in text
    assert "mark--confirmed" not in text


def test_a_photo_that_nobody_answered_has_no_panel_and_one_sent_back_says_so(label: Label) -> None:
    answer = answered(label.survey, label)
    send_back(survey=label.survey, by=ExpertFactory(), boxes=[(answer.public_id, 1)])
    assert "Experts look at this photo again" in photo_page(answer)
    other = answered(label.survey, label)
    AnnotationTask.objects.filter(pk=other.task_id).update(state="waiting", accepted=None)
    assert 'id="answer-title"' not in photo_page(other)


def test_the_page_needs_no_more_queries_for_more_boxes(
    label: Label, django_assert_max_num_queries: Any
) -> None:
    small, large = answered(label.survey, label, boxes=1), answered(label.survey, label, boxes=15)
    client = Client()
    photo_page(small, client)
    with django_assert_max_num_queries(30) as counted:
        photo_page(small, client)
    before = len(counted)
    with django_assert_max_num_queries(before):
        photo_page(large, client)


# --- The mail -----------------------------------------------------------------------------------------------


def test_one_mail_tells_of_all_photos_in_the_contributors_language(label: Label) -> None:
    contributor = UserFactory(language="fr")
    answers = [give(answered(label.survey, label), contributor) for _ in range(2)]
    for answer in answers:
        rested_news(answer)
    assert mail_due_news() == 1
    assert mail_due_news() == 0
    send_due_mails()
    assert len(mail.outbox) == 1
    message = mail.outbox[0]
    assert message.to == [contributor.email]
    for answer in answers:
        assert reverse("observations:photo", args=[answer.task.photo.public_id]) in message.body
    with translation.override("fr"):
        assert translation.gettext("Hello,") in message.body
    address = unsubscribe_address(contributor)
    assert address in message.body
    assert message.extra_headers["List-Unsubscribe"] == f"<{address}>"
    assert message.extra_headers["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert not OutgoingMail.objects.exclude(unsubscribe_address="").exists()


def test_news_rest_for_an_hour_and_the_next_mail_comes_a_day_later(label: Label) -> None:
    contributor = UserFactory()
    record_news()
    first = give(answered(label.survey, label), contributor)
    record_news()
    assert not people_to_mail().exists()
    rested_news(first)
    assert mail_due_news() == 1
    rested_news(give(answered(label.survey, label), contributor))
    assert mail_due_news() == 0
    ContributorNews.objects.filter(annotation=first).update(mailed_at=timezone.now() - timedelta(hours=25))
    OutgoingMail.objects.update(key="photo-news-yesterday")
    assert mail_due_news() == 1


def test_who_wants_no_news_gets_none(label: Label) -> None:
    rested_news(give(answered(label.survey, label), UserFactory(wants_news=False)))
    left = UserFactory()
    rested_news(give(answered(label.survey, label), left))
    User.objects.filter(pk=left.pk).update(is_active=False)
    assert mail_due_news() == 0


def test_what_counts_no_longer_is_not_mailed(label: Label) -> None:
    contributor = UserFactory()
    gone = give(answered(label.survey, label), contributor)
    rested_news(gone)
    send_back(survey=label.survey, by=ExpertFactory(), boxes=[(gone.public_id, 1)])
    assert mail_due_news() == 0
    assert not OutgoingMail.objects.exists()


def test_hidden_photos_are_not_mailed_private_ones_are_told_their_owner(label: Label) -> None:
    for visibility, mails in (("hidden", 0), ("private", 1)):
        answer = give(answered(label.survey, label), UserFactory())
        rested_news(answer)
        observation = answer.task.photo.observation
        observation.visibility = visibility
        observation.save()
        assert mail_due_news() == mails


def test_a_deleted_photo_takes_its_news_with_it(label: Label) -> None:
    answer = give(answered(label.survey, label), UserFactory())
    rested_news(answer)
    answer.task.photo.delete()
    assert mail_due_news() == 0
    assert not AnnotatedBox.objects.exists()


def test_a_mail_names_some_photos_and_counts_the_rest(label: Label) -> None:
    contributor = UserFactory()
    for _photo in range(PHOTOS_IN_A_MAIL + 2):
        rested_news(give(answered(label.survey, label, boxes=1), contributor))
    assert mail_due_news() == 1
    body = OutgoingMail.objects.get().body
    assert body.count("/photos/") == PHOTOS_IN_A_MAIL
    assert "And 2 more" in body
    assert not ContributorNews.objects.filter(mailed_at=None).exists()


def test_old_news_are_not_mailed_to_who_asks_for_news_again(label: Label) -> None:
    news = rested_news(give(answered(label.survey, label), UserFactory()))
    ContributorNews.objects.filter(pk=news.pk).update(created_at=timezone.now() - timedelta(days=30))
    assert mail_due_news() == 0


def test_the_sweep_finds_what_a_lost_message_left(label: Label) -> None:
    answered(label.survey, label)
    sweep_news()
    assert ContributorNews.objects.count() == 1


def test_a_worker_that_dies_while_it_writes_has_written_nothing(
    label: Label, monkeypatch: pytest.MonkeyPatch
) -> None:
    rested_news(give(answered(label.survey, label), UserFactory.create()))

    def die(**_options: Any) -> None:
        write_to(**_options)
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr("apps.annotation.services.news.write_to", die)
        with pytest.raises(SystemExit):
            mail_due_news()
    assert not OutgoingMail.objects.exists()
    assert mail_due_news() == 1
    assert OutgoingMail.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_two_workers_write_one_mail() -> None:
    label = LabelFactory()
    contributor = UserFactory()
    rested_news(give(answered(label.survey, label), contributor))
    start = threading.Barrier(2)

    def work() -> None:
        start.wait()
        try:
            mail_news(user_id=contributor.pk)
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert OutgoingMail.objects.count() == 1


# --- Ending the mails ---------------------------------------------------------------------------------------


def path_in(address: str) -> str:
    return re.sub(r"^https?://[^/]+", "", address)


def test_the_link_in_a_mail_asks_first_and_ends_them_without_signing_in() -> None:
    user = UserFactory()
    client = Client(enforce_csrf_checks=True)
    address = path_in(unsubscribe_address(user))
    assert "No more such mails" in client.get(address).content.decode()
    user.refresh_from_db()
    assert user.wants_news
    # As a mail program posts it (RFC 8058).
    assert client.post(address, {"List-Unsubscribe": "One-Click"}).status_code == 200
    user.refresh_from_db()
    assert not user.wants_news
    client.post(address, {"again": "1"})
    user.refresh_from_db()
    assert user.wants_news


def test_a_damaged_link_changes_nothing_and_says_what_to_do() -> None:
    user = UserFactory()
    address = path_in(unsubscribe_address(user))
    response = Client().post(address[:-4] + "abc/", {})
    assert response.status_code == 404
    assert reverse("accounts:profile") in response.content.decode()
    user.refresh_from_db()
    assert user.wants_news


def test_the_profile_has_the_choice() -> None:
    user = UserFactory()
    client = Client()
    client.force_login(user)
    address = reverse("accounts:profile")
    assert 'name="wants_news"' in client.get(address).content.decode()
    client.post(address, {"display_name": "Ada", "language": "en"})
    user.refresh_from_db()
    assert not user.wants_news

"""Those whose photos taught a version are thanked: once a version, on their pages and in the digest mail."""

from datetime import timedelta
from typing import Any

import pytest
from django.core import mail
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from apps.accounts.mails import send_due_mails
from apps.accounts.models import OutgoingMail, User
from apps.annotation.models import Thanks
from apps.annotation.personal_data import experts_data
from apps.annotation.services.news import mail_due_news, record_news
from apps.annotation.services.thanks import lesson_sentence, record_thanks, thanks_sentence
from apps.annotation.tasks.news import note_thanks, sweep_news
from apps.observations.models import Photo
from apps.observations.services.deletion import delete_photo
from apps.training.models import ModelVersion, TrainingRun
from apps.training.services import promote
from tests.annotation.test_bulk import answered
from tests.factories import LabelFactory, ModelVersionFactory, PhotoFactory, UserFactory
from tests.training.factories import CandidateFactory, DatasetFactory, DatasetItemFactory, TrainingRunFactory

pytestmark = pytest.mark.django_db


def taught(*photos: Photo, number: int = 4, model: Any = None, split: str = "train") -> ModelVersion:
    """A candidate whose run learned from these photos."""
    version = CandidateFactory(number=number, **({"registered_model": model} if model else {}))
    dataset = DatasetFactory(registered_model=version.registered_model)
    for position, photo in enumerate(photos):
        DatasetItemFactory(dataset=dataset, position=position, photo=photo.public_id, split=split)
    TrainingRunFactory(
        registered_model=version.registered_model, dataset=dataset, version=version, status="done"
    )
    return version


def photo_of(contributor: User, **fields: Any) -> Photo:
    return PhotoFactory(observation__contributor=contributor, **fields)


def rested() -> None:
    Thanks.objects.update(created_at=timezone.now() - timedelta(hours=2))


def page(reader: User | None, photo: Photo) -> str:
    client = Client()
    if reader:
        client.force_login(reader)
    return client.get(reverse("observations:photo", args=[photo.public_id])).content.decode()


def test_everybody_whose_photos_taught_a_promoted_version_is_noted_once() -> None:
    ada, bo = UserFactory(), UserFactory()
    version = taught(photo_of(ada), photo_of(ada), photo_of(bo))
    assert record_thanks() == 0  # it does not serve
    promote(version=version)
    assert record_thanks() == 2
    assert record_thanks() == 0
    assert dict(Thanks.objects.values_list("contributor", "photos")) == {ada.pk: 2, bo.pk: 1}


def test_only_photos_it_learned_from_count_and_only_those_on_the_site() -> None:
    test, gone, hidden, closed = (UserFactory() for _ in range(4))
    deleted = photo_of(gone)
    photos = [
        photo_of(hidden, observation__visibility="hidden"),
        photo_of(closed),
        deleted,
    ]
    version = taught(*photos)
    DatasetItemFactory(dataset=version.run.dataset, position=9, photo=photo_of(test).public_id, split="test")
    delete_photo(photo=deleted)
    User.objects.filter(pk=closed.pk).update(is_active=False)
    promote(version=version)
    assert record_thanks() == 0


def test_a_version_from_outside_and_one_promoted_long_ago_thank_nobody() -> None:
    ModelVersionFactory(promoted_at=timezone.now())
    version = taught(photo_of(UserFactory()))
    promote(version=version)
    ModelVersion.objects.filter(pk=version.pk).update(promoted_at=timezone.now() - timedelta(days=8))
    assert record_thanks() == 0


def test_promoted_again_after_a_roll_back_it_thanks_nobody_again() -> None:
    ada = UserFactory()
    version = taught(photo_of(ada))
    promote(version=version)
    record_thanks()
    other = CandidateFactory(number=5, registered_model=version.registered_model)
    promote(version=other)
    promote(version=version)
    assert record_thanks() == 0


def test_the_promotion_wakes_it_and_the_sweep_finds_what_a_lost_message_left() -> None:
    promote(version=taught(photo_of(UserFactory())))
    note_thanks()
    note_thanks()
    assert Thanks.objects.count() == 1
    Thanks.objects.all().delete()
    sweep_news()
    assert Thanks.objects.count() == 1


def test_the_sentence_counts_the_photos() -> None:
    ada = UserFactory()
    version = taught(photo_of(ada), photo_of(ada))
    promote(version=version)
    record_thanks()
    thanks = Thanks.objects.get()
    name = version.registered_model.name
    assert thanks_sentence(thanks) == f"2 photos of yours taught version 4 of the detector “{name}”."
    thanks.photos = 1
    assert thanks_sentence(thanks) == f"1 photo of yours taught version 4 of the detector “{name}”."


# --- Pages --------------------------------------------------------------------------------------------------


def test_ones_own_pages_say_it_for_two_weeks() -> None:
    ada = UserFactory()
    promote(version=taught(photo_of(ada)))
    record_thanks()
    client = Client()
    client.force_login(ada)
    address = reverse("observations:mine")
    assert "taught version 4" in client.get(address).content.decode()
    Thanks.objects.update(created_at=timezone.now() - timedelta(days=15))
    assert "taught version 4" not in client.get(address).content.decode()


def test_the_photos_page_says_what_it_taught() -> None:
    ada = UserFactory()
    photo = photo_of(ada)
    version = taught(photo)
    assert "taught" not in page(ada, photo)  # not promoted
    promote(version=version)
    assert "Your photo taught version 4 of the detector. Thank you!" in page(ada, photo)
    assert "This photo taught version 4 of the detector." in page(None, photo)
    assert "Thank you!" not in page(None, photo)
    promote(version=taught(photo, number=6, model=version.registered_model))
    assert lesson_sentence(photo, ada) == "Your photo has taught the detector since its version 4."


def test_a_photo_that_a_version_was_only_tested_on_taught_nothing() -> None:
    photo = photo_of(UserFactory())
    promote(version=taught(photo, split="test"))
    assert lesson_sentence(photo, None) == ""


# --- The mail -----------------------------------------------------------------------------------------------


def test_one_mail_tells_of_the_version_however_many_photos_it_were() -> None:
    ada = UserFactory()
    promote(version=taught(*(photo_of(ada) for _ in range(5))))
    record_thanks()
    assert mail_due_news() == 0  # it rests for an hour
    rested()
    assert mail_due_news() == 1
    assert mail_due_news() == 0
    send_due_mails()
    message = mail.outbox[0]
    assert message.subject == "Your photos taught the detector"
    assert "5 photos of yours taught version 4" in message.body
    assert reverse("observations:mine") in message.body
    assert "an expert has looked" not in message.body


def test_thanks_and_answers_come_in_one_mail() -> None:
    answer = answered(label.survey, label) if (label := LabelFactory()) else None
    assert answer
    contributor = answer.task.photo.contributor
    promote(version=taught(answer.task.photo))
    record_news()
    record_thanks()
    rested()
    assert mail_due_news() == 1
    assert mail_due_news() == 0
    body = OutgoingMail.objects.get().body
    assert "an expert has looked at one of your photos" in body
    assert "taught version 4" in body
    assert not Thanks.objects.filter(contributor=contributor, mailed_at=None).exists()


def test_of_several_versions_the_last_one_is_told() -> None:
    ada = UserFactory()
    first = taught(photo_of(ada))
    promote(version=first)
    record_thanks()
    promote(version=taught(photo_of(ada), number=5, model=first.registered_model))
    record_thanks()
    rested()
    mail_due_news()
    body = OutgoingMail.objects.get().body
    assert "version 5" in body
    assert "version 4" not in body


def test_a_version_promoted_while_the_mail_is_written_is_told_by_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from apps.annotation.services import news

    ada = UserFactory()
    first = taught(photo_of(ada))
    promote(version=first)
    record_thanks()
    rested()
    second = taught(photo_of(ada), number=5, model=first.registered_model)
    real = news.latest_of_each_model

    def meanwhile(thanks: Any) -> Any:
        lessons = real(thanks)
        promote(version=second)
        record_thanks()
        return lessons

    monkeypatch.setattr(news, "latest_of_each_model", meanwhile)
    assert mail_due_news() == 1
    assert "version 4" in OutgoingMail.objects.get().body
    assert list(Thanks.objects.filter(mailed_at=None).values_list("version", flat=True)) == [second.pk]


def test_who_wants_no_news_gets_no_thanks_by_mail() -> None:
    promote(version=taught(photo_of(UserFactory(wants_news=False))))
    record_thanks()
    rested()
    assert mail_due_news() == 0


def test_thanks_are_part_of_ones_own_data_and_go_with_the_account() -> None:
    ada = UserFactory()
    version = taught(photo_of(ada))
    promote(version=version)
    record_thanks()
    files = {name: list(rows) for name, rows in experts_data(ada)}
    assert files["photos-that-taught.json"][0]["model_version"] == str(version)
    Photo.objects.all().delete()
    ada.delete()
    assert not Thanks.objects.exists()
    assert TrainingRun.objects.exists()

"""Experts who leave and photos that are withdrawn do not stumble over answers that cannot be altered."""

import pytest
from django.db.models.functions import Now

from apps.accounts.models import User
from apps.accounts.services import close_account
from apps.annotation.models import AnnotatedBox, Annotation, AnnotationTask, Assignment
from apps.observations.models import Observation, Photo
from apps.observations.services.closing import erase_closed_accounts
from apps.observations.services.deletion import delete_photo
from tests.annotation.factories import (
    AnnotatedBoxFactory,
    AnnotationFactory,
    AssignmentFactory,
    ExpertFactory,
    TaskFactory,
)

pytestmark = pytest.mark.django_db


def test_an_expert_s_answers_stay_without_their_name():
    expert = ExpertFactory()
    task = TaskFactory()
    answer = AnnotatedBoxFactory(
        annotation=AnnotationFactory(task=task, author=expert, is_empty=False, box_count=1)
    ).annotation
    AssignmentFactory(task=task, expert=expert)
    AnnotationTask.objects.update(accepted=answer, accepted_at=Now(), state="done")
    close_account(user=expert)
    assert erase_closed_accounts() == 1
    assert not User.objects.filter(pk=expert.pk).exists()
    answer.refresh_from_db()
    assert answer.author is None
    assert AnnotatedBox.objects.count() == 1
    assert AnnotationTask.objects.get().accepted == answer
    assert not Assignment.objects.filter(expert=expert.pk).exists()


def test_an_expert_s_own_photos_go_with_all_answers_to_them():
    expert = ExpertFactory()
    own = TaskFactory(photo__observation__contributor=expert)
    AnnotationTask.objects.update(accepted=AnnotationFactory(task=own), accepted_at=Now(), state="done")
    foreign = AnnotationFactory(author=expert)
    close_account(user=expert)
    assert erase_closed_accounts() == 1
    assert list(Annotation.objects.all()) == [foreign]
    assert not Observation.objects.filter(pk=own.photo.observation_id).exists()


def test_a_photo_with_answers_can_be_deleted():
    first = AnnotatedBoxFactory().annotation
    AnnotationFactory(task=first.task, supersedes=first)
    AnnotationTask.objects.update(accepted=first, accepted_at=Now(), state="done")
    AssignmentFactory(task=first.task)
    delete_photo(photo=first.task.photo)
    assert not Photo.objects.exists()
    assert not Annotation.objects.exists()
    assert not AnnotatedBox.objects.exists()

"""The smallest valid rows of the experts' loop. Append only."""

from datetime import timedelta

import factory
from django.utils import timezone
from factory.django import DjangoModelFactory

from apps.annotation.models import (
    AnnotatedBox,
    Annotation,
    AnnotationPolicy,
    AnnotationTask,
    Assignment,
    PhotoGroup,
)
from tests.factories import LabelFactory, PhotoFactory, SurveyFactory, UserFactory


class PolicyFactory(DjangoModelFactory[AnnotationPolicy]):
    class Meta:
        model = AnnotationPolicy
        django_get_or_create = ("survey",)

    survey = factory.SubFactory(SurveyFactory)
    seed = 7


class PhotoGroupFactory(DjangoModelFactory[PhotoGroup]):
    class Meta:
        model = PhotoGroup

    survey = factory.SubFactory(SurveyFactory)
    arm = "active"
    split = factory.LazyAttribute(lambda group: "test" if group.arm == "control" else "train")
    draw = 0.5


class TaskFactory(DjangoModelFactory[AnnotationTask]):
    class Meta:
        model = AnnotationTask

    photo = factory.SubFactory(PhotoFactory)
    survey = factory.SelfAttribute("photo.survey")
    arm = "active"
    group = factory.SubFactory(
        PhotoGroupFactory, survey=factory.SelfAttribute("..survey"), arm=factory.SelfAttribute("..arm")
    )
    draw = 0.5


class ExpertFactory(UserFactory):
    is_expert = True


class AssignmentFactory(DjangoModelFactory[Assignment]):
    class Meta:
        model = Assignment

    task = factory.SubFactory(TaskFactory)
    expert = factory.SubFactory(ExpertFactory)
    given_as = "active"
    lease_until = factory.LazyFunction(lambda: timezone.now() + timedelta(minutes=15))


class AnnotationFactory(DjangoModelFactory[Annotation]):
    """An expert's answer without boxes; give `is_empty=False, box_count=n` and n `AnnotatedBoxFactory` for others."""

    class Meta:
        model = Annotation

    task = factory.SubFactory(TaskFactory)
    author = factory.SubFactory(ExpertFactory)
    is_empty = True
    box_count = 0


class AnnotatedBoxFactory(DjangoModelFactory[AnnotatedBox]):
    class Meta:
        model = AnnotatedBox

    annotation = factory.SubFactory(AnnotationFactory, is_empty=False, box_count=1)
    number = factory.Sequence(lambda n: n + 1)
    label = factory.SubFactory(LabelFactory, survey=factory.SelfAttribute("..annotation.task.survey"))
    x_min, y_min, x_max, y_max = 10.0, 20.0, 110.0, 70.0

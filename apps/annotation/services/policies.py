"""The rules of a survey's queue."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import transaction

from apps.annotation.active_learning.strategies import Options
from apps.annotation.models import AnnotationPolicy
from apps.observations.models import Survey


def policy_of(survey: Survey | int) -> AnnotationPolicy:
    """The survey's rules; the defaults are written down, with their seed, the first time anyone asks."""
    key = survey.pk if isinstance(survey, Survey) else survey
    return AnnotationPolicy.objects.get_or_create(survey_id=key)[0]


@contextmanager
def alone_in_queue(policy: AnnotationPolicy) -> Iterator[AnnotationPolicy]:
    """A transaction in which nobody is given a photo of this survey, for whoever changes its order; keep it short.

    Without it the rows being changed were passed over as locked, and an expert got another photo than the first. Gives
    the rules as they are now.
    """
    with transaction.atomic():
        yield AnnotationPolicy.objects.select_for_update(no_key=True).get(pk=policy.pk)


def options_of(policy: AnnotationPolicy) -> Options:
    """What the strategies take from the rules."""
    return Options(
        top_k=policy.top_k,
        doubtful_below=policy.doubtful_below,
        doubtful_more_than=policy.doubtful_more_than,
        empty_photos=policy.empty_photos,  # type: ignore[arg-type]  # its choices are the strategies' own
    )

"""The rules of a survey's queue."""

from apps.annotation.active_learning.strategies import Options
from apps.annotation.models import AnnotationPolicy
from apps.observations.models import Survey


def policy_of(survey: Survey | int) -> AnnotationPolicy:
    """The survey's rules; the defaults are written down, with their seed, the first time anyone asks."""
    key = survey.pk if isinstance(survey, Survey) else survey
    return AnnotationPolicy.objects.get_or_create(survey_id=key)[0]


def options_of(policy: AnnotationPolicy) -> Options:
    """What the strategies take from the rules."""
    return Options(
        top_k=policy.top_k,
        doubtful_below=policy.doubtful_below,
        doubtful_more_than=policy.doubtful_more_than,
        empty_photos=policy.empty_photos,  # type: ignore[arg-type]  # its choices are the strategies' own
    )

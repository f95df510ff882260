from django.db import models
from django.utils.translation import gettext_lazy as _

from apps.common.leased import LeasedWork
from apps.observations.models.survey import Survey


class PlaceReview(LeasedWork):
    """As leased work: computing the public places of a survey anew, because what is sensitive changed."""

    survey = models.OneToOneField(
        Survey, models.CASCADE, related_name="place_review", verbose_name=_("survey"), editable=False
    )
    next_observation = models.BigIntegerField(
        default=0, editable=False, help_text=_("The review resumes here after an interruption.")
    )
    reviewed = models.PositiveIntegerField(_("places reviewed"), default=0, editable=False)
    changed = models.PositiveIntegerField(_("places changed"), default=0, editable=False)

    class Meta(LeasedWork.Meta):
        verbose_name = _("review of places")
        verbose_name_plural = _("reviews of places")

    def __str__(self) -> str:
        return str(self.survey)

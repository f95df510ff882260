"""The console's first page: what waits for a person, and whether the machines keep up."""

from datetime import datetime
from typing import Any

from django.db.models import Min, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.timesince import timesince
from django.utils.translation import gettext as _

from apps.accounts.models import ExpertApplication
from apps.common.leased import WorkStatus
from apps.observations.models import ArchiveUpload, Observation, Photo, PlaceReview
from apps.training.models import ModelVersion

COUNT_LIMIT = 1_000
OPEN = (WorkStatus.PENDING, WorkStatus.PROCESSING)


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Adds `cards` and `production`; every count stops at a limit and has an index, so the page stays fast."""
    photos = reverse("admin:observations_photo_changelist")
    waiting = Photo.objects.filter(status__in=OPEN)
    oldest = waiting.aggregate(oldest=Min("queued_at"))["oldest"]
    failed = Photo.objects.filter(status=WorkStatus.FAILED)
    archives = ArchiveUpload.objects.filter(status__in=(*OPEN, WorkStatus.FAILED))
    reviews = PlaceReview.objects.filter(status__in=OPEN)
    pending = ExpertApplication.objects.filter(status=ExpertApplication.Status.PENDING)
    cards = [
        _card(
            "observations.view_photo",
            _("Photos waiting for detection"),
            waiting,
            f"{photos}?status__in=pending,processing",
            note=_age(oldest),
        ),
        _card(
            "observations.view_photo",
            _("Photos whose detection failed"),
            failed,
            f"{photos}?status__exact=failed",
            is_bad=True,
        ),
        _card(
            "observations.view_archiveupload",
            _("Zip archives unfinished or failed"),
            archives,
            reverse("admin:observations_archiveupload_changelist"),
        ),
        _card(
            "accounts.view_expertapplication",
            _("Expert applications to decide"),
            pending,
            f"{reverse('admin:accounts_expertapplication_changelist')}?status__exact=pending",
            is_bad=True,
        ),
        _card(
            "observations.view_placereview",
            _("Surveys whose places are being reviewed"),
            reviews,
            reverse("admin:observations_placereview_changelist"),
        ),
    ]
    newest = Observation.objects.select_related("survey", "contributor").order_by("-pk")[:6]
    can_see = request.user.has_perm
    context |= {
        "cards": [card for card in cards if can_see(card["permission"])],
        "production": ModelVersion.objects.filter(stage=ModelVersion.Stage.PRODUCTION).select_related(
            "registered_model"
        )
        if can_see("training.view_modelversion")
        else [],
        "newest": newest if can_see("observations.view_observation") else [],
        "has_second_factor": _has_second_factor(request.user),
    }
    return context


def _card(
    permission: str, name: str, rows: QuerySet[Any], url: str, *, note: str = "", is_bad: bool = False
) -> dict[str, Any]:
    count = rows.order_by()[: COUNT_LIMIT + 1].count()
    return {
        "permission": permission,
        "name": name,
        "count": f"{COUNT_LIMIT}+" if count > COUNT_LIMIT else count,
        "url": url,
        "note": note if count else "",
        "is_bad": is_bad and count > 0,
    }


def _age(oldest: datetime | None) -> str:
    if oldest is None or oldest > timezone.now():
        return ""
    return _("the oldest for %(time)s") % {"time": timesince(oldest)}


def _has_second_factor(user: Any) -> bool:
    from allauth.mfa.utils import is_mfa_enabled

    return bool(is_mfa_enabled(user))

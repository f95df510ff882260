"""The page of an observation: a folder's photos together."""

import uuid
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from apps.common.leased import WorkStatus
from apps.observations.models import Comment, Observation, Photo, RefusedFile
from apps.observations.results import label_counts, latest_comments
from apps.observations.services import observations as services
from apps.observations.services.geoprivacy import is_exact_for, place_for
from apps.observations.services.intake import refusal_message
from apps.observations.views.visible import is_owner, require_owner, visible_observation

PAGE = 60
REFUSED_SHOWN = 200


@require_safe
def observation_page(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    observation = visible_observation(request, public_id)
    owner = is_owner(request, observation)
    progress = services.observation_progress(observation)
    refused = _refused(observation) if owner else []
    if (
        progress["total"] == 1
        and not progress["archives_pending"]
        and not refused
        and "list" not in request.GET
    ):
        only = observation.photos.values_list("public_id", flat=True).get()
        return redirect("observations:photo", only)
    photos, page = _photo_page(request, observation)
    return render(
        request,
        "observations/observation.html",
        {
            "observation": observation,
            "photos": photos,
            "page": page,
            "labels": label_counts(observation),
            "place": place_for(observation, request.user),
            "is_owner": owner,
            "knows_exact": is_exact_for(observation, request.user),
            "proposals": services.proposals(observation) if owner else None,
            "refused": refused,
            "comments": latest_comments(Comment.objects.filter(observation=observation)),
            **_progress_context(progress),
        },
    )


@require_safe
def observation_progress(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """The bar, asked for every two seconds; tells the page when more photos are through, and when all are."""
    observation = visible_observation(request, public_id)
    progress = services.observation_progress(observation)
    context = {"observation": observation, **_progress_context(progress)}
    response = render(request, "observations/observation_progress.html", context)
    if not context["is_working"]:
        response["HX-Refresh"] = "true"
    elif request.GET.get("seen") != str(context["through"]):
        response["HX-Trigger"] = "photos-changed"
    return response


@require_POST
@login_required
def settle_proposals(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """The owner takes over the date and place that the files state, or declines."""
    observation = visible_observation(request, public_id)
    require_owner(request, observation)
    if request.POST.get("answer") == "accept":
        services.accept_proposals(observation=observation)
        messages.success(request, _("Date and place are taken from the photos."))
    else:
        services.decline_proposals(observation=observation)
    return redirect("observations:observation", public_id)


@require_POST
@login_required
def dismiss_refused(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """The owner has read which files were refused. Those of an archive still being read stay: they mark its place."""
    observation = visible_observation(request, public_id)
    require_owner(request, observation)
    settled = Q(archive__isnull=True) | Q(archive__status__in=(WorkStatus.DONE, WorkStatus.FAILED))
    RefusedFile.objects.filter(settled, observation=observation).delete()
    return redirect("observations:observation", public_id)


def _photo_page(request: HttpRequest, observation: Observation) -> tuple[list[Photo], dict[str, str]]:
    """Photos in the order they were sent, paged by key: `?after=` and `?before=` name a photo of this observation."""
    photos = observation.photos.all()
    after, before = (_key(observation, request.GET.get(name, "")) for name in ("after", "before"))
    if before is not None:
        rows = list(photos.filter(pk__lt=before).order_by("-pk")[: PAGE + 1])
        has_previous, has_next = len(rows) > PAGE, True
        rows = rows[:PAGE][::-1]
    else:
        rows = list((photos.filter(pk__gt=after) if after is not None else photos).order_by("pk")[: PAGE + 1])
        has_previous, has_next = after is not None, len(rows) > PAGE
        rows = rows[:PAGE]
    page = {"previous": "", "next": ""}
    if rows and has_previous:
        page["previous"] = f"?before={rows[0].public_id}"
    if rows and has_next:
        page["next"] = f"?after={rows[-1].public_id}"
    return rows, page


def _key(observation: Observation, text: str) -> int | None:
    try:
        public_id = uuid.UUID(text)
    except ValueError:
        return None
    return observation.photos.filter(public_id=public_id).values_list("pk", flat=True).first()


def _progress_context(progress: dict[str, int]) -> dict[str, Any]:
    working = progress["waiting"] + progress["processing"] + progress["archives_pending"]
    return {
        "progress": progress,
        "through": progress["done"] + progress["failed"],
        "is_working": bool(working),
    }


def _refused(observation: Observation) -> list[dict[str, str]]:
    return [
        {"name": row.name, "reason": refusal_message(row.code, row.params)}
        for row in observation.refused_files.all()[:REFUSED_SHOWN]
    ]

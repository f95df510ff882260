"""The results page of one photo."""

import uuid
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.template.loader import render_to_string
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from apps.common.leased import LeasedWork, WorkStatus
from apps.observations.hooks import BoxMark, box_marks, photo_panels
from apps.observations.models import Comment, Photo
from apps.observations.renditions import display_size
from apps.observations.results import latest_comments, named_boxes
from apps.observations.services.detection import failure_message, request_detection
from apps.observations.services.geoprivacy import is_exact_for, place_for
from apps.observations.services.observations import proposals
from apps.observations.services.tiles import tiles_of
from apps.observations.version_history import version_history
from apps.observations.views.visible import is_owner, require_owner_or_staff, visible_photo

CROWDED = 24  # above so many boxes the picture shows numbers only; names come by pointing
COUNTED_AHEAD = 1000


@require_safe
def photo_page(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    photo = visible_photo(request, public_id)
    observation = photo.observation
    boxes = named_boxes(photo)
    marks = _box_marks(request, photo)
    owner = is_owner(request, observation)
    return render(
        request,
        "observations/photo.html",
        {
            "photo": photo,
            "observation": observation,
            "boxes": boxes,
            "marks": marks,
            "panels": _panels(request, photo),
            "tiles": tiles_of(photo),
            "display_width": display_size(photo.width_px, photo.height_px)[0],
            "is_crowded": len(boxes) > CROWDED,
            "letter_px": letter_px(photo),
            "lowest": min((box.score for box in boxes), default=0),
            "place": place_for(observation, request.user),
            "is_owner": owner,
            "knows_exact": is_exact_for(observation, request.user),
            "proposals": proposals(observation) if owner else None,
            "comments": comments_for(photo),
            "history": version_history(photo),
            **_neighbours(photo),
            **progress_context(photo),
        },
    )


@require_safe
def photo_progress(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """The state's fragment, asked for every two seconds; once the photo is through, the page loads anew."""
    photo = visible_photo(request, public_id)
    response = render(request, "observations/photo_state.html", {"photo": photo, **progress_context(photo)})
    if photo.status in (WorkStatus.DONE, WorkStatus.FAILED):
        response["HX-Refresh"] = "true"
    return response


@require_POST
@login_required
def detect_again(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """A photo that failed is tried again, for its owner and staff."""
    photo = visible_photo(request, public_id)
    require_owner_or_staff(request, photo.observation)
    failed = Photo.objects.filter(pk=photo.pk, status=WorkStatus.FAILED)
    if request_detection(failed, priority=LeasedWork.Priority.INTERACTIVE):
        messages.success(request, _("The photo is being looked at again."))
    return redirect("observations:photo", public_id)


def _panels(request: HttpRequest, photo: Photo) -> list[str]:
    """Fragments of other apps; each sees the page's usual context and its own values."""
    return [
        render_to_string(answer[0], {"photo": photo, **answer[1]}, request=request)
        for answer in photo_panels.sound_answers(request, photo)
        if answer is not None
    ]


def _box_marks(request: HttpRequest, photo: Photo) -> dict[int, BoxMark]:
    marks: dict[int, BoxMark] = {}
    for answer in box_marks.sound_answers(request, photo):
        marks = {**answer, **marks}
    return marks


def letter_px(photo: Photo) -> float:
    """Height of the boxes' letters in pixels of the photo, so that they read well on a page about 900 px wide."""
    return round(max(photo.width_px, photo.height_px) / 900 * 17, 2)


def progress_context(photo: Photo) -> dict[str, Any]:
    """What the page says of a photo that is not through, and why one failed."""
    context: dict[str, Any] = {"is_working": photo.status in (WorkStatus.PENDING, WorkStatus.PROCESSING)}
    if photo.status == WorkStatus.PENDING:
        ahead = Photo.objects.claimable().filter(
            Q(priority__lt=photo.priority) | Q(priority=photo.priority, queued_at__lt=photo.queued_at)
        )
        context["ahead"] = ahead.order_by()[:COUNTED_AHEAD].count()
    elif photo.status == WorkStatus.FAILED:
        context["failure"] = failure_message(photo)
    return context


def comments_for(photo: Photo) -> list[Comment]:
    """Those on this photo and those on the observation as a whole."""
    comments = Comment.objects.filter(observation=photo.observation_id).filter(
        Q(photo=photo) | Q(photo__isnull=True)
    )
    return latest_comments(comments)


def _neighbours(photo: Photo) -> dict[str, Any]:
    """The photos before and after in the observation, and this one's place among them."""
    siblings = Photo.objects.filter(observation=photo.observation_id)
    counts = siblings.aggregate(total=Count("pk"), position=Count("pk", filter=Q(pk__lte=photo.pk)))
    around: dict[str, Any] = {"previous": None, "next": None}
    if counts["total"] > 1:
        ids = siblings.values_list("public_id", flat=True)
        around["previous"] = ids.filter(pk__lt=photo.pk).order_by("-pk").first()
        around["next"] = ids.filter(pk__gt=photo.pk).order_by("pk").first()
    return counts | around

"""Writing and deleting remarks; each answer is the page the remark belongs to."""

import uuid

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from apps.observations.models import Comment, Observation, Photo
from apps.observations.services.comments import CommentRefusedError, add_comment, may_delete
from apps.observations.views.throttled import throttled
from apps.observations.views.visible import visible_observation, visible_photo

RATE = "60/hour"


@require_POST
@login_required
@throttled("comment", rate=RATE)
def comment_on_photo(request: HttpRequest, public_id: uuid.UUID) -> HttpResponseBase:
    photo = visible_photo(request, public_id)
    return _write(request, photo.observation, photo=photo)


@require_POST
@login_required
@throttled("comment", rate=RATE)
def comment_on_observation(request: HttpRequest, public_id: uuid.UUID) -> HttpResponseBase:
    return _write(request, visible_observation(request, public_id), photo=None)


@require_POST
@login_required
def delete_comment(request: HttpRequest, public_id: uuid.UUID) -> HttpResponseBase:
    comments = Comment.objects.filter(observation__in=Observation.objects.visible_to(request.user))
    comment = get_object_or_404(comments.select_related("photo", "observation"), public_id=public_id)
    if not may_delete(comment, request.user):  # type: ignore[arg-type]
        raise Http404
    comment.delete()
    messages.success(request, _("The comment is deleted."))
    return _back(comment.observation, comment.photo, "comments")


def _write(request: HttpRequest, observation: Observation, *, photo: Photo | None) -> HttpResponseBase:
    try:
        comment = add_comment(
            observation=observation,
            author=request.user,  # type: ignore[arg-type]
            body=request.POST.get("body", ""),
            photo=photo,
            box_number=_box_number(request.POST.get("box_number", "")),
        )
    except CommentRefusedError as error:
        messages.error(request, str(error))
        return _back(observation, photo, "comments")
    return _back(observation, photo, f"comment-{comment.public_id}")


def _box_number(text: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 6):
        raise CommentRefusedError(_("Choose a box by its number."))
    return int(text)


def _back(observation: Observation, photo: Photo | None, anchor: str) -> HttpResponseBase:
    address = (
        redirect("observations:photo", photo.public_id)
        if photo
        else redirect("observations:observation", observation.public_id)
    )
    address["Location"] += f"#{anchor}"
    return address

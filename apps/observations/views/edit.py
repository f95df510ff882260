"""Changing and deleting what one sent. What is someone else's does not exist (404)."""

import uuid
from typing import Any, cast

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.forms import ChoiceField
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from apps.observations.forms import DetailsForm
from apps.observations.models import Observation, Photo
from apps.observations.services import deletion
from apps.observations.services.observations import update_observation

_PHOTOS_SHOWN = 60


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
def edit(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    observation = _own_observation(request, public_id)
    if request.method == "POST":
        form = _details_form(observation, request.POST)
        if form.is_valid():
            changes = form.observation_fields()
            if _is_hidden(observation):
                del changes["visibility"]
            if changes["location"] != observation.location:
                changes["location_accuracy_m"] = None  # it was that of the former place
            update_observation(observation=observation, **changes)
            messages.success(request, _("Saved."))
            return redirect("observations:observation", public_id)
        messages.error(request, _("Not saved yet: some details need another look."))
    else:
        form = _details_form(observation, None)
    photos = observation.photos.order_by("pk")[: _PHOTOS_SHOWN + 1]
    context = {
        "observation": observation,
        "form": form,
        "photos": list(photos)[:_PHOTOS_SHOWN],
        "has_more_photos": len(photos) > _PHOTOS_SHOWN,
        "is_hidden": _is_hidden(observation),
        "MAP_TILE_URL": settings.MAP_TILE_URL,
        "MAP_TILE_ATTRIBUTION": settings.MAP_TILE_ATTRIBUTION,
    }
    return render(request, "observations/edit.html", context, status=422 if form.errors else 200)


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
def delete(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    observation = _own_observation(request, public_id)
    if request.method == "POST":
        deletion.delete_observation(observation=observation)
        messages.success(request, _("The observation and its photos are deleted."))
        return redirect("observations:mine")
    context = {
        "observation": observation,
        "photo_count": observation.photos.count(),
        "comment_count": observation.comments.count(),
    }
    return render(request, "observations/delete.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
def photo_delete(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    photos = Photo.objects.select_related("observation")
    photo = get_object_or_404(photos, public_id=public_id, observation__contributor=request.user)
    if request.method == "POST":
        deletion.delete_photo(photo=photo)
        observation = photo.observation
        if observation.photos.exists() or observation.archives.exists():
            messages.success(request, _("The photo is deleted."))
            return redirect("observations:observation", observation.public_id)
        deletion.delete_observation(observation=observation)
        messages.success(
            request, _("The photo is deleted, and with it the observation, as it was its only one.")
        )
        return redirect("observations:mine")
    context = {"photo": photo, "is_last": photo.observation.photos.count() == 1}
    return render(request, "observations/delete_photo.html", context)


def _own_observation(request: HttpRequest, public_id: uuid.UUID) -> Observation:
    return get_object_or_404(
        Observation.objects.select_related("survey"), public_id=public_id, contributor=request.user
    )


def _is_hidden(observation: Observation) -> bool:
    return observation.visibility == Observation.Visibility.HIDDEN


def _details_form(observation: Observation, data: Any) -> DetailsForm:
    form = DetailsForm(data, initial=DetailsForm.initial_of(observation))
    if _is_hidden(observation):
        # A curator hid it, and only a curator shows it again: the field says so and takes nothing else.
        visibility = cast(ChoiceField, form.fields["visibility"])
        visibility.choices = [
            (value, label) for value, label in Observation.Visibility.choices if value == "hidden"
        ]
        visibility.disabled = True
    return form

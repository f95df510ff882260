"""Rows as the viewer may reach them: what is foreign or hidden does not exist (404)."""

import uuid

from django.http import Http404, HttpRequest
from django.shortcuts import get_object_or_404

from apps.observations.models import Observation, Photo
from apps.observations.services.geoprivacy import is_exact_for


def visible_photo(request: HttpRequest, public_id: uuid.UUID) -> Photo:
    photos = Photo.objects.visible_to(request.user).select_related(
        "observation__survey", "observation__contributor", "survey", "model_version__registered_model"
    )
    photo: Photo = get_object_or_404(photos, public_id=public_id)
    return photo


def visible_observation(request: HttpRequest, public_id: uuid.UUID) -> Observation:
    observations = Observation.objects.visible_to(request.user).select_related("survey", "contributor")
    return get_object_or_404(observations, public_id=public_id)


def is_owner(request: HttpRequest, observation: Observation) -> bool:
    return bool(request.user.is_authenticated and request.user.pk == observation.contributor_id)


def require_owner(request: HttpRequest, observation: Observation) -> None:
    if not is_owner(request, observation):
        raise Http404


def require_owner_or_staff(request: HttpRequest, observation: Observation) -> None:
    if not is_exact_for(observation, request.user):
        raise Http404

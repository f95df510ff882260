"""Who may use the experts' loop, and which photos they reach."""

import uuid
from typing import Any, cast

from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils.translation import gettext as _
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from apps.accounts.models import User
from apps.annotation.models import AnnotationTask
from apps.common.problems import Problem


def is_expert(user: Any) -> bool:
    """Experts, and the staff that approves them."""
    return bool(user.is_authenticated and (user.is_expert or user.is_staff))


class ExpertsOnly(BasePermission):
    """Anonymous callers are asked to sign in (401); others are told how to become one (403)."""

    def has_permission(self, request: Request, view: Any) -> bool:  # noqa: ARG002 (the framework calls it so)
        if not request.user.is_authenticated:
            return False
        if is_expert(request.user):
            return True
        address = request.build_absolute_uri(reverse("accounts:apply_expert"))
        detail = _("Only experts correct boxes. Tell us what you know to become one: %(address)s")
        raise Problem(
            status=403, code="not_an_expert", detail=detail % {"address": address}, extra={"apply": address}
        )


def expert_of(request: Request) -> User:
    return cast("User", request.user)


def reachable_tasks() -> QuerySet[AnnotationTask]:
    """Of photos that everybody may see; private and hidden ones do not exist here."""
    return AnnotationTask.objects.public().select_related(
        "survey", "photo__observation", "photo__model_version__registered_model", "photo__tile_pyramid"
    )


def reachable_task(public_id: uuid.UUID) -> AnnotationTask:
    return get_object_or_404(reachable_tasks(), public_id=public_id)

"""The drawing page. What it shows comes over the JSON API; here is only who may open it, and where things are."""

import uuid
from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.middleware.csrf import get_token
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from apps.annotation.api.permissions import is_expert
from apps.annotation.models import AnnotationTask
from apps.observations.models import Survey

_ANY_ID = uuid.UUID(int=0)


@never_cache
@login_required
@require_safe
def draw_next(request: HttpRequest, slug: str) -> HttpResponse:
    """The photo that the queue gives this expert next."""
    return _page(request, get_object_or_404(Survey, slug=slug), task_id=None)


@never_cache
@login_required
@require_safe
def draw_task(request: HttpRequest, task_id: uuid.UUID) -> HttpResponse:
    """One photo by its address: to go on with it, or to correct one's own answer."""
    task = get_object_or_404(AnnotationTask.objects.public().select_related("survey"), public_id=task_id)
    return _page(request, task.survey, task_id=task_id)


@never_cache
@require_safe
def session_state(request: HttpRequest) -> JsonResponse:
    """Who is signed in in this browser. An open drawing page asks after its session ended, before it goes on saving:
    somebody else may have signed in meanwhile. It also renews the CSRF cookie.
    """
    get_token(request)
    user = request.user
    return JsonResponse({"user": str(user.public_id) if user.is_authenticated else None})


@never_cache
@login_required
@require_safe
def signed_in(request: HttpRequest) -> HttpResponse:
    """Where signing in again, beside an open drawing page, ends."""
    return render(request, "annotation/task_signed_in.html")


def _page(request: HttpRequest, survey: Survey, *, task_id: uuid.UUID | None) -> HttpResponse:
    if not is_expert(request.user):
        return render(request, "annotation/task_experts_only.html", {"survey": survey}, status=403)
    get_token(request)
    return render(
        request, "annotation/task.html", {"survey": survey, "config": _config(request, survey, task_id)}
    )


def _config(request: HttpRequest, survey: Survey, task_id: uuid.UUID | None) -> dict[str, Any]:
    """Addresses with a zero id or the word `SLUG` in the place that the page fills in."""
    return {
        "user": str(getattr(request.user, "public_id", "")),
        "survey": survey.slug,
        "task": str(task_id) if task_id else None,
        "api": reverse("home") + "api/v1/annotation/",
        "pages": {
            "task": reverse("annotation:task", args=[_ANY_ID]),
            "draw": reverse("annotation:draw", args=[survey.slug]),
            "session": reverse("annotation:session"),
            "signed_in": reverse("annotation:signed_in"),
            "sign_in": reverse("account_login"),
            "photo": reverse("observations:photo", args=[_ANY_ID]),
        },
    }

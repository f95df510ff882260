"""One's own data: a download of all of it, and leaving."""

import uuid
from http import HTTPStatus
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth import logout
from django.contrib.auth.decorators import login_required
from django.db.models.functions import Now
from django.http import (
    FileResponse,
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
)
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.http import content_disposition_header
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_safe

from apps.accounts.models import User
from apps.common.leased import WorkStatus
from apps.observations.models import Comment, DataExport, Observation, Photo
from apps.observations.services.closing import leave as leave_for_good
from apps.observations.services.data_export import request_export
from apps.observations.views.files import store_redirect
from apps.observations.views.throttled import throttled

_COUNTED_TO = 10_000


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
@never_cache
def export(request: HttpRequest) -> HttpResponseBase:
    """The state of the person's export; posting asks for one."""
    return _ask_export(request) if request.method == "POST" else _export_page(request)


@throttled("export")
def _ask_export(request: HttpRequest) -> HttpResponse:
    assert isinstance(request.user, User)
    request_export(user=request.user)
    return redirect("observations:export")


def _export_page(request: HttpRequest) -> HttpResponse:
    assert isinstance(request.user, User)
    latest = DataExport.objects.filter(user=request.user).order_by("-pk").first()
    if latest and latest.expires_at and latest.expires_at < timezone.now():
        latest = None
    is_working = latest is not None and latest.status in (WorkStatus.PENDING, WorkStatus.PROCESSING)
    if request.headers.get("HX-Request"):
        response = render(
            request, "observations/export_state.html", {"export": latest, "is_working": is_working}
        )
        if not is_working:
            response["HX-Refresh"] = "true"
        return response
    return render(request, "observations/export.html", {"export": latest, "is_working": is_working})


@require_safe
@login_required
def export_file(request: HttpRequest, public_id: uuid.UUID) -> HttpResponseBase:
    """The zip, for its owner, while it is kept."""
    assert isinstance(request.user, User)
    mine = DataExport.objects.filter(user=request.user, status=WorkStatus.DONE, expires_at__gt=Now())
    file = get_object_or_404(mine, public_id=public_id).file
    disposition = content_disposition_header(as_attachment=True, filename="podura-data.zip") or "attachment"
    response: HttpResponseBase | None = store_redirect(file, ResponseContentDisposition=disposition)
    if response is None:
        try:
            response = FileResponse(file.open("rb"), content_type="application/zip")
        except FileNotFoundError as error:
            raise Http404 from error
        response["Content-Disposition"] = disposition
    response["Cache-Control"] = "private, no-store"
    response["X-Content-Type-Options"] = "nosniff"
    return response


class LeaveForm(forms.Form):
    """Leaving is confirmed by the password, so that an open screen is not enough."""

    password = forms.CharField(
        label=gettext_lazy("Your password"),
        strip=False,
        max_length=1024,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
    )

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.user = user

    def clean_password(self) -> str:
        password: str = self.cleaned_data["password"]
        if not self.user.check_password(password):
            raise forms.ValidationError(_("This is not your password."), code="wrong")
        return password


@require_http_methods(["GET", "HEAD", "POST"])
@sensitive_post_parameters("password")
@login_required
@never_cache
def leave(request: HttpRequest) -> HttpResponseBase:
    """What leaving means, and the password that confirms it."""
    assert isinstance(request.user, User)
    return (
        _leave_now(request)
        if request.method == "POST"
        else _leave_page(request, LeaveForm(user=request.user))
    )


@throttled("leave", rate="10/hour")
def _leave_now(request: HttpRequest) -> HttpResponse:
    assert isinstance(request.user, User)
    form = LeaveForm(request.POST, user=request.user)
    if not form.is_valid():
        return _leave_page(request, form, status=HTTPStatus.UNPROCESSABLE_ENTITY)
    leave_for_good(user=request.user)
    logout(request)
    messages.success(
        request, _("Your account is closed. Your photos and comments are being removed. Farewell!")
    )
    return redirect("home")


def _leave_page(request: HttpRequest, form: LeaveForm, *, status: int = HTTPStatus.OK) -> HttpResponse:
    assert isinstance(request.user, User)
    counts = {
        "observations": Observation.objects.filter(contributor=request.user)[:_COUNTED_TO].count(),
        "photos": Photo.objects.filter(contributor=request.user)[:_COUNTED_TO].count(),
        "comments": Comment.objects.filter(author=request.user)[:_COUNTED_TO].count(),
    }
    return render(request, "observations/leave.html", {"form": form, **counts}, status=status)

"""One's own account: profile, expert application, API clients; in the demonstration also a mailbox."""

import uuid
from typing import cast

from allauth.account.models import EmailAddress
from allauth.mfa.utils import is_mfa_enabled
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import translation
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from apps.accounts.forms import ExpertApplicationForm, ProfileForm
from apps.accounts.mailbox import read_mails
from apps.accounts.models import ApiClient, ExpertApplication, User
from apps.accounts.services import ApplicationPendingError, apply_as_expert, revoke_api_client
from apps.accounts.unsubscribing import unsubscribing_user

_YEAR_S = 365 * 24 * 3600


@never_cache
@login_required
@require_http_methods(["GET", "POST"])
def profile(request: HttpRequest) -> HttpResponse:
    user = _user(request)
    form = ProfileForm(request.POST if request.method == "POST" else None, instance=_user(request))
    if request.method == "POST" and form.is_valid():
        User.objects.filter(pk=user.pk).update(**form.cleaned_data)
        language = form.cleaned_data["language"]
        with translation.override(language):
            messages.success(request, _("Your profile is saved."))
        response = redirect("accounts:profile")
        response.set_cookie(
            settings.LANGUAGE_COOKIE_NAME,
            language,
            max_age=_YEAR_S,
            secure=settings.SESSION_COOKIE_SECURE,
            samesite="Lax",
        )
        return response
    context = {
        "form": form,
        "email_addresses": EmailAddress.objects.filter(user=user).order_by("-primary", "email"),
        "has_two_factor": is_mfa_enabled(user),
        "clients": ApiClient.objects.filter(owner=user),
        "application": ExpertApplication.objects.filter(user=user).first(),
    }
    return render(request, "accounts/profile.html", context, status=422 if form.errors else 200)


@never_cache
@login_required
@require_http_methods(["GET", "POST"])
def apply_expert(request: HttpRequest) -> HttpResponse:
    """Ask to become an expert, or see what became of it."""
    user = _user(request)
    form = ExpertApplicationForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and not user.is_expert and form.is_valid():
        try:
            apply_as_expert(user=user, **form.cleaned_data)
        except ApplicationPendingError:
            messages.info(request, _("Your application is here already; a curator will read it."))
        else:
            messages.success(request, _("Thank you. A curator reads it, and you will get a mail."))
        return redirect("accounts:apply_expert")
    context = {"form": form, "application": ExpertApplication.objects.filter(user=user).first()}
    return render(request, "accounts/apply_expert.html", context, status=422 if form.errors else 200)


@login_required
@require_POST
def revoke_client(request: HttpRequest, client_id: uuid.UUID) -> HttpResponse:
    client = get_object_or_404(ApiClient, client_id=client_id, owner=_user(request))
    revoke_api_client(client=client)
    messages.success(request, _("“%(name)s” can no longer sign in.") % {"name": client.name})
    return redirect("accounts:profile")


@csrf_exempt  # a mail program posts without a page of ours (RFC 8058); the signed address is what it proves
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def news(request: HttpRequest, token: str) -> HttpResponse:
    """End the mails about one's photos, or want them again, by the link in one of them: without signing in."""
    user = unsubscribing_user(token)
    if user is None:
        return render(request, "accounts/news.html", {"person": None}, status=404)
    if request.method == "POST":
        User.objects.filter(pk=user.pk).update(wants_news="again" in request.POST)
        user.refresh_from_db(fields=["wants_news"])
    context = {"person": user, "is_done": request.method == "POST"}
    return render(request, "accounts/news.html", context)


@never_cache
@require_safe
def mailbox(request: HttpRequest) -> HttpResponse:
    """The mails this site wrote, in the demonstration only: there is no mail server to send them."""
    if not settings.DEMO:
        raise Http404
    template = "accounts/mails.html" if getattr(request, "htmx", False) else "accounts/mailbox.html"
    return render(request, template, {"mails": read_mails()})


def _user(request: HttpRequest) -> User:
    return cast(User, request.user)

"""People, expert applications, partner apps. Only superusers change who may do what."""

from typing import Any

from allauth.account.decorators import secure_admin_login
from django import forms
from django.contrib import admin, messages
from django.contrib.auth.admin import GroupAdmin as BaseGroupAdmin
from django.contrib.auth.admin import UserAdmin as BaseUserAdmin
from django.contrib.auth.models import Group
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import never_cache
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm
from unfold.widgets import UnfoldAdminTextareaWidget

from apps.accounts.models import ApiClient, ExpertApplication, OutgoingMail, User
from apps.accounts.services import ApplicationDecidedError, OwnApplicationError, decide_application
from apps.common.admin_base import FastAdmin, ReadOnlyAdmin, display

# Sign-in goes through the site's own page, so that its rate limits and second factors hold here too.
admin.site.login = secure_admin_login(admin.site.login)  # type: ignore[method-assign]
admin.site.unregister(Group)


class SuperusersOnly:
    """Who may edit permissions could make a superuser of themselves, so only those who are one may."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.is_superuser)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.is_superuser)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.is_superuser)


class NewUserForm(UserCreationForm):  # type: ignore[misc]
    class Meta:
        model = User
        fields = ("email", "display_name")


class UserForm(UserChangeForm):  # type: ignore[misc]
    class Meta:
        model = User
        fields = "__all__"
        field_classes: dict[str, Any] = {}


@admin.register(User)
class UserAdmin(SuperusersOnly, BaseUserAdmin, FastAdmin):  # type: ignore[type-arg,misc]
    """Curators look people up; a changed address or password would be somebody else's account."""

    form = UserForm
    add_form = NewUserForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("email", "display_name", "role", "is_active", "date_joined", "last_login")
    list_filter = ("is_expert", "is_staff", "is_superuser", "is_active")
    search_fields = ("email", "display_name", "public_id")
    search_help_text = _("E-mail address, public name or identifier (UUID)")
    ordering = ("-date_joined",)
    readonly_fields = ("public_id", "date_joined", "last_login")
    autocomplete_fields = ("groups",)
    filter_horizontal = ()
    fieldsets = (
        (None, {"fields": (("email", "display_name"), "language", "password")}),
        (
            _("Role"),
            {
                "fields": (
                    ("is_expert", "is_active"),
                    ("is_staff", "is_superuser"),
                    "groups",
                )
            },
        ),
        (_("Record"), {"fields": (("date_joined", "last_login"), "public_id")}),
    )
    add_fieldsets = (
        (None, {"classes": ("wide",), "fields": ("email", "display_name", "password1", "password2")}),
    )

    def get_fieldsets(self, request: HttpRequest, obj: User | None = None) -> Any:
        if obj is None or request.user.is_superuser:
            return super().get_fieldsets(request, obj)
        return (
            (None, {"fields": (("email", "display_name"), "language")}),
            (_("Role"), {"fields": (("is_expert", "is_active"), "is_staff", "groups")}),
            (_("Record"), {"fields": (("date_joined", "last_login"), "public_id")}),
        )

    @display(description=_("role"), label={"superuser": "danger", "staff": "warning", "expert": "success"})
    def role(self, user: User) -> Any:
        if user.is_superuser:
            return "superuser", str(_("superuser"))
        if user.is_staff:
            return "staff", str(_("curator"))
        return ("expert", str(_("expert"))) if user.is_expert else "–"


@admin.register(Group)
class GroupAdmin(SuperusersOnly, BaseGroupAdmin, FastAdmin):  # type: ignore[misc]
    search_fields = ("name",)


class DecisionForm(forms.Form):
    note = forms.CharField(
        label=_("Note to the applicant"),
        required=False,
        max_length=2000,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 5}),
        help_text=_("Goes into the mail. Say what convinced you, or what is missing."),
    )


@admin.register(ExpertApplication)
class ExpertApplicationAdmin(FastAdmin):
    list_display = (
        "applicant",
        "status_shown",
        "affiliation",
        "orcid",
        "created_at",
        "decided_by",
        "decided_at",
    )
    list_select_related = ("user", "decided_by")
    list_filter = ("status",)
    search_fields = ("user__email", "user__display_name", "affiliation")
    search_help_text = _("Name, e-mail address or affiliation")
    ordering = ("-created_at",)
    change_form_before_template = "admin/accounts/application_decide.html"
    fields = (
        ("user", "status"),
        "motivation",
        ("affiliation", "orcid"),
        "created_at",
        ("decided_by", "decided_at"),
        "decision_note",
    )
    readonly_fields = (
        "user",
        "status",
        "motivation",
        "affiliation",
        "orcid",
        "created_at",
        "decided_by",
        "decided_at",
        "decision_note",
    )

    def has_change_permission(self, request: HttpRequest, obj: ExpertApplication | None = None) -> bool:
        """To decide; the row itself has nothing to save."""
        return obj is None and bool(super().has_change_permission(request))

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: ExpertApplication | None = None) -> bool:
        return False

    @display(description=_("applicant"))
    def applicant(self, application: ExpertApplication) -> str:
        return application.user.email

    @display(
        description=_("status"), label={"pending": "warning", "approved": "success", "refused": "danger"}
    )
    def status_shown(self, application: ExpertApplication) -> tuple[str, str]:
        return application.status, application.get_status_display()

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.decide)
        return [
            path("<int:pk>/<str:decision>/decide/", view, name="accounts_expertapplication_decide"),
            *super().get_urls(),
        ]

    def decide(self, request: HttpRequest, pk: int, decision: str) -> HttpResponse:
        """Asks once more, takes the note, then the service decides and writes the mail."""
        if not self.has_change_permission(request):
            raise PermissionDenied
        application = get_object_or_404(ExpertApplication.objects.select_related("user"), pk=pk)
        back = HttpResponseRedirect(reverse("admin:accounts_expertapplication_change", args=[pk]))
        is_approval = decision == "approve"
        form = DecisionForm(request.POST if request.method == "POST" else None)
        if decision not in ("approve", "refuse"):
            return back
        if request.method == "POST" and form.is_valid():
            self._decide(request, application, approve=is_approval, note=form.cleaned_data["note"])
            return back
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": _("Approve as expert") if is_approval else _("Refuse the application"),
            "application": application,
            "is_approval": is_approval,
            "form": form,
        }
        return TemplateResponse(request, "admin/accounts/application_confirm.html", context)

    def _decide(
        self, request: HttpRequest, application: ExpertApplication, *, approve: bool, note: str
    ) -> None:
        assert isinstance(request.user, User)
        try:
            decide_application(application=application, by=request.user, approve=approve, note=note)
        except ApplicationDecidedError:
            messages.warning(request, _("Someone decided before; nothing was changed."))
        except OwnApplicationError:
            messages.error(request, _("Nobody decides on their own application."))
        else:
            said = (
                _("%(name)s is an expert now and gets a mail.")
                if approve
                else _("%(name)s was refused and gets a mail.")
            )
            messages.success(request, said % {"name": application.user.email})
            self.log_change(request, application, "approved" if approve else "refused")


@admin.register(ApiClient)
class ApiClientAdmin(FastAdmin):
    """Credentials of partner apps. The secret is shown once, on the page that answers the request for it."""

    list_display = ("name", "owner_mail", "client_id", "is_active", "requests_per_minute", "last_used_at")
    list_select_related = ("owner",)
    list_filter = ("is_active",)
    search_fields = ("name", "owner__email", "client_id")
    search_help_text = _("Name, owner's e-mail address or client id")
    autocomplete_fields = ("owner",)
    change_form_before_template = "admin/accounts/client_secret_link.html"
    readonly_fields = ("client_id", "created_at", "last_used_at")
    fields = (
        "name",
        "owner",
        ("is_active", "requests_per_minute"),
        "client_id",
        ("created_at", "last_used_at"),
    )
    actions = ("revoke",)

    def get_readonly_fields(self, request: HttpRequest, obj: ApiClient | None = None) -> tuple[str, ...]:
        return (*self.readonly_fields, "owner") if obj else self.readonly_fields

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """A client acts as its owner: only superusers make one that acts as staff."""
        if db_field.name == "owner" and not request.user.is_superuser:
            kwargs["queryset"] = User.objects.filter(is_staff=False, is_superuser=False)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    @display(description=_("owner"))
    def owner_mail(self, client: ApiClient) -> str:
        return client.owner.email

    def save_model(self, request: HttpRequest, obj: ApiClient, form: Any, change: bool) -> None:
        if not change:
            obj.shown_secret = obj.new_secret()  # type: ignore[attr-defined]
        super().save_model(request, obj, form, change)

    def response_add(
        self, request: HttpRequest, obj: ApiClient, post_url_continue: str | None = None
    ) -> HttpResponse:
        return self._show_secret(request, obj, obj.shown_secret)  # type: ignore[attr-defined]

    def get_urls(self) -> list[URLPattern]:
        view = never_cache(self.admin_site.admin_view(self.new_secret))
        return [path("<int:pk>/new-secret/", view, name="accounts_apiclient_new_secret"), *super().get_urls()]

    def new_secret(self, request: HttpRequest, pk: int) -> HttpResponse:
        """A new secret ends the old one at once, so the page asks before."""
        client = get_object_or_404(ApiClient.objects.select_related("owner"), pk=pk)
        if not self.has_change_permission(request, client):
            raise PermissionDenied
        if request.method == "POST":
            secret = client.new_secret()
            client.save(update_fields=["secret_hash"])
            self.log_change(request, client, "new secret")
            return self._show_secret(request, client, secret)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "client": client,
            "title": _("Make a new secret"),
        }
        return TemplateResponse(request, "admin/accounts/client_secret.html", context)

    def has_change_permission(self, request: HttpRequest, obj: ApiClient | None = None) -> bool:
        allowed = bool(super().has_change_permission(request, obj))
        if obj is not None and (obj.owner.is_staff or obj.owner.is_superuser):
            return allowed and bool(request.user.is_superuser)
        return allowed

    def _show_secret(self, request: HttpRequest, client: ApiClient, secret: str) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "client": client,
            "secret": secret,
            "title": _("The secret of %(name)s") % {"name": client.name},
        }
        response = TemplateResponse(request, "admin/accounts/client_secret.html", context)
        response["Cache-Control"] = "no-store"
        return response

    @admin.action(description=_("Revoke: tokens end with the next request"), permissions=["change"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiClient]) -> None:
        chosen = list(queryset.select_related("owner"))
        allowed = [
            client.pk for client in chosen if self.has_change_permission(request, client) and client.is_active
        ]
        done = ApiClient.objects.filter(pk__in=allowed).update(is_active=False)
        left = len(chosen) - done
        skipped = (
            _("%(count)d were left alone: revoked before, or owned by staff.") % {"count": left}
            if left
            else ""
        )
        self.say(request, str(_("%(count)d clients were revoked.") % {"count": done}), skipped=str(skipped))


@admin.register(OutgoingMail)
class OutgoingMailAdmin(ReadOnlyAdmin):
    """Whether a mail went out. Never its text: it may hold a link that signs somebody in."""

    list_display = ("recipient", "subject", "created_at", "sent_at", "attempts", "failure_reason")
    search_fields = ("recipient",)
    search_help_text = _("Recipient")
    ordering = ("-pk",)
    fields = (
        "recipient",
        "subject",
        ("created_at", "sent_at"),
        ("attempts", "next_try_at", "failed_at"),
        "failure_reason",
    )

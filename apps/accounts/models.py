"""Who you are and what you may do."""

import secrets
import uuid
from typing import Any, ClassVar, Self

from django.conf import settings
from django.contrib.auth.hashers import check_password, make_password
from django.contrib.auth.models import AbstractUser, BaseUserManager
from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower, Now
from django.utils.translation import gettext_lazy as _


class UserManager(BaseUserManager["User"]):
    use_in_migrations = True

    def create_user(self, email: str, password: str | None = None, **extra: Any) -> "User":
        user = self.model(email=self.normalize_email(email).lower(), **extra)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **extra: Any) -> "User":
        return self.create_user(email, password, is_staff=True, is_superuser=True, **extra)


class User(AbstractUser):
    """A person (or a partner's service account), known by an e-mail address."""

    username = None  # type: ignore[assignment]
    first_name = None  # type: ignore[assignment]
    last_name = None  # type: ignore[assignment]
    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    email = models.EmailField(_("e-mail address"), unique=True)
    display_name = models.CharField(
        _("public name"), max_length=80, blank=True, help_text=_("Shown beside your photos and comments.")
    )
    is_expert = models.BooleanField(
        _("expert"), default=False, help_text=_("May correct boxes. Set by approving an application.")
    )

    language = models.CharField(
        _("language of mails"),
        max_length=5,
        blank=True,
        choices=settings.LANGUAGES,
        help_text=_("Of the mails we send you."),
    )
    wants_news = models.BooleanField(
        _("news about my photos by mail"),
        default=True,
        help_text=_("At most one mail a day, when experts have looked at your photos."),
    )

    USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []
    objects = UserManager()  # type: ignore[assignment,misc]

    class Meta:
        verbose_name = _("user")
        verbose_name_plural = _("users")
        constraints = [models.UniqueConstraint(Lower("email"), name="user_email_any_case")]

    def __str__(self) -> str:
        return self.display_name or str(_("someone"))

    def get_full_name(self) -> str:
        return self.display_name or self.email

    def get_short_name(self) -> str:
        return self.get_full_name()


class ExpertApplication(models.Model):
    """Someone asks to become an expert; a curator decides."""

    class Status(models.TextChoices):
        PENDING = "pending", _("Waiting for a decision")
        APPROVED = "approved", _("Approved")
        REFUSED = "refused", _("Refused")

    user = models.ForeignKey(User, models.CASCADE, related_name="expert_applications", verbose_name=_("user"))
    status = models.CharField(
        _("status"), max_length=10, choices=Status, default=Status.PENDING, editable=False
    )
    motivation = models.TextField(
        _("your experience"),
        max_length=4000,
        help_text=_("Which animals do you know, and how did you learn?"),
    )
    affiliation = models.CharField(_("affiliation"), max_length=200, blank=True)
    orcid = models.CharField("ORCID", max_length=19, blank=True)
    created_at = models.DateTimeField(_("sent at"), auto_now_add=True)
    decided_at = models.DateTimeField(_("decided at"), null=True, editable=False)
    decided_by = models.ForeignKey(
        User, models.SET_NULL, null=True, related_name="+", editable=False, verbose_name=_("decided by")
    )
    decision_note = models.TextField(_("note to the applicant"), max_length=2000, blank=True)

    class Meta:
        verbose_name = _("expert application")
        verbose_name_plural = _("expert applications")
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["user"], condition=Q(status="pending"), name="one_pending_application_per_user"
            )
        ]

    def __str__(self) -> str:
        return f"{self.user} ({self.get_status_display()})"


class ApiClient(models.Model):
    """A partner app's own credentials; it acts as its owner's account and can be revoked alone."""

    owner = models.ForeignKey(User, models.CASCADE, related_name="api_clients", verbose_name=_("owner"))
    name = models.CharField(_("name"), max_length=100)
    client_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    secret_hash = models.CharField(max_length=128, editable=False)
    is_active = models.BooleanField(_("active"), default=True)
    requests_per_minute = models.PositiveIntegerField(_("requests per minute"), default=600)
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    last_used_at = models.DateTimeField(_("last used at"), null=True, editable=False)

    class Meta:
        verbose_name = _("API client")
        verbose_name_plural = _("API clients")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def new_secret(self) -> str:
        """Replace the secret; the caller shows it once, only its hash is kept."""
        secret = secrets.token_urlsafe(32)
        self.secret_hash = make_password(secret)
        return secret

    def has_secret(self, secret: str) -> bool:
        return check_password(secret, self.secret_hash)


class OutgoingMailQuerySet(models.QuerySet["OutgoingMail"]):
    def due(self) -> Self:
        return self.filter(sent_at=None, failed_at=None, next_try_at__lte=Now())


class OutgoingMail(models.Model):
    """A mail that waits to be sent: written in the transaction that causes it, so neither comes without the other.

    Its text may hold a secret link, so it is blanked once sent. `key` names the event: the same is sent once.
    """

    key = models.CharField(max_length=120, unique=True, null=True, editable=False)  # noqa: DJ001 (unique)
    recipient = models.EmailField(_("recipient"))
    subject = models.CharField(_("subject"), max_length=200, blank=True)
    body = models.TextField(blank=True)
    unsubscribe_address = models.CharField(max_length=500, blank=True, default="", editable=False)
    attempts = models.PositiveSmallIntegerField(_("attempts"), default=0)
    created_at = models.DateTimeField(_("written at"), db_default=Now(), editable=False)
    next_try_at = models.DateTimeField(_("next try at"), db_default=Now(), editable=False)
    sent_at = models.DateTimeField(_("sent at"), null=True, editable=False)
    failed_at = models.DateTimeField(_("given up at"), null=True, editable=False)
    failure_reason = models.CharField(_("reason of failure"), max_length=200, blank=True)

    objects = OutgoingMailQuerySet.as_manager()

    class Meta:
        verbose_name = _("outgoing mail")
        verbose_name_plural = _("outgoing mails")
        indexes = [
            models.Index(
                fields=["next_try_at"], condition=Q(sent_at=None, failed_at=None), name="outgoing_mail_due"
            )
        ]

    def __str__(self) -> str:
        return f"{self.recipient}: {self.subject}"

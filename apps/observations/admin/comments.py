from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from apps.common.admin_base import FastAdmin, display
from apps.observations.models import Comment


@admin.register(Comment)
class CommentAdmin(FastAdmin):
    """People's words are not edited, only taken away."""

    list_display = ("beginning", "author_mail", "box_number", "observation", "created_at")
    list_select_related = ("author", "observation__survey")
    ordering = ("-pk",)
    identity_lookups = {"uuid": "observation__public_id", "email": "author__email__iexact", "number": "pk"}
    fields = ("body", "author", "observation", "photo", "box_number", "created_at")
    readonly_fields = fields

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Comment | None = None) -> bool:
        return False

    def view_on_site(self, comment: Comment) -> str:
        return reverse("observations:observation", args=[comment.observation.public_id])

    @display(description=_("comment"))
    def beginning(self, comment: Comment) -> str:
        return comment.body[:80]

    @display(description=_("author"))
    def author_mail(self, comment: Comment) -> str:
        return comment.author.email

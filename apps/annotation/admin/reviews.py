"""What was decided on others' answers, and what contributors were told: to be looked at."""

from django.contrib import admin
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from apps.annotation.models import ContributorNews, Review, Thanks
from apps.common.admin_base import ReadOnlyAdmin, display

_COLOURS = {"sent_back": "warning", "relabelled": "info", "settled": "success", "set_aside": "danger"}


@admin.register(Review)
class ReviewAdmin(ReadOnlyAdmin):
    list_display = ("created_at", "kind_shown", "photo", "reviewer", "note", "undone_at", "steps")
    list_display_links = None
    list_select_related = ("task__photo", "task__survey", "reviewer")
    list_filter = ("kind", "task__survey", ("undone_at", admin.EmptyFieldListFilter))
    ordering = ("-pk",)
    identity_lookups = {"uuid": "task__photo__public_id", "email": "reviewer__email", "number": "pk"}
    search_help_text = _("A photo's identifier (UUID), or the reviewer's e-mail address")

    @display(description=_("decision"), label=_COLOURS)
    def kind_shown(self, review: Review) -> tuple[str, str]:
        return review.kind, str(review.get_kind_display())

    @display(description=_("photo"))
    def photo(self, review: Review) -> SafeString:
        photo = review.task.photo
        address = reverse("observations:photo", args=[photo.public_id])
        return format_html('<a href="{}">{}</a>', address, photo)

    @display(description=_("step"))
    def steps(self, review: Review) -> SafeString | str:
        """Where a step of many boxes is undone."""
        if review.batch is None:
            return "–"
        address = reverse("annotation:review_history", args=[review.task.survey.slug])
        return format_html('<a href="{}">{}</a>', address, str(review.batch)[:8])


@admin.register(ContributorNews)
class ContributorNewsAdmin(ReadOnlyAdmin):
    """So that somebody who asks why a mail came, or did not, gets an answer."""

    list_display = ("created_at", "photo_shown", "contributor", "mailed_at")
    list_display_links = None
    list_select_related = ("photo", "contributor")
    list_filter = (("mailed_at", admin.EmptyFieldListFilter), "photo__survey")
    ordering = ("-pk",)
    identity_lookups = {"uuid": "photo__public_id", "email": "contributor__email", "number": "pk"}
    search_help_text = _("A photo's identifier (UUID), or the contributor's e-mail address")

    @display(description=_("photo"))
    def photo_shown(self, news: ContributorNews) -> SafeString:
        address = reverse("observations:photo", args=[news.photo.public_id])
        return format_html('<a href="{}">{}</a>', address, news.photo)


@admin.register(Thanks)
class ThanksAdmin(ReadOnlyAdmin):
    list_display = ("created_at", "contributor", "version", "photos", "mailed_at")
    list_display_links = None
    list_select_related = ("contributor", "version__registered_model")
    list_filter = (("mailed_at", admin.EmptyFieldListFilter), "version__registered_model")
    ordering = ("-pk",)
    identity_lookups = {"email": "contributor__email", "number": "pk"}
    search_help_text = _("The contributor's e-mail address")

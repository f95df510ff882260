"""Leased work as curators see it: what waits, what failed and why, and the ways to set it going again."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.db.models.functions import Now
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from apps.common.admin_base import FastAdmin, ReadOnlyAdmin, display
from apps.common.leased import WorkStatus
from apps.common.tasks import wake
from apps.observations.models import ArchiveUpload, PlaceReview, RefusedFile, TilePyramid
from apps.observations.services.intake import is_refusal_code, refusal_message
from apps.observations.tasks import cut_waiting_tiles, read_archives, review_places

STATUS_COLOURS = {"pending": "warning", "processing": "info", "done": "success", "failed": "danger"}


class JobAdmin(FastAdmin):
    """A table of leased work. Its rows are written by workers; people only set them going again."""

    actions: tuple[str, ...] = ("try_again", "release")
    warn_unsaved_form = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """For the actions; a single row has nothing to save."""
        return obj is None and bool(super().has_change_permission(request))

    @display(description=_("status"), label=STATUS_COLOURS, ordering="status")
    def status_shown(self, job: Any) -> tuple[str, str]:
        return job.status, job.get_status_display()

    @admin.action(description=_("Try again (failed ones)"), permissions=["change"])
    def try_again(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        chosen = queryset.count()
        self.tell(request, chosen, self.requeue(queryset))

    @admin.action(description=_("Release (claims whose worker fell silent)"), permissions=["change"])
    def release(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """The sweeper does this by itself within seconds; here for whom the wait is too long."""
        chosen = queryset.count()
        silent = queryset.filter(status=WorkStatus.PROCESSING, lease_until__lt=Now())
        self.tell(request, chosen, silent.requeue())  # type: ignore[attr-defined]
        self.wake()

    def requeue(self, rows: QuerySet[Any]) -> int:
        done: int = rows.filter(status=WorkStatus.FAILED).requeue()  # type: ignore[attr-defined]
        self.wake()
        return done

    def wake(self) -> None:
        """Tell a worker; without it the next sweep does."""

    def tell(self, request: HttpRequest, chosen: int, done: int) -> None:
        text = ngettext("%(count)d is queued.", "%(count)d are queued.", done) % {"count": done}
        skipped = ngettext(
            "%(count)d was left alone: not in such a state, or a worker holds it at this moment.",
            "%(count)d were left alone: not in such a state, or a worker holds them at this moment.",
            chosen - done,
        )
        self.say(request, text, skipped=skipped % {"count": chosen - done} if chosen > done else "")


@admin.register(ArchiveUpload)
class ArchiveAdmin(JobAdmin):
    list_display = ("name", "contributor_mail", "survey", "status_shown", "reason", "read", "queued_at")
    list_select_related = ("observation__contributor", "observation__survey")
    list_filter = ("status",)
    ordering = ("-pk",)
    identity_lookups = {
        "uuid": "public_id",
        "email": "observation__contributor__email__iexact",
        "number": "pk",
    }
    fields = (
        ("name", "observation"),
        ("status", "reason"),
        ("size_bytes", "read"),
        ("attempts", "lease_until"),
        ("queued_at", "started_at", "finished_at"),
        "public_id",
    )
    readonly_fields = (
        "name",
        "observation",
        "status",
        "reason",
        "size_bytes",
        "read",
        "attempts",
        "lease_until",
        "queued_at",
        "started_at",
        "finished_at",
        "public_id",
    )

    def has_delete_permission(self, request: HttpRequest, obj: ArchiveUpload | None = None) -> bool:
        return False  # it goes with its observation

    @display(description=_("contributor"))
    def contributor_mail(self, archive: ArchiveUpload) -> str:
        return archive.observation.contributor.email

    @display(description=_("survey"))
    def survey(self, archive: ArchiveUpload) -> str:
        return archive.observation.survey.name

    @display(description=_("reason"))
    def reason(self, archive: ArchiveUpload) -> str:
        return reason_of(archive.failure_reason)

    @display(description=_("files read"))
    def read(self, archive: ArchiveUpload) -> str:
        return f"{archive.next_entry} / {'?' if archive.entries is None else archive.entries}"

    def wake(self) -> None:
        wake(read_archives)


@admin.register(PlaceReview)
class PlaceReviewAdmin(JobAdmin):
    list_display = ("survey", "status_shown", "reviewed", "changed", "queued_at", "finished_at")
    list_select_related = ("survey",)
    list_filter = ("status",)
    fields = (
        "survey",
        "status",
        "failure_reason",
        "reviewed",
        "changed",
        "attempts",
        "queued_at",
        "finished_at",
    )
    readonly_fields = fields

    def has_delete_permission(self, request: HttpRequest, obj: PlaceReview | None = None) -> bool:
        return False

    def wake(self) -> None:
        wake(review_places)


@admin.register(TilePyramid)
class TilePyramidAdmin(JobAdmin):
    list_display = ("photo", "status_shown", "reason", "tiles", "megabytes", "queued_at", "finished_at")
    list_select_related = ("photo",)
    list_filter = ("status",)
    ordering = ("-pk",)
    identity_lookups = {"uuid": "photo__public_id", "number": "pk"}
    search_help_text = _("The photo's identifier (UUID)")
    fields = (
        "photo",
        ("status", "reason"),
        ("tiles", "megabytes"),
        ("attempts", "lease_until"),
        ("queued_at", "started_at", "finished_at"),
    )
    readonly_fields = (
        "photo",
        "status",
        "reason",
        "tiles",
        "megabytes",
        "attempts",
        "lease_until",
        "queued_at",
        "started_at",
        "finished_at",
    )

    def has_delete_permission(self, request: HttpRequest, obj: TilePyramid | None = None) -> bool:
        return False  # it goes with its photo

    @display(description=_("reason"))
    def reason(self, pyramid: TilePyramid) -> str:
        return reason_of(pyramid.failure_reason)

    @display(description=_("MB"), ordering="size_bytes")
    def megabytes(self, pyramid: TilePyramid) -> str:
        return "–" if pyramid.size_bytes is None else f"{pyramid.size_bytes / 1e6:.1f}"

    def wake(self) -> None:
        wake(cut_waiting_tiles)


@admin.register(RefusedFile)
class RefusedFileAdmin(ReadOnlyAdmin):
    list_display = ("name", "reason", "contributor_mail", "created_at")
    list_select_related = ("observation__contributor",)
    list_filter = ("code",)
    ordering = ("-pk",)
    identity_lookups = {
        "uuid": "observation__public_id",
        "email": "observation__contributor__email__iexact",
        "number": "pk",
    }
    fields = ("name", "reason", "observation", "archive", "created_at")

    @display(description=_("reason"))
    def reason(self, refused: RefusedFile) -> str:
        return refusal_message(refused.code, refused.params)

    @display(description=_("contributor"))
    def contributor_mail(self, refused: RefusedFile) -> str:
        return refused.observation.contributor.email


def reason_of(code: str) -> str:
    """A failure's code in words; a code without words as it is, for whom knows the logs."""
    if not code:
        return "–"
    return refusal_message(code, {}) if is_refusal_code(code) else code

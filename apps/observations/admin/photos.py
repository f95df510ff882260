from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from apps.common.admin_base import DeletedByService, display
from apps.common.leased import LeasedWork, WorkStatus
from apps.observations.admin.jobs import JobAdmin
from apps.observations.models import Detection, Photo
from apps.observations.services.deletion import delete_photo, delete_photos
from apps.observations.services.detection import failure_message, request_detection

BOXES_SHOWN = 1_000


@admin.register(Photo)
class PhotoAdmin(DeletedByService, JobAdmin):
    list_display = (
        "thumbnail_shown",
        "name",
        "survey",
        "contributor_mail",
        "status_shown",
        "reason",
        "animals",
        "queued_at",
    )
    list_display_links = ("thumbnail_shown", "name")
    list_select_related = ("survey", "contributor", "model_version__registered_model")
    list_filter = ("status", "survey", "is_flagged")
    ordering = ("-pk",)
    identity_lookups = {
        "uuid": "public_id",
        "sha256": "sha256",
        "email": "contributor__email__iexact",
        "number": "pk",
    }
    search_help_text = _("Identifier (UUID), SHA-256, whole number or the contributor's e-mail address")
    actions = ("detect_again", "try_again", "release")
    readonly_fields = (
        "picture",
        "public_id",
        "observation",
        "contributor",
        "survey",
        "name",
        "dimensions",
        "sha256",
        "camera",
        "proposed_at",
        "is_flagged",
        "status",
        "reason",
        "attempts",
        "queued_at",
        "started_at",
        "finished_at",
        "lease_until",
        "model_version",
        "detection_count",
        "best_score",
        "detection_ms",
        "created_at",
    )
    fieldsets = (
        (None, {"fields": ("picture", ("observation", "survey"), ("contributor", "name"))}),
        (
            _("Detection"),
            {
                "fields": (
                    ("status", "reason"),
                    ("model_version", "detection_count"),
                    ("best_score", "detection_ms"),
                    ("attempts", "lease_until"),
                    ("queued_at", "started_at", "finished_at"),
                )
            },
        ),
        (
            _("File"),
            {
                "fields": (
                    ("dimensions", "camera"),
                    "sha256",
                    ("proposed_at", "is_flagged"),
                    ("public_id", "created_at"),
                )
            },
        ),
    )

    def view_on_site(self, photo: Photo) -> str:
        return reverse("observations:photo", args=[photo.public_id])

    @display(description=_("picture"))
    def thumbnail_shown(self, photo: Photo) -> SafeString:
        url = reverse("observations:thumbnail", args=[photo.public_id])
        return format_html(
            '<img src="{}" alt="{}" width="56" height="56" loading="lazy" class="podura-thumbnail">',
            url,
            photo.name,
        )

    @display(description=_("contributor"))
    def contributor_mail(self, photo: Photo) -> str:
        return photo.contributor.email

    @display(description=_("animals"))
    def animals(self, photo: Photo) -> int | str:
        return "–" if photo.detection_count is None else photo.detection_count

    @display(description=_("reason"))
    def reason(self, photo: Photo) -> str:
        return failure_message(photo) or "–"

    @display(description=_("size"))
    def dimensions(self, photo: Photo) -> str:
        return f"{photo.width_px} × {photo.height_px} px, {photo.format}, {photo.size_bytes / 1e6:.1f} MB"

    @display(description=_("photo with boxes"))
    def picture(self, photo: Photo) -> str:
        boxes = (
            Detection.objects.shown()
            .filter(photo=photo, model_version=photo.model_version_id)
            .select_related("label")
        )
        context = {
            "photo": photo,
            "boxes": boxes.order_by("number")[:BOXES_SHOWN],
            "unit": max(photo.width_px, photo.height_px) / 100,
        }
        return render_to_string("admin/observations/photo_boxes.html", context)

    def delete_model(self, request: HttpRequest, obj: Photo) -> None:
        delete_photo(photo=obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Photo]) -> None:
        delete_photos(photo_ids=list(queryset.values_list("pk", flat=True)))

    @admin.action(description=_("Detect again with the production model"), permissions=["change"])
    def detect_again(self, request: HttpRequest, queryset: QuerySet[Photo]) -> None:
        chosen = queryset.count()
        self.tell(request, chosen, request_detection(queryset, priority=LeasedWork.Priority.BATCH))

    def requeue(self, rows: QuerySet[Any]) -> int:
        return request_detection(
            rows.filter(status=WorkStatus.FAILED), priority=LeasedWork.Priority.INTERACTIVE
        )

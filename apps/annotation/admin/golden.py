"""Photos with a known answer in the console, and how reliable experts are by them."""

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Count, QuerySet, Sum
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from apps.accounts.models import User
from apps.annotation.models import AnnotationTask, GoldenPhoto
from apps.annotation.services.golden import choose_golden, reliability_table, retire_golden, use_golden
from apps.common.admin_base import ReadOnlyAdmin, display
from apps.observations.models import Survey

RESULTS_SHOWN = 200


class GoldenActions:
    """For the list of the queue's photos: make the answers of done ones known ones."""

    def has_golden_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("annotation.add_goldenphoto"))

    @admin.action(description=_("Give as photos with a known answer (done ones)"), permissions=["golden"])
    def make_golden(self, request: HttpRequest, queryset: QuerySet[AnnotationTask]) -> None:
        assert isinstance(request.user, User)
        tasks = list(queryset.order_by("pk"))
        done = choose_golden(tasks=tasks, by=request.user)
        text = ngettext(
            "%(count)d photo is given as one with a known answer from now on.",
            "%(count)d photos are given as ones with a known answer from now on.",
            done,
        )
        left = len(tasks) - done
        skipped = ngettext(
            "%(count)d was left alone: it is one already, or no answer to it counts yet.",
            "%(count)d were left alone: they are ones already, or no answer to them counts yet.",
            left,
        )
        self.say(request, text % {"count": done}, skipped=skipped % {"count": left} if left else "")  # type: ignore[attr-defined]


@admin.register(GoldenPhoto)
class GoldenPhotoAdmin(ReadOnlyAdmin):
    list_display = (
        "photo_shown",
        "survey",
        "known_boxes",
        "results_count",
        "found",
        "is_active",
        "added_by",
        "created_at",
    )
    list_display_links = ("photo_shown", "survey")
    list_select_related = ("task__photo", "task__survey", "answer", "added_by")
    list_filter = ("task__survey", "is_active")
    ordering = ("-pk",)
    actions = ("take_out", "put_in")
    identity_lookups = {"uuid": "task__photo__public_id", "number": "pk"}
    search_help_text = _("The photo's identifier (UUID)")
    list_before_template = "admin/annotation/golden_head.html"
    fields = (
        "photo_shown",
        "survey",
        ("known_boxes", "is_active"),
        ("added_by", "created_at"),
        "results_shown",
    )

    def has_use_permission(self, request: HttpRequest) -> bool:
        """Rows are not edited, only put in and out of use."""
        return bool(request.user.has_perm("annotation.change_goldenphoto"))

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: QuerySet[Any] = super().get_queryset(request)
        return rows.annotate(  # type: ignore[no-any-return]
            tries=Count("results"),
            sum_found=Sum("results__matched"),
            sum_named=Sum("results__mislabelled"),
            sum_missed=Sum("results__missed"),
        )

    @display(description=_("photo"))
    def photo_shown(self, golden: GoldenPhoto) -> SafeString:
        return format_html(
            '<img class="podura-thumbnail" src="{}" alt="{}" width="56" height="56" loading="lazy">',
            reverse("observations:thumbnail", args=[golden.task.photo.public_id]),
            golden.task.photo.name,
        )

    @display(description=_("survey"))
    def survey(self, golden: GoldenPhoto) -> Survey:
        return golden.task.survey

    @display(description=_("known boxes"))
    def known_boxes(self, golden: GoldenPhoto) -> int:
        return golden.answer.box_count

    @display(description=_("answers"), ordering="tries")
    def results_count(self, golden: Any) -> int:
        return golden.tries  # type: ignore[no-any-return]

    @display(description=_("animals found"))
    def found(self, golden: Any) -> str:
        """Where experts all miss the same, the known answer may be the one that is wrong."""
        found = (golden.sum_found or 0) + (golden.sum_named or 0)
        known = found + (golden.sum_missed or 0)
        return f"{found} / {known}" if golden.tries else "–"

    @display(description=_("results"))
    def results_shown(self, golden: GoldenPhoto) -> str:
        rows = golden.results.select_related("expert").order_by("-pk")[:RESULTS_SHOWN]
        return render_to_string("admin/annotation/golden_results.html", {"results": rows})

    @admin.action(description=_("Take out of use (results stay)"), permissions=["use"])
    def take_out(self, request: HttpRequest, queryset: QuerySet[GoldenPhoto]) -> None:
        self._tell(request, queryset, retire_golden(queryset))

    @admin.action(description=_("Put into use again"), permissions=["use"])
    def put_in(self, request: HttpRequest, queryset: QuerySet[GoldenPhoto]) -> None:
        self._tell(request, queryset, use_golden(queryset))

    def _tell(self, request: HttpRequest, queryset: QuerySet[GoldenPhoto], done: int) -> None:
        text = ngettext("%(count)d photo was changed.", "%(count)d photos were changed.", done)
        left = queryset.count() - done
        skipped = ngettext(
            "%(count)d was left alone: it is so already, or its answer counts no longer.",
            "%(count)d were left alone: they are so already, or their answers count no longer.",
            left,
        )
        self.say(request, text % {"count": done}, skipped=skipped % {"count": left} if left else "")

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.reliability)
        return [path("reliability/", view, name="annotation_reliability"), *super().get_urls()]

    def reliability(self, request: HttpRequest) -> HttpResponse:
        """Each expert's first answers to photos with a known answer."""
        if not request.user.has_perm("annotation.view_goldenphoto"):
            raise PermissionDenied
        survey = Survey.objects.filter(slug=request.GET.get("survey", "").replace("\0", "")).first()
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": gettext("How reliable experts are"),
            "surveys": Survey.objects.all(),
            "survey": survey,
            "rows": reliability_table(survey),
        }
        return TemplateResponse(request, "admin/annotation/golden_reliability.html", context)

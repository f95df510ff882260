"""What experts answered: to be looked at beside what the model had proposed, never to be changed."""

from typing import Any

from django.contrib import admin
from django.db.models import Func, JSONField, QuerySet, Value
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from apps.annotation.answer_diff import diff_rows
from apps.annotation.home_lists import span
from apps.annotation.models import Annotation
from apps.annotation.services.answers import proposals_of
from apps.common.admin_base import ReadOnlyAdmin, display

ORIGIN_COLOURS = {
    "expert": "success",
    "consensus": "info",
    "curator": "info",
    "bulk": "warning",
    "import": "default",
}


class ChangesFilter(admin.SimpleListFilter):
    """What became of the model's boxes."""

    title = _("changes to the proposals")
    parameter_name = "changes"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [
            ("none", _("All kept, nothing drawn")),
            ("relabelled", _("Some relabelled")),
            ("moved", _("Some moved")),
            ("deleted", _("Some deleted")),
            ("drawn", _("Some drawn")),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Annotation]) -> QuerySet[Annotation]:
        value = self.value()
        if value == "drawn":
            return queryset.filter(changes__drawn__gt=0)
        if value == "none":
            rest = Func(
                "changes",
                Value("kept"),
                template="(%(expressions)s)",
                arg_joiner=" - ",
                output_field=JSONField(),
            )
            untouched = {"moved": [], "relabelled": [], "deleted": [], "drawn": 0}
            return queryset.annotate(rest=rest).filter(rest=untouched)
        if value in ("relabelled", "moved", "deleted"):
            return queryset.filter(**{f"changes__{value}__isnull": False}).exclude(
                **{f"changes__{value}": []}
            )
        return queryset


@admin.register(Annotation)
class AnnotationAdmin(ReadOnlyAdmin):
    list_display = (
        "thumbnail",
        "survey",
        "author_shown",
        "origin_shown",
        "box_count",
        "changes_shown",
        "seconds_shown",
        "is_current",
        "counts",
        "created_at",
    )
    list_display_links = ("thumbnail", "survey")
    list_select_related = ("task__photo", "task__survey", "author")
    list_filter = ("task__survey", "origin", "is_current", "is_empty", ChangesFilter, "created_at")
    ordering = ("-pk",)
    identity_lookups = {
        "uuid": "public_id",
        "email": "author__email__iexact",
        "number": "pk",
    }
    search_help_text = _("Identifier (UUID), whole number or the author's e-mail address")
    fields = (
        "picture",
        ("survey", "photo"),
        ("author_shown", "origin"),
        ("model_version", "created_at"),
        ("is_current", "counts", "is_empty"),
        ("box_count", "seconds_shown"),
        "changes_shown",
        "versions",
        "public_id",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Annotation]:
        rows: QuerySet[Annotation] = super().get_queryset(request)
        return rows.select_related("model_version__registered_model") if _is_page(request) else rows

    def view_on_site(self, answer: Annotation) -> str:
        return reverse("observations:photo", args=[answer.task.photo.public_id])

    @display(description=_("picture"))
    def thumbnail(self, answer: Annotation) -> SafeString:
        photo = answer.task.photo
        return format_html(
            '<img src="{}" alt="{}" width="56" height="56" loading="lazy" class="podura-thumbnail">',
            reverse("observations:thumbnail", args=[photo.public_id]),
            photo.name,
        )

    @display(description=_("survey"))
    def survey(self, answer: Annotation) -> str:
        return str(answer.task.survey)

    @display(description=_("photo"))
    def photo(self, answer: Annotation) -> SafeString:
        photo = answer.task.photo
        address = reverse("admin:observations_photo_change", args=[photo.pk])
        return format_html('<a class="podura-link" href="{}">{}</a>', address, photo.name)

    @display(description=_("author"))
    def author_shown(self, answer: Annotation) -> str:
        return answer.author.get_full_name() if answer.author else "–"

    @display(description=_("made by"), label=ORIGIN_COLOURS, ordering="origin")
    def origin_shown(self, answer: Annotation) -> tuple[str, str]:
        return answer.origin, answer.get_origin_display()

    @display(description=_("seconds spent"), ordering="seconds_spent")
    def seconds_shown(self, answer: Annotation) -> str:
        return span(answer.seconds_spent) if answer.seconds_spent else "–"

    @display(description=_("counts"), boolean=True)
    def counts(self, answer: Annotation) -> bool:
        return answer.task.accepted_id == answer.pk

    @display(description=_("changes to the proposals"))
    def changes_shown(self, answer: Annotation) -> str:
        """Such as "12 kept, 1 relabelled, 2 drawn"; words in the order of an answer's making."""
        changes = answer.changes
        counted = {
            gettext("kept"): len(changes.get("kept", ())),
            gettext("moved"): len(changes.get("moved", ())),
            gettext("relabelled"): len(changes.get("relabelled", ())),
            gettext("deleted"): len(changes.get("deleted", ())),
            gettext("drawn"): changes.get("drawn", 0),
        }
        return ", ".join(f"{count} {name}" for name, count in counted.items() if count) or "–"

    @display(description=_("answer over the proposals"))
    def picture(self, answer: Annotation) -> str:
        photo = answer.task.photo
        boxes = answer.boxes.select_related("label", "label_proposal").defer("box").order_by("number")
        rows = diff_rows(boxes, proposals_of(photo, answer.model_version))
        unit = max(photo.width_px, photo.height_px) / 100
        context = {"photo": photo, "answer": answer, "rows": rows, "unit": unit, "top": unit * 3}
        return render_to_string("admin/annotation/annotation_overlay.html", context)

    @display(description=_("versions of this answer"))
    def versions(self, answer: Annotation) -> str:
        """All answers to the photo: what this one corrects, what corrects it, and those of others."""
        answers = Annotation.objects.filter(task=answer.task_id).select_related("author").order_by("pk")
        context = {"answers": answers[:100], "shown": answer, "accepted": answer.task.accepted_id}
        return render_to_string("admin/annotation/annotation_versions.html", context)


def _is_page(request: HttpRequest) -> bool:
    """One answer, not the list."""
    match = request.resolver_match
    return bool(match and "object_id" in match.kwargs)

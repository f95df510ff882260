"""Disagreements in the console: the list, and the page on which one is settled."""

import uuid
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Exists, F, Max, OuterRef, Q, QuerySet, Subquery, Sum
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timezone import localtime
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import never_cache

from apps.accounts.models import User
from apps.annotation import conflict_view
from apps.annotation.models import Annotation, AnnotationTask, AnswerComparison, Conflict, Review
from apps.annotation.services.answer_sets import model_boxes
from apps.annotation.services.conflicts import (
    AlreadySettledError,
    AnswersChangedError,
    UndecidedError,
    answer_set,
    begin_drawing,
    last_decision,
    seen_mark,
    settle_rows,
    take_version,
)
from apps.annotation.services.leases import LeaseLostError
from apps.common.admin_base import ReadOnlyAdmin, display
from apps.observations.models import Survey

PERMISSION = "annotation.add_review"
_SURVEYS_LINKED = 50
_CONFLICT = AnnotationTask.State.CONFLICT


class DecisionFilter(admin.SimpleListFilter):
    """What is still to be decided, unless something else is asked for."""

    title = _("decision")
    parameter_name = "decision"

    def lookups(self, _request: HttpRequest, _model_admin: Any) -> list[tuple[str, Any]]:
        return [("settled", _("settled by a curator"))]

    def choices(self, changelist: Any) -> Any:
        all_rows, *others = super().choices(changelist)
        yield {**all_rows, "display": _("to be decided")}
        yield from others

    def queryset(self, _request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() == "settled":
            settled = Review.objects.filter(task=OuterRef("pk"), kind=Review.Kind.SETTLED)
            return queryset.filter(Exists(settled)).exclude(state=_CONFLICT)
        return queryset.filter(state=_CONFLICT)


@admin.register(Conflict)
class ConflictAdmin(ReadOnlyAdmin):
    list_display = ("photo_shown", "survey", "experts", "differences", "last_answer")
    list_select_related = ("photo", "survey")
    list_filter = (DecisionFilter, "survey")
    ordering = ("-pk",)
    identity_lookups = {"uuid": "photo__public_id", "number": "pk"}
    search_help_text = _("The photo's identifier (UUID)")
    list_before_template = "admin/annotation/conflict_head.html"

    def has_module_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm(PERMISSION))

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.has_perm(PERMISSION))

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        pairs = AnswerComparison.objects.filter(task=OuterRef("pk"), kind=AnswerComparison.Kind.EXPERTS)
        boxes = pairs.order_by().values("task").annotate(n=Sum(F("missed") + F("extra"))).values("n")
        answers = Annotation.objects.current().by_experts().filter(task=OuterRef("pk"))
        last = answers.order_by().values("task").annotate(at=Max("created_at")).values("at")
        rows: QuerySet[Any] = super().get_queryset(request)
        return rows.filter(  # type: ignore[no-any-return]
            Q(answers__gt=0) | Q(state=_CONFLICT)
        ).annotate(unmatched=Subquery(boxes), answered_at=Subquery(last))

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        surveys = Survey.objects.order_by("slug")[:_SURVEYS_LINKED]
        return super().changelist_view(request, {**(extra_context or {}), "surveys": surveys})

    @display(description=_("photo"))
    def photo_shown(self, task: Conflict) -> SafeString:
        return format_html(
            '<img class="podura-thumbnail" src="{}" alt="{}" width="56" height="56" loading="lazy">',
            reverse("observations:thumbnail", args=[task.photo.public_id]),
            task.photo.name,
        )

    @display(description=_("experts"), ordering="answers")
    def experts(self, task: Conflict) -> int:
        return task.answers

    @display(description=_("boxes without a partner"))
    def differences(self, task: Any) -> int:
        """Two experts who only named animals differently have none."""
        return task.unmatched or 0

    @display(description=_("last answer"), ordering="answered_at")
    def last_answer(self, task: Any) -> Any:
        return task.answered_at

    def change_view(
        self, request: HttpRequest, object_id: str, *_args: Any, **_kwargs: Any
    ) -> HttpResponseBase:
        return never_cache(self.settle)(request, object_id)

    def settle(self, request: HttpRequest, object_id: str) -> HttpResponse:
        if not request.user.has_perm(PERMISSION):
            raise PermissionDenied
        tasks = Conflict.objects.select_related("photo", "survey", "accepted")
        key = object_id if object_id.isascii() and object_id.isdecimal() and len(object_id) < 19 else "0"
        task = get_object_or_404(tasks, pk=key)
        if request.method == "POST":
            return self._act(request, task)
        return self._page(request, task)

    def _act(self, request: HttpRequest, task: AnnotationTask) -> HttpResponse:
        try:
            return self._decide(request, task)
        except AlreadySettledError as settled:
            _tell_settled(request, settled.review)
        except AnswersChangedError:
            text = gettext(
                "An expert has corrected their answer since you opened this page: look at it anew."
            )
            messages.warning(request, text)
        except LeaseLostError:
            messages.warning(request, gettext("Another curator draws the answer to this photo now."))
        except UndecidedError as undecided:
            text = ngettext(
                "%(n)s difference has no choice yet.",
                "%(n)s differences have no choice yet.",
                len(undecided.rows),
            )
            messages.error(request, text % {"n": len(undecided.rows)})
            chosen = _chosen(request)
            return self._page(request, task, chosen=chosen, undecided=undecided.rows, status=422)
        return HttpResponseRedirect(request.path)

    def _decide(self, request: HttpRequest, task: AnnotationTask) -> HttpResponse:
        """A version as it is, a choice in each row, or an answer to be drawn."""
        by, post = request.user, request.POST
        assert isinstance(by, User)
        action, _colon, which = post.get("action", "").partition(":")
        seen, note = post.get("seen", ""), post.get("note", "").replace("\0", "")
        if action == "draw":
            begin_drawing(task=task, by=by, seen=seen, answer=_uuid(which) if which else None)
            return HttpResponseRedirect(reverse("annotation:task", args=[task.public_id]))
        if action == "take":
            take_version(task=task, by=by, answer=_uuid(which), seen=seen, note=note)
        elif action == "rows":
            settle_rows(task=task, by=by, choices=_chosen(request), seen=seen, note=note)
        else:
            messages.error(request, gettext("Choose one of the versions, or decide row by row."))
            return HttpResponseRedirect(request.path)
        self.log_change(request, task, [{"changed": {"fields": ["accepted"]}}])
        messages.success(request, gettext("Settled: this answer counts now."))
        return HttpResponseRedirect(_next_address(task))

    def _page(
        self,
        request: HttpRequest,
        task: AnnotationTask,
        *,
        chosen: dict[int, str] | None = None,
        undecided: Any = (),
        status: int = 200,
    ) -> HttpResponse:
        given = answer_set(task)
        names = conflict_view.label_names(task.survey_id)
        is_open = task.state == _CONFLICT
        version = given.version_id or task.photo.model_version_id
        model = model_boxes(task.photo_id, [version])[version] if version else {}
        unit = max(task.photo.width_px, task.photo.height_px) / 100
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": gettext("Disagreement about a photo"),
            "task": task,
            "photo": task.photo,
            "unit": unit,
            "versions": conflict_view.versions(given, text_px=2.5 * unit),
            "model_boxes": conflict_view.model_version_boxes(list(model.values()), names),
            "rows": conflict_view.rows(given, names, chosen or {}, undecided) if given.answers else [],
            "agreed": len(given.consensus.agreed) if given.answers else 0,
            "seen": seen_mark(given),
            "is_open": is_open,
            "decision": None if is_open else last_decision(task),
            "note": request.POST.get("note", ""),
            "next": None if is_open else _next_address(task),
        }
        return TemplateResponse(request, "admin/annotation/conflict.html", context, status=status)


def _next_address(task: AnnotationTask) -> str:
    """The next disagreement of the survey: curators have a pile of them. The list when none is left."""
    others = AnnotationTask.objects.filter(state=_CONFLICT, survey=task.survey_id).exclude(pk=task.pk)
    following = others.filter(pk__lt=task.pk).order_by("-pk").first() or others.order_by("-pk").first()
    if following is None:
        return reverse("admin:annotation_conflict_changelist")
    return reverse("admin:annotation_conflict_change", args=[following.pk])


def _tell_settled(request: HttpRequest, review: Review | None) -> None:
    if review is None:
        messages.warning(
            request, gettext("The experts agree meanwhile: there is nothing to decide any more.")
        )
    elif review.reviewer == request.user:
        messages.info(request, gettext("You have settled this photo already; nothing was changed."))
    else:
        when = date_format(localtime(review.created_at), "SHORT_DATETIME_FORMAT")
        text = gettext(
            "%(name)s has settled this photo already (%(when)s); your choice was not taken. See below what counts."
        )
        messages.warning(request, text % {"name": review.reviewer or "–", "when": when})


def _chosen(request: HttpRequest) -> dict[int, str]:
    chosen = {}
    for name, value in request.POST.items():
        number = name.removeprefix("row-")
        if name != number and number.isascii() and number.isdecimal() and len(number) < 7:
            chosen[int(number)] = str(value)
    return chosen


def _uuid(text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError:
        raise AnswersChangedError from None

"""The queue as curators see it: what comes next and why, who has it, and the ways to change that."""

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import Prefetch, QuerySet
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from apps.accounts.models import User
from apps.annotation.active_learning.strategies import least_margin, top_two
from apps.annotation.admin.golden import GoldenActions
from apps.annotation.models import AnnotationTask, AnswerComparison, Assignment, QueueUpdate
from apps.annotation.services.curation import (
    bring_back_tasks,
    release_tasks,
    send_back_tasks,
    set_aside_tasks,
)
from apps.annotation.services.ranking import request_update
from apps.annotation.tasks.queue import update_queues
from apps.common.admin_base import ReadOnlyAdmin, display
from apps.common.leased import WorkStatus
from apps.common.tasks import wake
from apps.observations.admin.jobs import JobAdmin
from apps.observations.models import Detection, Survey

BOXES_SHOWN = 1_000
STATE_COLOURS = {"waiting": "info", "done": "success", "conflict": "danger", "set_aside": "warning"}


class HeldFilter(admin.SimpleListFilter):
    title = _("held by an expert")
    parameter_name = "held"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("yes", _("Yes, at this moment")), ("no", _("No"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[AnnotationTask]) -> QuerySet[AnnotationTask]:
        held = Assignment.objects.held().values("task")
        if self.value() == "yes":
            return queryset.filter(pk__in=held)
        return queryset.exclude(pk__in=held) if self.value() == "no" else queryset


class DisagreementFilter(admin.SimpleListFilter):
    title = _("disagreement")
    parameter_name = "disagreement"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [
            ("boxes", _("Experts saw different animals")),
            ("open", _("A curator has to decide")),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[AnnotationTask]) -> QuerySet[AnnotationTask]:
        if self.value() == "open":
            return queryset.filter(state=AnnotationTask.State.CONFLICT)
        if self.value() == "boxes":
            pairs = AnswerComparison.objects.filter(kind=AnswerComparison.Kind.EXPERTS)
            different = pairs.filter(missed__gt=0) | pairs.filter(extra__gt=0)
            return queryset.filter(pk__in=different.values("task"))
        return queryset


@admin.register(AnnotationTask)
class QueueAdmin(GoldenActions, ReadOnlyAdmin):
    list_display = (
        "thumbnail_shown",
        "why",
        "score_shown",
        "state_shown",
        "arm",
        "ranks",
        "holder",
        "answers_shown",
        "survey",
    )
    list_display_links = ("thumbnail_shown", "why")
    list_select_related = ("photo", "survey__annotation_policy", "scored_version__registered_model")
    list_filter = ("survey", "state", "arm", HeldFilter, DisagreementFilter)
    ordering = ("-score", "id")
    actions = ("rank_anew", "give_back", "send_back", "set_aside", "bring_back", "make_golden")
    identity_lookups = {"uuid": "photo__public_id", "sha256": "photo__sha256", "number": "pk"}
    search_help_text = _("The photo's identifier (UUID) or SHA-256")
    fields = (
        "picture",
        ("state", "arm"),
        ("why", "score_shown"),
        ("ranks", "scored_version"),
        ("answers_shown", "holder"),
        ("survey", "split"),
        "margins",
        "experts",
        ("waits", "created_at"),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        held = Assignment.objects.held().select_related("expert").order_by("lease_until")
        tasks: QuerySet[Any] = super().get_queryset(request)
        return tasks.prefetch_related(Prefetch("assignments", held, to_attr="held_now"))

    def has_act_permission(self, request: HttpRequest) -> bool:
        """Rows are not edited, only acted on."""
        return bool(request.user.has_perm("annotation.change_annotationtask"))

    def view_on_site(self, task: AnnotationTask) -> str:
        return reverse("observations:photo", args=[task.photo.public_id])

    @display(description=_("picture"))
    def thumbnail_shown(self, task: AnnotationTask) -> SafeString:
        url = reverse("observations:thumbnail", args=[task.photo.public_id])
        return format_html(
            '<img src="{}" alt="{}" width="56" height="56" loading="lazy" class="podura-thumbnail">',
            url,
            task.photo.name,
        )

    @display(description=_("why"))
    def why(self, task: AnnotationTask) -> str:
        policy = task.survey.annotation_policy
        text = f"{policy.get_strategy_display()}: {task.uncertainty:.3f}"
        if not task.commented_boxes:
            return text
        comments = ngettext("%(count)d commented box", "%(count)d commented boxes", task.commented_boxes)
        return f"{text}, {comments % {'count': task.commented_boxes}}"

    @display(description=_("score"), ordering="score")
    def score_shown(self, task: AnnotationTask) -> str:
        return f"{task.score:.3f}"

    @display(description=_("state"), label=STATE_COLOURS)
    def state_shown(self, task: AnnotationTask) -> tuple[str, str]:
        return task.state, task.get_state_display()

    @display(description=_("rank before → after"))
    def ranks(self, task: AnnotationTask) -> str:
        before, after = ("–" if rank is None else f"{rank:,}" for rank in (task.rank_before, task.rank_after))
        return f"{before} → {after}"

    @display(description=_("held by"))
    def holder(self, task: AnnotationTask) -> str:
        held: list[Assignment] = getattr(task, "held_now", [])
        return "; ".join(f"{hold.expert.display_name} ({_until(hold)})" for hold in held) or "–"

    @display(description=_("answers"))
    def answers_shown(self, task: AnnotationTask) -> str:
        return f"{task.answers} / {task.answers_needed}"

    @display(description=_("split"))
    def split(self, task: AnnotationTask) -> str:
        if task.group is None:
            return gettext("none: it joins groups of different splits, so it is in no dataset")
        return gettext("%(split)s (group %(group)s)") % {
            "split": task.group.get_split_display(),
            "group": task.group,
        }

    @display(description=_("waits for a near-duplicate"))
    def waits(self, task: AnnotationTask) -> SafeString | str:
        if task.waits_for_id is None:
            return "–"
        address = reverse("admin:annotation_annotationtask_change", args=[task.waits_for_id])
        return format_html('<a href="{}">{}</a>', address, task.waits_for)

    @display(description=_("photo with boxes"))
    def picture(self, task: AnnotationTask) -> str:
        photo = task.photo
        return render_to_string(
            "admin/observations/photo_boxes.html",
            {
                "photo": photo,
                "boxes": self._boxes(task),
                "unit": max(photo.width_px, photo.height_px) / 100,
            },
        )

    @display(description=_("margins"))
    def margins(self, task: AnnotationTask) -> str:
        rows = []
        for box in self._boxes(task):
            (p1,), (p2,) = top_two([box.class_scores])
            u = float(least_margin(p1, p2))
            rows.append({"box": box, "p1": p1, "p2": p2, "margin": p1 - p2, "u": u})
        return render_to_string("admin/annotation/queue_margins.html", {"rows": rows}) if rows else "–"

    def _boxes(self, task: AnnotationTask) -> list[Detection]:
        shown = Detection.objects.shown().filter(photo=task.photo, model_version=task.photo.model_version_id)
        return list(shown.select_related("label").order_by("number")[:BOXES_SHOWN])

    @display(description=_("experts so far"))
    def experts(self, task: AnnotationTask) -> str:
        rows = task.assignments.select_related("expert").order_by("pk")
        return render_to_string("admin/annotation/queue_experts.html", {"assignments": rows})

    @admin.action(description=_("Rank their surveys anew"), permissions=["act"])
    def rank_anew(self, request: HttpRequest, queryset: QuerySet[AnnotationTask]) -> None:
        surveys = Survey.objects.filter(pk__in=queryset.order_by().values("survey"))
        for survey in surveys:
            request_update(survey=survey, reason=QueueUpdate.Reason.CURATOR, by=_curator(request))
        count = len(surveys)
        text = ngettext("%(count)d queue is ranked anew.", "%(count)d queues are ranked anew.", count)
        self.say(request, text % {"count": count})

    @admin.action(description=_("Release (take it from who has it open)"), permissions=["act"])
    def give_back(self, request: HttpRequest, queryset: QuerySet[AnnotationTask]) -> None:
        done = release_tasks(task_ids=_keys(queryset))
        text = ngettext(
            "%(count)d hold was ended; the draft is kept.",
            "%(count)d holds were ended; the drafts are kept.",
            done,
        )
        self.say(request, text % {"count": done})

    @admin.action(description=_("Send back (answers no longer count)"), permissions=["act"])
    def send_back(self, request: HttpRequest, queryset: QuerySet[AnnotationTask]) -> None:
        by = _curator(request)
        self._act(request, queryset, lambda ids: send_back_tasks(task_ids=ids, by=by))

    @admin.action(description=_("Set aside (give it to nobody)"), permissions=["act"])
    def set_aside(self, request: HttpRequest, queryset: QuerySet[AnnotationTask]) -> None:
        by = _curator(request)
        self._act(request, queryset, lambda ids: set_aside_tasks(task_ids=ids, by=by))

    @admin.action(description=_("Bring back (what was set aside)"), permissions=["act"])
    def bring_back(self, request: HttpRequest, queryset: QuerySet[AnnotationTask]) -> None:
        self._act(request, queryset, lambda ids: bring_back_tasks(task_ids=ids))

    def _act(
        self,
        request: HttpRequest,
        queryset: QuerySet[AnnotationTask],
        act: Callable[[list[int]], int],
    ) -> None:
        ids = _keys(queryset)
        done = act(ids)
        left = len(ids) - done
        text = ngettext("%(count)d photo was changed.", "%(count)d photos were changed.", done)
        skipped = ngettext(
            "%(count)d photo was left as it was: it is not in a state for this.",
            "%(count)d photos were left as they were: they are not in a state for this.",
            left,
        )
        self.say(request, text % {"count": done}, skipped=skipped % {"count": left} if left else "")


class UpdateForm(forms.ModelForm):  # type: ignore[type-arg]  # not subscriptable at run time
    survey = forms.ModelChoiceField(Survey.objects.all(), label=_("survey"))

    class Meta:
        model = QueueUpdate
        fields = ()


@admin.register(QueueUpdate)
class QueueUpdateAdmin(JobAdmin):
    """How far a promotion has put a queue in order; adding one ranks a queue anew."""

    list_display = (
        "survey",
        "reason_shown",
        "model_version",
        "status_shown",
        "progress",
        "requested_by",
        "queued_at",
        "finished_at",
    )
    list_display_links = None
    list_select_related = ("survey", "model_version__registered_model", "requested_by")
    list_filter = ("survey", "status", "reason")
    ordering = ("-pk",)
    form = UpdateForm
    fields = ("survey",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("annotation.add_queueupdate"))

    def has_delete_permission(self, request: HttpRequest, obj: QueueUpdate | None = None) -> bool:
        return False

    @display(description=_("because of"))
    def reason_shown(self, update: QueueUpdate) -> str:
        failed = f": {update.failure_reason}" if update.failure_reason else ""
        return f"{update.get_reason_display()}{failed}"

    @display(description=_("photos"))
    def progress(self, update: QueueUpdate) -> str:
        share = f" ({update.done / update.total:.0%})" if update.total else ""
        return f"{update.done:,} / {update.total:,}{share}"

    def save_model(self, request: HttpRequest, obj: QueueUpdate, form: Any, change: bool) -> None:
        """The service's row, which may be one under way."""
        survey = form.cleaned_data["survey"]
        row = request_update(survey=survey, reason=QueueUpdate.Reason.CURATOR, by=_curator(request))
        obj.pk, obj.survey = row.pk, row.survey
        obj._state.adding = False

    def requeue(self, rows: QuerySet[Any]) -> int:
        """A new update for each survey whose last one failed: the old rows tell what happened."""
        failed = rows.filter(status=WorkStatus.FAILED).order_by("survey_id", "-pk").distinct("survey_id")
        for update in failed.select_related("survey__registered_model"):
            model = update.survey.registered_model
            is_promotion = update.reason == QueueUpdate.Reason.PROMOTION
            version = model.production_version if model and is_promotion else None
            request_update(survey=update.survey, reason=update.reason, version=version)
        return len(failed)

    def wake(self) -> None:
        wake(update_queues)


def _curator(request: HttpRequest) -> User:
    assert isinstance(request.user, User)
    return request.user


def _keys(queryset: QuerySet[AnnotationTask]) -> list[int]:
    return list(queryset.order_by("pk").values_list("pk", flat=True))


def _until(hold: Assignment) -> str:
    assert hold.lease_until is not None  # a check constraint says so of open ones
    return gettext("until %(time)s") % {
        "time": date_format(timezone.localtime(hold.lease_until), "TIME_FORMAT")
    }

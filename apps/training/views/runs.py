"""A training run: its page keeps itself up to date; who may start runs can stop it, or start it again."""

import uuid

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from apps.accounts.models import User
from apps.training.models import RunStatus, TrainingRun
from apps.training.run_page import Seen, log_page, read_run_page
from apps.training.services.runs import (
    DatasetUnfitError,
    ParametersError,
    RunUnderWayError,
    cancel_run,
    retry_run,
)
from apps.training.views.access import experts_only

_RELATED = (
    "registered_model",
    "dataset",
    "base_version__registered_model",
    "version__registered_model",
    "requested_by",
)
_MAX_KEY = 2**63 - 1
_DIGITS = 19


@never_cache
@experts_only
@require_safe
def run(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    return _page(request, public_id, "training/run.html")


@never_cache
@experts_only
@require_safe
def live(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """What changes while it runs; without the order to ask again once it has ended."""
    seen = Seen(request.GET.get("epoch", ""), _key(request.GET.get("line", "")) or 0)
    return _page(request, public_id, "training/run_live.html", seen=seen)


@never_cache
@experts_only
@require_safe
def log(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """Older lines of the log."""
    run = get_object_or_404(TrainingRun.objects.select_related(*_RELATED), public_id=public_id)
    lines = log_page(run, before=_key(request.GET.get("before", "")))
    return render(request, "training/run_log.html", {"run": run, "log": lines})


@never_cache
@experts_only
@require_POST
def cancel(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    if not request.user.has_perm("training.start_trainingrun"):
        raise PermissionDenied
    assert isinstance(request.user, User)
    run = get_object_or_404(TrainingRun, public_id=public_id)
    if not cancel_run(run, by=request.user):
        messages.warning(request, _("The run had ended already."))
    return redirect("training:run", public_id)


@never_cache
@experts_only
@require_POST
def retry(request: HttpRequest, public_id: uuid.UUID) -> HttpResponse:
    """The same again, as a run of its own: for one that failed or was cancelled."""
    if not request.user.has_perm("training.start_trainingrun"):
        raise PermissionDenied
    assert isinstance(request.user, User)
    run = get_object_or_404(TrainingRun.objects.select_related(*_RELATED), public_id=public_id)
    if run.status not in (RunStatus.FAILED, RunStatus.CANCELLED):
        messages.warning(request, _("Only a run that failed or was cancelled can be started again."))
        return redirect("training:run", public_id)
    try:
        again = retry_run(run, by=request.user)
    except RunUnderWayError as error:
        messages.warning(request, _("Another run of this model is under way: this is its page."))
        return redirect("training:run", error.run.public_id)
    except DatasetUnfitError as error:
        messages.error(request, " ".join(problem.sentence for problem in error.problems))
    except ParametersError as error:
        messages.error(request, "; ".join(f"{one['name']}: {one['message']}" for one in error.problems))
    else:
        return redirect("training:run", again.public_id)
    return redirect("training:run", public_id)


def _key(text: str) -> int | None:
    return min(int(text), _MAX_KEY) if text.isascii() and text.isdecimal() and len(text) <= _DIGITS else None


def _page(
    request: HttpRequest, public_id: uuid.UUID, template: str, *, seen: Seen | None = None
) -> HttpResponse:
    run = get_object_or_404(TrainingRun.objects.select_related(*_RELATED), public_id=public_id)
    context = {
        "page": read_run_page(run, seen=seen),
        "run": run,
        "comparison": run.comparisons.order_by("-pk").first() if run.version_id else None,
        "may_cancel": request.user.has_perm("training.start_trainingrun"),
    }
    return render(request, template, context)

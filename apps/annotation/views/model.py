"""A survey's model: whether it can be trained, its versions, and the buttons with which curators go on."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required, permission_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from apps.accounts.models import User
from apps.annotation.api.permissions import is_expert
from apps.annotation.model_form import StartForm
from apps.annotation.model_page import progress_of, read_model_page
from apps.annotation.services.readiness import ready_to_train
from apps.annotation.services.training import request_training
from apps.observations.models import Survey
from apps.training.services.evaluations import EvaluationRefusedError, request_evaluation

START = "training.start_trainingrun"
MEASURE = "training.add_evaluation"
_UNDER_WAY = ("run_under_way", "starting")


@never_cache
@require_safe
def model(request: HttpRequest, slug: str) -> HttpResponse:
    return _page(request, _survey(slug))


@never_cache
@require_safe
def live(request: HttpRequest, slug: str) -> HttpResponse:
    """The fragment with readiness and progress; when what was under way has ended, the page loads anew."""
    survey = _survey(slug)
    readiness = ready_to_train(survey)
    context = {
        "survey": survey,
        "readiness": readiness,
        "progress": progress_of(readiness),
        "is_under_way": readiness.code in _UNDER_WAY,
        "sees_runs": is_expert(request.user),
    }
    response = render(request, "annotation/model_live.html", context)
    if not context["is_under_way"]:
        response["HX-Refresh"] = "true"
    return response


@login_required
@permission_required(START, raise_exception=True)
@require_POST
def start(request: HttpRequest, slug: str) -> HttpResponse:
    survey = _survey(slug)
    readiness = ready_to_train(survey)
    if not readiness.may_start:
        for sentence in readiness.obstacles or (readiness.sentence,):
            messages.warning(request, sentence)
        return redirect("annotation:model", slug)
    form = StartForm(survey, request.POST)
    if not form.is_valid():
        return _page(request, survey, form=form, status=400)
    _start, is_new = request_training(survey=survey, by=_user(request), **form.request())
    if is_new:
        messages.success(request, _("The training is being prepared; its progress appears here."))
    else:
        messages.warning(request, _("A training is being prepared."))
    return redirect("annotation:model", slug)


@login_required
@permission_required(MEASURE, raise_exception=True)
@require_POST
def measure(request: HttpRequest, slug: str) -> HttpResponse:
    """Have every version measured on the newest test photos, so that they can be compared."""
    survey = _survey(slug)
    page = read_model_page(survey)
    asked = 0
    for version in page.unmeasured:
        assert page.newest is not None
        try:
            request_evaluation(version=version, dataset=page.newest, by=_user(request))
        except EvaluationRefusedError:
            continue
        asked += 1
    text = ngettext("%(n)s version is being measured.", "%(n)s versions are being measured.", asked)
    messages.success(request, text % {"n": asked}) if asked else messages.warning(
        request, _("Every version is measured on these photos already.")
    )
    return redirect("annotation:model", slug)


def _page(
    request: HttpRequest, survey: Survey, *, form: StartForm | None = None, status: int = 200
) -> HttpResponse:
    page = read_model_page(survey)
    may_start = request.user.has_perm(START)
    if form is None and may_start and page.readiness.may_start:
        form = StartForm(survey)
    context = {
        "survey": survey,
        "page": page,
        "readiness": page.readiness,
        "progress": page.progress,
        "is_under_way": page.readiness.code in _UNDER_WAY,
        "sees_runs": is_expert(request.user),
        "is_curator": may_start,
        "may_measure": request.user.has_perm(MEASURE),
        "form": form,
    }
    return render(request, "annotation/model.html", context, status=status)


def _survey(slug: str) -> Survey:
    return get_object_or_404(Survey.objects.select_related("registered_model"), slug=slug)


def _user(request: HttpRequest) -> User:
    assert isinstance(request.user, User)
    return request.user

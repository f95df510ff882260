"""Review of crops: the grid, what is done to many boxes at once, its history, and what is discussed."""

import uuid
from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec
from urllib.parse import urlencode

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.cache import cache
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.cache import patch_cache_control
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import condition, require_POST, require_safe

from apps.accounts.models import User
from apps.annotation.crops import BoxPx, jpeg
from apps.annotation.models import AnnotatedBox, Crop
from apps.annotation.review_grid import PAGE_SIZES, count_anew, read_grid
from apps.annotation.review_lists import discussed_page, steps_page
from apps.annotation.services.bulk import (
    BoxRef,
    ReviewRefusedError,
    ReviewResult,
    relabel_boxes,
    send_back,
    undo,
)
from apps.annotation.services.crop_sheets import PhotoPixels
from apps.observations.browse.keys import read_key
from apps.observations.models import Detection, Label, Observation, Photo, Survey

CROP_MAX_AGE_S = 3_600
_KEPT_S = 24 * 3_600
_DONE = "review_done"
P = ParamSpec("P")
View = Callable[Concatenate[HttpRequest, P], HttpResponseBase]


def experts_only(view: View[P]) -> View[P]:
    """Sign in first; who is no expert is told what experts do."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        if not (getattr(request.user, "is_expert", False) or getattr(request.user, "is_staff", False)):
            return render(request, "annotation/review_experts_only.html", status=403)
        return view(request, *args, **kwargs)

    return login_required(guarded)  # type: ignore[return-value]


@never_cache
@experts_only
@require_safe
def review(request: HttpRequest, slug: str) -> HttpResponse:
    survey = get_object_or_404(Survey, slug=slug)
    return _grid_page(request, survey, {key: _text(value) for key, value in request.GET.items()})


def _grid_page(
    request: HttpRequest, survey: Survey, query: dict[str, str], *, error: str = "", chosen: Any = ()
) -> HttpResponse:
    grid = read_grid(survey, query)
    context = {
        "survey": survey,
        "grid": grid,
        "labels": Label.objects.filter(survey=survey, is_active=True),
        "page_sizes": PAGE_SIZES,
        "query": urlencode({key: value for key, value in query.items() if key in _KEPT}),
        "done": request.session.pop(_DONE, None),
        "error": error,
        "chosen": frozenset(chosen),
        "code": request.POST.get("code", ""),
    }
    return render(request, "annotation/review.html", context, status=422 if error else 200)


_KEPT = ("label", "source", "sort", "n", "after", "before")


def _kept(request: HttpRequest) -> dict[str, str]:
    """The state of the grid that a form came from."""
    return {key: text for key in _KEPT if (text := _text(request.POST.get(key, "")))}


def _text(value: Any) -> str:
    """No database takes a NUL, and none was typed."""
    return str(value).replace("\0", "")


@require_POST
@experts_only
def review_act(request: HttpRequest, slug: str) -> HttpResponse:
    """Relabel or send back what is chosen, then show the same page of the grid."""
    survey = get_object_or_404(Survey, slug=slug)
    chosen = request.POST.getlist("box")
    query = _kept(request)
    try:
        boxes = [_box_ref(text) for text in chosen]
        if request.POST.get("action") == "send_back":
            result = send_back(
                survey=survey,
                by=_user(request),
                boxes=boxes,
                note=_text(request.POST.get("note", "")).strip(),
            )
            text = _told_sent_back(result)
        else:
            result = relabel_boxes(
                survey=survey, by=_user(request), boxes=boxes, code=_text(request.POST.get("code", ""))
            )
            text = _told_relabelled(result)
    except ReviewRefusedError as refused:
        return _grid_page(request, survey, query, error=str(refused), chosen=chosen)
    count_anew(survey)
    if result.left_alone:
        text += " " + _told_left_alone(result.left_alone)
    request.session[_DONE] = {"text": text, "batch": str(result.batch) if result.batch else ""}
    if request.POST.get("back") == "discussed":
        return redirect("annotation:discussed", slug)
    return redirect(f"{reverse('annotation:review', args=[slug])}?{urlencode(query)}")


@require_POST
@experts_only
def review_undo(request: HttpRequest, slug: str, batch: uuid.UUID) -> HttpResponse:
    survey = get_object_or_404(Survey, slug=slug)
    try:
        result = undo(batch=batch, by=_user(request))
    except ReviewRefusedError as refused:
        messages.error(request, str(refused))
    else:
        count_anew(survey)
        text = ngettext("Undone on %(n)s photo.", "Undone on %(n)s photos.", result.photos) % {
            "n": result.photos
        }
        if result.left_alone:
            text += " " + _told_left_alone(result.left_alone)
        messages.success(request, text)
    if request.POST.get("back") == "history":
        return redirect("annotation:review_history", slug)
    return redirect(f"{reverse('annotation:review', args=[survey.slug])}?{urlencode(_kept(request))}")


@never_cache
@experts_only
@require_safe
def review_history(request: HttpRequest, slug: str) -> HttpResponse:
    """One's own steps (for staff everybody's), newest first."""
    survey = get_object_or_404(Survey, slug=slug)
    page = steps_page(survey, _user(request), before=read_key(request.GET.get("before", "")))
    return render(request, "annotation/review_history.html", {"survey": survey, "page": page})


@never_cache
@experts_only
@require_safe
def discussed(request: HttpRequest, slug: str) -> HttpResponse:
    """Answered photos on whose boxes people have written."""
    survey = get_object_or_404(Survey, slug=slug)
    page = discussed_page(survey, before=read_key(request.GET.get("before", "")))
    context = {"survey": survey, "page": page, "done": request.session.pop(_DONE, None)}
    return render(request, "annotation/review_discussed.html", context)


# --- Pictures of crops --------------------------------------------------------------------------------------


@experts_only
@require_safe
def crop(request: HttpRequest, public_id: uuid.UUID, number: int) -> HttpResponseBase:
    """A box of an answer. An answer never changes, so neither does its crop: mostly one query."""
    number = min(number, 2**31 - 1)
    name = f"{public_id}-{number}"
    known = Crop.objects.public().filter(box__annotation__public_id=public_id, box__number=number)
    stored = known.values_list("picture", flat=True).first()
    if stored:
        content = bytes(stored)
        return _picture(request, name, lambda: content)
    boxes = AnnotatedBox.objects.filter(
        annotation__task__photo__observation__visibility=Observation.Visibility.PUBLIC
    )
    box = get_object_or_404(
        boxes.select_related("annotation__task__photo").defer("box"),
        annotation__public_id=public_id,
        number=number,
    )
    return _picture(request, name, lambda: _cut_now(name, box.annotation.task.photo, box))


@experts_only
@require_safe
def model_crop(request: HttpRequest, public_id: uuid.UUID, version: int, number: int) -> HttpResponseBase:
    """A box of the model."""
    boxes = Detection.objects.filter(photo__observation__visibility=Observation.Visibility.PUBLIC)
    box = get_object_or_404(
        boxes.select_related("photo").defer("box", "class_scores"),
        photo__public_id=public_id,
        model_version=min(version, 2**63 - 1),
        number=min(number, 2**31 - 1),
    )
    name = f"{public_id}-{version}-{number}"
    return _picture(request, name, lambda: _cut_now(name, box.photo, box))


def _cut_now(name: str, photo: Photo, box: AnnotatedBox | Detection) -> bytes:
    """From the cache, else cut from one rendition: tens of milliseconds."""
    key = f"crop:{name}"
    content: bytes | None = cache.get(key)
    if content is None:
        try:
            content = jpeg(PhotoPixels(photo).crop(BoxPx(box.x_min, box.y_min, box.x_max, box.y_max)))
        except OSError as error:  # missing or damaged
            raise Http404 from error
        cache.set(key, content, _KEPT_S)
    return content


def _picture(request: HttpRequest, name: str, read: Callable[[], bytes]) -> HttpResponseBase:
    """Kept by the viewer's browser only, for an hour: who may see the photo may change."""

    @condition(etag_func=lambda _request: f'"crop-{name}"')
    def answer(_request: HttpRequest) -> HttpResponseBase:
        response = HttpResponse(read(), content_type="image/jpeg")
        response["X-Content-Type-Options"] = "nosniff"
        patch_cache_control(response, private=True, max_age=CROP_MAX_AGE_S)
        return response

    return answer(request)


# --- Words --------------------------------------------------------------------------------------------------


def _told_relabelled(result: ReviewResult) -> str:
    if not result.boxes and result.unchanged:
        return _("All of them have this label already.")
    return ngettext("%(n)s box relabelled.", "%(n)s boxes relabelled.", result.boxes) % {"n": result.boxes}


def _told_sent_back(result: ReviewResult) -> str:
    return ngettext(
        "%(n)s photo waits in the queue again.", "%(n)s photos wait in the queue again.", result.photos
    ) % {"n": result.photos}


def _told_left_alone(count: int) -> str:
    return ngettext(
        "%(n)s had changed meanwhile and was left alone.",
        "%(n)s had changed meanwhile and were left alone.",
        count,
    ) % {"n": count}


def _box_ref(text: str) -> BoxRef:
    answer, _dot, number = text.partition(".")
    try:
        return uuid.UUID(answer), int(number) if len(number) < 9 else -1
    except ValueError:
        raise ReviewRefusedError(_("A chosen box is not of this survey. Load the page anew.")) from None


def _user(request: HttpRequest) -> User:
    assert isinstance(request.user, User)
    return request.user

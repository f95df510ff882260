"""Sending photos: one form without JavaScript; with it, one request a file, so that each has its progress.

A batch is named by the UUID that the page made: whatever is repeated, after a lost answer or by a second click,
meets the observation of that name again, and files that arrived are known by their content.
"""

import json
import math
import re
import uuid
from typing import Any, cast

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.files.uploadedfile import UploadedFile
from django.db import IntegrityError, transaction
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import formats, timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_http_methods, require_POST
from rest_framework.request import Request
from rest_framework.throttling import UserRateThrottle
from rest_framework.views import APIView

from apps.accounts.models import User
from apps.observations.forms import SendForm
from apps.observations.models import Observation, Photo, Survey
from apps.observations.services.archives import is_archive, receive_archive
from apps.observations.services.deletion import delete_observation
from apps.observations.services.intake import RefusedPictureError, receive_photo, record_refusal
from apps.observations.services.observations import clean_name, create_observation, update_observation

_SHA256 = re.compile(r"^[0-9a-f]{64}$")
_ASKED_AT_ONCE = 500


class UploadThrottle(UserRateThrottle):
    """The same allowance as uploads through the API."""

    scope = "upload"


@require_http_methods(["GET", "POST"])
def send_page(request: HttpRequest) -> HttpResponse:
    """The page, and without JavaScript also what it posts."""
    if not isinstance(request.user, User):
        return render(request, "observations/send_sign_in.html", {"next": request.get_full_path()})
    if request.method == "POST":
        return _receive_form(request, request.user)
    open_surveys = Survey.objects.filter(is_open=True).values_list("slug", flat=True)
    asked_for = request.GET.get("survey", "")
    form = SendForm(initial={"survey": asked_for if asked_for in set(open_surveys) else None})
    return _page(request, form)


def _page(request: HttpRequest, form: SendForm, *, refused: Any = (), status: int = 200) -> HttpResponse:
    context = {
        "form": form,
        "refused": refused,
        "max_bytes": settings.PICTURE_MAX_BYTES,
        "max_archive_bytes": settings.ARCHIVE_MAX_BYTES,
        "words": _words(),
        "has_surveys": Survey.objects.filter(is_open=True).exists(),
        "MAP_TILE_URL": settings.MAP_TILE_URL,
        "MAP_TILE_ATTRIBUTION": settings.MAP_TILE_ATTRIBUTION,
    }
    return render(request, "observations/send.html", context, status=status)


def _words() -> dict[str, str]:
    """What the page's script says, in the language of the page; %s is replaced there."""
    return {
        "waiting": _("waiting"),
        "checking": _("checking"),
        "sending": _("sending"),
        "received": _("received"),
        "known": _("already here"),
        "refused": _("not taken"),
        "retrying": _("no connection; trying again"),
        "tooLarge": _("The file is larger than %s. Send a smaller version."),
        "empty": _("The file is empty. Send it again from where the original is."),
        "remove": _("Remove %s"),
        "chosen": _("%s files chosen"),
        "chosenOne": _("1 file chosen"),
        "progress": _("%s of %s files done"),
        "none": _("Choose at least one photo, folder or zip."),
        "zipReceived": _("received; it is being unpacked"),
        "leave": _("Photos are still being sent."),
        "signedOut": _(
            "You have been signed out. Sign in again in another tab, then press “Send” once more."
        ),
        "failed": _("The site did not answer as expected. Press “Send” to try again; what arrived is kept."),
        "noneTaken": _("None of the files could be taken; see the reasons beside them."),
        "nothingNew": _("Nothing new: you have sent these before."),
        "positionFailed": _("Your position could not be read. Click on the map instead."),
        "someRefused": _("Some files were not taken; the reasons stand beside them."),
    }


# --- Without JavaScript -----------------------------------------------------------------------------------


def _receive_form(request: HttpRequest, user: User) -> HttpResponse:
    throttle = UploadThrottle()
    if not throttle.allow_request(cast(Request, request), cast(APIView, None)):
        response = render(request, "429.html", status=429)
        response["Retry-After"] = str(math.ceil(throttle.wait() or 60))
        return response
    form = SendForm(request.POST)
    files = request.FILES.getlist("files")
    if not files:
        form.add_error(None, _("Choose at least one photo, folder or zip."))
    if not form.is_valid():
        return _page(request, form, status=422)
    batch = form.cleaned_data["batch"]
    observations: list[Observation] = []
    refused: list[tuple[str, RefusedPictureError]] = []
    known = 0
    for index, file in enumerate(files):
        name = batch if not form.cleaned_data["separate"] else uuid.uuid5(batch, str(index))
        observation = _observation(user, form, name)
        if not observations or observations[-1] != observation:
            observations.append(observation)
        try:
            known += _take(observation, file)[0] == "known"
        except RefusedPictureError as error:
            refused.append((clean_name(file.name or ""), error))
    kept = [observation for observation in observations if not _is_empty(observation)]
    for observation in observations:
        if observation not in kept:
            delete_observation(observation=observation)
    return _after_form(request, form, kept, refused, known)


def _after_form(
    request: HttpRequest,
    form: SendForm,
    kept: list[Observation],
    refused: list[tuple[str, RefusedPictureError]],
    known: int,
) -> HttpResponse:
    if known:
        text = ngettext("%(n)d photo was here already.", "%(n)d photos were here already.", known)
        messages.info(request, text % {"n": known})
    if not kept:
        if refused:
            return _page(request, form, refused=refused, status=422)
        return redirect("observations:mine")
    for name, error in refused:
        # On a single observation's page they are listed; with several there is none to list them on.
        if len(kept) == 1:
            _remember(kept[0], name, error)
        else:
            messages.warning(request, f"{name}: {error.message}")
    if len(kept) == 1:
        return redirect("observations:observation", kept[0].public_id)
    return redirect("observations:mine")


# --- With JavaScript: begin, ask what is known, one request a file, end -----------------------------------


@login_required
@require_POST
def begin(request: HttpRequest, batch: uuid.UUID) -> HttpResponse:
    """Create the batch's observation, or meet it again."""
    form = SendForm(_with_batch(request, batch))
    if not form.is_valid():
        errors = {name: [str(error) for error in found] for name, found in form.errors.items()}
        return _problem(422, "invalid", _("Some details cannot be taken; see the fields."), errors=errors)
    observation = _observation(_user(request), form, batch)
    return JsonResponse({"url": _url(observation)}, status=201)


def _with_batch(request: HttpRequest, batch: uuid.UUID) -> Any:
    data = request.POST.copy()
    data["batch"] = str(batch)
    return data


@login_required
@require_POST
def known(request: HttpRequest, batch: uuid.UUID) -> HttpResponse:
    """Which of these SHA-256 the contributor has sent to this survey before, so that they need not travel again."""
    observation = _own(request, batch)
    try:
        digests = json.loads(request.body)["sha256"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return _problem(400, "malformed", _("This is not valid JSON."))
    if (
        not isinstance(digests, list)
        or len(digests) > _ASKED_AT_ONCE
        or not all(isinstance(digest, str) and _SHA256.match(digest) for digest in digests)
    ):
        return _problem(
            400, "malformed", _("At most %(n)d SHA-256 digests are expected.") % {"n": _ASKED_AT_ONCE}
        )
    photos = Photo.objects.filter(
        contributor=observation.contributor_id, survey=observation.survey_id, sha256__in=digests
    ).select_related("observation")
    return JsonResponse({"known": {photo.sha256: _known_photo(photo, observation) for photo in photos}})


@login_required
@require_POST
def take_file(request: HttpRequest, batch: uuid.UUID) -> HttpResponse:
    """Take one photo or zip. 201 taken, 200 known already, 422 refused with the reason, 429 too many."""
    file = request.FILES.get("file")
    observation = _own(request, batch)
    if file is None:
        return _problem(400, "malformed", _("No file came with the request."))
    throttle = UploadThrottle()
    if not throttle.allow_request(cast(Request, request), cast(APIView, None)):
        answer = _problem(
            429, "throttled", _("You have sent very many files this hour. The rest follows by itself.")
        )
        answer["Retry-After"] = str(math.ceil(throttle.wait() or 60))
        return answer
    try:
        outcome, photo = _take(observation, file)
    except RefusedPictureError as error:
        if request.POST.get("remember") == "1":
            _remember(observation, file.name or "", error)
        return _problem(422, error.code, error.message)
    except IntegrityError:
        raise Http404 from None  # the observation was deleted in another tab
    if photo is None:
        body = {"state": "received", "archive": True}
        return JsonResponse(body, status=200 if outcome == "known" else 201)
    body = {"state": outcome, **_known_photo(photo, observation)}
    return JsonResponse(body, status=200 if outcome == "known" else 201)


@login_required
@require_POST
def end(request: HttpRequest, batch: uuid.UUID) -> HttpResponse:
    """The batch is through: gives the page to go to. An observation nothing came into leaves no trace."""
    observation = Observation.objects.filter(public_id=batch, contributor=_user(request)).first()
    if observation is None or _is_empty(observation):
        if observation is not None:
            delete_observation(observation=observation)
        return JsonResponse({"url": reverse("observations:mine"), "is_empty": True})
    return JsonResponse({"url": _url(observation), "is_empty": False})


# --- Shared -----------------------------------------------------------------------------------------------


def _user(request: HttpRequest) -> User:
    assert isinstance(request.user, User)
    return request.user


def _own(request: HttpRequest, batch: uuid.UUID) -> Observation:
    observation = Observation.objects.filter(public_id=batch, contributor=_user(request)).first()
    if observation is None:
        raise Http404
    return observation


def _observation(user: User, form: SendForm, public_id: uuid.UUID) -> Observation:
    """The contributor's observation of this name, with these details. A name of someone else's is a 404."""
    details = form.observation_fields()
    try:
        with transaction.atomic():
            return create_observation(
                contributor=user, survey=form.cleaned_data["survey"], public_id=public_id, **details
            )
    except IntegrityError:
        observation = Observation.objects.filter(public_id=public_id, contributor=user).first()
        if observation is None:
            raise Http404 from None
    if observation.visibility == Observation.Visibility.HIDDEN:
        del details["visibility"]  # what a curator hid, only a curator shows
    return update_observation(observation=observation, **details)


def _take(observation: Observation, file: "UploadedFile[bytes]") -> tuple[str, Photo | None]:
    """("received" or "known", the photo; none for an archive, which is read in the background)."""
    if is_archive(file):
        if observation.archives.filter(name=clean_name(file.name or ""), size_bytes=file.size or 0).exists():
            return "known", None  # its answer was lost, or the form was posted twice
        receive_archive(observation=observation, file=file, name=file.name or "")
        return "received", None
    received = receive_photo(observation=observation, file=file, name=file.name or "")
    return ("known" if received.is_duplicate else "received"), received.photo


def _remember(observation: Observation, name: str, error: RefusedPictureError) -> None:
    """List a refused file on the observation's page; once, however often it is sent."""
    if not observation.refused_files.filter(name=clean_name(name), code=error.code).exists():
        record_refusal(observation=observation, name=name, code=error.code, params=error.params)


def _known_photo(photo: Photo, observation: Observation) -> dict[str, Any]:
    here = photo.observation_id == observation.pk
    when = formats.date_format(timezone.localtime(photo.created_at), "DATE_FORMAT")
    return {
        "url": reverse("observations:photo", args=[photo.public_id]),
        "thumbnail": reverse("observations:thumbnail", args=[photo.public_id]),
        "is_here": here,
        "note": "" if here else _("You sent this on %(date)s.") % {"date": when},
    }


def _is_empty(observation: Observation) -> bool:
    return not observation.photos.exists() and not observation.archives.exists()


def _url(observation: Observation) -> str:
    return reverse("observations:observation", args=[observation.public_id])


def _problem(status: int, code: str, detail: str, **more: Any) -> JsonResponse:
    """The error shape of the API, for the page's own script."""
    body = {"type": "about:blank", "status": status, "code": code, "detail": detail, **more}
    return JsonResponse(body, status=status, content_type="application/problem+json")

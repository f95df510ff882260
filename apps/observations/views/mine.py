"""My observations: everything the signed-in person sent, to look through and to delete."""

import uuid

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models import Count
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.template.loader import render_to_string
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from apps.accounts.models import User
from apps.observations.browse.filters import TooBroadError, limited_time
from apps.observations.browse.keys import read_key
from apps.observations.browse.mine import COUNT_LIMIT, PAGE_SIZE, MineForm, MinePage, mine_page, state_counts
from apps.observations.hooks import mine_notes
from apps.observations.models import Observation
from apps.observations.services.deletion import delete_observation


@require_safe
@login_required
@never_cache
def mine(request: HttpRequest) -> HttpResponse:
    assert isinstance(request.user, User)
    form = MineForm(request.GET)
    form.is_valid()
    page: MinePage | None = None
    counts: dict[str, int] = {}
    try:
        with limited_time():
            page = mine_page(
                request.user,
                words=form.words,
                state=form.chosen_state,
                before=read_key(request.GET.get("before", "")),
                after=read_key(request.GET.get("after", "")),
            )
            counts = state_counts(request.user)
    except TooBroadError:
        pass
    context = {
        "form": form,
        "page": page,
        "states": [(state, label, counts.get(state)) for state, label in MineForm.STATES],
        "chosen_state": form.chosen_state,
        "is_filtered": bool(form.words or form.chosen_state or {"before", "after"} & set(request.GET)),
        "count_limit": COUNT_LIMIT,
        "notes": [render_to_string(*note, request) for note in mine_notes.sound_answers(request) if note],
    }
    return render(request, "observations/mine.html", context)


@require_POST
@login_required
def mine_delete(request: HttpRequest) -> HttpResponse:
    """Ask about the chosen observations, then delete them; whatever is not the person's own is passed over."""
    assert isinstance(request.user, User)
    chosen = Observation.objects.filter(
        contributor=request.user, public_id__in=_uuids(request.POST.getlist("chosen"))
    )
    if "confirmed" not in request.POST:
        observations = list(
            chosen.select_related("survey").annotate(photo_count=Count("photos")).order_by("-pk")
        )
        if not observations:
            messages.info(request, _("Choose the observations to delete first."))
            return redirect("observations:mine")
        return render(request, "observations/mine_delete.html", {"observations": observations})
    observations = list(chosen)
    for observation in observations:
        delete_observation(observation=observation)
    said = ngettext("%(n)d observation deleted.", "%(n)d observations deleted.", len(observations))
    messages.success(request, said % {"n": len(observations)})
    return redirect("observations:mine")


def _uuids(texts: list[str]) -> list[uuid.UUID]:
    """At most a page of them; what is none is passed over."""
    found = []
    for text in texts[:PAGE_SIZE]:
        try:
            found.append(uuid.UUID(text))
        except ValueError:
            continue
    return found

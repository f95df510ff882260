"""How far experts agree with each other, with what counts and with the model; and how reliable one is oneself."""

import csv
from datetime import datetime, timedelta
from io import StringIO

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.utils.dateparse import parse_date
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from apps.accounts.models import User
from apps.annotation.agreement_numbers import Period, numbers_of
from apps.annotation.agreement_page import agreement_page, csv_rows
from apps.annotation.reliability_page import reliability_page
from apps.annotation.services.policies import policy_of
from apps.annotation.views.review import experts_only
from apps.observations.browse.keys import read_key
from apps.observations.models import Survey
from apps.observations.services.exports import csv_cell

_BAD_REQUEST = 400


@never_cache
@experts_only
@require_safe
def agreement(request: HttpRequest, slug: str) -> HttpResponse:
    survey = get_object_or_404(Survey, slug=slug)
    period, errors = _period(request)
    if not errors and request.GET.get("format") == "csv":
        return _csv(survey, period, _user(request))
    numbers = numbers_of(survey, period)
    context = {
        "survey": survey,
        "policy": policy_of(survey),
        "numbers": numbers,
        "page": agreement_page(numbers, survey=survey, reader=_user(request)),
        "errors": errors,
        "start": request.GET.get("from", ""),
        "end": request.GET.get("to", ""),
        "is_filtered": period != Period(),
    }
    return render(request, "annotation/agreement.html", context, status=_BAD_REQUEST if errors else 200)


@never_cache
@experts_only
@require_safe
def me(request: HttpRequest) -> HttpResponse:
    """One's own answers to photos whose answer was known."""
    page = reliability_page(_user(request), before=read_key(request.GET.get("before", "")))
    return render(request, "annotation/agreement_me.html", {"page": page})


def _csv(survey: Survey, period: Period, reader: User) -> HttpResponse:
    numbers = numbers_of(survey, period)
    text = StringIO()
    writer = csv.writer(text)
    for row in csv_rows(numbers, survey=survey, reader=reader):
        writer.writerow([csv_cell(value) for value in row])
    response = HttpResponse("\ufeff" + text.getvalue(), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="agreement-{survey.slug}.csv"'
    return response


def _period(request: HttpRequest) -> tuple[Period, dict[str, str]]:
    """Both days included, in the viewer's zone."""
    errors: dict[str, str] = {}
    start = _day(request, "from", errors)
    end = _day(request, "to", errors)
    if start and end and end < start:
        errors["to"] = _("The last day is before the first one.")
    if errors:
        return Period(), errors
    return Period(start, end + timedelta(days=1) if end else None), {}


def _day(request: HttpRequest, name: str, errors: dict[str, str]) -> datetime | None:
    text = request.GET.get(name, "").strip()
    if not text:
        return None
    try:
        day = parse_date(text)
    except ValueError:  # as 2026-02-31
        day = None
    if day is None or not 1900 <= day.year <= 9000:
        errors[name] = _("This is no day: write it as 2026-05-31.")
        return None
    return timezone.make_aware(datetime(day.year, day.month, day.day))  # noqa: DTZ001 (the viewer's)


def _user(request: HttpRequest) -> User:
    assert isinstance(request.user, User)
    return request.user

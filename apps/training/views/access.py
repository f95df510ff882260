"""Who sees what: runs, evaluations and comparisons show people's photos, so they are for experts and staff."""

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import render

P = ParamSpec("P")
View = Callable[Concatenate[HttpRequest, P], HttpResponseBase]


def sees_photos(user: Any) -> bool:
    return bool(getattr(user, "is_expert", False) or getattr(user, "is_staff", False))


def experts_only(view: View[P]) -> View[P]:
    """Sign in first; who is no expert is told what is behind the door."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        if not sees_photos(request.user):
            return render(request, "training/experts_only.html", status=403)
        return view(request, *args, **kwargs)

    return login_required(guarded)  # type: ignore[return-value]

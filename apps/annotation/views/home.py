"""The experts' home; for everybody else, what experts do and how to become one."""

from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from apps.accounts.models import ExpertApplication, User
from apps.annotation.api.permissions import is_expert
from apps.annotation.home_lists import answer_page, attention_of, desks_of, mine_of
from apps.observations.browse.keys import read_key


@never_cache
@require_safe
def home(request: HttpRequest) -> HttpResponse:
    user = request.user
    if isinstance(user, User) and is_expert(user):
        return _desk(request, user)
    application = None
    if not isinstance(user, AnonymousUser):
        application = ExpertApplication.objects.filter(user=user).first()
    return render(request, "annotation/home_explained.html", {"application": application})


def _desk(request: HttpRequest, expert: User) -> HttpResponse:
    page = answer_page(
        expert, before=read_key(request.GET.get("before", "")), after=read_key(request.GET.get("after", ""))
    )
    is_first_page = not {"before", "after"} & set(request.GET)
    context = {
        "desks": desks_of(expert) if is_first_page else [],
        "mine": mine_of(expert),
        "attention": attention_of(expert),
        "page": page,
        "is_first_page": is_first_page,
    }
    return render(request, "annotation/home.html", context)

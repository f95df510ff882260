"""Public photos, newest first, with filters in the address."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_safe

from apps.observations.browse.filters import BrowseForm, TooBroadError, limited_time
from apps.observations.browse.gallery import COUNT_LIMIT, GalleryPage, gallery_page
from apps.observations.browse.keys import read_key


@require_safe
def gallery(request: HttpRequest) -> HttpResponse:
    """The whole page; for htmx the results alone, or the next pictures alone."""
    form = BrowseForm(request.GET)
    page: GalleryPage | None = None
    before = read_key(request.GET.get("before", ""))
    try:
        with limited_time():
            page = gallery_page(form, before=before)
    except TooBroadError:
        pass
    target = getattr(request, "htmx", None) and request.htmx.target  # type: ignore[attr-defined]
    template = {
        "gallery-results": "observations/gallery_results.html",
        "gallery-more": "observations/gallery_pictures.html",
    }.get(target or "", "observations/gallery.html")
    context = {"form": form, "page": page, "is_first": before is None, "count_limit": COUNT_LIMIT}
    response = render(request, template, context)
    patch_vary_headers(response, ["HX-Request", "HX-Target"])
    return response

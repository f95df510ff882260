"""The page for a fault of ours: generic, with the id under which the logs tell what happened."""

from django.http import HttpRequest, HttpResponse, HttpResponseServerError
from django.template.loader import render_to_string
from django.utils.html import format_html
from django.utils.translation import gettext


def server_error(request: HttpRequest) -> HttpResponse:
    """`500.html` like any page; when that fails too (the database is away), a page that needs nothing."""
    request_id = str(getattr(request, "id", ""))
    try:
        return HttpResponseServerError(render_to_string("500.html", {"request_id": request_id}, request))
    except Exception:  # noqa: BLE001  (whatever broke the page may break this one)
        page = format_html(
            '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
            "<title>{}</title><h1>{}</h1><p>{} <code>{}</code></p></html>",
            gettext("Something went wrong"),
            gettext("Something went wrong"),
            gettext("It has been recorded. If you tell us about it, name this number:"),
            request_id,
        )
        return HttpResponseServerError(page)

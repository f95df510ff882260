"""What every answer carries: a CSP that starts from none, and no method that nobody asked for."""

import pytest
from django.urls import reverse

from tests.factories import UserFactory

PAGES = (
    "/",
    "/gallery/",
    "/map/",
    "/accounts/login/",
    "/api/docs/",
    "/healthz",
    "/admin/login/",
    "/no-such-page/",
)


def directives(answer):
    parts = [part.strip().split() for part in answer["Content-Security-Policy"].split(";") if part.strip()]
    return {name: set(values) for name, *values in parts}


@pytest.mark.django_db
@pytest.mark.parametrize("page", PAGES)
def test_every_page_has_a_content_security_policy_that_starts_from_none(client, page):
    answer = client.get(page, follow=True)
    policy = directives(answer)
    assert policy["default-src"] == {"'none'"}
    assert policy["base-uri"] == {"'none'"}
    assert policy["frame-ancestors"] == {"'none'"}
    assert policy["form-action"] == {"'self'"}
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["X-Frame-Options"] == "DENY"
    assert answer["Referrer-Policy"] == "same-origin"
    assert answer.get("X-Request-ID") or page == "/healthz"
    assert "unsafe-inline" not in answer["Content-Security-Policy"] or page.startswith("/admin/")


@pytest.mark.django_db
@pytest.mark.parametrize(
    "page", ["/", "/gallery/", "/map/", "/accounts/login/", "/accounts/signup/", "/no-such-page/"]
)
def test_no_page_has_inline_script_or_style(client, page):
    text = client.get(page).content.decode()
    assert "<style" not in text
    assert ' style="' not in text
    assert " onclick=" not in text
    for script in text.split("<script")[1:]:
        head = script.partition(">")[0]
        assert "src=" in head or 'type="application/json"' in head, head


@pytest.mark.django_db
def test_the_admins_wider_policy_stays_in_the_admin(client):
    client.force_login(UserFactory(is_staff=True, is_superuser=True))
    inside, outside = client.get(reverse("admin:index")), client.get("/gallery/")
    assert directives(inside)["default-src"] == {"'none'"}
    assert directives(outside)["script-src"] == {"'self'"}
    assert directives(outside)["style-src"] == {"'self'"}


@pytest.mark.django_db
@pytest.mark.parametrize(
    "page", ["/", "/admin/", "/api/v1/observations/", "/static/none.css", "/no-such-page/"]
)
@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "PROPFIND", "TRACK", "X"])
def test_trace_and_methods_nobody_defined_are_405_everywhere(client, page, method):
    answer = client.generic(method, page)
    assert answer.status_code == 405
    assert "GET" in answer["Allow"]


@pytest.mark.django_db
def test_https_is_asked_for_in_production(client, settings):
    settings.SECURE_SSL_REDIRECT = True
    settings.SECURE_HSTS_SECONDS = 31_536_000
    assert client.get("/gallery/").status_code == 301
    assert client.get("/healthz").status_code == 200
    assert "max-age=31536000" in client.get("/gallery/", secure=True)["Strict-Transport-Security"]

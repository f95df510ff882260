"""Pages that say what went wrong and what to do, in the viewer's language."""

import pytest
from django.template.loader import render_to_string
from django.test import Client, RequestFactory

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("code", ["400", "403", "403_csrf", "404", "429", "500"])
def test_each_leads_on_and_names_the_request(code: str) -> None:
    request = RequestFactory().get("/somewhere/")
    text = render_to_string(f"{code}.html", {"request_id": "abc-123", "SITE_NAME": "Podura"}, request)
    assert "abc-123" in text
    assert 'href="/"' in text
    assert "<h1>" in text


def test_it_is_whole_without_a_request() -> None:
    text = render_to_string("500.html", {"request_id": "abc-123"})
    assert "abc-123" in text
    assert "Podura" in text


def test_a_form_without_its_token_is_told_so() -> None:
    response = Client(enforce_csrf_checks=True).post("/i18n/setlang/", {"language": "fr"})
    assert response.status_code == 403
    assert "The form was too old" in response.content.decode()

"""Every page at phone and desktop width, light and dark: nothing sticks out, nothing offends axe (WCAG 2.2 AA)."""

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.contrib.gis.geos import Point
from django.core.files.base import ContentFile
from playwright.sync_api import Page

from apps.observations.models import Comment, Observation, Photo
from apps.observations.services.detection import detect_batch
from apps.observations.services.intake import receive_photo, record_refusal
from apps.observations.services.observations import create_observation
from tests.browser.conftest import sign_in
from tests.factories import PASSWORD, LabelFactory, ModelVersionFactory, SurveyFactory, UserFactory
from tests.support.pictures import jpeg

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.django_db(transaction=True)]

PUBLIC = (
    "/",
    "/gallery/",
    "/map/",
    "/send/",
    "/annotate/",
    "/accounts/login/",
    "/accounts/signup/",
    "/accounts/password/reset/",
    "/nowhere/",
)
OWN = (
    "/send/",
    "/mine/",
    "/mine/?q=nothing-like-it",
    "/annotate/",
    "/account/",
    "/accounts/email/",
    "/accounts/2fa/",
    "/accounts/password/change/",
    "/observations/{observation}/",
    "/observations/{observation}/edit/",
    "/observations/{observation}/delete/",
    "/photos/{photo}/",
    "/photos/{waiting}/",
)
AXE = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}}


@pytest.fixture
def places(tmp_path: Any) -> dict[str, str]:
    """A contributor's observation with photos that are through, one that waits, a refusal and a comment."""
    user = UserFactory(email="contributor@podura.example")
    user.emailaddress_set.create(email=user.email, verified=True, primary=True)
    survey = SurveyFactory(slug="springtails")
    version = ModelVersionFactory(registered_model=survey.registered_model)
    version.weights.save("stub.txt", ContentFile(b"collembola"))
    version.weights_sha256 = hashlib.sha256(b"collembola").hexdigest()
    version.save()
    LabelFactory(survey=survey, code="collembola", scientific_name="Collembola")
    observation = create_observation(
        contributor=user,
        survey=survey,
        title="Moss",
        observed_at=datetime(2026, 5, 2, tzinfo=UTC),
        location=Point(2.3, 48.8, srid=4326),
    )
    for seed in range(3):
        receive_photo(
            observation=observation, file=BytesIO(jpeg(seed=seed, width=640, height=480)), name=f"{seed}.jpg"
        )
    while detect_batch():
        pass
    photo = Photo.objects.order_by("id")[0]
    assert photo.status == "done"
    other = create_observation(contributor=user, survey=survey)
    waiting = receive_photo(
        observation=other, file=BytesIO(jpeg(seed=9, width=640, height=480)), name="w.jpg"
    ).photo
    Comment.objects.create(
        observation=observation, photo=photo, box_number=1, author=user, body="#1 is a mite"
    )
    record_refusal(observation=observation, name="cut.jpg", code="truncated")
    assert Observation.objects.count() == 2
    return {
        "observation": str(observation.public_id),
        "photo": str(photo.public_id),
        "waiting": str(waiting.public_id),
    }


@pytest.mark.parametrize(
    ("width", "dark", "locale"),
    [(1280, False, "en"), (390, True, "fr"), (390, False, "en"), (1280, True, "fr")],
)
def test_every_page_fits_and_is_accessible(
    *,
    width: int,
    dark: bool,
    locale: str,
    places: dict[str, str],
    live_server: Any,
    new_page: Callable[..., Page],
) -> None:
    found: list[str] = []
    stranger = new_page(locale=locale, width=width, dark=dark)
    for path in PUBLIC:
        found += problems(stranger, live_server.url, path)
    owner = new_page(locale=locale, width=width, dark=dark)
    sign_in(owner, live_server.url, "contributor@podura.example", PASSWORD)
    for path in OWN:
        found += problems(owner, live_server.url, path.format(**places))
    assert not found, "\n".join(found)


def problems(page: Page, url: str, path: str) -> list[str]:
    answer = page.goto(url + path)
    found = []
    if answer is None or answer.status >= 500:
        found.append(f"{path}: {answer and answer.status}")
    width = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    if width[0] > width[1]:
        found.append(f"{path}: {width[0]} px wide in a window of {width[1]}")
    report = Axe().run(page, options=AXE).response
    assert len(report["passes"]) > 5, "axe did not look at the page"
    for violation in report["violations"]:
        nodes = "; ".join(node["html"][:160] for node in violation["nodes"][:3])
        found.append(f"{path}: {violation['id']}: {violation['help']}: {nodes}")
    return found

"""The experts' home in a real browser: it fits a phone, axe finds nothing, and its ways lead on."""

import pytest

from tests.annotation.drawing import drawing_survey, queued
from tests.annotation.factories import AnnotationFactory, AssignmentFactory, ExpertFactory
from tests.factories import SurveyFactory
from tests.support.browser import accessibility_violations, chromium, is_wider_than_the_screen, open_page
from tests.support.pictures import jpeg

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def expert():
    """One with answers of every kind, a draft, an open queue and one that is not open yet."""
    from django.core.files.base import ContentFile

    survey, expert = drawing_survey(), ExpertFactory()
    SurveyFactory(slug="mites", minimum_photos=20)
    for _ in range(3):
        AnnotationFactory(author=expert, task=queued(survey), changes={"kept": [1], "drawn": 2})
    disputed = AnnotationFactory(author=expert, task=queued(survey))
    type(disputed.task).objects.filter(pk=disputed.task.pk).update(state="conflict")
    left = AssignmentFactory(task=queued(survey), expert=expert, state="returned", lease_until=None)
    left.draft = {"boxes": [], "is_empty": False, "seconds": 3}
    left.save()
    for answer in expert.annotations.all():
        answer.task.photo.thumbnail.save("t.jpg", ContentFile(jpeg(width=96, height=96)))
    left.task.photo.thumbnail.save("t.jpg", ContentFile(jpeg(width=96, height=96)))
    return expert


@pytest.mark.parametrize(
    ("width", "scheme"), [(390, "light"), (390, "dark"), (1280, "light"), (1280, "dark")]
)
def test_the_home_page_fits_and_is_accessible(live_server, expert, width, scheme):
    options = {
        "viewport": {"width": width, "height": 900},
        "color_scheme": scheme,
        "reduced_motion": "reduce",
    }
    with chromium() as browser:
        for user in (expert, None):
            with open_page(browser, live_server.url, user=user, **options) as page:
                page.goto("/annotate/")
                assert accessibility_violations(page) == []
                assert not is_wider_than_the_screen(page)
                if user:
                    assert page.locator(".answer").count() == 6
                    page.get_by_role("link", name="Annotate").click()
                    page.wait_for_url("**/annotate/")
                    start = page.get_by_role("link", name="Start drawing").first
                    assert start.get_attribute("href") == "/annotate/springtails/draw/"

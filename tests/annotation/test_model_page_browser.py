"""A survey's model page in a real browser: it fits, axe finds nothing, and a training is followed from click to end."""

import hashlib
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from apps.annotation.services.training import continue_next_start
from apps.observations.models import Photo, Survey
from apps.training.models import Dataset, RunStatus, TrainingRun
from apps.training.services import promote
from apps.training.services.run_worker import continue_next_run
from tests.annotation.factories import PolicyFactory
from tests.annotation.test_model_page import curator, measured, trained
from tests.annotation.test_training_start import enough
from tests.factories import LabelFactory, SurveyFactory
from tests.support.browser import accessibility_violations, chromium, is_wider_than_the_screen, open_page
from tests.support.processes import CHECKOUT

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def survey(settings: Any, tmp_path: Path) -> Survey:
    settings.TRAINING_DIR = tmp_path / "training"
    settings.MODEL_CACHE_DIR = tmp_path / "models"
    stand_in = str(CHECKOUT / "tests" / "training" / "stand_in.py")
    settings.TRAINING_COMMAND = [sys.executable, stand_in, "--seconds", "0.7"]
    survey = SurveyFactory(slug="springtails", name_en="Springtails")
    PolicyFactory(survey=survey)
    enough(survey, LabelFactory(survey=survey, code="CER", scientific_name="Ceratophysella"))
    Photo.objects.update(sha256=hashlib.sha256(b"original").hexdigest())
    return survey


def with_versions(survey: Survey) -> None:
    for number, quality in ((1, 0.4), (2, 0.55)):
        version = trained(survey, number, 50 * number)
        measured(version, Dataset.objects.get_or_create(name=survey.slug, number=1)[0], quality)
    promote(version=version)


def test_the_page_fits_and_is_accessible(live_server: Any, survey: Survey) -> None:
    with_versions(survey)
    staff = curator()
    with chromium() as browser:
        for width, scheme, language in ((390, "dark", "fr"), (1280, "light", "en")):
            staff.language = language
            staff.save()
            options = {
                "viewport": {"width": width, "height": 900},
                "color_scheme": scheme,
                "reduced_motion": "reduce",
            }
            for user in (staff, None):
                with open_page(browser, live_server.url, user=user, **options) as page:
                    page.goto("/annotate/springtails/model/")
                    page.locator(".chart svg").first.wait_for()
                    for summary in page.locator("main .disclosure > summary").all():
                        if summary.is_visible() and not summary.evaluate("one => one.parentNode.open"):
                            summary.click()
                    assert accessibility_violations(page) == []
                    assert not is_wider_than_the_screen(page)


def test_a_curator_starts_a_training_and_follows_it_to_its_end(live_server: Any, survey: Survey) -> None:
    staff = curator()
    with chromium() as browser, open_page(browser, live_server.url, user=staff) as page:
        page.goto("/annotate/springtails/model/")
        page.get_by_text("Start a training now").click()
        page.get_by_label("Epochs", exact=True).fill("6")
        page.get_by_label("Batch").fill("8")
        page.get_by_role("button", name="Start the training").click()
        page.get_by_text("A training is being prepared.").wait_for()
        assert continue_next_start()
        page.get_by_text("A run is under way.").wait_for()

        def work() -> None:
            try:
                continue_next_run()
            finally:
                connection.close()

        worker = threading.Thread(target=work)
        worker.start()
        page.get_by_text("Epoch 1 of 6").or_(page.get_by_text("Epoch 2 of 6")).or_(
            page.get_by_text("Epoch 3 of 6")
        ).first.wait_for()
        worker.join(60)
        # The page loads anew by itself: the new version stands in the table, and the form can be used again.
        page.get_by_text("Start a training now").wait_for()
        assert page.locator("#versions-title + .table-scroll tbody tr").count() == 1
    run = TrainingRun.objects.get()
    assert (run.status, run.requested_by, run.epochs_done) == (RunStatus.SUCCEEDED, staff, 6)

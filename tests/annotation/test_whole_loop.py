"""The experts' loop from one end to the other, with nothing put in place by hand: a photo comes through the one door, is
detected and queued, is drawn on in a real browser over its real tiles, and is read by whoever sent it and by a dataset.
"""

import io
import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.urls import reverse
from playwright.sync_api import Browser, Page, expect

from apps.annotation.models import Annotation, AnnotationTask, ContributorNews
from apps.annotation.services.datasets import freeze_dataset
from apps.annotation.services.queue import enqueue_photos
from apps.annotation.tasks.news import note_news
from apps.observations.models import Photo, Survey
from apps.observations.services.detection import detect_batch
from apps.observations.services.intake import receive_photo
from apps.observations.services.tiles import cut_next_pyramid
from apps.training.services.datasets import read_manifest
from tests.annotation.browser import Hands, drawing_context, sign_in
from tests.annotation.factories import ExpertFactory, PolicyFactory
from tests.factories import LabelFactory, ObservationFactory, SurveyFactory
from tests.support.browser import chromium
from tests.support.pictures import jpeg
from tests.support.stub_detector import stub_version

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.browser, pytest.mark.slow]
WIDTH_PX, HEIGHT_PX = 3200, 2700


@pytest.fixture(scope="module")
def browser(django_db_setup: None) -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def survey(transactional_db: None) -> Survey:
    survey = SurveyFactory(slug="springtails", minimum_photos=2)
    LabelFactory(survey=survey, code="CER", scientific_name="Ceratophysella sp.")
    LabelFactory(survey=survey, code="LEP", scientific_name="Lepidocyrtus sp.")
    stub_version(survey.registered_model, "CER", "LEP")
    PolicyFactory(survey=survey, control_fraction=0, validation_share=0)
    return survey


def sent(survey: Survey, *, seed: int, **size: int) -> Photo:
    content = jpeg(seed=seed, **size)
    outcome = receive_photo(
        observation=ObservationFactory(survey=survey), file=io.BytesIO(content), name=f"{seed}.jpg"
    )
    return outcome.photo


def test_a_photo_is_sent_drawn_on_by_an_expert_and_comes_back_to_its_sender(
    browser: Browser, live_server: Any, survey: Survey
) -> None:
    first = sent(survey, seed=1, width=WIDTH_PX, height=HEIGHT_PX)
    while detect_batch():
        pass
    enqueue_photos([first.pk])
    expert = ExpertFactory(display_name="Émile")

    with drawing_context(browser, live_server.url, expert) as context:
        page = context.new_page()
        page.goto(reverse("annotation:draw", args=["springtails"]))
        expect(page.get_by_text("The queue starts when 1 more photo has come.")).to_be_visible()

        second = sent(survey, seed=2, width=640, height=480)
        while detect_batch():
            pass
        while cut_next_pyramid():
            pass
        enqueue_photos([first.pk, second.pk])
        # Highest score first: the computation is the queue's own business, the order is what the expert meets.
        tasks = list(AnnotationTask.objects.order_by("-score", "id"))
        AnnotationTask.objects.filter(photo=first).update(score=tasks[0].score + 1)

        tiles: list[str] = []
        page.on("response", lambda answer: tiles.append(answer.url) if "/tiles/" in answer.url else None)
        page.reload()
        hands = Hands(page)
        hands.is_ready()
        proposed = hands.count()
        assert proposed == first.detections.filter(is_weak=False).count() > 0
        page.get_by_role("button", name="Real pixels").click()
        page.wait_for_timeout(1500)
        assert tiles, "at real pixels the page draws tiles"
        page.get_by_role("button", name="Whole picture").click()
        hands.draw(100, 2300, 600, 2600)
        assert hands.count() == proposed + 1
        hands.is_saved()
        page.get_by_role("button", name="Send, next photo").click()
        expect(page).to_have_url(re.compile(str(AnnotationTask.objects.get(photo=second).public_id)))

    answer = Annotation.objects.get()
    assert (answer.task.photo, answer.author, answer.box_count) == (first, expert, proposed + 1)
    assert len(answer.changes["kept"]) == proposed
    drawn = answer.boxes.get(proposal_number=None)
    assert (drawn.x_min, drawn.y_min, drawn.x_max, drawn.y_max) == pytest.approx(
        (100, 2300, 600, 2600), abs=8
    )
    assert AnnotationTask.objects.get(photo=first).state == "done"

    note_news()
    assert ContributorNews.objects.get().photo == first
    _reads_the_news(browser, live_server.url, first)

    dataset = freeze_dataset(survey)
    (item,) = read_manifest(dataset).items
    assert (item.photo, item.split, len(item.boxes)) == (str(first.public_id), "train", proposed + 1)


def _reads_the_news(browser: Browser, base_url: str, photo: Photo) -> None:
    context = browser.new_context(base_url=base_url, locale="en-GB")
    sign_in(context, base_url, photo.contributor)
    page: Page = context.new_page()
    page.goto(reverse("observations:photo", args=[photo.public_id]))
    expect(page.get_by_role("heading", name="What experts say")).to_be_visible()
    expect(page.get_by_text("Found as well: 1 animal")).to_be_visible()
    context.close()

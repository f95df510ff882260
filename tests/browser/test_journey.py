"""The main job as a newcomer does it: sign up, send a folder of real photos, read the results, comment, delete."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from playwright.sync_api import Page, expect

from apps.accounts.models import OutgoingMail, User
from apps.observations.management.commands.seed_demo import SHIPPED
from apps.observations.models import Comment, DiscardedFile, Observation, Photo
from apps.observations.services.surveys import DATA_DIR, create_survey_from_file
from apps.training.services import promote, register_model_version

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.django_db(transaction=True)]

WORDS = {
    "en": {
        "send": "Send photos",
        "comment": "Comment",
        "delete": "Delete",
        "for_good": "Delete for good",
        "refused": "not taken",
    },
    "fr": {
        "send": "Envoyer des photos",
        "comment": "Commentaire",
        "delete": "Supprimer",
        "for_good": "Supprimer définitivement",
        "refused": "pas été pris",
    },
}
ENGINE = {"PODURA_TEST_DETECTOR": "apps.training.engine.detector.load_detector"}


@pytest.fixture
def survey() -> Any:
    survey = create_survey_from_file(path=DATA_DIR / "springtails.json")
    assert survey.registered_model is not None
    version = register_model_version(
        registered_model=survey.registered_model, weights_path=next(SHIPPED.glob("weights*"))
    )
    promote(version=version)
    return survey


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three real photos and a file that only calls itself one."""
    folder = tmp_path / "plate"
    folder.mkdir()
    for sample in sorted((SHIPPED / "samples").glob("*.jpg"))[:3]:
        shutil.copy(sample, folder)
    (folder / "notes.jpg").write_text("not a picture")
    return folder


@pytest.mark.parametrize("language", ["en", "fr"])
def test_a_newcomer_sends_a_folder_and_reads_what_is_on_it(
    language: str,
    survey: Any,
    folder: Path,
    live_server: Any,
    start_worker: Callable[..., Any],
    new_page: Callable[..., Page],
) -> None:
    start_worker(queues="inference", env={**ENGINE, "MODEL_CACHE_DIR": str(settings.STATE_DIR / "models")})
    words = WORDS[language]
    page = new_page(locale=language)
    sign_up(page, live_server.url)

    page.goto(f"{live_server.url}/send/")
    expect(page.get_by_role("heading", level=1)).to_have_text(words["send"])
    page.set_input_files("#id_folder", folder)
    expect(page.locator(".send-file")).to_have_count(4)
    page.fill("#id_title", "Moss on the north wall")
    page.click("#send-button")
    expect(page.locator('.send-file[data-state="received"]')).to_have_count(3)
    expect(page.locator('.send-file[data-state="refused"]')).to_contain_text("notes.jpg")
    page.click("#send-goto")

    # The page goes on by itself until every photo is through, whatever a first conversion of the model takes.
    page.wait_for_url("**/observations/**")
    expect(page.get_by_text(words["refused"]).first).to_be_visible()
    expect(page.locator("[hx-trigger]")).to_have_count(0, timeout=180_000)
    assert set(Photo.objects.values_list("status", flat=True)) == {"done"}

    photo = Photo.objects.filter(detection_count__gte=2).first()
    assert photo is not None, "the samples show several animals"
    page.goto(f"{live_server.url}/photos/{photo.public_id}/")
    page.select_option("#comment-box", "2")
    page.fill("#comment-body", "#2 is a mite")
    page.locator("#comment-form button").last.click()
    expect(page.locator(".comment__body")).to_contain_text("#2 is a mite")
    comment = Comment.objects.get()
    assert (comment.photo, comment.box_number) == (photo, 2)

    observation = Observation.objects.get()
    page.goto(f"{live_server.url}/observations/{observation.public_id}/")
    page.get_by_role("link", name=words["delete"]).first.click()
    page.get_by_role("button", name=words["for_good"]).click()
    page.wait_for_url("**/mine/**")
    assert not Observation.objects.exists()
    assert not Photo.objects.exists()
    assert (
        DiscardedFile.objects.count() == 9
    )  # original, display and thumbnail of each, for the default worker


def sign_up(page: Page, url: str) -> None:
    """As a person does, with the link from the mail; ends signed in."""
    page.goto(f"{url}/send/")
    page.locator("main a[href*='signup']").first.click()
    page.fill("input[name=email]", "newcomer@podura.example")
    page.fill("input[name=display_name]", "Nora")
    for name in ("password1", "password2"):
        page.fill(f"input[name={name}]", "springtails jump far")
    page.locator("main form button[type=submit], main form button:not([type])").last.click()
    page.wait_for_url("**/confirm-email/**")
    mail = OutgoingMail.objects.get(recipient="newcomer@podura.example")
    link = re.search(r"https?://\S+", mail.body)
    assert link, mail.body
    page.goto(re.sub(r"https?://[^/]+", url, link[0]))
    page.locator("main form button").first.click()
    page.wait_for_url(lambda address: "confirm-email" not in address)
    assert User.objects.get().emailaddress_set.get().verified

"""The send page in a real browser: folders, refusals, a lost connection, a reload, and no JavaScript at all."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from apps.accounts.models import User
from apps.observations.models import ArchiveUpload, Observation, Photo, Survey
from tests.factories import SurveyFactory, UserFactory
from tests.support.pictures import jpeg, zip_of

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture
def browser(transactional_db: None, live_server: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Browser]:
    """Asks for the database first, so that it is closed before the database is emptied."""
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def person(browser: Browser) -> User:
    return UserFactory()


@pytest.fixture
def survey(person: User) -> Survey:
    return SurveyFactory(slug="springtails", name_en="Springtails")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as people have it: photos, one in a folder inside, and something that is none."""
    root = tmp_path / "plates"
    (root / "second").mkdir(parents=True)
    for number in range(4):
        (root / f"plate-{number}.jpg").write_bytes(jpeg(seed=number))
    (root / "second" / "plate-4.jpg").write_bytes(jpeg(seed=4))
    (root / "notes.jpg").write_text("Dear springtail")
    (root / ".DS_Store").write_bytes(b"\0")
    return root


def signed_in(browser: Browser, live_server: Any, person: User, **options: Any) -> BrowserContext:
    client = Client()
    client.force_login(person)
    context = browser.new_context(locale="en", **options)
    context.add_cookies(
        [{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": live_server.url}]
    )
    return context


@pytest.fixture
def page(browser: Browser, live_server: Any, person: User, survey: Survey) -> Iterator[Page]:
    context = signed_in(browser, live_server, person)
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if "Content Security" in said.text else None)
    page.goto(f"{live_server.url}/send/")
    yield page
    context.close()
    assert complaints == []


def send(page: Page) -> None:
    page.locator("#send-button").click()


def rows(page: Page, state: str) -> Any:
    return page.locator(f'.send-file[data-state="{state}"]')


def test_a_folder_is_sent_as_one_observation_and_refusals_are_named(page: Page, folder: Path) -> None:
    page.set_input_files("#id_folder", folder)
    expect(page.locator(".send-file")).to_have_count(6)
    page.fill("#id_title", "Litter")
    send(page)
    expect(rows(page, "received")).to_have_count(5)
    expect(rows(page, "refused")).to_have_count(1)
    expect(rows(page, "refused")).to_contain_text("not a picture")
    page.locator("#send-goto").click()
    page.wait_for_url("**/observations/**")
    observation = Observation.objects.get()
    assert observation.title == "Litter"
    assert observation.photos.count() == 5
    assert observation.refused_files.count() == 1


def test_one_observation_for_each_photo(page: Page, folder: Path) -> None:
    page.set_input_files("#id_files", [folder / "plate-0.jpg", folder / "plate-1.jpg"])
    page.locator("#send-separate input[value='1']").check()
    send(page)
    page.wait_for_url("**/mine/")
    assert Observation.objects.count() == Photo.objects.count() == 2


def test_what_is_known_does_not_travel_again(page: Page, live_server: Any, folder: Path) -> None:
    photos = [folder / "plate-0.jpg", folder / "plate-1.jpg"]
    page.set_input_files("#id_files", photos[:1])
    send(page)
    page.wait_for_url("**/photos/**")
    page.goto(f"{live_server.url}/send/")
    travelled: list[str] = []
    page.on(
        "request", lambda request: travelled.append(request.url) if request.url.endswith("/file/") else None
    )
    page.set_input_files("#id_files", photos)
    send(page)
    expect(rows(page, "known")).to_contain_text("You sent this on")
    expect(rows(page, "received")).to_have_count(1)
    assert len(travelled) == 1
    assert Photo.objects.count() == 2


def test_a_lost_connection_is_waited_for(page: Page, folder: Path) -> None:
    lost = iter([True, True, False])
    page.route("**/file/", lambda route: route.abort() if next(lost, False) else route.continue_())
    page.set_input_files("#id_files", folder / "plate-0.jpg")
    send(page)
    page.wait_for_url("**/photos/**", timeout=15_000)
    assert Photo.objects.count() == Observation.objects.count() == 1


def test_a_reload_goes_on_with_the_same_observation(page: Page, folder: Path) -> None:
    photos = [folder / f"plate-{number}.jpg" for number in range(3)]
    passed = iter([True, False, False, False, False])
    page.route("**/file/", lambda route: route.continue_() if next(passed, False) else route.abort())
    page.set_input_files("#id_files", photos)
    page.fill("#id_title", "Before")
    page.on("dialog", lambda dialog: dialog.accept())  # "leave this page?"
    send(page)
    expect(rows(page, "received")).to_have_count(1)
    page.unroute("**/file/")
    page.reload()
    expect(page.locator("#send-resume")).to_be_visible()
    expect(page.locator("#id_title")).to_have_value("Before")
    page.fill("#id_title", "After")
    page.set_input_files("#id_files", photos)
    send(page)
    page.wait_for_url("**/observations/**")
    assert Observation.objects.get().title == "After"
    assert Photo.objects.count() == 3


def test_one_may_start_anew_after_a_reload(page: Page, folder: Path) -> None:
    page.evaluate(
        "sessionStorage.setItem('podura-send-' + document.querySelector('#send').dataset.user,"
        " JSON.stringify({title: 'Before', batch: '11111111-1111-4111-8111-111111111111'}))"
    )
    page.reload()
    page.locator("#send-anew").click()
    expect(page.locator("#id_title")).to_have_value("")
    page.set_input_files("#id_files", folder / "plate-0.jpg")
    send(page)
    page.wait_for_url("**/photos/**")
    assert str(Observation.objects.get().public_id) != "11111111-1111-4111-8111-111111111111"


def test_a_wrong_detail_is_named_and_the_files_stay_chosen(page: Page, folder: Path) -> None:
    page.set_input_files("#id_files", folder / "plate-0.jpg")
    page.fill("#id_latitude", "48.8")
    send(page)
    expect(page.locator(".field__error")).to_contain_text("both latitude and longitude")
    expect(page.locator(".send-file")).to_have_count(1)
    page.fill("#id_longitude", "2.3")
    send(page)
    page.wait_for_url("**/photos/**")
    assert Observation.objects.get().location is not None


def test_a_zip_is_taken_and_the_map_sets_the_place(page: Page, tmp_path: Path) -> None:
    (tmp_path / "plates.zip").write_bytes(zip_of(a=jpeg(seed=1), b=jpeg(seed=2)))
    page.set_input_files("#id_files", tmp_path / "plates.zip")
    page.locator("#place-map").click(position={"x": 200, "y": 150})
    expect(page.locator("#id_latitude")).not_to_have_value("")
    send(page)
    page.wait_for_url("**/observations/**")
    assert ArchiveUpload.objects.get().observation.location is not None


def test_it_all_works_without_javascript(
    browser: Browser, live_server: Any, person: User, survey: Survey, folder: Path
) -> None:
    context = signed_in(browser, live_server, person, java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{live_server.url}/send/")
    page.set_input_files("#id_files", [folder / "plate-0.jpg", folder / "plate-1.jpg", folder / "notes.jpg"])
    page.locator("#send-button").click()
    page.wait_for_url("**/observations/**")
    expect(page.locator("main")).to_contain_text("notes.jpg")
    assert Observation.objects.get().photos.count() == 2
    context.close()

"""Gallery and map in a real browser: filters that answer at once, a map that draws, keys that move it."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.gis.geos import Point
from django.core.files.base import ContentFile
from django.urls import reverse
from playwright.sync_api import Browser, Page, expect

from apps.observations.browse import map as map_module
from tests.factories import ObservationFactory, PhotoFactory, SurveyFactory
from tests.support.browser import accessibility_violations, chromium, is_wider_than_the_screen, open_page
from tests.support.pictures import jpeg

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.browser]
PARIS, OSIJEK, MANAUS = (2.35, 48.85), (18.69, 45.55), (-60.02, -3.1)


@pytest.fixture(scope="module")
def browser(django_db_setup: None) -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def observations() -> dict[str, Any]:
    survey = SurveyFactory(name_en="Moss fauna")
    made = {}
    for name, place in (("Paris", PARIS), ("Osijek", OSIJEK), ("Manaus", MANAUS)):
        observation = ObservationFactory(
            survey=survey if name == "Paris" else SurveyFactory(),
            title=name,
            public_location=Point(*place, srid=4326),
            is_obscured=name == "Osijek",
        )
        PhotoFactory(
            observation=observation, thumbnail=ContentFile(jpeg(width=240, height=180), name="thumbnail.jpg")
        )
        made[name] = observation
    return made


@pytest.fixture
def page(browser: Browser, live_server: Any, observations: dict[str, Any]) -> Iterator[Page]:
    with open_page(browser, live_server.url, reduced_motion="reduce") as page:
        yield page


def test_the_map_draws_the_shipped_world_and_asks_nobody_else(page: Page, live_server: Any) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(reverse("observations:map"))
    page.wait_for_selector(".leaflet-world-pane path.map-land", state="attached")
    expect(page.locator(".map-point")).to_have_count(3)
    assert page.locator("path.map-land").bounding_box()["width"] > 300
    assert all(url.startswith((live_server.url, "data:")) for url in asked)


def test_keys_move_the_map_and_list_and_address_follow(page: Page) -> None:
    page.goto(reverse("observations:map") + "?bbox=0,44,22,50")
    expect(page.locator("#map-said")).to_have_text("2 observations")
    page.locator("#map").focus()
    for _ in range(4):
        page.keyboard.press("Shift+ArrowRight")
        page.wait_for_timeout(100)
    expect(page.locator("#map-list [data-point]")).to_have_count(1)
    expect(page.locator("#map-list")).to_contain_text("Osijek")
    page.reload()
    expect(page.locator("#map-list")).to_contain_text("Osijek")


def test_a_point_tells_what_was_found_there(page: Page) -> None:
    page.goto(reverse("observations:map") + "?bbox=16,43,22,48")
    page.locator(".map-point").click()
    popup = page.locator(".map-popup")
    expect(popup).to_contain_text("Osijek")
    expect(popup).to_contain_text("blurred")
    expect(popup.locator("img")).to_be_visible()
    page.wait_for_timeout(400)  # room made for the popup must not take it away
    expect(popup).to_be_visible()


def test_a_cluster_goes_closer_by_map_and_by_list(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(map_module, "FEW_ENOUGH_FOR_POINTS", 1)
    page.goto(reverse("observations:map"))
    page.locator("#map-list [data-window]").first.click()
    page.wait_for_url("**bbox=**")
    expect(page.locator("#map-said")).not_to_have_text("3 observations")
    page.goto(reverse("observations:map"))
    page.locator(".map-cluster").first.click()
    expect(page.locator("#map-said")).not_to_have_text("3 observations")


def test_filters_answer_at_once_on_both_pages(page: Page, observations: dict[str, Any]) -> None:
    slug = observations["Paris"].survey.slug
    for name, results in (("gallery", ".gallery__item"), ("map", ".map-point")):
        page.goto(reverse(f"observations:{name}"))
        expect(page.locator(results)).to_have_count(3)
        page.select_option("[name=survey]", slug)
        expect(page.locator(results)).to_have_count(1)
        page.wait_for_url(f"**survey={slug}**")


def test_older_photos_are_appended_and_focus_goes_on(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apps.observations.browse.gallery.PAGE_SIZE", 2)
    page.goto(reverse("observations:gallery"))
    page.click("a[rel=next]")
    expect(page.locator(".gallery__item")).to_have_count(3)
    expect(page.locator(".gallery__item:last-child a").last).to_be_focused()


@pytest.mark.parametrize("name", ["gallery", "map"])
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everyone_can_use_it(
    browser: Browser, live_server: Any, observations: dict[str, Any], name: str, width: int, scheme: str
) -> None:
    with open_page(
        browser, live_server.url, viewport={"width": width, "height": 844}, color_scheme=scheme
    ) as page:
        page.goto(reverse(f"observations:{name}"), wait_until="networkidle")
        assert accessibility_violations(page) == []
        assert not is_wider_than_the_screen(page)


def test_geometry_of_clusters(page: Page) -> None:
    """The pure module, in the browser that runs it: nothing is lost when discs are gathered."""
    page.goto(reverse("observations:map"))
    result = page.evaluate(
        """async () => {
            const geometry = await import("/static/observations/map-geometry.js");
            const project = ({lon, lat}) => ({x: lon * 10, y: -lat * 10});
            const cell = (lon, lat) => [lon - 1, lat - 1, lon + 1, lat + 1];
            const clusters = [[0, 0, 10], [1, 0, 5], [30, 0, 7]].map(
                ([lon, lat, count]) => ({lon, lat, count, cell: cell(lon, lat)}));
            return {
                gathered: geometry.gathered(clusters, project).map(({lon, count, cell}) => ({lon, count, cell})),
                none: geometry.gathered([], project),
                places: geometry.inTheSamePlace([{lon: 1, lat: 2}, {lon: 1, lat: 2}, {lon: 1, lat: 3}]).map((p) => p.length),
                blurred: geometry.blurredCell({lon: 2.3, lat: 48.9}),
                window: geometry.windowOf({getWest: () => -200, getSouth: () => -95, getEast: () => 200, getNorth: () => 95}),
            };
        }"""
    )
    assert [cluster["count"] for cluster in result["gathered"]] == [15, 7]
    assert result["gathered"][0]["lon"] == pytest.approx(1 / 3)
    assert result["gathered"][0]["cell"] == [-1, -1, 2, 1]
    assert result["none"] == []
    assert result["places"] == [2, 1]
    assert result["blurred"] == pytest.approx([2.2, 48.8, 2.4, 49.0])
    assert result["window"] == [-180, -90, 180, 90]

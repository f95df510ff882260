"""The map: clusters from afar, points from near, and never more than the public may know."""

import json
from datetime import UTC, datetime

import pytest
from django.contrib.gis.geos import Point
from django.urls import reverse

from apps.observations.browse import map as map_module
from apps.observations.browse.map import cell_of, cell_window, grid_level
from apps.observations.browse.window import WORLD, Window
from apps.observations.services import geoprivacy
from tests.factories import (
    DetectionFactory,
    LabelFactory,
    ModelVersionFactory,
    ObservationFactory,
    PhotoFactory,
    SurveyFactory,
    UserFactory,
)

pytestmark = pytest.mark.django_db
PARIS, OSIJEK = (2.35, 48.85), (18.69, 45.55)


def found_at(lon, lat, **kwargs):
    return ObservationFactory(public_location=Point(lon, lat, srid=4326), **kwargs)


def data(client, **query):
    response = client.get(reverse("observations:map_data"), query)
    assert response.status_code == 200, response.content
    return response.json()


class TestData:
    def test_few_observations_come_as_points(self, client):
        observation = found_at(*PARIS, title="Moss")
        photo = PhotoFactory(observation=observation)
        answer = data(client, zoom=3)
        assert (answer["total"], answer["clusters"]) == (1, [])
        (point,) = answer["points"]
        assert (point["id"], point["lon"], point["lat"]) == (str(observation.public_id), *PARIS)
        assert (point["title"], point["cover"]) == ("Moss", str(photo.public_id))

    def test_many_come_as_clusters_with_their_mean_place(self, client, monkeypatch):
        monkeypatch.setattr(map_module, "FEW_ENOUGH_FOR_POINTS", 2)
        found_at(2, 48)
        found_at(4, 46)
        found_at(-70, -3)
        answer = data(client, zoom=3)
        assert answer["points"] == []
        assert [cluster["count"] for cluster in answer["clusters"]] == [2, 1]
        assert answer["clusters"][0]["lon"] == pytest.approx(3)
        assert answer["clusters"][0]["lat"] == pytest.approx(47)
        assert answer["total"] == 3

    def test_only_the_window_counts(self, client):
        found_at(*PARIS)
        inside = found_at(*OSIJEK)
        assert [p["id"] for p in data(client, bbox="18,45,19,46", zoom=8)["points"]] == [
            str(inside.public_id)
        ]

    def test_a_window_across_the_180th_meridian_has_clusters_on_both_sides(self, client, monkeypatch):
        monkeypatch.setattr(map_module, "FEW_ENOUGH_FOR_POINTS", 0)
        found_at(179.5, -17)
        found_at(-171, -14)
        found_at(0, -15)
        assert data(client, bbox="170,-20,-165,-10", zoom=5)["total"] == 2

    def test_near_the_ground_points_are_limited_and_it_says_so(self, client, monkeypatch):
        monkeypatch.setattr(map_module, "FEW_ENOUGH_FOR_POINTS", 1)
        monkeypatch.setattr(map_module, "POINT_LIMIT", 2)
        for _ in range(4):
            found_at(*PARIS)
        answer = data(client, bbox="2.34,48.84,2.36,48.86", zoom=13)
        assert len(answer["points"]) == 2
        assert "go closer" in answer["said"]

    @pytest.mark.parametrize("few", [250, 0])
    def test_filters_narrow_it(self, client, monkeypatch, few):
        monkeypatch.setattr(map_module, "FEW_ENOUGH_FOR_POINTS", few)
        label, version = LabelFactory(), ModelVersionFactory()
        observation = found_at(*PARIS, survey=label.survey, observed_at=datetime(2026, 5, 2, 12, tzinfo=UTC))
        photo = PhotoFactory(observation=observation, status="done", model_version=version, detection_count=1)
        DetectionFactory(photo=photo, label=label, model_version=version, number=1)
        found_at(*PARIS)
        slug = label.survey.slug
        assert data(client)["total"] == 2
        assert data(client, survey=slug)["total"] == 1
        assert data(client, label=f"{slug}/{label.code}")["total"] == 1
        assert data(client, since="2026-05-02", until="2026-05-02")["total"] == 1
        assert data(client, since="2026-05-03")["total"] == 0

    def test_with_more_matches_than_are_looked_at_it_says_so(self, client, monkeypatch):
        monkeypatch.setattr(map_module, "FEW_ENOUGH_FOR_POINTS", 1)
        monkeypatch.setattr(map_module, "MATCH_LIMIT", 2)
        for _ in range(3):
            found_at(*PARIS, place_name="Paris")
        answer = data(client, place="paris")
        assert answer["total"] == 2
        assert answer["said"].startswith("More than 2")

    def test_private_and_hidden_ones_are_not_on_it(self, client):
        staff = UserFactory(is_staff=True)
        for visibility in ("private", "hidden"):
            found_at(*PARIS, visibility=visibility, contributor=staff)
        client.force_login(staff)
        assert data(client)["total"] == 0

    def test_the_number_of_queries_does_not_grow(self, client, django_assert_num_queries):
        def queries(number):
            with django_assert_num_queries(number):
                data(client, zoom=4)

        found_at(*PARIS)
        queries(6)
        for _ in range(10):
            found_at(*OSIJEK)
        queries(6)

    @pytest.mark.parametrize(
        "query",
        [
            {"bbox": "nan,nan,nan,nan"},
            {"bbox": "1,2,3"},
            {"bbox": "0,0,500,10"},
            {"survey": "no"},
            {"label": "\x00"},
            {"since": "yesterday"},
            {"confidence": "200"},
        ],
    )
    def test_bad_input_is_a_problem_that_names_the_field(self, client, query):
        response = client.get(reverse("observations:map_data"), query)
        assert response.status_code == 400
        assert response["Content-Type"] == "application/problem+json"
        assert json.loads(response.content)["errors"][0]["field"] in query

    @pytest.mark.parametrize("zoom", ["-1", "99", "9" * 400, "x", "1.5", "²"])
    def test_a_strange_zoom_is_no_reason_to_fail(self, client, zoom):
        found_at(*PARIS)
        assert data(client, zoom=zoom)["total"] == 1

    def test_text_of_people_is_escaped_in_the_list(self, client):
        found_at(*PARIS, title="<script>alert(1)</script>")
        assert "<script>" not in data(client)["list"]


class TestGeoprivacy:
    """A stranger who asks everything learns the cell and no more."""

    EXACT = Point(2.34567, 48.85678, srid=4326)

    @pytest.fixture
    def observation(self):
        observation = ObservationFactory.build(
            survey=SurveyFactory(geoprivacy="obscured"),
            contributor=UserFactory(),
            location=self.EXACT,
            place_name="The old oak",
            title="Found it",
        )
        geoprivacy.set_public_location(observation)
        observation.save()
        PhotoFactory(observation=observation)
        return observation

    def test_neither_coordinates_nor_name_are_in_page_or_data(self, client, observation):
        texts = [
            client.get(reverse(f"observations:{name}"), query).content.decode()
            for name in ("map", "map_data", "gallery")
            for query in ({}, {"bbox": "2,48,3,49", "zoom": 12}, {"place": "old oak"}, {"zoom": 14})
        ]
        for text in texts:
            assert "2.34" not in text
            assert "48.85" not in text
            assert "The old oak" not in text

    def test_the_owner_and_staff_see_no_more_on_public_pages(self, client, observation):
        client.force_login(observation.contributor)
        assert data(client)["points"][0]["lon"] == 2.3

    def test_windows_around_the_exact_place_do_not_answer(self, client, observation):
        assert data(client, bbox="2.345,48.856,2.346,48.857", zoom=12)["points"] == []
        (point,) = data(client, bbox="2.2,48.8,2.4,49", zoom=12)["points"]
        assert point["blurred"]
        assert point["where"] == "48.9° N, 2.3° E"


class TestPage:
    def test_without_a_script_it_is_a_list_with_links(self, client, monkeypatch):
        monkeypatch.setattr(map_module, "FEW_ENOUGH_FOR_POINTS", 1)
        for _ in range(3):
            found_at(*PARIS)
        text = client.get(reverse("observations:map")).content.decode()
        assert "48.9° N, 2.4° E" in text
        assert "?bbox=" in text
        assert reverse("observations:gallery") in text

    def test_single_observations_are_linked(self, client):
        observation = found_at(*PARIS)
        text = client.get(reverse("observations:map")).content.decode()
        assert reverse("observations:observation", args=[observation.public_id]) in text

    def test_nothing_external_is_in_the_page(self, client):
        text = client.get(reverse("observations:map")).content.decode()
        assert "https://" not in text.replace("https://www.w3.org", "")
        assert " style=" not in text

    def test_a_configured_tile_server_is_handed_to_the_script(self, client, settings):
        settings.MAP_TILE_URL = "https://tiles.example/{z}/{x}/{y}.png"
        assert settings.MAP_TILE_URL in client.get(reverse("observations:map")).content.decode()

    def test_wrong_filters_are_named(self, client):
        text = client.get(reverse("observations:map"), {"bbox": "1,2"}).content.decode()
        assert "A window is four numbers" in text


class TestGrid:
    def test_the_level_follows_the_zoom_but_no_window_is_cut_too_fine(self):
        assert grid_level(WORLD, 2) == 3
        assert grid_level(WORLD, 18) == 5
        assert grid_level(Window(2, 48, 3, 49), 9) == 10
        assert grid_level(Window(2, 48, 2, 48), None) == 12

    @pytest.mark.parametrize("place", [(-180, -90), (180, 90), (0, 0), (2.35, 48.85), (-0.0001, -45)])
    @pytest.mark.parametrize("level", [2, 7, 12])
    def test_a_place_lies_in_its_cell(self, place, level):
        window = cell_window(*cell_of(*place, level), level)
        assert window.west <= place[0] <= window.east
        assert window.south <= place[1] <= window.north

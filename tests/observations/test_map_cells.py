"""The map's clusters are counted by the database, exactly once, whatever changes the observations."""

import importlib
import random
import threading

import pytest
from django.contrib.gis.geos import Point
from django.db import connection, connections, transaction
from django.db.models import Sum
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.observations.browse.map import MAX_LEVEL, MIN_LEVEL, cell_of
from apps.observations.models import MapCell, Observation
from apps.observations.services.map_cells import fold_map_cells
from tests.factories import ObservationFactory, SurveyFactory, UserFactory
from tests.support.examples import examples

PARIS = Point(2.35, 48.85, srid=4326)
OSIJEK = Point(18.69, 45.55, srid=4326)
COUNT_AGAIN = """
    SELECT survey_id, level,
        least(floor((ST_X(public_location) + 180) * (1 << level) / 360)::int, (1 << level) - 1) AS x,
        least(floor((ST_Y(public_location) + 90) * (1 << level) / 360)::int, (1 << (level - 1)) - 1) AS y,
        count(*), round(sum(ST_X(public_location))::numeric, 6)
    FROM observations_observation, generate_series(2, 12) AS level
    WHERE visibility = 'public' AND public_location IS NOT NULL GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
"""
COUNTED = """
    SELECT survey_id, level, x, y, sum(observations)::int, round(sum(longitude_sum)::numeric, 6)
    FROM observations_mapcell GROUP BY 1, 2, 3, 4 HAVING sum(observations) <> 0 ORDER BY 1, 2, 3, 4
"""


def rows(sql):
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall()


def at_level(level):
    cells = MapCell.objects.filter(level=level).values("x", "y").annotate(n=Sum("observations"))
    return {(cell["x"], cell["y"]): cell["n"] for cell in cells if cell["n"]}


@pytest.mark.django_db
class TestCounting:
    def test_a_new_observation_is_counted_in_its_cell_of_each_level(self):
        ObservationFactory(public_location=PARIS)
        assert at_level(2) == {(2, 1): 1}
        assert at_level(4) == {(8, 6): 1}
        assert MapCell.objects.count() == 11

    def test_without_a_place_or_not_public_it_is_not_counted(self):
        ObservationFactory()
        ObservationFactory(public_location=PARIS, visibility="private")
        ObservationFactory(public_location=PARIS, visibility="hidden")
        assert not MapCell.objects.exists()

    def test_moving_hiding_and_deleting_are_followed(self):
        observation = ObservationFactory(public_location=PARIS)
        observation.public_location = OSIJEK
        observation.save()
        assert at_level(6) == {(35, 24): 1}
        Observation.objects.update(visibility="hidden")
        assert at_level(6) == {}
        Observation.objects.update(visibility="public")
        assert at_level(6) == {(35, 24): 1}
        observation.delete()
        assert at_level(6) == {}

    def test_changes_that_do_not_move_it_write_nothing(self):
        observation = ObservationFactory(public_location=PARIS)
        before = MapCell.objects.count()
        observation.title = "Under the bark"
        observation.save()
        assert MapCell.objects.count() == before

    @pytest.mark.parametrize(
        ("place", "cell"),
        [((180, 90), (15, 7)), ((-180, -90), (0, 0)), ((0, 0), (8, 4)), ((179.9, -89.9), (15, 0))],
    )
    def test_the_edges_of_the_world_have_cells(self, place, cell):
        ObservationFactory(public_location=Point(*place, srid=4326))
        assert at_level(4) == {cell: 1}

    def test_after_many_random_changes_the_counts_equal_a_full_count(self):
        chance = random.Random(20261121)
        surveys, person = [SurveyFactory() for _ in range(2)], UserFactory()

        def anywhere():
            return (
                Point(chance.uniform(-180, 180), chance.uniform(-90, 90), srid=4326)
                if chance.random() < 0.9
                else None
            )

        Observation.objects.bulk_create(
            Observation(survey=chance.choice(surveys), contributor=person, public_location=anywhere())
            for _ in range(60)
        )
        for step in range(30):
            some = Observation.objects.filter(
                pk__in=chance.sample(list(Observation.objects.values_list("pk", flat=True)), 5)
            )
            match step % 5:
                case 0:
                    some.update(public_location=anywhere())
                case 1:
                    some.update(visibility=chance.choice(["public", "private", "hidden"]))
                case 2:
                    some.update(survey=chance.choice(surveys))
                case 3:
                    some.filter(pk=some[0].pk).delete()
                case 4:
                    fold_map_cells()
        assert rows(COUNTED) == rows(COUNT_AGAIN)
        fold_map_cells()
        assert rows(COUNTED) == rows(COUNT_AGAIN)
        assert not MapCell.objects.filter(is_change=True).exists()
        assert not MapCell.objects.filter(observations=0).exists()


@pytest.mark.django_db
class TestFolding:
    def test_folding_leaves_one_row_for_each_cell_and_twice_does_no_harm(self):
        survey = SurveyFactory()
        for _ in range(3):
            ObservationFactory(survey=survey, public_location=PARIS)
        assert MapCell.objects.count() == 33
        assert fold_map_cells() == 11
        assert MapCell.objects.count() == 11
        assert at_level(2) == {(2, 1): 3}
        assert fold_map_cells() == 0

    def test_a_cell_that_became_empty_is_removed(self):
        observation = ObservationFactory(public_location=PARIS)
        fold_map_cells()
        observation.delete()
        fold_map_cells()
        assert not MapCell.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_two_people_who_send_at_once_do_not_wait_for_each_other():
    """One sender's open transaction has counted in the same cells; the other's insert and a fold go through."""
    survey, person = SurveyFactory(), UserFactory()
    outcome = []

    def send():
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute("SET LOCAL lock_timeout = '2s'")
                Observation.objects.create(survey=survey, contributor=person, public_location=PARIS)
            fold_map_cells()
            outcome.append("sent")
        finally:
            connections.close_all()

    with transaction.atomic():
        Observation.objects.create(survey=survey, contributor=person, public_location=PARIS)
        other = threading.Thread(target=send)
        other.start()
        other.join()
    assert outcome == ["sent"]
    assert at_level(12) == {(2074, 1579): 2}


@pytest.mark.django_db
@given(st.floats(-180, 180), st.floats(-90, 90), st.integers(2, 12))
@settings(max_examples=examples(60), deadline=None)
def test_python_and_the_trigger_agree_on_the_cell_of_a_place(longitude, latitude, level):
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT least(floor((%(lon)s::float8 + 180) * (1 << %(level)s) / 360)::int, (1 << %(level)s) - 1),"
            " least(floor((%(lat)s::float8 + 90) * (1 << %(level)s) / 360)::int, (1 << (%(level)s - 1)) - 1)",
            {"lon": longitude, "lat": latitude, "level": level},
        )
        assert cell_of(longitude, latitude, level) == cursor.fetchone()


def test_the_levels_of_map_and_trigger_are_the_same():
    migration = importlib.import_module("apps.observations.migrations.0021_map_cells_trigger")
    assert f"generate_series({MIN_LEVEL}, {MAX_LEVEL})" == migration.LEVELS

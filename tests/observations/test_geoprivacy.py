"""Sensitive places: what the public may know of where an animal was found."""

import uuid
from datetime import timedelta

import pytest
from django.contrib.auth.models import AnonymousUser
from django.contrib.gis.geos import Point
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from apps.observations.models import Observation, PlaceReview, Survey
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
EXACT = Point(2.34567, 48.85678, srid=4326)


def place(**kwargs):
    values = {"survey": SurveyFactory(), "location": EXACT, "place_name": "The old oak", **kwargs}
    observation = ObservationFactory.build(contributor=UserFactory(), **values)
    geoprivacy.set_public_location(observation)
    observation.save()
    return observation


def with_photo(observation, *, label=None, status="done"):
    version = ModelVersionFactory()
    photo = PhotoFactory(observation=observation, status=status, model_version=version)
    if label:
        DetectionFactory(photo=photo, model_version=version, label=label)
    return photo


@given(st.floats(-180, 180), st.floats(-90, 90))
def test_a_blurred_place_is_the_centre_of_its_cell(longitude, latitude):
    centre = geoprivacy.blurred(Point(longitude, latitude))
    assert abs(centre.x - longitude) <= 0.1 + 1e-9
    assert abs(centre.y - latitude) <= 0.1 + 1e-9
    assert -180 < centre.x < 180
    assert -90 < centre.y < 90
    assert round(centre.x * 10) % 2, "centres lie on odd tenths"
    again = geoprivacy.blurred(centre)
    assert (again.x, again.y) == (centre.x, centre.y)


def test_neighbours_in_a_cell_share_their_blurred_place():
    one, other = geoprivacy.blurred(Point(2.21, 48.81)), geoprivacy.blurred(Point(2.39, 48.99))
    assert one == other


def test_an_open_survey_publishes_the_exact_place():
    observation = place()
    assert observation.public_location == EXACT
    assert not observation.is_obscured


def test_an_obscured_survey_blurs_every_place():
    observation = place(survey=SurveyFactory(geoprivacy="obscured"))
    assert observation.public_location == Point(2.3, 48.9, srid=4326)
    assert observation.is_obscured


def test_without_a_place_nothing_is_blurred():
    observation = place(survey=SurveyFactory(geoprivacy="obscured"), location=None)
    assert observation.public_location is None
    assert not observation.is_obscured


def test_where_a_survey_knows_sensitive_animals_a_place_is_blurred_until_detection_says_otherwise():
    survey = SurveyFactory()
    LabelFactory(survey=survey, is_sensitive=True)
    observation = place(survey=survey)
    assert observation.is_obscured, "nothing is known yet"
    photo = with_photo(observation, label=LabelFactory(survey=survey), status="pending")
    geoprivacy.review_public_location([observation.pk])
    observation.refresh_from_db()
    assert observation.is_obscured, "the detection is not through"
    type(photo).objects.update(status="done")
    assert geoprivacy.review_public_location([observation.pk]) == 1
    observation.refresh_from_db()
    assert not observation.is_obscured
    assert observation.public_location == EXACT


def test_a_sensitive_animal_on_a_photo_blurs_the_place():
    survey = SurveyFactory()
    observation = place(survey=survey)
    with_photo(observation, label=LabelFactory(survey=survey, is_sensitive=True))
    assert geoprivacy.review_public_location([observation.pk]) == 1
    observation.refresh_from_db()
    assert observation.is_obscured
    assert geoprivacy.review_public_location([observation.pk]) == 0, "twice does no harm"


def test_a_species_of_a_sensitive_genus_is_sensitive():
    survey = SurveyFactory()
    genus = LabelFactory(survey=survey, is_sensitive=True, rank="genus")
    species = LabelFactory(survey=survey, parent=genus)
    subspecies = LabelFactory(survey=survey, parent=species)
    assert geoprivacy.sensitive_label_ids([survey.pk]) == {genus.pk, species.pk, subspecies.pk}
    observation = place(survey=survey)
    with_photo(observation, label=subspecies)
    geoprivacy.review_public_location([observation.pk])
    observation.refresh_from_db()
    assert observation.is_obscured


def test_a_new_model_version_that_misses_the_animal_does_not_publish_its_place():
    survey = SurveyFactory()
    observation = place(survey=survey)
    photo = with_photo(observation, label=LabelFactory(survey=survey, is_sensitive=True))
    photo.model_version = ModelVersionFactory()
    photo.save()
    geoprivacy.review_public_location([observation.pk])
    observation.refresh_from_db()
    assert observation.is_obscured


def test_a_label_of_another_survey_blurs_nothing():
    LabelFactory(is_sensitive=True)
    assert not place().is_obscured


def test_a_batch_is_reviewed_with_a_bounded_number_of_queries(django_assert_max_num_queries):
    survey = SurveyFactory()
    label = LabelFactory(survey=survey, is_sensitive=True)
    observations = [place(survey=survey) for _ in range(6)]
    Observation.objects.update(public_location=EXACT, is_obscured=False)
    for observation in observations[:3]:
        with_photo(observation, label=label)
    with django_assert_max_num_queries(12):
        assert geoprivacy.review_public_location([row.pk for row in observations]) == 6


def test_the_owner_and_staff_see_the_exact_place_and_nobody_else():
    observation = place(survey=SurveyFactory(geoprivacy="obscured"))
    stranger, staff = UserFactory(), UserFactory(is_staff=True)
    for viewer in (observation.contributor, staff):
        seen = geoprivacy.place_for(observation, viewer)
        assert (seen.location, seen.name, seen.is_exact) == (EXACT, "The old oak", True)
    for viewer in (stranger, AnonymousUser()):
        seen = geoprivacy.place_for(observation, viewer)
        assert seen.location != EXACT
        assert (seen.name, seen.is_exact) == ("", False)


class TestReviewOfASurvey:
    def run(self, review):
        (claimed,) = PlaceReview.objects.filter(pk=review.pk).claim(limit=1)
        while geoprivacy.continue_review(claimed):
            pass

    def test_a_survey_that_becomes_obscured_has_all_its_places_blurred(self, monkeypatch):
        monkeypatch.setattr(geoprivacy, "BATCH", 2)
        survey = SurveyFactory()
        observations = [place(survey=survey) for _ in range(5)]
        Survey.objects.update(geoprivacy="obscured")
        review = geoprivacy.reobscure(survey)
        self.run(review)
        review.refresh_from_db()
        assert (review.status, review.reviewed, review.changed) == ("done", 5, 5)
        assert Observation.objects.filter(is_obscured=True).count() == len(observations)

    def test_a_label_that_becomes_sensitive_blurs_where_it_was_found(self):
        label = LabelFactory()
        observation = place(survey=label.survey)
        with_photo(observation, label=label)
        label.is_sensitive = True
        label.save()
        self.run(geoprivacy.reobscure(label))
        observation.refresh_from_db()
        assert observation.is_obscured

    def test_it_resumes_where_a_killed_worker_stopped(self, monkeypatch):
        monkeypatch.setattr(geoprivacy, "BATCH", 2)
        survey = SurveyFactory()
        for _ in range(5):
            place(survey=survey)
        Survey.objects.update(geoprivacy="obscured")
        review = geoprivacy.reobscure(survey)
        (claimed,) = PlaceReview.objects.claim(limit=1)
        assert geoprivacy.continue_review(claimed)
        PlaceReview.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
        self.run(review)
        review.refresh_from_db()
        assert (review.status, review.reviewed, review.changed) == ("done", 5, 5)

    def test_a_worker_that_lost_its_claim_writes_nothing(self):
        observation = place()
        Survey.objects.update(geoprivacy="obscured")
        geoprivacy.reobscure(observation.survey)
        (claimed,) = PlaceReview.objects.claim(limit=1)
        PlaceReview.objects.update(lease_token=uuid.uuid4())
        assert not geoprivacy.continue_review(claimed)
        observation.refresh_from_db()
        assert not observation.is_obscured

    def test_asking_again_starts_over_and_ends_the_review_in_progress(self):
        survey = SurveyFactory()
        place(survey=survey)
        geoprivacy.reobscure(survey)
        (claimed,) = PlaceReview.objects.claim(limit=1)
        geoprivacy.reobscure(survey)
        assert not geoprivacy.continue_review(claimed)
        assert PlaceReview.objects.get().status == "pending"

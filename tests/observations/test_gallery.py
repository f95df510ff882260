"""The public gallery: what it shows, to whom, and what its filters answer."""

from datetime import UTC, datetime

import pytest
from django.contrib.gis.geos import Point
from django.db import connection
from django.urls import reverse

from apps.observations.browse import filters
from apps.observations.models import Photo
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


def photo_of(observation=None, *, labels=(), score=0.9, **kwargs):
    version = ModelVersionFactory()
    photo = PhotoFactory(
        observation=observation or ObservationFactory(),
        status="done",
        model_version=version,
        detection_count=len(labels),
        best_score=score if labels else None,
        **kwargs,
    )
    for number, label in enumerate(labels, start=1):
        DetectionFactory(photo=photo, model_version=version, number=number, label=label, score=score)
    return photo


def shown(client, **query):
    response = client.get(reverse("observations:gallery"), query)
    assert response.status_code == 200
    page = response.context["page"]
    return [picture.photo for picture in page.pictures] if page else None


def test_it_shows_public_photos_newest_first(client):
    photos = [photo_of() for _ in range(3)]
    assert shown(client) == photos[::-1]


def test_private_and_hidden_photos_are_shown_to_nobody_here(client):
    owner = UserFactory(is_staff=True)
    for visibility in ("private", "hidden"):
        photo_of(ObservationFactory(contributor=owner, visibility=visibility))
    assert shown(client) == []
    client.force_login(owner)
    assert shown(client) == []


def test_an_empty_gallery_invites(client):
    assert "Yours could be the first" in client.get(reverse("observations:gallery")).content.decode()


def test_it_names_the_animals_and_counts_them(client):
    survey = SurveyFactory()
    common, rare = LabelFactory(survey=survey), LabelFactory(survey=survey)
    photo_of(ObservationFactory(survey=survey), labels=[common, rare, common])
    page = client.get(reverse("observations:gallery")).context["page"]
    assert page.pictures[0].labels == [(common, 2), (rare, 1)]


def test_boxes_of_an_earlier_model_version_are_not_counted(client):
    label = LabelFactory()
    photo = photo_of(ObservationFactory(survey=label.survey), labels=[label])
    Photo.objects.update(model_version=ModelVersionFactory())
    assert client.get(reverse("observations:gallery")).context["page"].pictures[0].labels == []
    assert shown(client, label=f"{label.survey.slug}/{label.code}") == []
    assert shown(client) == [photo]


class TestFilters:
    def test_by_survey(self, client):
        photo = photo_of()
        photo_of()
        assert shown(client, survey=photo.survey.slug) == [photo]

    def test_by_label_and_what_stands_below_it(self, client):
        genus = LabelFactory(rank="genus")
        species = LabelFactory(survey=genus.survey, parent=genus)
        other = LabelFactory(survey=genus.survey)
        observation = ObservationFactory(survey=genus.survey)
        of_genus, of_species = (photo_of(observation, labels=[label]) for label in (genus, species))
        photo_of(observation, labels=[other])
        slug = genus.survey.slug
        assert shown(client, label=f"{slug}/{genus.code}") == [of_species, of_genus]
        assert shown(client, label=f"{slug}/{species.code}") == [of_species]

    def test_by_confidence_of_that_label(self, client):
        label = LabelFactory()
        observation = ObservationFactory(survey=label.survey)
        sure, unsure = (
            photo_of(observation, labels=[label], score=0.95),
            photo_of(observation, labels=[label], score=0.4),
        )
        assert shown(client, confidence=90) == [sure]
        assert shown(client, confidence=90, label=f"{label.survey.slug}/{label.code}") == [sure]
        assert shown(client, confidence=30) == [unsure, sure]

    def test_by_day_in_the_readers_time_zone(self, client):
        late = photo_of(
            ObservationFactory(observed_at=datetime(2026, 5, 1, 22, 30, tzinfo=UTC))
        )  # 2 May in Paris
        photo_of(ObservationFactory(observed_at=datetime(2026, 5, 3, 12, 0, tzinfo=UTC)))
        photo_of()
        assert shown(client, since="2026-05-02", until="2026-05-02") == [late]
        assert shown(client, until="2026-05-01") == []

    def test_only_with_animals(self, client):
        label = LabelFactory()
        found = photo_of(ObservationFactory(survey=label.survey), labels=[label])
        photo_of()
        assert shown(client, animals="on") == [found]

    def test_by_place_name(self, client):
        oak = photo_of(ObservationFactory(place_name="Forêt de Brocéliande"))
        photo_of(ObservationFactory(place_name="Vercors"))
        assert shown(client, place="brocél") == [oak]

    def test_by_place_name_when_it_is_frequent(self, client, monkeypatch):
        monkeypatch.setattr(filters, "FEW_OBSERVATIONS", 1)
        oaks = [photo_of(ObservationFactory(place_name="Brocéliande")) for _ in range(3)]
        photo_of(ObservationFactory(place_name="Vercors"))
        assert shown(client, place="brocél") == oaks[::-1]

    def test_the_name_of_a_blurred_place_is_not_searched(self, client):
        photo_of(ObservationFactory(place_name="The old oak", is_obscured=True))
        assert shown(client, place="old oak") == []

    def test_by_map_window_on_the_public_place(self, client):
        exact = Point(2.34567, 48.85678, srid=4326)
        blurred = ObservationFactory(
            location=exact, public_location=Point(2.3, 48.9, srid=4326), is_obscured=True, place_name="Here"
        )
        photo = photo_of(blurred)
        assert shown(client, bbox="2,48,3,49") == [photo]
        assert shown(client, bbox="2.345,48.856,2.346,48.857") == [], "the exact place must not answer"

    def test_a_window_may_cross_the_180th_meridian(self, client):
        fiji = photo_of(ObservationFactory(public_location=Point(179.5, -17, srid=4326)))
        samoa = photo_of(ObservationFactory(public_location=Point(-171, -14, srid=4326)))
        photo_of(ObservationFactory(public_location=Point(0, -15, srid=4326)))
        assert shown(client, bbox="175,-20,-170,-10") == [samoa, fiji]

    def test_each_filter_in_force_can_be_taken_away(self, client):
        survey = SurveyFactory()
        response = client.get(reverse("observations:gallery"), {"survey": survey.slug, "animals": "on"})
        names = {name: query for name, _said, query in response.context["form"].active()}
        assert names == {"survey": "animals=on", "animals": f"survey={survey.slug}"}

    @pytest.mark.parametrize(
        "query",
        [
            {"survey": "nothing-like-it"},
            {"label": "no/label"},
            {"label": "\x00"},
            {"since": "2026-13-45"},
            {"since": "0001-01-01"},
            {"until": "9999-12-31"},
            {"confidence": "nan"},
            {"confidence": "1e400"},
            {"confidence": "9" * 5000},
            {"bbox": "nan,0,1,1"},
            {"bbox": "inf,0,1,1"},
            {"bbox": "1,2,3"},
            {"bbox": "0,50,1,40"},
            {"bbox": "0,0,900,1"},
            {"bbox": "a" * 4000},
            {"place": "\x00"},
            {"place": "%_\\' OR 1=1 --"},
            {"place": "x" * 3000},
            {"before": "-1"},
            {"before": "9" * 30},
            {"before": "٣"},
            {"before": "0"},
        ],
    )
    def test_nonsense_is_answered_with_a_page(self, client, query):
        photo_of()
        response = client.get(reverse("observations:gallery"), query)
        assert response.status_code == 200

    def test_a_wrong_value_is_named(self, client):
        text = client.get(reverse("observations:gallery"), {"bbox": "0,0,900,1"}).content.decode()
        assert "This window does not lie on the Earth." in text

    def test_a_combination_that_takes_too_long_is_given_up(self, client, monkeypatch):
        monkeypatch.setattr(filters, "QUERY_LIMIT_MS", 1)

        def slow(*_args, **_kwargs):
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_sleep(1)")

        monkeypatch.setattr("apps.observations.views.gallery.gallery_page", slow)
        response = client.get(reverse("observations:gallery"))
        assert response.status_code == 200
        assert "would take too long" in response.content.decode()


class TestPaging:
    def test_pages_follow_by_key_without_gaps_or_repeats(self, client, monkeypatch):
        monkeypatch.setattr("apps.observations.browse.gallery.PAGE_SIZE", 2)
        photos = [photo_of() for _ in range(5)]
        seen, query = [], {}
        while True:
            response = client.get(reverse("observations:gallery"), query)
            page = response.context["page"]
            seen += [picture.photo for picture in page.pictures]
            if page.next_before is None:
                break
            photo_of()  # what arrives meanwhile moves nothing
            query = {"before": page.next_before}
        assert seen == photos[::-1]

    def test_the_number_of_queries_does_not_grow(self, client, django_assert_num_queries):
        label = LabelFactory()
        client.get(reverse("observations:gallery"))

        def queries(number):
            with django_assert_num_queries(number):
                client.get(reverse("observations:gallery"))

        photo_of(ObservationFactory(survey=label.survey), labels=[label])
        queries(9)  # of which three belong to the time limit's transaction
        for _ in range(8):
            photo_of(ObservationFactory(survey=label.survey), labels=[label, label])
        queries(9)

    def test_counting_stops_at_the_limit(self, client, monkeypatch):
        monkeypatch.setattr("apps.observations.browse.gallery.COUNT_LIMIT", 2)
        monkeypatch.setattr("apps.observations.views.gallery.COUNT_LIMIT", 2)
        for _ in range(4):
            photo_of()
        assert "More than 2 photos" in client.get(reverse("observations:gallery")).content.decode()

    def test_htmx_gets_the_results_alone(self, client):
        photo_of()
        response = client.get(
            reverse("observations:gallery"), headers={"HX-Request": "true", "HX-Target": "gallery-results"}
        )
        text = response.content.decode()
        assert "<html" not in text
        assert 'id="gallery-results"' in text
        assert "HX-Request" in response["Vary"]


def test_only_reading_is_allowed(client):
    assert client.post(reverse("observations:gallery")).status_code == 405


def test_no_inline_script_or_style(client):
    photo_of()
    text = client.get(reverse("observations:gallery")).content.decode()
    assert " style=" not in text
    assert "<script>" not in text

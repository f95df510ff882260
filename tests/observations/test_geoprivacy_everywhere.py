"""A stranger who opens every page, download and answer of the site learns a blurred place's cell and no more."""

import re

import pytest
from django.contrib.gis.geos import Point
from django.core.files.base import ContentFile
from django.test import Client
from django.urls import get_resolver, reverse

from apps.observations.models import Comment, Observation
from apps.observations.services import geoprivacy
from tests.factories import (
    CommentFactory,
    DetectionFactory,
    LabelFactory,
    ModelVersionFactory,
    ObservationFactory,
    PhotoFactory,
    SurveyFactory,
    UserFactory,
)
from tests.support.pictures import jpeg

pytestmark = pytest.mark.django_db
EXACT = Point(2.34567, 48.85678, srid=4326)
# Not the seconds of a time of day, which may read 48.85 too.
TELLS = re.compile(r"(?<![\d.:])(?:2[.,]34|48[.,]85)|The old oak")
#: Addresses that take other arguments, change things, or belong to one signed-in person.
LEFT_OUT = {"export_file"}


@pytest.fixture
def observation():
    survey = SurveyFactory(geoprivacy="obscured")
    observation = ObservationFactory.build(
        survey=survey, contributor=UserFactory(), location=EXACT, place_name="The old oak", title="Found it"
    )
    geoprivacy.set_public_location(observation)
    observation.save()
    version = ModelVersionFactory(registered_model=survey.registered_model)
    for name in ("a.jpg", "b.jpg"):
        photo = PhotoFactory(
            observation=observation,
            name=name,
            status="done",
            model_version=version,
            detection_count=1,
            proposed_location=EXACT,
            display=ContentFile(jpeg(width=640, height=640), name="display.jpg"),
            thumbnail=ContentFile(jpeg(width=120, height=120), name="thumbnail.jpg"),
        )
        DetectionFactory(photo=photo, model_version=version, label=LabelFactory(survey=survey))
    CommentFactory(observation=observation)
    return observation


def addresses(observation):
    """Every address of the public site and of the API, with this observation's identifiers where they ask for one."""
    photo = observation.photos.first()
    identifiers = [photo.public_id, observation.public_id, Comment.objects.get().public_id]
    found = []
    for namespace in ("observations", "v1"):
        resolver = get_resolver().namespace_dict[namespace][1]
        for name in {key for key in resolver.reverse_dict if isinstance(key, str)} - LEFT_OUT:
            arguments = resolver.reverse_dict.getlist(name)[0][0][0][1]
            if not arguments:
                found.append(reverse(f"{namespace}:{name}"))
            elif arguments == ["public_id"]:
                found += [reverse(f"{namespace}:{name}", args=[identifier]) for identifier in identifiers]
    return ["/", *sorted(found)]


def text_of(response):
    content = b"".join(response.streaming_content) if response.streaming else response.content
    if response["Content-Type"].startswith(("image/", "application/zip")):
        # Among so many bytes any short text occurs by chance.
        return "48.85" if b"48.856" in content or b"The old oak" in content or b"Exif" in content else ""
    return content.decode("utf-8", "replace")


@pytest.mark.parametrize("who", ["anonymous", "stranger"])
def test_a_stranger_finds_the_exact_place_nowhere(observation, who):
    client = Client(raise_request_exception=False)
    if who == "stranger":
        client.force_login(UserFactory())
    answered = 0
    for address in addresses(observation):
        for query in ("", "?bbox=2,48,3,49&zoom=12"):
            response = client.get(address + query)
            assert response.status_code < 500, address
            assert not TELLS.search(text_of(response)), address
            assert not TELLS.search(str(response.headers)), address
            answered += response.status_code == 200
    assert answered > 25, "the crawl must have seen something"


def test_the_crawl_would_find_it(observation):
    """The same crawl by the owner finds the place: it is not the search that is blind."""
    client = Client()
    client.force_login(observation.contributor)
    telling = [address for address in addresses(observation) if TELLS.search(text_of(client.get(address)))]
    assert len(telling) >= 4, telling


@pytest.mark.parametrize("bbox", ["2.345,48.856,2.346,48.857", "2.3456,48.8567,2.3457,48.8568"])
def test_no_window_around_the_exact_place_answers(client, observation, bbox):
    client.force_login(UserFactory())
    for address in (
        reverse("observations:gallery"),
        reverse("observations:map_data"),
        reverse("v1:observations"),
    ):
        text = client.get(address, {"bbox": bbox}).content.decode()
        assert str(observation.public_id) not in text
        assert str(Observation.objects.get().photos.first().public_id) not in text

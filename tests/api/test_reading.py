"""GET observations/: who sees what, in bounded answers and a constant number of queries."""

import uuid
from datetime import UTC, datetime

import pytest
from django.contrib.gis.geos import Point

from apps.common.leased import WorkStatus
from apps.observations.api import reading
from apps.observations.models import Label, Observation, Photo
from tests.api.conftest import Caller, assert_problem
from tests.factories import DetectionFactory, ObservationFactory, PhotoFactory

PATH = "/api/v1/observations/"


@pytest.fixture
def version(survey):
    return survey.registered_model.production_version


def detected(observation, version, *, boxes=1, **fields):
    """A photo on which `boxes` animals were found."""
    fields = {"status": WorkStatus.DONE, "model_version": version, "detection_count": boxes, **fields}
    photo = PhotoFactory(observation=observation, **fields)
    label = Label.objects.get(survey=observation.survey, code="CER")
    for number in range(1, boxes + 1):
        DetectionFactory(
            photo=photo, model_version=version, number=number, label=label, score=0.9, class_scores=[0.9, 0.1]
        )
    return photo


def observed(caller, survey, **fields):
    return ObservationFactory(survey=survey, contributor=caller.user, **fields)


def address(observation):
    return f"{PATH}{observation.public_id}/"


def ids(response):
    assert response.status_code == 200, response.content
    return [item["id"] for item in response.json()["results"]]


def test_an_observation_tells_where_each_animal_is_and_what_it_is(caller, survey, version):
    observation = observed(
        caller, survey, location=Point(2.3522, 48.8566), public_location=Point(2.3522, 48.8566)
    )
    photo = detected(observation, version)
    body = caller.get(address(observation)).json()
    assert body["status"] == "done"
    assert (body["latitude"], body["longitude"], body["is_place_exact"]) == (48.8566, 2.3522, True)
    assert body["progress"] == {"pending": 0, "processing": 0, "done": 1, "failed": 0}
    [shown] = body["photos"]
    assert shown["id"] == str(photo.public_id)
    assert (shown["status"], shown["failure_reason"], shown["name"]) == ("done", None, photo.name)
    assert shown["detections"] == [
        {
            "number": 1,
            "label": {"code": "CER", "name": "Ceratophysella sp."},
            "confidence": 0.9,
            "scores": {"CER": 0.9, "ISO_MIN": 0.1},
            "box": {"x": 10.0, "y": 20.0, "width": 100.0, "height": 50.0},
            "model_version": str(version),
        }
    ]
    for link in shown["links"].values():
        assert link.startswith("http://testserver/")


def test_boxes_of_an_older_model_version_are_not_shown(caller, survey, version):
    from tests.factories import ModelVersionFactory

    observation = observed(caller, survey)
    photo = detected(observation, version, boxes=2)
    older = ModelVersionFactory(registered_model=survey.registered_model, stage="archived", number=99)
    DetectionFactory(photo=photo, model_version=older, number=7, label=Label.objects.first())
    [shown] = caller.get(address(observation)).json()["photos"]
    assert [box["number"] for box in shown["detections"]] == [1, 2]


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ([], "done"),
        (["pending"], "pending"),
        (["pending", "failed"], "pending"),
        (["pending", "done"], "processing"),
        (["processing", "pending"], "processing"),
        (["done", "failed"], "done"),
        (["failed", "failed"], "failed"),
    ],
)
def test_the_state_of_an_observation_sums_up_its_photos(caller, survey, statuses, expected):
    observation = observed(caller, survey)
    for status in statuses:
        lease = {"lease_token": uuid.uuid4(), "lease_until": datetime(2100, 1, 1, tzinfo=UTC)}
        PhotoFactory(observation=observation, status=status, **(lease if status == "processing" else {}))
    assert caller.get(address(observation)).json()["status"] == expected


def test_a_failed_photo_says_why(caller, survey):
    observation = observed(caller, survey)
    PhotoFactory(observation=observation, status="failed", failure_reason="corrupt", attempts=3)
    [shown] = caller.get(address(observation)).json()["photos"]
    assert shown["status"] == "failed"
    assert "damaged" in shown["failure_reason"]


def test_a_photo_without_animals_is_done_with_an_empty_list(caller, survey, version):
    observation = observed(caller, survey)
    detected(observation, version, boxes=0)
    [shown] = caller.get(address(observation)).json()["photos"]
    assert (shown["status"], shown["detection_count"], shown["detections"]) == ("done", 0, [])


def test_everyone_signed_in_reads_public_observations_but_file_names_stay_with_the_owner(
    caller, stranger, staff, survey, version
):
    observation = observed(caller, survey)
    photo = detected(observation, version)
    for who, name in ((caller, photo.name), (staff, photo.name), (stranger, None)):
        [shown] = who.get(address(observation)).json()["photos"]
        assert shown["name"] == name
        assert (shown["links"]["original"] is None) == (name is None)
    assert [who.get(address(observation)).json()["is_mine"] for who in (caller, stranger)] == [True, False]


@pytest.mark.parametrize("visibility", ["private", "hidden"])
def test_what_is_not_public_is_not_there_for_others(caller, stranger, staff, survey, visibility):
    observation = observed(caller, survey, visibility=visibility)
    for path in (address(observation), f"{address(observation)}photos/"):
        assert_problem(stranger.get(path), 404, "not_found")
        assert_problem(Caller().get(path), 401)
        assert caller.get(path).status_code == staff.get(path).status_code == 200
    assert ids(stranger.get(PATH)) == []
    assert ids(caller.get(PATH)) == [str(observation.public_id)]


def test_a_blurred_place_is_exact_for_its_owner_and_staff_only(caller, stranger, staff, survey):
    observation = observed(
        caller,
        survey,
        location=Point(2.3522, 48.8566),
        public_location=Point(2.3, 48.9),
        is_obscured=True,
        place_name="Behind the third oak",
    )
    shown = {who: who.get(address(observation)).json() for who in (caller, stranger, staff)}
    for who in (caller, staff):
        assert (shown[who]["latitude"], shown[who]["is_place_exact"]) == (48.8566, True)
        assert shown[who]["place_name"] == "Behind the third oak"
    assert (shown[stranger]["latitude"], shown[stranger]["longitude"]) == (48.9, 2.3)
    assert (shown[stranger]["is_place_exact"], shown[stranger]["place_name"]) == (False, "")
    assert "48.8566" not in stranger.get(PATH).content.decode()


def test_windows_on_the_map_do_not_find_a_blurred_place(caller, stranger, staff, survey):
    observed(
        caller, survey, location=Point(2.3522, 48.8566), public_location=Point(2.3, 48.9), is_obscured=True
    )
    exact, blurred = {"bbox": "2.35,48.85,2.36,48.86"}, {"bbox": "2.29,48.89,2.31,48.91"}
    assert len(ids(caller.get(PATH, exact))) == len(ids(staff.get(PATH, exact))) == 1
    assert ids(stranger.get(PATH, exact)) == []
    assert len(ids(stranger.get(PATH, blurred))) == 1
    assert ids(caller.get(PATH, blurred)) == []


@pytest.mark.parametrize("rare", [0, 100])
def test_frequent_and_rare_labels_are_found_alike(caller, survey, version, monkeypatch, rare):
    monkeypatch.setattr(reading, "RARE_PHOTOS", rare)
    with_animal = observed(caller, survey)
    detected(with_animal, version, boxes=2)
    detected(observed(caller, survey), version, boxes=0)
    assert ids(caller.get(PATH, {"label": "CER"})) == [str(with_animal.public_id)]
    assert ids(caller.get(PATH, {"label": "ISO_MIN"})) == []


def test_a_window_may_cross_the_antimeridian(caller, survey):
    for longitude in (179.5, -179.5, 0):
        place = Point(longitude, -17.0)
        observed(caller, survey, location=place, public_location=place)
    assert len(ids(caller.get(PATH, {"bbox": "179,-18,-179,-16"}))) == 2


def test_filters_narrow_the_list(caller, stranger, survey, version):
    first = observed(caller, survey, observed_at=datetime(2026, 5, 1, tzinfo=UTC))
    second = observed(stranger, survey, observed_at=datetime(2026, 6, 1, tzinfo=UTC))
    other = ObservationFactory(contributor=caller.user)
    detected(first, version)
    PhotoFactory(observation=second)

    def found(**filters):
        return set(ids(caller.get(PATH, filters)))

    one, two, three = (str(row.public_id) for row in (first, second, other))
    assert found() == {one, two, three}
    assert found(mine="true") == {one, three}
    assert found(mine="false") == {one, two, three}
    assert found(survey="springtails") == {one, two}
    assert found(label="CER") == {one}
    assert found(label="ISO_MIN") == found(label="unheard-of") == set()
    assert found(status="done") == {one}
    assert found(status="pending") == {two}
    assert found(observed_after="2026-05-15T00:00:00Z") == {two}
    assert found(observed_before="2026-05-15") == {one}
    assert found(observed_after="2026-05-01T02:00:00+02:00", observed_before="2026-06-01") == {one}
    assert found(mine="true", survey="springtails", label="CER", status="done") == {one}


BAD_FILTERS = [
    "surprise=1",
    "contributor__email__startswith=a",
    "contributor=1",
    "ordering=contributor__password",
    "format=xml",
    "page=1",
    "offset=10",
    "mine=perhaps",
    "survey=nothing",
    "survey=a&survey=b",
    "survey=%00",
    "label=%00",
    "label=" + "x" * 50,
    "status=lost",
    "status=pending%00",
    "observed_after=yesterday",
    "observed_before=9999-12-31T23:59:59-23:59",
    "observed_after=%F0%9F%90%9E",
    "bbox=1,2,3",
    "bbox=1,2,3,4,5",
    "bbox=a,b,c,d",
    "bbox=nan,0,1,1",
    "bbox=-inf,0,inf,1",
    "bbox=0,2,1,1",
    "bbox=-200,0,1,1",
    "bbox=0,0,1,91",
    "bbox=1e309,0,1,1",
    "cursor=x",
    "cursor=%00",
    "cursor=LTU=",
    "cursor=OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5",
    "cursor=é",
    "limit=0",
    "limit=-1",
    "limit=201",
    "limit=1e3",
    "limit=NaN",
    "limit=" + "9" * 5000,
    "limit=10&limit=20",
    "%FF%FE=1",
    "%00=1",
]


@pytest.mark.parametrize("query", BAD_FILTERS, ids=lambda query: query[:40])
def test_a_filter_that_means_nothing_is_refused_not_ignored(caller, survey, query):
    body = assert_problem(caller.generic("GET", PATH, QUERY_STRING=query), 400, "invalid")
    assert body["errors"]


@pytest.mark.parametrize("query", ["survey=", "limit=", "cursor=", "bbox=", "status=&label=", "mine="])
def test_a_blank_filter_is_a_mistake_not_everything(caller, survey, query):
    body = assert_problem(caller.generic("GET", PATH, QUERY_STRING=query), 400, "invalid")
    assert {error["code"] for error in body["errors"]} == {"blank"}


@pytest.mark.parametrize("path", [PATH, "/api/v1/surveys/", "/api/v1/labels/"])
def test_lists_are_closed_to_strangers(anonymous, path):
    assert_problem(anonymous.get(path), 401, "not_authenticated")


def test_pages_are_stable_while_observations_are_added(caller, survey):
    rows = [observed(caller, survey) for _ in range(7)]
    expected = [str(row.public_id) for row in reversed(rows)]
    seen, path = [], f"{PATH}?limit=3&mine=true"
    while path:
        response = caller.get(path)
        seen += ids(response)
        path = response.json()["next"]
        observed(caller, survey)
    assert seen == expected


def test_a_page_ends_early_rather_than_hold_too_many_boxes(caller, survey, version, monkeypatch):
    monkeypatch.setattr(reading, "MAX_BOXES", 5)
    rows = [observed(caller, survey) for _ in range(4)]
    for row, boxes in zip(rows, (1, 2, 4, 9), strict=True):
        detected(row, version, boxes=boxes)
    lengths, path = [], PATH
    while path:
        body = caller.get(path).json()
        lengths.append(
            [sum(len(photo["detections"]) for photo in item["photos"]) for item in body["results"]]
        )
        path = body["next"]
    assert lengths == [[9], [4], [2, 1]]


def test_a_long_observation_shows_its_first_photos_and_leads_to_the_others(
    caller, survey, version, monkeypatch
):
    monkeypatch.setattr(reading, "MAX_PAGE", 3)
    observation = observed(caller, survey)
    photos = [detected(observation, version) for _ in range(8)]
    body = caller.get(address(observation)).json()
    assert body["photo_count"] == 8
    seen, path = [photo["id"] for photo in body["photos"]], body["next_photos"]
    assert len(seen) == 3
    while path:
        answer = caller.get(path).json()
        seen += [photo["id"] for photo in answer["results"]]
        path = answer["next"]
    assert seen == [str(photo.public_id) for photo in photos]


def test_a_list_shows_the_first_photos_of_each_observation(caller, survey, version, monkeypatch):
    monkeypatch.setattr(reading, "LIST_PHOTOS", 2)
    observation = observed(caller, survey)
    photos = [detected(observation, version) for _ in range(3)]
    [item] = caller.get(PATH).json()["results"]
    assert [photo["id"] for photo in item["photos"]] == [str(photo.public_id) for photo in photos[:2]]
    rest = caller.get(item["next_photos"]).json()["results"]
    assert [photo["id"] for photo in rest] == [str(photos[2].public_id)]


@pytest.mark.parametrize("many", [1, 6])
def test_the_number_of_queries_does_not_grow(caller, survey, version, django_assert_num_queries, many):
    for _observation in range(many):
        observation = observed(caller, survey)
        for _photo in range(many):
            detected(observation, version, boxes=many)
    token = 1
    with django_assert_num_queries(token + 5):  # observations, photos, counts, boxes, labels
        assert len(ids(caller.get(PATH))) == many
    with django_assert_num_queries(token + 5):
        assert len(caller.get(address(observation)).json()["photos"]) == many
    with django_assert_num_queries(token + 4):
        caller.get(f"{address(observation)}photos/")
    with django_assert_num_queries(token + 2):  # surveys, versions
        caller.get("/api/v1/surveys/")
    with django_assert_num_queries(token + 1):
        caller.get("/api/v1/labels/")
    filters = {"survey": "springtails", "label": "CER", "status": "done", "bbox": "0,0,1,1", "mine": "true"}
    with django_assert_num_queries(token + 4):  # the survey, the label, its photos, and no observation there
        assert ids(caller.get(PATH, filters)) == []


def test_deleting_removes_everything_once(caller, survey, version):
    observation = observed(caller, survey)
    detected(observation, version)
    assert caller.delete(address(observation)).status_code == 204
    assert not Observation.objects.exists()
    assert not Photo.objects.exists()
    assert_problem(caller.delete(address(observation)), 404)


def test_nobody_deletes_what_is_not_theirs(caller, stranger, staff, anonymous, survey):
    observation = observed(caller, survey)
    assert_problem(stranger.delete(address(observation)), 404)
    assert_problem(staff.delete(address(observation)), 404)
    assert_problem(anonymous.delete(address(observation)), 401)
    assert Observation.objects.exists()


@pytest.mark.parametrize(
    "path",
    [
        "not-a-uuid",
        "00000000-0000-0000-0000-000000000000",
        "%00",
        "1",
        "..",
        "x" * 3000,
        "{id}",
        "' OR 1=1 --",
    ],
)
@pytest.mark.parametrize("method", ["get", "delete"])
def test_an_id_that_does_not_exist_is_not_found(caller, survey, method, path):
    assert_problem(getattr(caller, method)(f"{PATH}{path}/"), 404, "not_found")


def test_surveys_are_listed_with_their_models(caller, survey, version):
    [item] = caller.get("/api/v1/surveys/").json()["results"]
    assert item["slug"] == "springtails"
    assert set(item["name"]) == {"en", "fr"}
    assert item["model_version"] == str(version)
    assert caller.get(item["links"]["self"]).json() == item
    assert {label["code"] for label in caller.get(item["links"]["labels"]).json()["results"]} == {
        "CER",
        "ISO_MIN",
    }


def test_a_survey_without_model_says_so(caller, survey):
    survey.registered_model = None
    survey.save()
    assert caller.get("/api/v1/surveys/springtails/").json()["model_version"] is None


@pytest.mark.parametrize("path", ["surveys/nothing/", "surveys/spring tails/", "surveys/é/"])
def test_an_unknown_survey_is_not_found(caller, survey, path):
    assert_problem(caller.get(f"/api/v1/{path}"), 404)


@pytest.mark.parametrize(
    "path",
    ["surveys/?x=1", "surveys/springtails/?x=1", "labels/?survey=nothing", "labels/?x=1", "labels/?limit=0"],
)
def test_catalogue_filters_are_strict_too(caller, survey, path):
    assert_problem(caller.get(f"/api/v1/{path}"), 400, "invalid")


def test_labels_are_paged(caller, survey):
    first = caller.get("/api/v1/labels/", {"survey": "springtails", "limit": 1}).json()
    second = caller.get(first["next"]).json()
    assert [page["results"][0]["code"] for page in (first, second)] == ["CER", "ISO_MIN"]
    assert second["next"] is None


def test_answers_are_not_kept_by_caches(caller, survey):
    for path in (PATH, "/api/v1/nothing/"):
        assert caller.get(path)["Cache-Control"] == "private, no-store"


def test_a_browser_session_reads_without_a_token(caller, survey):
    browser = Caller()
    browser.force_login(caller.user)
    assert browser.get(PATH).status_code == 200

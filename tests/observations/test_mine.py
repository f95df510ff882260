"""My observations: one's own only, by state, searched, paged, deleted several at once."""

import uuid

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from apps.accounts.models import User
from apps.observations.browse import mine as browse
from apps.observations.models import Comment, DiscardedFile, Observation, Photo, RefusedFile
from tests.factories import CommentFactory, ObservationFactory, PhotoFactory, UserFactory

pytestmark = pytest.mark.django_db
MINE = "/mine/"


@pytest.fixture
def person(client: Client) -> User:
    user = UserFactory()
    client.force_login(user)
    return user


def titles(client: Client, **query: str) -> list[str]:
    page = client.get(MINE, query).context["page"]
    return [row.observation.title for row in page.rows]


def sent(user: User, title: str, *states: str, **fields: object) -> Observation:
    observation = ObservationFactory(contributor=user, title=title, **fields)
    for state in states:
        leased = (
            {"lease_token": uuid.uuid4(), "lease_until": "2030-01-01T00:00Z"} if state == "processing" else {}
        )
        PhotoFactory(observation=observation, status=state, **leased)
    return observation


def test_a_stranger_is_sent_to_sign_in_and_comes_back(client: Client) -> None:
    answer = client.get(MINE)
    assert answer.status_code == 302
    assert answer["Location"] == f"{reverse('account_login')}?next={MINE}"


def test_it_helps_when_there_is_nothing_yet(client: Client, person: User) -> None:
    answer = client.get(MINE)
    assert reverse("observations:send") in answer.content.decode()
    assert "Nothing here yet" in answer.content.decode()


def test_it_shows_what_one_sent_newest_first_and_nothing_of_others(client: Client, person: User) -> None:
    sent(UserFactory(), "someone else's", "done")
    sent(person, "first", "done")
    sent(person, "second", "done", visibility="private")
    assert titles(client) == ["second", "first"]


def test_it_shows_one_state_at_a_time(client: Client, person: User) -> None:
    sent(person, "waiting", "pending", "done")
    sent(person, "at work", "processing")
    sent(person, "done", "done", "done")
    sent(person, "failed", "failed", "done")
    RefusedFile.objects.create(
        observation=sent(person, "refused", "done"), name="a.txt", code="not_a_picture"
    )
    assert titles(client, state="waiting") == ["waiting"]
    assert titles(client, state="processing") == ["at work"]
    assert titles(client, state="done") == ["refused", "done"]
    assert titles(client, state="failed") == ["failed"]
    assert titles(client, state="refused") == ["refused"]


def test_it_counts_what_is_in_each_state(client: Client, person: User) -> None:
    sent(person, "one", "pending", "pending", "failed")
    sent(UserFactory(), "not mine", "pending")
    states = {state: count for state, _label, count in client.get(MINE).context["states"]}
    assert states["waiting"] == 2
    assert states["failed"] == 1


@pytest.mark.parametrize(
    "fields", [{"title": "Rotten oak"}, {"comment": "under a ROTTEN log"}, {"place_name": "Rottenburg"}]
)
def test_it_searches_titles_comments_and_places(client: Client, person: User, fields: dict[str, str]) -> None:
    ObservationFactory(contributor=person, title="moss")
    found = ObservationFactory(contributor=person, **fields)
    page = client.get(MINE, {"q": "rotten"}).context["page"]
    assert [row.observation for row in page.rows] == [found]


def test_it_searches_file_names(client: Client, person: User) -> None:
    sent(person, "moss", "done")
    PhotoFactory(observation=sent(person, "plate"), name="DSC_0042.JPG")
    assert titles(client, q="dsc_0042") == ["plate"]


@pytest.mark.parametrize(
    "q", ["%", "_", "\\", "'; drop table", "\0", "é" * 500, "\ud800".encode("utf-8", "replace")]
)
def test_odd_searches_are_only_words(client: Client, person: User, q: str) -> None:
    sent(person, "moss", "done")
    assert client.get(MINE, {"q": q}).status_code == 200


@pytest.mark.parametrize("key", ["x", "-1", "9" * 30, "", "1e3"])
def test_odd_keys_give_a_page(client: Client, person: User, key: str) -> None:
    assert client.get(MINE, {"before": key}).status_code == 200
    assert client.get(MINE, {"after": key, "state": "nonsense"}).status_code == 200


def test_pages_follow_each_other_both_ways_without_gaps(
    client: Client, person: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browse, "PAGE_SIZE", 3)
    for number in range(7):
        sent(person, str(number))
    seen, page = [], client.get(MINE).context["page"]
    pages = 1
    while True:
        seen += [row.observation.title for row in page.rows]
        if page.page["older"] is None:
            break
        page = client.get(MINE, {"before": page.page["older"]}).context["page"]
        pages += 1
    assert seen == list("6543210")
    assert pages == 3
    newer = client.get(MINE, {"after": page.page["newer"]}).context["page"]
    assert [row.observation.title for row in newer.rows] == list("321")


def test_the_number_of_queries_does_not_grow(client: Client, person: User) -> None:
    def queries() -> int:
        with CaptureQueriesContext(
            connection,
        ) as captured:
            assert client.get(MINE).status_code == 200
        return len(captured)

    sent(person, "one", "done")
    first = queries()
    for number in range(12):
        sent(person, str(number), "done", "pending", "failed")
    assert queries() == first <= 14


def test_a_row_counts_its_photos_and_shows_the_first_four(client: Client, person: User) -> None:
    observation = sent(person, "plate", *["done"] * 6)
    Photo.objects.filter(observation=observation).update(detection_count=2)
    [row] = client.get(MINE).context["page"].rows
    assert (row.photos, row.done, row.animals, len(row.thumbnails), row.more) == (6, 6, 12, 4, 2)
    assert row.thumbnails == list(observation.photos.order_by("pk").values_list("public_id", flat=True)[:4])


# --- Deleting several -------------------------------------------------------------------------------------


def test_chosen_ones_are_deleted_after_a_question(client: Client, person: User) -> None:
    gone, kept = sent(person, "gone", "done"), sent(person, "kept", "done")
    asked = client.post("/mine/delete/", {"chosen": str(gone.public_id)})
    assert asked.status_code == 200
    assert "gone" in asked.content.decode()
    assert Observation.objects.count() == 2
    done = client.post("/mine/delete/", {"chosen": str(gone.public_id), "confirmed": "1"})
    assert done["Location"] == MINE
    assert list(Observation.objects.all()) == [kept]


def test_someone_elses_are_passed_over(client: Client, person: User) -> None:
    theirs, mine = sent(UserFactory(), "theirs"), sent(person, "mine")
    chosen = [str(theirs.public_id), str(mine.public_id)]
    client.post("/mine/delete/", {"chosen": chosen, "confirmed": "1"})
    assert list(Observation.objects.all()) == [theirs]


def test_deleting_twice_harms_nothing(client: Client, person: User) -> None:
    form = {"chosen": str(sent(person, "once").public_id), "confirmed": "1"}
    assert client.post("/mine/delete/", form).status_code == 302
    assert client.post("/mine/delete/", form).status_code == 302


@pytest.mark.parametrize("chosen", [[], ["nonsense"], ["60579fe6-002d-483f-8a7a-a61ef409c0de"], ["\0"]])
def test_nothing_chosen_is_said(client: Client, person: User, chosen: list[str]) -> None:
    answer = client.post("/mine/delete/", {"chosen": chosen}, follow=True)
    assert "Choose the observations" in answer.content.decode()


def test_deleting_several_needs_a_post_a_person_and_a_token(client: Client, person: User) -> None:
    assert client.get("/mine/delete/").status_code == 405
    assert Client().post("/mine/delete/")["Location"].startswith(reverse("account_login"))
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(person)
    observation = sent(person, "kept")
    assert (
        strict.post("/mine/delete/", {"chosen": str(observation.public_id), "confirmed": "1"}).status_code
        == 403
    )
    assert Observation.objects.exists()


def test_files_and_comments_go_with_an_observation(client: Client, person: User) -> None:
    observation = sent(person, "gone", "done")
    CommentFactory(observation=observation)
    client.post("/mine/delete/", {"chosen": str(observation.public_id), "confirmed": "1"})
    assert not Photo.objects.exists()
    assert not Comment.objects.exists()
    assert DiscardedFile.objects.count() == 3

"""The grid of crops, its steps and lists, as pages."""

import uuid
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.db.models.functions import Now
from django.test import Client
from django.urls import reverse

from apps.accounts.models import User
from apps.annotation.models import AnnotatedBox, Annotation, AnnotationTask, Crop, LabelProposal, Review
from apps.annotation.review_grid import read_grid
from apps.annotation.services.crop_sheets import describe_next
from apps.observations.models import Label, Survey
from tests.annotation.factories import AnnotatedBoxFactory, ExpertFactory
from tests.annotation.test_bulk import accepted, answered, codes
from tests.factories import CommentFactory, DetectionFactory, LabelFactory, SurveyFactory, UserFactory
from tests.support.pictures import jpeg

pytestmark = pytest.mark.django_db


@pytest.fixture
def expert() -> User:
    return ExpertFactory()


@pytest.fixture
def client(expert: User) -> Client:
    client = Client()
    client.force_login(expert)
    return client


@pytest.fixture
def survey() -> Survey:
    return SurveyFactory()


@pytest.fixture
def label(survey: Survey) -> Label:
    return LabelFactory(survey=survey, code="A", scientific_name="Folsomia candida")


def page(survey: Survey, **query: Any) -> str:
    return reverse("annotation:review", args=[survey.slug], query=query)


def act(client: Client, survey: Survey, **data: Any) -> Any:
    return client.post(reverse("annotation:review_act", args=[survey.slug]), data)


def ref(answer: Annotation, number: int) -> str:
    return f"{answer.public_id}.{number}"


def give_picture(answer: Annotation, content: bytes | None = None) -> None:
    photo = answer.task.photo
    photo.width_px, photo.height_px = 640, 480
    for kind in ("display", "thumbnail"):
        setattr(photo, kind, ContentFile(content or jpeg(width=320, height=240), name=f"{kind}.jpg"))
    photo.save()


# --- Who ----------------------------------------------------------------------------------------------------


def test_strangers_sign_in_and_others_are_told_how_to_become_an_expert(survey: Survey, label: Label) -> None:
    answer = answered(survey, label)
    addresses = [
        page(survey),
        reverse("annotation:review_history", args=[survey.slug]),
        reverse("annotation:discussed", args=[survey.slug]),
        reverse("annotation:crop", args=[answer.public_id, 1]),
    ]
    other = Client()
    other.force_login(UserFactory())
    for address in addresses:
        assert Client().get(address).status_code == 302
        response = other.get(address)
        assert response.status_code == 403
        assert reverse("accounts:apply_expert") in response.content.decode()
    assert act(other, survey, action="send_back", box=ref(answer, 1)).status_code == 403
    assert accepted(answer) == answer


def test_an_unknown_survey_does_not_exist(client: Client) -> None:
    assert client.get("/annotate/review/nothing/").status_code == 404


# --- The grid -----------------------------------------------------------------------------------------------


def test_an_empty_grid_says_what_will_be_here(client: Client, survey: Survey) -> None:
    for query in ({}, {"source": "model"}):
        response = client.get(page(survey, **query))
        assert response.status_code == 200
        assert "empty-state" in response.content.decode()


def test_each_order_shows_the_same_boxes_in_its_own_way(survey: Survey, label: Label) -> None:
    answers = [answered(survey, label, boxes=3) for _ in range(3)]
    for place, crop in enumerate(Crop.objects.order_by("pk")):
        Crop.objects.filter(pk=crop.pk).update(
            confidence=(place * 7 % 9) / 10,
            size_px=100 - place,
            disagreement=(place * 5 % 9) / 10,
            outlierness=place * 2 % 9,
        )
    boxes = {ref(answer, number) for answer in answers for number in (1, 2, 3)}
    rows = {
        f"{crop.box.annotation.public_id}.{crop.box.number}": crop
        for crop in Crop.objects.select_related("box__annotation")
    }
    for sort, column, is_descending in (
        ("unusual", "outlierness", True),
        ("disagreement", "disagreement", True),
        ("unsure", "confidence", False),
        ("sure", "confidence", True),
        ("small", "size_px", False),
        ("large", "size_px", True),
        ("new", "id", True),
    ):
        tiles = read_grid(survey, {"sort": sort}).tiles
        assert {tile.ref for tile in tiles} == boxes
        values = [getattr(rows[tile.ref], column) for tile in tiles]
        assert values == sorted(values, reverse=is_descending)


@pytest.mark.parametrize("sort", ["unusual", "disagreement", "unsure", "new"])
def test_pages_by_key_show_every_box_once_forth_and_back(
    survey: Survey, label: Label, sort: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered(survey, label, boxes=11)
    Crop.objects.filter(box__number__lte=6).update(confidence=0.5, disagreement=0.5)
    monkeypatch.setattr("apps.annotation.review_grid.PAGE_SIZES", (60, 4))
    forth, query = [], {"n": "4", "sort": sort}
    while True:
        grid = read_grid(survey, query)
        forth.append([tile.ref for tile in grid.tiles])
        if not grid.next:
            break
        query["after"] = grid.next
    assert [len(refs) for refs in forth] == [4, 4, 3]
    assert len({one for refs in forth for one in refs}) == 11
    back = [forth[-1]]
    while grid.previous:
        grid = read_grid(survey, {"n": "4", "sort": sort, "before": grid.previous})
        back.insert(0, [tile.ref for tile in grid.tiles])
    assert back == forth


def test_what_makes_no_sense_in_the_address_is_the_default(
    client: Client, survey: Survey, label: Label
) -> None:
    answered(survey, label)
    for query in (
        {"after": "nan,1"},
        {"after": "inf,1"},
        {"after": "1,99999999999999999999"},
        {"before": "x"},
        {"label": "proposal:x"},
        {"label": "no-such"},
        {"label": "\0"},
        {"label": "\0", "source": "model", "sort": "\0", "after": "\0"},
        {"sort": "x", "n": "1000000", "source": "x"},
        {"after": "1,-4"},
    ):
        assert client.get(page(survey, **query)).status_code == 200


def test_private_and_hidden_photos_are_not_in_the_grid(client: Client, survey: Survey, label: Label) -> None:
    answer = answered(survey, label)
    observation = answer.task.photo.observation
    for visibility in ("private", "hidden"):
        observation.visibility = visibility
        observation.save()
        assert read_grid(survey, {}).tiles == []
        assert client.get(reverse("annotation:crop", args=[answer.public_id, 1])).status_code == 404


def test_the_models_boxes_of_waiting_photos_can_be_looked_at_only(
    client: Client, survey: Survey, label: Label
) -> None:
    answer = answered(survey, label)
    task = answer.task
    AnnotationTask.objects.filter(pk=task.pk).update(state="waiting", accepted=None, accepted_at=None)
    photo = task.photo
    DetectionFactory(
        photo=photo, model_version=photo.model_version, number=3, label=label, is_weak=True, score=0.1
    )
    text = client.get(page(survey, source="model")).content.decode()
    assert text.count('class="crop"') == 2
    assert 'name="box"' not in text
    assert reverse("annotation:task", args=[task.public_id]) in text


def test_retired_and_proposed_labels_have_a_drawer(client: Client, survey: Survey, label: Label) -> None:
    retired = LabelFactory(survey=survey, code="OLD", is_active=False)
    answered(survey, retired)
    answer = answered(survey, label, boxes=1)
    proposal = LabelProposal.objects.create(survey=survey, name="Sminthurus viridis")
    AnnotatedBox.objects.filter(annotation=answer).update(label_proposal=proposal)
    grid = read_grid(survey, {"label": f"proposal:{proposal.pk}"})
    assert [tile.ref for tile in grid.tiles] == [ref(answer, 1)]
    text = client.get(page(survey, label="OLD")).content.decode()
    assert "no longer in use" in text
    assert '<option value="OLD">' not in text.partition("New label")[2]


def test_the_grid_asks_the_database_the_same_however_full_it_is(
    client: Client, survey: Survey, label: Label, django_assert_max_num_queries: Any
) -> None:
    for _photo in range(4):
        answered(survey, label, boxes=6)
    with django_assert_max_num_queries(9):
        client.get(page(survey))
    with django_assert_max_num_queries(9):
        client.get(page(survey, source="model"))


# --- Acting -------------------------------------------------------------------------------------------------


def test_relabelling_leads_back_to_the_same_page_with_a_way_to_undo(
    client: Client, survey: Survey, label: Label
) -> None:
    other = LabelFactory(survey=survey, code="B")
    answer = answered(survey, label, boxes=3)
    response = act(
        client,
        survey,
        action="relabel",
        code=other.code,
        box=[ref(answer, 1), ref(answer, 2)],
        label="A",
        sort="large",
    )
    assert response.status_code == 302
    assert response["Location"] == page(survey, label="A", sort="large")
    assert codes(accepted(answer)) == ["B", "B", "A"]
    text = client.get(response["Location"]).content.decode()
    assert "2 boxes relabelled." in text
    batch = Review.objects.get().batch
    undo_address = reverse("annotation:review_undo", args=[survey.slug, batch])
    assert undo_address in text
    assert undo_address not in client.get(response["Location"]).content.decode()
    client.post(undo_address)
    assert codes(accepted(answer)) == ["A", "A", "A"]


def test_when_a_label_is_emptied_its_page_says_so_and_shows_no_other(
    client: Client, survey: Survey, label: Label
) -> None:
    LabelFactory(survey=survey, code="B")
    answer = answered(survey, label, boxes=1)
    response = act(client, survey, action="relabel", code="B", box=ref(answer, 1), label="A")
    text = client.get(response["Location"]).content.decode()
    assert "Nothing left on this page" in text
    assert 'name="box"' not in text
    assert '<option value="A" selected>' in text


def test_what_was_left_alone_is_told(client: Client, survey: Survey, label: Label) -> None:
    LabelFactory(survey=survey, code="B")
    first, second = answered(survey, label), answered(survey, label)
    act(client, survey, action="relabel", code="B", box=ref(first, 1))
    response = act(client, survey, action="relabel", code="B", box=[ref(first, 2), ref(second, 1)])
    text = client.get(response["Location"]).content.decode()
    assert "1 box relabelled. 1 had changed meanwhile and was left alone." in text


@pytest.mark.parametrize(
    "data",
    [
        {"action": "relabel", "code": "B"},
        {"action": "relabel", "code": ""},
        {"action": "relabel", "code": "RETIRED"},
        {"action": "relabel", "code": "nothing"},
        {"action": "send_back", "box": "nonsense"},
        {"action": "send_back", "box": f"{uuid.uuid4()}.1"},
        {"action": "send_back", "box": f"{uuid.uuid4()}.9999999999999"},
    ],
)
def test_what_cannot_be_done_is_told_and_the_choice_stays(
    client: Client, survey: Survey, label: Label, data: dict[str, str]
) -> None:
    LabelFactory(survey=survey, code="B")
    LabelFactory(survey=survey, code="RETIRED", is_active=False)
    answer = answered(survey, label)
    boxes = [] if data.get("code") == "B" else [ref(answer, 1), data.get("box", ref(answer, 2))]
    response = act(client, survey, **{**data, "box": boxes})
    assert response.status_code == 422
    text = response.content.decode()
    assert 'role="alert"' in text
    assert text.count(" checked>") == sum(box.startswith(str(answer.public_id)) for box in boxes)
    assert accepted(answer) == answer


def test_a_nul_in_a_form_breaks_nothing(client: Client, survey: Survey, label: Label) -> None:
    answer = answered(survey, label)
    response = act(client, survey, box=ref(answer, 1), code="B\0", label="\0")
    assert response.status_code == 422
    response = act(client, survey, box=ref(answer, 1), action="send_back", note="a\0b", label="\0")
    assert response.status_code == 302
    batch = Review.objects.get(note="ab").batch
    undo = client.post(reverse("annotation:review_undo", args=[survey.slug, batch]), {"label": "\0"})
    assert undo.status_code == 302
    assert accepted(answer) == answer


def test_sending_back_and_undoing_it_from_the_history(client: Client, survey: Survey, label: Label) -> None:
    answer = answered(survey, label)
    act(client, survey, action="send_back", box=ref(answer, 1))
    address = reverse("annotation:review_history", args=[survey.slug])
    text = client.get(address).content.decode()
    step = reverse("annotation:review_undo", args=[survey.slug, Review.objects.get().batch])
    assert step in text
    response = client.post(step, {"back": "history"})
    assert response["Location"] == address
    assert accepted(answer) == answer
    assert "undone" in client.get(address).content.decode()
    assert "undone already" in client.post(step, {"back": "history"}, follow=True).content.decode()


def test_the_history_is_ones_own_and_for_staff_everybodys(survey: Survey, label: Label) -> None:
    mine, theirs, staff = Client(), Client(), Client()
    mine.force_login(ExpertFactory())
    theirs.force_login(ExpertFactory())
    staff.force_login(UserFactory(is_staff=True))
    act(mine, survey, action="send_back", box=ref(answered(survey, label), 1))
    address = reverse("annotation:review_history", args=[survey.slug])
    steps = [
        client.get(address).content.decode().count('class="review-step"') for client in (mine, theirs, staff)
    ]
    assert steps == [1, 0, 1]


def test_answered_photos_that_people_discuss_are_listed_and_sent_back(
    client: Client, survey: Survey, label: Label
) -> None:
    answer, quiet = answered(survey, label), answered(survey, label)
    photo = answer.task.photo
    CommentFactory(observation=photo.observation, photo=photo, box_number=2, body="Is #2 not a mite?")
    CommentFactory(observation=quiet.task.photo.observation, photo=quiet.task.photo, body="Nice plate")
    address = reverse("annotation:discussed", args=[survey.slug])
    text = client.get(address).content.decode()
    assert text.count('class="discussion"') == 1
    assert "Is #2 not a mite?" in text
    assert "written since the answer" in text
    response = act(client, survey, action="send_back", back="discussed", box=ref(answer, 0))
    assert response["Location"] == address
    assert AnnotationTask.objects.get(pk=answer.task_id).state == "waiting"


# --- Crops --------------------------------------------------------------------------------------------------


def test_a_crop_is_a_small_picture_that_browsers_keep(client: Client, survey: Survey, label: Label) -> None:
    answer = answered(survey, label)
    give_picture(answer)
    address = reverse("annotation:crop", args=[answer.public_id, 1])
    response = client.get(address)
    assert response["Content-Type"] == "image/jpeg"
    assert response.content[:2] == b"\xff\xd8"
    assert len(response.content) < 20_000
    assert response["Cache-Control"] == "private, max-age=3600"
    assert client.get(address, headers={"if-none-match": response["ETag"]}).status_code == 304
    box = AnnotatedBox.objects.filter(annotation=answer)[0]
    detection = reverse(
        "annotation:model_crop",
        args=[answer.task.photo.public_id, answer.model_version_id, box.proposal_number],
    )
    assert client.get(detection)["Content-Type"] == "image/jpeg"


def test_the_stored_crop_is_served_without_opening_the_photo(
    client: Client, survey: Survey, label: Label
) -> None:
    answer = answered(survey, label)
    give_picture(answer)
    assert describe_next()
    stored = Crop.objects.get(box__annotation=answer, box__number=1).picture
    answer.task.photo.display.delete()
    response = client.get(reverse("annotation:crop", args=[answer.public_id, 1]))
    assert response.content == bytes(stored or b"")


def test_a_crop_that_is_not_there_does_not_exist(client: Client, survey: Survey, label: Label) -> None:
    answer = answered(survey, label)
    give_picture(answer, b"damaged")
    for args in (
        [answer.public_id, 1],
        [answer.public_id, 99],
        [answer.public_id, 10**30],
        [uuid.uuid4(), 1],
    ):
        assert client.get(reverse("annotation:crop", args=args)).status_code == 404


def test_a_drawn_box_says_so(survey: Survey, label: Label) -> None:
    answer = answered(survey, label, boxes=1)
    task = answer.task
    answer.is_current = False
    answer.save(update_fields=["is_current"])
    drawn = AnnotatedBoxFactory(
        annotation__task=task, annotation__author=ExpertFactory(), label=label, number=1
    )
    AnnotationTask.objects.filter(pk=task.pk).update(accepted=drawn.annotation, accepted_at=Now())
    tile = read_grid(survey, {}).tiles[0]
    assert (tile.caption, Crop.objects.get().disagreement) == ("drawn", 0.5)

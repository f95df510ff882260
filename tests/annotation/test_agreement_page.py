"""How far experts agree: rows of comparisons become tables, plots and CSV."""

import csv
from datetime import timedelta
from io import StringIO

import pytest
from django.urls import reverse
from django.utils import timezone

from apps.annotation.agreement.kappa import cohen_kappa
from apps.annotation.agreement_numbers import AgreementNumbers, Period, both_ways
from apps.annotation.models import AnswerComparison
from tests.annotation.drawing import box, drawing_survey
from tests.annotation.factories import AnnotationFactory, ExpertFactory, TaskFactory
from tests.annotation.several import at, say, survey_of_several, task_for
from tests.factories import LabelFactory, UserFactory

pytestmark = pytest.mark.django_db
Kind = AnswerComparison.Kind


def address(survey):
    return reverse("annotation:agreement", args=[survey.slug])


def compared(survey, first, second, *, kind=Kind.EXPERTS, pairs=(("CER", "CER", 3),), at=None, **counts):
    """A comparison of two answers as settling writes it."""
    task = TaskFactory(photo__observation__survey=survey)
    one = AnnotationFactory(task=task, author=first)
    other = AnnotationFactory(task=task, author=second or ExpertFactory()) if kind != Kind.MODEL else None
    matched = sum(n for *_labels, n in pairs)
    counts = {"missed": 0, "extra": 0, "iou_sum": 0.8 * matched, **counts}
    fields = {"created_at": at} if at else {}
    return AnswerComparison.objects.create(
        task=task,
        kind=kind,
        first=one,
        second=other,
        first_expert=first,
        second_expert=second if kind == Kind.EXPERTS else None,
        matched=matched,
        label_pairs=[list(pair) for pair in pairs],
        **fields,
        **counts,
    )


@pytest.fixture
def survey():
    return drawing_survey()


@pytest.fixture
def anna():
    return ExpertFactory(display_name="Anna")


@pytest.fixture
def bruno():
    return ExpertFactory(display_name="Bruno")


@pytest.fixture
def staff():
    return UserFactory(is_staff=True)


def test_it_adds_up_what_answers_gave_from_the_queue_on(client, staff):
    survey = survey_of_several(2)
    anna, bruno = ExpertFactory(display_name="Anna"), ExpertFactory(display_name="Bruno")
    for label in ("CER", "ISO", "CER"):
        task = task_for(survey)
        version = str(task.photo.model_version)
        say(task, box(1), at(300, label), by=anna, model_version=version)
        say(task, box(1), at(302, label), by=bruno, model_version=version)
    numbers = AgreementNumbers.read(survey, Period())
    pair = numbers.pairs[Kind.EXPERTS][anna.pk, bruno.pk]
    assert (pair.photos, pair.matched, pair.missed, pair.extra) == (3, 6, 0, 0)
    assert pair.confusion == {("CER", "CER"): 5, ("ISO", "ISO"): 1}
    assert pair.kappa.value == pytest.approx(1)
    client.force_login(staff)
    page = client.get(address(survey)).content.decode()
    assert "Anna" in page
    assert "Fleiss" in page
    assert "Each expert and the model" in page
    assert "Each expert and the answer that counts" in page


def test_numbers_are_those_of_the_formulas(survey, anna, bruno):
    compared(survey, anna, bruno, pairs=[("CER", "CER", 20), ("CER", "ISO", 5)], missed=4, extra=2)
    compared(survey, anna, bruno, pairs=[("ISO", "CER", 10), ("ISO", "ISO", 15)], missed=1, extra=3)
    numbers = AgreementNumbers.read(survey, Period())
    pair = numbers.pairs[Kind.EXPERTS][anna.pk, bruno.pk]
    assert pair.kappa.value == pytest.approx(0.4)
    assert pair.found_by_both == pytest.approx(100 / 110)
    assert pair.mean_iou == pytest.approx(0.8)
    seen_by_bruno = numbers.of_person(Kind.EXPERTS, bruno.pk)
    assert (seen_by_bruno.missed, seen_by_bruno.extra) == (5, 5)
    assert seen_by_bruno.confusion["ISO", "CER"] == 5
    assert cohen_kappa(both_ways(pair.confusion)).observed == pytest.approx(0.7)


def test_experts_see_themselves_and_the_others_without_names(client, survey, anna, bruno):
    clara = ExpertFactory(display_name="Clara")
    compared(survey, anna, bruno)
    compared(survey, bruno, clara)
    compared(survey, clara, None, kind=Kind.MODEL)
    client.force_login(anna)
    for query in ("", "?format=csv"):
        page = client.get(address(survey) + query).content.decode("utf-8-sig")
        assert "You" in page
        assert "All experts" in page
        assert "Bruno" not in page
        assert "Clara" not in page
        assert "bruno" not in page.lower()


def test_staff_see_all_pairs_by_name(client, survey, anna, bruno, staff):
    compared(survey, anna, bruno)
    client.force_login(staff)
    page = client.get(address(survey)).content.decode()
    assert "Anna · Bruno" in page


def test_others_are_told_what_experts_do(client, survey):
    assert client.get(address(survey)).status_code == 302
    client.force_login(UserFactory())
    assert client.get(address(survey)).status_code == 403
    assert client.get(reverse("annotation:me")).status_code == 403


def test_an_empty_page_says_when_numbers_appear(client, staff):
    client.force_login(staff)
    page = client.get(address(drawing_survey())).content.decode()
    assert "Nothing to compare yet" in page
    page = client.get(address(survey_of_several(3, slug="other"))).content.decode()
    assert "each photo needs 3 experts" in page


def test_one_expert_for_each_photo_leaves_the_model_to_compare_with(client, survey, anna, staff):
    compared(survey, anna, None, kind=Kind.MODEL, pairs=[("CER", "ISO", 2)], missed=1)
    client.force_login(staff)
    page = client.get(address(survey)).content.decode()
    assert "each photo has one expert" in page
    assert "What experts and the model called the same animal" in page


def test_other_surveys_do_not_count(survey, anna, bruno):
    compared(drawing_survey(slug="other"), anna, bruno)
    assert AgreementNumbers.read(survey, Period()).is_empty


def test_a_period_counts_both_its_days(client, survey, anna, bruno, staff):
    now = timezone.localtime().replace(hour=12)
    compared(survey, anna, bruno, at=now - timedelta(days=10))
    compared(survey, anna, bruno, at=now)
    client.force_login(staff)

    def photos(**query):
        text = client.get(address(survey), {"format": "csv", **query}).content.decode("utf-8-sig")
        return [row["photos"] for row in csv.DictReader(StringIO(text)) if row["first"] == "Anna"]

    today, then = now.date().isoformat(), (now - timedelta(days=10)).date().isoformat()
    assert photos() == ["2"]
    assert photos(to=then) == photos(**{"from": today, "to": today}) == ["1"]
    assert photos(**{"from": then}) == ["2"]
    page = client.get(address(survey), {"to": "2001-01-01"}).content.decode()
    assert "Nothing was compared in these days" in page


@pytest.mark.parametrize(
    "query",
    [
        {"from": "yesterday"},
        {"to": "2026-02-31"},
        {"from": "0001-01-01"},
        {"from": "\0"},
        {"from": "2026-05-02", "to": "2026-05-01"},
    ],
)
@pytest.mark.parametrize("format_", ["", "csv"])
def test_a_day_that_is_none_is_told_beside_its_field(client, survey, staff, query, format_):
    client.force_login(staff)
    response = client.get(address(survey), {**query, "format": format_})
    assert response.status_code == 400
    assert 'class="field__error"' in response.content.decode()


def test_the_csv_has_each_table_and_runs_no_formula(client, survey, bruno, staff):
    evil = ExpertFactory(display_name="=cmd()")
    compared(survey, evil, bruno, pairs=[("CER", "CER", 3), ("CER", "ISO", 1)])
    compared(survey, evil, None, kind=Kind.CONSENSUS, pairs=[("CER", "CER", 4)])
    compared(survey, evil, None, kind=Kind.MODEL, pairs=[("ISO", "CER", 4)], missed=2)
    client.force_login(staff)
    response = client.get(address(survey), {"format": "csv"})
    assert response["Content-Type"].startswith("text/csv")
    rows = list(csv.DictReader(StringIO(response.content.decode("utf-8-sig"))))
    assert {row["comparison"] for row in rows} == {"experts", "consensus", "model"}
    assert {row["label"] for row in rows} == {"", "CER", "ISO"}
    assert rows[0]["first"] == "'=cmd()"
    model = next(row for row in rows if row["comparison"] == "model" and not row["label"])
    assert (model["missed_boxes"], model["same_label"]) == ("2", "0.0")


def test_months_make_a_curve_with_its_table(client, survey, anna, staff):
    now = timezone.now()
    for months in (0, 1, 3):
        compared(survey, anna, None, kind=Kind.MODEL, at=now - timedelta(days=31 * months), missed=months)
    client.force_login(staff)
    page = client.get(address(survey)).content.decode()
    assert "<polyline points=" in page
    assert page.count('r="4"><title>') == 3
    assert "As a table" in page


def test_many_labels_share_a_last_row(client, survey, anna, bruno, staff):
    codes = [LabelFactory(survey=survey).code for _label in range(20)]
    compared(survey, anna, bruno, pairs=[(code, code, 20 - n) for n, code in enumerate(codes)])
    client.force_login(staff)
    page = client.get(address(survey)).content.decode()
    assert page.count('class="num heat__cell') == 13 * 13
    assert "others" in page


def test_a_closed_account_keeps_its_numbers_without_a_name(client, survey, anna, bruno, staff):
    compared(survey, anna, bruno)
    anna.delete()
    client.force_login(staff)
    assert "closed their account" in client.get(address(survey)).content.decode()


def test_the_page_takes_a_fixed_number_of_queries(client, survey, staff, django_assert_max_num_queries):
    experts = [ExpertFactory() for _expert in range(5)]
    for first in experts:
        for second in experts:
            if first.pk < second.pk:
                compared(survey, first, second)
    client.force_login(staff)
    with django_assert_max_num_queries(12):
        assert client.get(address(survey)).status_code == 200


def test_what_took_long_to_read_is_kept_for_some_minutes(client, survey, anna, bruno, staff, monkeypatch):
    monkeypatch.setattr("apps.annotation.agreement_numbers._SLOW_S", -1)
    compared(survey, anna, bruno)
    client.force_login(staff)
    first = client.get(address(survey)).context["numbers"]
    compared(survey, anna, bruno)
    again = client.get(address(survey)).context["numbers"]
    assert again.read_at == first.read_at
    assert again.together(Kind.EXPERTS).photos == 1
    assert (
        client.get(address(survey), {"from": "2020-01-01"}).context["numbers"].together(Kind.EXPERTS).photos
        == 2
    )


def test_each_label_has_its_overlap_and_the_boxes_that_one_alone_saw(client, survey, anna, bruno, staff):
    compared(survey, anna, bruno, by_label={"CER": [2.1, 1, 0], "ISO": [0, 0, 2]})
    compared(survey, anna, None, kind=Kind.MODEL, by_label={"CER": [2.7, 4, 5]})
    client.force_login(staff)
    page = client.get(address(survey)).context["page"]
    lines = {line.label.code: line for line in page.labels}
    assert (lines["CER"].iou, lines["CER"].alone) == (pytest.approx(0.7), 1)
    assert (lines["CER"].model_iou, lines["CER"].only_model, lines["CER"].only_expert) == (
        pytest.approx(0.9),
        4,
        5,
    )
    assert (lines["ISO"].boxes, lines["ISO"].iou, lines["ISO"].alone) == (0, None, 2)

"""The gate's rules, one by one: at the edge, beyond it, and with numbers that are none."""

import math
from dataclasses import replace

import pytest

from apps.common.numbers import number
from apps.training.engine.resampling import Difference
from apps.training.gate import Gate, Side, judge
from apps.training.models import PromotionPolicy
from apps.training.promotion_texts import NOTES, RULES, rule_sentence, shown_rule, shown_rules

GATE = Gate()
METRICS = {"map50_95": 0.6, "ece": 0.05, "latency_ms": 100.0, "photos": 40, "boxes": 200}
BY_LABEL = {"CER": {"recall": 0.8, "boxes": 60}, "ISO_MIN": {"recall": 0.7, "boxes": 9}}
CHAMPION = Side(("CER", "ISO_MIN"), METRICS, BY_LABEL)
BETTER = Difference(
    first=0.6, second=0.62, mean=0.02, low=0.001, high=0.04, first_low=0.5, first_high=0.7, second_low=0.5,
    second_high=0.7, better_share=0.98, pictures=40, samples=1000, confidence=0.95,
)  # fmt: skip


def side(*, labels=("CER", "ISO_MIN"), recall=None, label_boxes=None, **metrics) -> Side:
    by_label = {code: dict(values) for code, values in BY_LABEL.items()}
    for code, value in (recall or {}).items():
        by_label[code]["recall"] = value
    for code, value in (label_boxes or {}).items():
        by_label[code]["boxes"] = value
    return Side(labels, METRICS | metrics, by_label)


def outcome(challenger=None, difference=BETTER, *, recent=None, gate=GATE, champion=CHAMPION):
    return judge(
        gate,
        champion=champion,
        challenger=challenger or side(),
        difference=difference,
        recent=recent or BETTER,
    )


def failed(judgement) -> list[str]:
    return [rule.code for rule in judgement.rules if rule.passed is False]


def test_a_better_version_passes_every_rule():
    judgement = outcome()
    assert judgement.verdict == "passed"
    assert {rule.code for rule in judgement.rules} == {
        *("enough_photos", "enough_animals", "labels_known", "map_not_worse", "map_better", "recent_map"),
        *("recall", "calibration", "latency"),
    }


@pytest.mark.parametrize(("low", "passes"), [(-0.005, True), (-0.0051, False), (math.nan, False)])
def test_the_lower_bound_of_the_difference_may_lie_little_below_nought(low, passes):
    judgement = outcome(difference=replace(BETTER, low=low))
    assert failed(judgement) == ([] if passes else ["map_not_worse"])
    assert judgement.verdict == ("passed" if passes else "refused")


@pytest.mark.parametrize(
    ("second", "mean", "passes"),
    [
        (0.6001, 0.0001, True),
        (0.6, 0.0, False),
        (math.nextafter(0.6, 1), 1e-16, False),  # only the order of a sum
        (0.61, math.nan, False),
        (0.61, -0.001, False),
        (0.59, 0.001, False),
        (math.nan, 1, False),
    ],
)
def test_better_is_better_on_the_photos_and_in_the_mean_of_the_draws(second, mean, passes):
    judgement = outcome(difference=replace(BETTER, second=second, mean=mean))
    assert ("map_better" in failed(judgement)) is not passes


@pytest.mark.parametrize(
    ("recall", "passes"), [(0.75, True), (0.749, False), (None, False), (math.nan, False)]
)
def test_no_label_with_enough_boxes_loses_more_than_five_points_of_recall(recall, passes):
    judgement = outcome(side(recall={"CER": recall}))
    assert failed(judgement) == ([] if passes else ["recall"])


def test_a_label_with_too_few_boxes_is_shown_and_does_not_decide():
    judgement = outcome(side(recall={"ISO_MIN": 0.0}))
    assert judgement.verdict == "passed"
    (rule,) = [rule for rule in judgement.rules if rule.label == "ISO_MIN"]
    assert (rule.passed, rule.note) == (None, "too_few_boxes")
    ten = outcome(side(recall={"ISO_MIN": 0.0}, label_boxes={"ISO_MIN": 10}))
    assert failed(ten) == ["recall"]


@pytest.mark.parametrize(("ece", "passes"), [(0.07, True), (0.0701, False), (0.0, True), (None, False)])
def test_calibration_may_be_little_worse(ece, passes):
    assert failed(outcome(side(ece=ece))) == ([] if passes else ["calibration"])


@pytest.mark.parametrize(
    ("latency", "passes"), [(120.0, True), (120.2, False), (None, False), (math.inf, False)]
)
def test_latency_may_be_a_fifth_higher(latency, passes):
    assert failed(outcome(side(latency_ms=latency))) == ([] if passes else ["latency"])


def test_a_label_in_words_is_known_by_its_code():
    worded = side(labels=tuple(label.capitalize() + " sp." for label in ("CER", "POD", "ISO")))
    coded = side(labels=("CER_SP", "POD_SP", "ISO_SP"))
    assert "labels_known" not in failed(outcome(coded, champion=worded))


def test_a_label_that_production_knows_must_be_known():
    judgement = outcome(side(labels=("CER", "POD")))
    assert failed(judgement) == ["labels_known"]
    (rule,) = [rule for rule in judgement.rules if rule.code == "labels_known"]
    assert rule.label == "ISO_MIN"
    assert outcome(side(labels=("CER", "ISO_MIN", "POD"))).verdict == "passed"


def test_the_newest_photos_count_on_average_only():
    wide = replace(BETTER, second=0.6, low=-0.2, pictures=20)
    assert outcome(recent=wide).verdict == "passed"
    assert failed(outcome(recent=replace(wide, second=0.58))) == ["recent_map"]
    few = outcome(recent=replace(wide, second=0.1, pictures=9))
    assert few.verdict == "passed"
    assert [rule.note for rule in few.rules if rule.code == "recent_map"] == ["too_few_photos"]


@pytest.mark.parametrize("metrics", [{"photos": 9}, {"boxes": 0}, {"photos": None}])
def test_with_too_few_photos_or_no_animal_nothing_is_decided_and_everything_shown(metrics):
    judgement = outcome(side(**metrics))
    assert judgement.verdict == "undecided"
    assert len(judgement.rules) > 5


@pytest.mark.parametrize(
    ("found", "verdict"), [(0.001, "passed"), (0.0, "refused"), (None, "refused"), (math.nan, "refused")]
)
def test_the_first_version_must_find_something(found, verdict):
    assert judge(GATE, champion=None, challenger=side(map50_95=found)).verdict == verdict


def test_the_gate_follows_its_numbers():
    loose = replace(GATE, max_map_loss=1, max_recall_loss=1, max_calibration_loss=1, max_latency_ratio=9)
    bad = side(recall={"CER": 0.1}, ece=0.9, latency_ms=800.0)
    assert outcome(bad, replace(BETTER, low=-0.5), gate=loose).verdict == "passed"


def test_the_defaults_are_those_of_the_policy():
    assert Gate.of(PromotionPolicy()) == GATE


def test_rules_are_json_and_have_a_sentence_each():
    judgement = outcome(side(ece=math.nan), replace(BETTER, low=math.nan))
    records = judgement.as_records()
    import json

    assert json.loads(json.dumps(records, allow_nan=False)) == records
    assert {record["code"] for record in records} <= set(RULES)
    assert {record.get("note") for record in records} - {None} <= set(NOTES)
    shown = shown_rules(records, {})
    assert len(shown) == len(records)
    assert all(rule_sentence(rule) for rule in shown)


def test_labels_without_a_test_box_share_one_line():
    unseen = [{"code": "recall", "label": code, "passed": None, "note": "too_few_boxes"} for code in "ABC"]
    records = [{"code": "labels_known", "passed": True}, *unseen, {"code": "latency", "passed": True}]
    titles = [rule.title for rule in shown_rules(records, {"A": "Aphid"})]
    assert titles[1] == "Recall: Aphid, B, C"
    assert len(titles) == 3


def test_numbers_are_rounded_and_not_cut_off():
    assert number(0.3587) == "0.359"
    assert number(-0.0096, places=2, signed=True) == "−0.01"


def test_numbers_are_told_in_the_readers_language():
    from django.utils import translation

    record = next(rule.as_record() for rule in outcome().rules if rule.code == "map_not_worse")
    with translation.override("en"):
        assert "+0.020" in rule_sentence(shown_rule(record, {}))
    with translation.override("fr"):
        assert "+0,020" in rule_sentence(shown_rule(record, {}))

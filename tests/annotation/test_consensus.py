"""One answer out of several."""

import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.annotation.agreement.boxes import LabelledBoxes
from apps.annotation.agreement.consensus import Verdict, find_consensus
from tests.annotation.test_matching import boxes, labelled


def consensus(*answers):
    return find_consensus([boxes(*answer) for answer in answers], min_iou=0.5)


def test_two_who_agree_give_the_mean_box_and_one_label():
    found = consensus([(0, 0, 10, 10, "A")], [(2, 0, 12, 10, "A")])
    (animal,) = found.animals
    assert found.is_settled
    assert animal.verdict == Verdict.AGREED
    assert animal.box == (1, 0, 11, 10)
    assert (animal.votes, animal.agreement, animal.uncertainty) == ({"A": 2}, 1.0, 0.0)
    assert animal.mean_iou == pytest.approx(9 / 11)


def test_the_median_of_three_boxes_is_not_moved_by_a_bad_one():
    (animal,) = consensus([(0, 0, 10, 10, "A")], [(0, 0, 10, 10, "A")], [(0, 0, 10, 18, "A")]).animals
    assert animal.box == (0, 0, 10, 10)


def test_of_two_each_difference_is_a_disagreement():
    found = consensus([(0, 0, 10, 10, "A"), (50, 0, 60, 10, "A")], [(0, 0, 10, 10, "B")])
    assert [animal.verdict for animal in found.animals] == [Verdict.LABEL, Verdict.PRESENCE]
    assert not found.is_settled


def test_of_three_the_majority_decides_what_is_there_and_what_it_is():
    found = consensus(
        [(0, 0, 10, 10, "A"), (50, 0, 60, 10, "A")],
        [(0, 0, 10, 10, "A"), (50, 0, 60, 10, "B"), (90, 0, 99, 10, "A")],
        [(0, 0, 10, 10, "B"), (50, 0, 60, 10, "B")],
    )
    assert [(a.verdict, a.label) for a in found.animals] == [
        (Verdict.AGREED, "A"),
        (Verdict.AGREED, "B"),
        (Verdict.DROPPED, "A"),
    ]
    assert found.is_settled


def test_three_different_names_are_a_disagreement():
    found = consensus([(0, 0, 10, 10, "A")], [(0, 0, 10, 10, "B")], [(0, 0, 10, 10, "C")])
    (animal,) = found.disputed
    assert animal.verdict == Verdict.LABEL
    assert animal.agreement == pytest.approx(1 / 3)
    assert animal.uncertainty == pytest.approx(1)


def test_half_of_four_is_no_majority_for_being_there():
    box = (0, 0, 10, 10, "A")
    (animal,) = consensus([box], [box], [], []).animals
    assert animal.verdict == Verdict.PRESENCE
    assert animal.uncertainty == pytest.approx(0.5)


def test_votes_of_four_can_be_equal():
    found = consensus(*([(0, 0, 10, 10, label)] for label in "DCBA"))
    (animal,) = found.disputed
    assert animal.votes == {"A": 1, "B": 1, "C": 1, "D": 1}
    assert animal.label == "A"


def test_votes_like_four_four_four_two_are_kept_and_settled_by_nobody():
    found = consensus(*([(0, 0, 10, 10, label)] for label in "AAAABBBBCCCCDD"))
    (animal,) = found.animals
    assert list(animal.votes.values()) == [4, 4, 4, 2]
    assert animal.verdict == Verdict.LABEL


def test_all_who_confirm_an_empty_photo_agree():
    assert consensus([], []).is_empty
    assert consensus([], []).is_settled


def test_most_who_confirm_an_empty_photo_overrule_one_box():
    found = consensus([], [], [(0, 0, 10, 10, "A")])
    assert found.is_empty
    assert found.is_settled


def test_three_who_each_saw_another_animal_have_not_agreed_on_none():
    found = consensus(*([(x, 0, x + 10, 10, "A")] for x in (0, 50, 90)))
    assert not found.is_empty
    assert not found.is_settled


def test_one_answer_is_its_own_consensus():
    found = consensus([(0, 0, 10, 10, "A")])
    assert found.is_settled
    assert found.animals[0].uncertainty == 0
    assert consensus([]).is_empty
    with pytest.raises(ValueError, match="needs an answer"):
        find_consensus([], min_iou=0.5)


def test_nobody_has_two_boxes_in_one_animal():
    """Two boxes of one expert that both overlap a third one."""
    found = consensus(
        [(0, 0, 10, 10, "A"), (2, 0, 12, 10, "A")], [(1.8, 0, 11.8, 10, "A")], [(2, 0, 12, 10, "A")]
    )
    for animal in found.animals:
        assert len({member.answer for member in animal.members}) == len(animal.members)
    assert sorted(len(animal.members) for animal in found.animals) == [1, 3]


answers = st.lists(labelled, min_size=1, max_size=5)


def told(found):
    return sorted(
        (a.box, a.label, tuple(a.votes.items()), a.verdict, round(a.mean_iou, 9), a.uncertainty)
        for a in found.animals
    )


@given(answers, st.randoms())
def test_the_order_of_the_experts_changes_nothing(given_answers, random):
    shuffled = list(given_answers)
    random.shuffle(shuffled)
    one, other = (find_consensus(each, min_iou=0.5) for each in (given_answers, shuffled))
    assert told(one) == told(other)
    assert one.is_settled == other.is_settled


@given(labelled, st.integers(2, 5))
def test_equal_answers_agree_wholly(answer, experts):
    distinct = LabelledBoxes.of(*_without_duplicates(answer))
    found = find_consensus([distinct] * experts, min_iou=0.5)
    assert found.is_settled
    assert len(found.agreed) == len(distinct)
    assert all(a.agreement == 1 and a.uncertainty == 0 and math.isclose(a.mean_iou, 1) for a in found.agreed)


@given(answers)
def test_each_box_is_in_one_animal_and_an_animal_has_one_box_of_each(given_answers):
    found = find_consensus(given_answers, min_iou=0.5)
    members = [member for animal in found.animals for member in animal.members]
    assert len(members) == len(set(members)) == sum(len(answer) for answer in given_answers)
    for animal in found.animals:
        assert len({member.answer for member in animal.members}) == len(animal.members)
        assert 0 <= animal.uncertainty <= 1 + 1e-9
        assert sum(animal.votes.values()) == len(animal.members)


def _without_duplicates(answer):
    rows = dict(zip(map(tuple, answer.xyxy_px.tolist()), answer.labels, strict=True))
    return list(rows), list(rows.values())


@pytest.mark.serial
def test_three_experts_with_a_thousand_boxes_each_are_settled_within_a_second():
    random = np.random.default_rng(3)
    corner = random.uniform(0, 9_900, (1_000, 2))
    true = np.hstack([corner, corner + random.uniform(20, 100, (1_000, 2))])
    given_answers = [
        LabelledBoxes(true + random.normal(0, 2, true.shape), ("A",) * 1_000) for _expert in range(3)
    ]
    find_consensus(given_answers, min_iou=0.5)
    began = time.process_time()
    found = find_consensus(given_answers, min_iou=0.5)
    assert time.process_time() - began < 1.5
    assert len(found.agreed) > 950

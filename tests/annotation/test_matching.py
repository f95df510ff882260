"""Boxes of two answers that mean the same animal."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from apps.annotation.agreement.boxes import LabelledBoxes, iou_rows
from apps.annotation.agreement.matching import compare, match
from tests.support.examples import examples

side = st.integers(1, 30)
place = st.integers(0, 60)
box = st.builds(lambda x, y, w, h: (float(x), float(y), float(x + w), float(y + h)), place, place, side, side)
labelled = st.lists(st.tuples(box, st.sampled_from("ABC")), max_size=12).map(
    lambda rows: LabelledBoxes.of([row[0] for row in rows], [row[1] for row in rows])
)


def boxes(*rows):
    return LabelledBoxes.of([row[:4] for row in rows], [row[4] for row in rows])


def test_the_same_boxes_match_each_with_itself_in_whatever_order():
    one = boxes((0, 0, 10, 10, "A"), (20, 0, 30, 10, "B"))
    other = boxes((20, 0, 30, 10, "B"), (0, 0, 10, 10, "A"))
    assert [(pair.first, pair.second, pair.iou) for pair in match(one, other, min_iou=0.5)] == [
        (0, 1, 1.0),
        (1, 0, 1.0),
    ]


def test_an_iou_of_exactly_the_threshold_counts():
    one, other = boxes((0, 0, 10, 10, "A")), boxes((0, 0, 10, 5, "A"))
    assert len(match(one, other, min_iou=0.5)) == 1
    assert match(one, other, min_iou=0.51) == []


def test_the_sum_of_the_overlaps_counts_and_not_the_first_best():
    """Greedily the middle box would take its best partner and leave the other two alone."""
    one = boxes((0, 0, 10, 10, "A"), (4, 0, 14, 10, "A"))
    other = boxes((3, 0, 13, 10, "A"), (7, 0, 17, 10, "A"))
    pairs = {(pair.first, pair.second) for pair in match(one, other, min_iou=0.3)}
    assert pairs == {(0, 0), (1, 1)}


def test_of_equal_overlaps_the_one_with_the_same_label_is_meant():
    """Two animals on top of each other, drawn with one and the same box by both."""
    one = boxes((0, 0, 10, 10, "A"), (0, 0, 10, 10, "B"))
    other = boxes((0, 0, 10, 10, "B"), (0, 0, 10, 10, "A"))
    assert compare(one, other, min_iou=0.5).label_pairs == (("A", "A", 1), ("B", "B", 1))


def test_a_comparison_counts_what_is_missed_extra_and_named_otherwise():
    expert = boxes((0, 0, 10, 10, "A"), (20, 0, 30, 10, "A"), (40, 0, 50, 10, "A"))
    reference = boxes((0, 0, 10, 10, "A"), (20, 0, 30, 8, "B"), (60, 0, 70, 10, "A"), (80, 0, 90, 10, "A"))
    found = compare(expert, reference, min_iou=0.5)
    assert (found.matched, found.missed, found.extra, found.same_label) == (2, 2, 1, 1)
    assert found.iou_sum == pytest.approx(1.8)
    assert found.label_pairs == (("A", "A", 1), ("A", "B", 1))


def test_nothing_matches_nothing():
    empty = boxes()
    assert match(empty, empty, min_iou=0.5) == []
    found = compare(empty, boxes((0, 0, 1, 1, "A")), min_iou=0.5)
    assert (found.matched, found.missed, found.extra) == (0, 1, 0)


def test_boxes_and_labels_are_of_one_number():
    with pytest.raises(ValueError, match="1 boxes with 2 labels"):
        LabelledBoxes.of([(0, 0, 1, 1)], ["A", "B"])


@given(labelled, labelled, st.sampled_from([0.1, 0.3, 0.5, 0.9]))
def test_it_finds_the_best_sum_that_the_whole_matrix_allows(one, other, min_iou):
    pairs = match(one, other, min_iou=min_iou)
    assert len({pair.first for pair in pairs}) == len(pairs) == len({pair.second for pair in pairs})
    assert all(pair.iou >= min_iou for pair in pairs)
    ious = iou_rows(one.xyxy_px, other.xyxy_px)
    worth = np.where(ious >= min_iou, ious, 0.0)
    rows, columns = linear_sum_assignment(worth, maximize=True)
    assert sum(pair.iou for pair in pairs) == pytest.approx(worth[rows, columns].sum(), abs=1e-4)


@given(labelled, labelled, st.randoms())
def test_neither_the_order_of_the_boxes_nor_of_the_sets_matters(one, other, random):
    order = list(range(len(one)))
    random.shuffle(order)
    shuffled = LabelledBoxes(one.xyxy_px[order], tuple(one.labels[i] for i in order))
    there = compare(one, other, min_iou=0.4)
    assert compare(shuffled, other, min_iou=0.4) == pytest.approx(there) or compare(
        shuffled, other, min_iou=0.4
    ).iou_sum == pytest.approx(there.iou_sum)
    back = compare(other, one, min_iou=0.4)
    assert (back.matched, back.missed, back.extra) == (there.matched, there.extra, there.missed)
    assert sorted((b, a, n) for a, b, n in back.label_pairs) == list(there.label_pairs)
    again = compare(shuffled, other, min_iou=0.4)
    assert (again.matched, again.label_pairs) == (there.matched, there.label_pairs)


@settings(max_examples=examples(50))
@given(labelled)
def test_an_answer_matches_itself_wholly(one):
    found = compare(one, one, min_iou=0.5)
    assert (found.matched, found.missed, found.extra) == (len(one), 0, 0)
    assert found.iou_sum == pytest.approx(len(one))
    assert found.same_label == len(one)


@pytest.mark.serial
def test_a_thousand_boxes_each_are_matched_within_half_a_second():
    random = np.random.default_rng(1)
    corner = random.uniform(0, 9_900, (1_000, 2))
    one = np.hstack([corner, corner + random.uniform(20, 100, (1_000, 2))])
    other = one + random.normal(0, 2, one.shape)
    first = LabelledBoxes(one, ("A",) * 1_000)
    second = LabelledBoxes(other, ("A",) * 1_000)
    match(first, second, min_iou=0.5)  # loads what it needs
    began = time.process_time()
    assert len(match(first, second, min_iou=0.5)) > 950
    assert time.process_time() - began < 0.5


@pytest.mark.serial
def test_a_thousand_boxes_that_all_overlap_are_matched_too():
    random = np.random.default_rng(2)
    jitter = random.uniform(0, 5, (1_000, 4))
    many = LabelledBoxes(np.array([0, 0, 100, 100]) + jitter, ("A",) * 1_000)
    others = LabelledBoxes(np.array([0, 0, 100, 100]) + random.uniform(0, 5, (1_000, 4)), ("A",) * 1_000)
    match(boxes((0, 0, 1, 1, "A")), boxes((0, 0, 1, 1, "A")), min_iou=0.5)
    began = time.process_time()
    assert len(match(many, others, min_iou=0.5)) == 1_000
    assert time.process_time() - began < 8


@given(labelled, labelled)
def test_what_is_told_of_each_label_adds_up_to_the_whole(one, other):
    found = compare(one, other, min_iou=0.3)
    assert sum(missed for _iou, missed, _extra in found.by_label.values()) == found.missed
    assert sum(extra for _iou, _missed, extra in found.by_label.values()) == found.extra
    assert all(missed >= 0 and extra >= 0 for _iou, missed, extra in found.by_label.values())
    for label, (iou_sum, _missed, _extra) in found.by_label.items():
        boxes = sum(n for a, b, n in found.label_pairs if label in (a, b))
        assert 0.3 * boxes - 1e-9 <= iou_sum <= boxes + 1e-9

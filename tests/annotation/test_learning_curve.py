"""The learning curve and its advice, as pure functions."""

import math
from dataclasses import replace

import pytest

from apps.annotation.learning_curve import (
    LabelQuality,
    Point,
    advice,
    curve,
    fit,
    is_close,
    outlooks,
)

NAMES = {"CER": "Ceratophysella", "LEP": "Lepidocyrtus", "FOL": "Folsomia"}


def point(version: int, photos: int = 100, **labels: tuple[int, float]) -> Point:
    """`labels`: code to (training boxes, average precision)."""
    known = {code: LabelQuality(boxes, 20, quality) for code, (boxes, quality) in labels.items()}
    return Point(version, photos, 0.8, 0.6, 0.55, 0.65, True, known)


def test_points_stand_in_the_order_of_their_photos_and_are_told_apart() -> None:
    unmeasured = Point(2, 120, None, None, None, None, False, {})
    elsewhere = Point(3, 90, 0.7, 0.5, 0.4, 0.6, False, {})
    drawn = curve([point(4, 200), unmeasured, elsewhere, point(1, 0)])
    assert [one.version for one in drawn.points] == [1, 3, 2, 4]
    assert [one.version for one in drawn.common] == [1, 4]
    assert drawn.apart == [elsewhere]
    assert drawn.unmeasured == [unmeasured]


def test_a_refused_version_bends_neither_the_line_nor_the_advice() -> None:
    failed = replace(point(2, 100, CER=(20, 0.0)), is_refused=True)
    drawn = curve([point(1, 100, CER=(20, 0.3)), failed])
    assert [one.version for one in drawn.common] == [1]
    assert drawn.refused == [failed]


def test_the_line_and_its_error_are_those_of_least_squares() -> None:
    slope, error = fit([0, 1, 2, 3], [0.1, 0.2, 0.3, 0.4])
    assert slope == pytest.approx(0.1)
    assert error == pytest.approx(0)
    slope, error = fit([0, 1, 2], [0.0, 0.3, 0.3])
    assert slope == pytest.approx(0.15)
    assert error == pytest.approx(math.sqrt(0.015 / 2))  # residuals -0.05, 0.1, -0.05
    assert fit([0, 2], [0.1, 0.5]) == (pytest.approx(0.2), None)


def test_with_one_version_the_low_and_rare_label_is_guessed_to_gain_most() -> None:
    ranked = outlooks([point(1, CER=(20, 0.3), LEP=(20, 0.8), FOL=(400, 0.3))])
    assert [one.label for one in ranked] == ["CER", "LEP", "FOL"]
    assert all(one.is_guessed for one in ranked)
    text = advice(ranked, NAMES)
    assert text.startswith("More photos of Ceratophysella would help most. This is a guess from one version:")
    assert "0.30 with 20 training boxes" in text


def test_with_several_versions_the_label_that_still_rises_gains_most() -> None:
    points = [
        point(1, CER=(20, 0.30), LEP=(20, 0.50)),
        point(2, CER=(40, 0.31), LEP=(40, 0.60)),
        point(3, CER=(80, 0.30), LEP=(80, 0.70)),
    ]
    ranked = outlooks(points)
    assert [one.label for one in ranked] == ["LEP", "CER"]
    assert ranked[0].per_doubling == pytest.approx(0.1)
    assert ranked[0].gain == pytest.approx(0.1 * math.log2(130 / 80))
    text = advice(ranked, NAMES)
    assert text.startswith("More photos of Lepidocyrtus would help most. With 80 training boxes")
    assert "over 3 versions it changed by +0.10 with each doubling (± 0.00)" in text


def test_two_versions_are_called_a_weak_basis() -> None:
    ranked = outlooks([point(1, CER=(20, 0.3)), point(2, CER=(40, 0.4))])
    assert "Two versions are a weak basis." in advice(ranked, NAMES)


def test_labels_that_cannot_be_told_apart_are_named_together() -> None:
    ranked = outlooks([point(1, CER=(20, 0.30), LEP=(21, 0.31), FOL=(500, 0.9))])
    assert is_close(ranked[0], ranked[1])
    assert "Ceratophysella or Lepidocyrtus would help most; the figures do not tell these apart." in advice(
        ranked, NAMES
    )


def test_a_promise_is_never_more_than_what_is_missing() -> None:
    ranked = outlooks([point(1, CER=(1, 0.1)), point(2, CER=(2, 0.9))])
    assert ranked[0].gain == pytest.approx(0.1)


def test_a_label_that_gets_worse_promises_nothing() -> None:
    ranked = outlooks([point(1, CER=(20, 0.5)), point(2, CER=(40, 0.4))])
    assert ranked[0].gain == 0
    assert "promise little" in advice(ranked, NAMES)


def test_too_few_test_boxes_and_odd_numbers_tell_nothing() -> None:
    few = Point(1, 10, 0.8, 0.6, None, None, True, {"CER": LabelQuality(20, 4, 0.3)})
    odd = Point(1, 10, 0.8, 0.6, None, None, True, {"CER": LabelQuality(20, 40, math.nan)})
    assert outlooks([few]) == outlooks([odd]) == outlooks([]) == []
    assert advice([], NAMES) == ""


def test_boxes_that_hardly_changed_are_not_fitted() -> None:
    ranked = outlooks([point(1, CER=(100, 0.3)), point(2, CER=(101, 0.5))])
    assert ranked[0].is_guessed


def test_a_label_without_a_training_box_promises_much_and_divides_by_nothing() -> None:
    ranked = outlooks([point(1, CER=(0, 0.0), LEP=(30, 0.5))])
    assert ranked[0].label == "CER"
    assert 0 < ranked[0].gain <= 1

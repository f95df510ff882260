"""The paired bootstrap: exact on every draw, tells a better detector from an equal one, and is fast enough."""

import time

import numpy as np
import pytest

from apps.training.engine.matches import MatchTable
from apps.training.engine.measures import average_precision
from apps.training.engine.resampling import bootstrap_intervals, drawn, map_of_draws, paired_bootstrap

LABELS = ("CER", "ISO_MIN", "POD")


def table(*, pictures=40, quality=0.7, seed=0, boxes=6, truths=None, labels=LABELS) -> MatchTable:
    """A detector that is right at IoU 0.5 with the probability `quality`, at higher thresholds less often."""
    dice = np.random.default_rng(seed)
    if truths is None:
        truths = np.random.default_rng(99).integers(0, 4, (pictures, len(labels)))
    picture, label, reached, score = [], [], [], []
    for place in range(len(truths)):
        for which in range(len(labels)):
            for _ in range(truths[place, which]):
                if dice.random() < quality:
                    picture.append(place)
                    label.append(which)
                    reached.append(dice.integers(1, 11))
                    score.append(dice.uniform(0.3, 1))
            for _ in range(dice.integers(0, boxes)):
                picture.append(place)
                label.append(which)
                reached.append(0)
                score.append(dice.uniform(0, 0.7))
    return MatchTable(
        labels=tuple(labels),
        picture=np.array(picture, np.int64),
        label=np.array(label, np.int64),
        score=np.array(score, np.float32),
        is_match=np.arange(10)[None, :] < np.array(reached)[:, None],
        truths=np.asarray(truths, np.int64),
    )


def repeated(whole: MatchTable, draw) -> MatchTable:
    """The draw as pictures of their own, as the reference would be given it."""
    parts = [place for place, count in enumerate(draw) for _ in range(count)]
    rows = [(new, np.flatnonzero(whole.picture == place)) for new, place in enumerate(parts)]
    own = np.concatenate([found for _new, found in rows])
    return MatchTable(
        labels=whole.labels,
        picture=np.concatenate([np.full(len(found), new) for new, found in rows]),
        label=whole.label[own],
        score=whole.score[own],
        is_match=whole.is_match[own],
        truths=whole.truths[parts],
    )


def test_each_draw_has_the_average_precision_of_its_pictures():
    whole = table()
    draws = drawn(whole.pictures, samples=25, seed=3)
    expected = [np.nanmean(average_precision(repeated(whole, draw))) for draw in draws]
    assert map_of_draws(whole, draws) == pytest.approx(expected, abs=1e-12)


def test_labels_that_a_draw_has_no_animal_of_do_not_count():
    truths = np.zeros((6, 3), np.int64)
    truths[:, 0], truths[0, 1] = 1, 1
    whole = table(truths=truths)
    draws = np.array([[0, 2, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]])
    expected = [np.nanmean(average_precision(repeated(whole, draw))) for draw in draws]
    assert map_of_draws(whole, draws) == pytest.approx(expected, abs=1e-12)


def test_equal_detectors_differ_by_nothing_at_all():
    one = table()
    found = paired_bootstrap(one, one, samples=200, confidence=0.95)
    assert (found.observed, found.mean, found.low, found.high, found.better_share) == (0, 0, 0, 0, 0)


def test_a_better_one_is_better_in_nearly_every_draw_and_a_worse_one_in_none():
    worse, better = table(quality=0.5, seed=1), table(quality=0.9, seed=2)
    up = paired_bootstrap(worse, better, samples=300, confidence=0.95)
    down = paired_bootstrap(better, worse, samples=300, confidence=0.95)
    assert up.low > 0
    assert up.better_share > 0.99
    assert down.high < 0
    assert up.observed == pytest.approx(-down.observed)
    assert up.second_low < up.second < up.second_high


def test_the_same_seed_gives_the_same_interval():
    one, other = table(seed=1), table(seed=2)
    first = paired_bootstrap(one, other, samples=150, confidence=0.9, seed=5)
    assert paired_bootstrap(one, other, samples=150, confidence=0.9, seed=5) == first
    assert paired_bootstrap(one, other, samples=150, confidence=0.9, seed=6) != first


def test_pairing_makes_the_interval_narrower_than_two_intervals_side_by_side():
    one = table(pictures=80, seed=1)
    other = table(pictures=80, seed=1, quality=0.75)
    found = paired_bootstrap(one, other, samples=300, confidence=0.95)
    assert found.high - found.low < (found.first_high - found.first_low) + (
        found.second_high - found.second_low
    )


def test_some_pictures_only_are_as_a_table_of_these():
    one, other = table(seed=1), table(seed=2)
    chosen = [3, 17, 4, 25, 30]
    draw = np.zeros(one.pictures, np.int64)
    draw[chosen] = 1
    found = paired_bootstrap(one, other, samples=100, confidence=0.95, pictures=chosen)
    assert found.pictures == 5
    assert found.first == pytest.approx(np.nanmean(average_precision(repeated(one, draw))))


@pytest.mark.parametrize("pictures", [0, 5])
def test_without_animals_there_is_no_number_and_no_error(pictures):
    empty = table(truths=np.zeros((pictures, 3), np.int64), boxes=3 if pictures else 1)
    found = paired_bootstrap(empty, empty, samples=100, confidence=0.95)
    assert np.isnan([found.first, found.mean, found.low, found.better_share]).all()
    assert found.samples == 0
    assert found.as_record()["low"] is None
    nothing = np.zeros((pictures, 3), np.int64)
    found = bootstrap_intervals(empty, nothing, samples=100, confidence=0.95)
    assert np.isnan(list(found.values())).all()


def test_rates_of_the_draws_are_those_of_their_pictures():
    table_ = table(truths=np.ones((40, 3), np.int64), boxes=200)
    counts = np.random.default_rng(5).integers(0, 4, (40, 3))
    found = bootstrap_intervals(table_, counts, samples=400, confidence=0.9, seed=3)
    right, wrong, missed = (drawn(40, samples=400, seed=3) @ counts).T
    assert found["precision"] == pytest.approx(np.quantile(right / (right + wrong), [0.05, 0.95]))
    assert found["recall"] == pytest.approx(np.quantile(right / (right + missed), [0.05, 0.95]))
    assert found["f1"] == pytest.approx(np.quantile(2 * right / (2 * right + wrong + missed), [0.05, 0.95]))


def test_of_a_single_picture_nothing_is_known():
    one = table(truths=np.ones((1, 3), np.int64), boxes=5)
    found = bootstrap_intervals(one, np.ones((1, 3), np.int64), samples=100, confidence=0.95)
    assert np.isnan(list(found.values())).all()


def test_a_detector_that_finds_nothing_has_nought():
    truths = np.ones((12, 3), np.int64)
    nothing = table(truths=truths, quality=0.0, boxes=1)
    found = paired_bootstrap(nothing, table(truths=truths), samples=100, confidence=0.95)
    assert found.first == 0
    assert found.low > 0


def test_tables_of_other_pictures_are_refused():
    with pytest.raises(ValueError, match="same pictures"):
        paired_bootstrap(table(), table(truths=np.ones((40, 3), np.int64)), samples=100, confidence=0.95)
    with pytest.raises(ValueError, match="same pictures"):
        paired_bootstrap(table(), table(labels=("A", "B", "C")), samples=100, confidence=0.95)


@pytest.mark.slow
@pytest.mark.serial
def test_a_thousand_draws_of_three_hundred_pictures_take_seconds():
    one, other = (table(pictures=300, seed=seed, boxes=60) for seed in (1, 2))
    began = time.perf_counter()
    paired_bootstrap(one, other, samples=1000, confidence=0.95)
    assert time.perf_counter() - began < 30

"""The order of the queue rests on these numbers: each is compared with a computation written another way."""

import hashlib
import math
import statistics
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.annotation.active_learning.strategies import (
    DEFAULT_STRATEGY,
    EMPTY_FIRST,
    EMPTY_LAST,
    STRATEGIES,
    BoxScores,
    Options,
    draw,
    hamming,
    is_telling,
    least_margin,
    top_two,
)

SHARE = st.floats(0, 1, allow_nan=False)
BOX = st.tuples(SHARE, SHARE).map(lambda pair: (max(pair), min(pair)))
PHOTO = st.lists(BOX, max_size=12)
PHOTOS = st.lists(PHOTO, max_size=8)
FILLED_PHOTOS = st.lists(st.lists(BOX, min_size=1, max_size=12), min_size=1, max_size=8)
MARGINS = [key for key in STRATEGIES if key.startswith("margin_")]


def packed(photos):
    p1 = [box[0] for photo in photos for box in photo]
    p2 = [box[1] for photo in photos for box in photo]
    offsets = np.cumsum([0] + [len(photo) for photo in photos])
    return BoxScores(np.array(p1), np.array(p2), offsets)


def half(photos):
    return np.full(len(photos), 0.5)


def scores(key, photos, **options):
    return STRATEGIES[key].score(packed(photos), half(photos), Options(**options))


def naive(key, photo, *, options):
    """The formulas of the documentation, one photo at a time and without NumPy."""
    if not photo:
        return {
            "as_one_box": 0.0 if key == "many_doubtful" else 1.0,
            "first": 1e9,
            "last": -1.0,
        }[options.empty_photos]
    margins = [1 - (p1 - p2) for p1, p2 in photo]
    doubtful = sum(p1 < options.doubtful_below for p1, _ in photo)
    return {
        "margin_sum": math.fsum(margins),
        "margin_mean": statistics.fmean(margins),
        "margin_max": max(margins),
        "margin_top_k": statistics.fmean(sorted(margins, reverse=True)[: options.top_k]),
        "many_doubtful": doubtful if doubtful > options.doubtful_more_than else 0,
    }[key]


@pytest.mark.parametrize("key", [key for key in STRATEGIES if key != "random"])
@given(
    photos=PHOTOS,
    top_k=st.integers(1, 6),
    below=SHARE,
    more_than=st.integers(0, 5),
    empty=st.sampled_from(["as_one_box", "first", "last"]),
)
def test_every_score_equals_the_formula_computed_one_photo_at_a_time(
    key, photos, top_k, below, more_than, empty
):
    options = Options(top_k=top_k, doubtful_below=below, doubtful_more_than=more_than, empty_photos=empty)
    found = STRATEGIES[key].score(packed(photos), half(photos), options)
    assert found.shape == (len(photos),)
    assert found.dtype == np.float64
    assert found == pytest.approx([naive(key, photo, options=options) for photo in photos], abs=1e-9)


@pytest.mark.parametrize("key", STRATEGIES)
@given(photos=PHOTOS, rng=st.randoms(use_true_random=False))
def test_the_order_of_boxes_and_of_photos_does_not_matter(key, photos, rng):
    before = scores(key, photos)
    places = list(range(len(photos)))
    rng.shuffle(places)
    shuffled = [rng.sample(photos[place], len(photos[place])) for place in places]
    assert scores(key, shuffled) == pytest.approx(before[places], abs=1e-9)


@pytest.mark.parametrize("key", MARGINS)
@given(photos=FILLED_PHOTOS, data=st.data())
def test_a_box_that_becomes_less_certain_never_lowers_a_photo(key, photos, data):
    photo = data.draw(st.integers(0, len(photos) - 1))
    box = data.draw(st.integers(0, len(photos[photo]) - 1))
    p1, p2 = photos[photo][box]
    lower = data.draw(st.floats(p2, p1, allow_nan=False))
    changed = [list(boxes) for boxes in photos]
    changed[photo][box] = (lower, p2)
    before, after = scores(key, photos), scores(key, changed)
    assert after[photo] >= before[photo] - 1e-12
    others = np.arange(len(photos)) != photo
    assert after[others].tolist() == before[others].tolist()


@pytest.mark.parametrize("key", STRATEGIES)
@given(photos=PHOTOS)
def test_no_score_is_nan_and_only_empty_photos_are_below_zero(key, photos):
    found = scores(key, photos, empty_photos="last")
    assert np.isfinite(found).all()
    assert all(photo == [] for photo, score in zip(photos, found, strict=True) if score < 0)


@given(photos=FILLED_PHOTOS)
def test_the_mean_of_the_top_k_lies_between_mean_and_maximum(photos):
    assert scores("margin_top_k", photos, top_k=1) == pytest.approx(scores("margin_max", photos))
    assert scores("margin_top_k", photos, top_k=99) == pytest.approx(scores("margin_mean", photos))
    assert (scores("margin_top_k", photos) >= scores("margin_mean", photos) - 1e-9).all()
    assert (scores("margin_top_k", photos) <= scores("margin_max", photos) + 1e-9).all()


def test_the_default_is_the_sum():
    assert DEFAULT_STRATEGY == "margin_sum"
    assert scores("margin_sum", [[(0.9, 0.1), (0.5, 0.5)]]) == pytest.approx([1.2])


@pytest.mark.parametrize("key", [*MARGINS, "many_doubtful"])
def test_photos_without_a_box_go_where_the_survey_says(key):
    photos = [[(0.9, 0.1)] * 500, [], [(1.0, 0.0)]]
    assert scores(key, photos, empty_photos="first")[1] == EMPTY_FIRST
    assert scores(key, photos, empty_photos="last")[1] == EMPTY_LAST
    assert scores(key, photos, empty_photos="first").argmax() == 1
    assert scores(key, photos, empty_photos="last").argmin() == 1


@pytest.mark.parametrize("key", MARGINS)
def test_an_empty_photo_counts_as_one_box_in_which_two_labels_tie(key):
    assert scores(key, [[]]) == scores(key, [[(0.5, 0.5)]]) == [1.0]


def test_many_doubtful_puts_photos_with_more_than_three_first_and_leaves_the_rest_as_it_was():
    doubtful, sure = (0.39, 0.1), (0.40, 0.1)
    photos = [[doubtful] * 3, [sure] * 9, [doubtful] * 4, [], [doubtful] * 7 + [sure]]
    assert scores("many_doubtful", photos).tolist() == [0, 0, 4, 0, 7]
    assert STRATEGIES["many_doubtful"].order(packed(photos), half(photos)).tolist() == [4, 2, 0, 1, 3]


def test_chance_ignores_the_boxes_even_where_there_are_none():
    photos = [[], [(0.5, 0.5)] * 9, [(1.0, 0.0)]]
    draws = np.array([0.2, 0.1, 0.9])
    for empty in ("as_one_box", "first", "last"):
        found = STRATEGIES["random"].score(packed(photos), draws, Options(empty_photos=empty))
        assert found.tolist() == draws.tolist()


def test_the_draws_given_are_not_handed_out_to_be_changed():
    draws = np.array([0.2])
    STRATEGIES["random"].score(packed([[]]), draws)[0] = 9
    assert draws[0] == 0.2


def test_no_photo_at_all_gives_no_score():
    for strategy in STRATEGIES.values():
        assert strategy.score(packed([]), np.zeros(0)).shape == (0,)


@given(scores=st.lists(st.lists(SHARE, min_size=3, max_size=3), max_size=9))
def test_top_two_are_the_two_largest_of_each_row(scores):
    p1, p2 = top_two(np.array(scores).reshape(-1, 3))
    assert p1.tolist() == [max(row) for row in scores]
    assert p2.tolist() == [sorted(row)[-2] for row in scores]


@given(p1=SHARE)
def test_with_one_label_the_background_has_the_rest(p1):
    best, second = top_two([[p1]])
    assert best.tolist() == [p1]
    assert second == pytest.approx([1 - p1])
    assert least_margin(best, second) == pytest.approx([2 - 2 * p1])


def test_the_margin_is_zero_for_a_certain_box_and_one_for_a_tie():
    assert least_margin([1.0, 0.4, 0.7], [0.0, 0.4, 0.2]) == pytest.approx([0, 1, 0.5])


@pytest.mark.parametrize(
    ("p1", "p2", "offsets", "message"),
    [
        ([math.nan], [0.1], [0, 1], "p1 has values"),
        ([0.5], [math.inf], [0, 1], "p2 has values"),
        ([1.1], [0.1], [0, 1], "p1 has values"),
        ([0.5], [-0.1], [0, 1], "p2 has values"),
        ([0.5], [0.1, 0.2], [0, 1], "one length"),
        ([[0.5]], [[0.1]], [0, 1], "one length"),
        ([0.5], [0.1], [0, 2], "from 0 to"),
        ([0.5], [0.1], [1], "from 0 to"),
        ([0.5], [0.1], [], "from 0 to"),
        ([0.5, 0.5], [0.1, 0.1], [0, 2, 1, 2], "not fall"),
    ],
)
def test_what_cannot_be_scores_is_refused(p1, p2, offsets, message):
    with pytest.raises(ValueError, match=message):
        BoxScores(np.array(p1), np.array(p2), np.array(offsets))


@pytest.mark.parametrize("class_scores", [[[]], [0.5, 0.5], [[math.nan, 0.1]], [[1.2, 0.1]]])
def test_class_scores_that_cannot_be_are_refused(class_scores):
    with pytest.raises(ValueError, match="class scores"):
        top_two(class_scores)


@pytest.mark.parametrize("draws", [[], [0.1, 0.2], [1.0], [-0.1], [math.nan]])
def test_draws_must_be_one_share_per_photo(draws):
    with pytest.raises(ValueError, match="draws"):
        STRATEGIES["margin_sum"].score(packed([[]]), draws)


@pytest.mark.parametrize(
    "wrong",
    [
        {"top_k": 0},
        {"doubtful_below": 1.1},
        {"doubtful_below": math.nan},
        {"doubtful_more_than": -1},
        {"empty_photos": "middle"},
    ],
)
def test_options_that_do_not_exist_are_refused(wrong):
    with pytest.raises(ValueError, match=r"must|no such"):
        Options(**wrong)


@given(seed=st.integers(), key=st.text())
def test_a_draw_is_a_share_that_only_seed_and_key_decide(seed, key):
    value = draw(seed, key)
    assert 0 <= value < 1
    assert value == draw(seed, key)
    bits = bin(int(hashlib.sha256(f"{seed}:{key}".encode()).hexdigest(), 16))
    assert value == int(bits[2:].zfill(256)[:53], 2) / 2**53


def test_draws_are_spread_evenly_and_differ_between_seeds():
    first, second = ([draw(seed, str(key)) for key in range(10_000)] for seed in (1, 2))
    assert np.histogram(first, bins=10, range=(0, 1))[0].min() > 880
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.05


def test_a_known_draw_stays_what_it_is_so_that_recorded_choices_can_be_repeated():
    assert draw(20, "photo") == 0.19097596219000001


@given(
    a=st.integers(-(1 << 63), (1 << 63) - 1),
    b=st.integers(-(1 << 63), (1 << 63) - 1),
)
def test_hamming_counts_differing_bits_of_signed_hashes(a, b):
    as_bits = [format(value % (1 << 64), "064b") for value in (a, b)]
    assert hamming(a, b) == hamming(b, a) == sum(x != y for x, y in zip(*as_bits, strict=True))


@pytest.mark.parametrize(
    ("value", "telling"),
    [(None, False), (0, False), (-1, False), (0xFF, True), (0x7F, False), (~0x7F, False)],
)
def test_hashes_of_blank_pictures_tell_nothing(value, telling):
    assert is_telling(value) is telling


def test_scoring_a_hundred_thousand_photos_takes_no_time_worth_a_thought():
    rng = np.random.default_rng(3)
    counts = rng.integers(0, 12, 100_000)
    p1 = rng.uniform(0.25, 1, counts.sum())
    boxes = BoxScores(p1, 1 - p1, np.concatenate([[0], np.cumsum(counts)]))
    draws = rng.uniform(size=len(counts))
    for key, strategy in STRATEGIES.items():
        assert np.isfinite(strategy.score(boxes, draws)).all(), key


def test_the_policy_of_a_survey_offers_exactly_these_strategies():
    from apps.annotation.models import AnnotationPolicy

    assert AnnotationPolicy.Strategy.values == list(STRATEGIES)


def test_the_strategies_can_be_used_from_a_notebook():
    asked = (
        "import sys, apps.annotation.active_learning.strategies;"
        "print([name for name in ('django', 'torch', 'scipy', 'matplotlib') if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", asked], check=True, capture_output=True, text=True)
    assert said.stdout.strip() == "[]"

"""Agreement on labels beyond chance, against the worked examples of the papers."""

from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.annotation.agreement.kappa import (
    cohen_kappa,
    fleiss_kappa,
    fleiss_kappa_of_pairs,
    label_kappas,
    wilson_interval,
)

# Fleiss (1971), table 1: 30 patients, 6 psychiatrists; depression, personality disorder, schizophrenia, neurosis, other.
DIAGNOSES = """
00060 03003 01401 00006 03030 20400 00402 20310 20040 00006 10050 11040 03300 10050 02031
00501 30012 51000 02040 10203 00006 01050 02013 20040 10041 05010 40002 02040 10500 00006
"""


def table(rows):
    return {(str(i), str(j)): n for i, row in enumerate(rows) for j, n in enumerate(row) if n}


def test_cohens_kappa_of_fifty_grant_proposals():
    """20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no: observed 0.7, by chance 0.5."""
    kappa = cohen_kappa(table([[20, 5], [10, 15]]))
    assert kappa.value == pytest.approx(0.4)
    assert (kappa.observed, kappa.n) == (pytest.approx(0.7), 50)


def test_cohens_kappa_and_its_error_as_fleiss_cohen_and_everitt_computed_them():
    """Their example of 200 diagnoses: 0.429 with a standard error of 0.054."""
    kappa = cohen_kappa(table([[106, 10, 4], [22, 28, 10], [2, 12, 6]]))
    assert kappa.value == pytest.approx(0.429, abs=0.0005)
    assert (kappa.high - kappa.low) / 2 / 1.959964 == pytest.approx(0.054, abs=0.001)


def test_the_interval_is_that_of_a_bootstrap():
    rows = np.array([[106, 10, 4], [22, 28, 10], [2, 12, 6]])
    random = np.random.default_rng(0)
    drawn = random.multinomial(200, rows.ravel() / 200, size=4_000).reshape(-1, 3, 3)
    values = [cohen_kappa(table(one.tolist())).value for one in drawn]
    kappa = cohen_kappa(table(rows.tolist()))
    assert np.std(values) == pytest.approx((kappa.high - kappa.low) / 2 / 1.959964, rel=0.06)


def test_fleiss_kappa_of_the_thirty_patients():
    ratings = [{str(j): int(n) for j, n in enumerate(patient) if n != "0"} for patient in DIAGNOSES.split()]
    assert len(ratings) == 30
    assert fleiss_kappa(ratings) == pytest.approx(0.430, abs=0.0005)


def test_fleiss_kappa_of_fourteen_raters():
    """The example of ten things and five categories that encyclopaedias give: 0.210."""
    rows = [
        [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
    ]  # fmt: skip
    ratings = [{str(j): n for j, n in enumerate(row) if n} for row in rows]
    assert fleiss_kappa(ratings) == pytest.approx(0.210, abs=0.0005)


def test_fleiss_needs_equally_many_raters():
    with pytest.raises(ValueError, match="same number"):
        fleiss_kappa([{"A": 2}, {"A": 3}])
    with pytest.raises(ValueError, match="two or more"):
        fleiss_kappa([{"A": 1}])


def test_nothing_rated_and_one_label_throughout_are_undefined():
    assert cohen_kappa({}).value is None
    assert fleiss_kappa([]) is None
    assert fleiss_kappa_of_pairs({}) is None
    same = cohen_kappa({("A", "A"): 9})
    assert (same.value, same.observed, same.n) == (None, 1.0, 9)
    assert fleiss_kappa([{"A": 3}]) is None
    assert fleiss_kappa_of_pairs({("A", "A"): 9}) is None


def test_agreement_less_than_by_chance_is_negative():
    assert cohen_kappa({("A", "B"): 5, ("B", "A"): 5}).value == pytest.approx(-1)


def test_of_one_label_only_that_label_counts():
    kappas = label_kappas({("A", "A"): 10, ("B", "C"): 5, ("C", "B"): 5})
    assert kappas["A"].value == pytest.approx(1)
    assert kappas["B"].value < 0


def test_the_interval_of_a_share_as_wilson_gives_it():
    low, high = wilson_interval(9, 10)
    assert (low, high) == (pytest.approx(0.5958, abs=1e-3), pytest.approx(0.9821, abs=1e-3))
    assert wilson_interval(0, 0) == (0.0, 1.0)
    assert wilson_interval(0, 20)[0] == 0
    assert wilson_interval(20, 20)[1] == pytest.approx(1)


labels = st.sampled_from("ABC")
confusions = st.dictionaries(st.tuples(labels, labels), st.integers(1, 40), max_size=9)


@given(confusions)
def test_the_raters_may_change_places(confusion):
    turned = {(b, a): n for (a, b), n in confusion.items()}
    one, other = cohen_kappa(confusion), cohen_kappa(turned)
    assert one.value == pytest.approx(other.value)
    assert one.low == (None if other.low is None else pytest.approx(other.low))
    assert fleiss_kappa_of_pairs(confusion) == pytest.approx(fleiss_kappa_of_pairs(turned))


@given(st.dictionaries(labels, st.integers(1, 40), min_size=2, max_size=3))
def test_equal_ratings_of_several_labels_agree_wholly(counts):
    kappa = cohen_kappa({(label, label): n for label, n in counts.items()})
    assert kappa.value == pytest.approx(1)
    assert kappa.low == pytest.approx(1)


@given(confusions)
def test_kappa_and_its_interval_stay_in_bounds(confusion):
    kappa = cohen_kappa(confusion)
    if kappa.low is not None:
        assert -1 - 1e-9 <= kappa.low - 1e-9 <= kappa.value <= kappa.high + 1e-9 <= 1 + 2e-9


@given(st.integers(2, 6).flatmap(lambda k: st.lists(st.lists(labels, min_size=k, max_size=k), min_size=1)))
def test_fleiss_of_all_pairs_is_fleiss(things):
    """With as many raters for each thing, the pooled pairs of raters hold all that the formula needs."""
    pairs = Counter(pair for ratings in things for pair in combinations(ratings, 2))
    expected = fleiss_kappa([Counter(ratings) for ratings in things])
    assert fleiss_kappa_of_pairs(pairs) == (None if expected is None else pytest.approx(expected))


def test_one_who_always_says_the_same_agrees_by_chance_and_has_no_interval():
    kappa = cohen_kappa({("A", "A"): 9, ("B", "A"): 3})
    assert (kappa.value, kappa.low, kappa.observed) == (pytest.approx(0), None, 0.75)

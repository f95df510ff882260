import pytest

from apps.training.engine.label_codes import label_code


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("CER", "CER"),
        ("collembola", "collembola"),
        ("Folsomia candida", "FOLSOMIA_CANDIDA"),
        ("Lépidocyrte (adulte)", "LEPIDOCYRTE_ADULTE"),
        ("a" * 41, "A" * 40),
    ],
)
def test_words_become_a_code_and_a_code_stays_itself(name, code):
    assert label_code(name) == code


def test_names_without_a_latin_letter_get_codes_of_their_own():
    ants, bees = label_code("蚂蚁"), label_code("蜜蜂")
    assert ants != bees
    assert ants.startswith("LABEL_")
    assert label_code("蚂蚁") == ants

"""Numbers as templates say them."""

import pytest
from django.utils import translation

from apps.observations.templatetags.podura import duration


@pytest.mark.parametrize(
    ("milliseconds", "language", "words"),
    [(176.4, "en", "176 ms"), (9663, "en", "9.7 s"), (9663, "fr", "9,7 s"), (65_000, "fr", "65,0 s")],
)
def test_long_times_are_said_in_seconds(milliseconds: float, language: str, words: str) -> None:
    with translation.override(language):
        assert duration(milliseconds) == words

"""Texts that people give, made fit to keep: one Unicode form, nothing invisible that changes what others read."""

import unicodedata
from typing import Final

# They turn the direction of the text around them, so that a name could make a page read backwards.
BIDI_CONTROLS: Final = frozenset({*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F})


def clean_text(text: str) -> str:
    """NFC, without control characters (line ends and tabs excepted) and without marks that turn text around.

    NFC may be longer than what was given (U+0958 becomes two characters): limits of length come after it.
    """
    normal = unicodedata.normalize("NFC", text.replace("\r\n", "\n"))
    return "".join(
        c
        for c in normal
        if (c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs")) and ord(c) not in BIDI_CONTROLS
    ).strip()


def clean_line(text: str) -> str:
    """The same on one line, with single blanks."""
    return " ".join(clean_text(text).split())

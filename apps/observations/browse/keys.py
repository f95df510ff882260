"""Keys of keyset paging in an address: the row number, not more than a database key can be."""

_MAX_KEY = 2**63 - 1


def read_key(text: str) -> int | None:
    """The key; None when the text is not one, which gives the first page."""
    if text.isascii() and text.isdecimal() and len(text) < 20 and int(text) <= _MAX_KEY:
        return int(text)
    return None

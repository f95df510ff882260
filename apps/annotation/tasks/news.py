"""Wake-ups for what contributors are told."""


def sweep_news() -> None:
    """Write the digests that are due."""

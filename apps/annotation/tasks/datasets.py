"""Wake-ups for freezing datasets and for imports."""


def sweep_datasets() -> None:
    """Find what a lost message left undone."""

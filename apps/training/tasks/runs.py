"""Wake-ups for training runs."""


def sweep_runs() -> None:
    """Find what a lost message left undone."""

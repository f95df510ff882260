"""Wake-ups for evaluations and comparisons."""


def sweep_evaluation() -> None:
    """Find what a lost message left undone."""

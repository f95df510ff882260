"""Wake-ups for weights from outside."""


def sweep_imports() -> None:
    """Find what a lost message left undone."""

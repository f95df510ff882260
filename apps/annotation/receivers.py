"""What the experts' loop does when the apps to its left have news. Connected in `apps.py`."""


def connect() -> None:
    """Connect all receivers and register the panels shown on other apps' pages."""

"""What observations do when the model factory has news. Connected in `apps.py`."""

from typing import Any

from apps.common.tasks import send_once
from apps.training.signals import model_promoted


def connect() -> None:
    from apps.observations import model_news, model_pages  # needs the models

    model_news.connect()
    model_pages.connect()
    model_promoted.connect(look_again, dispatch_uid="observations.look_again")


def look_again(**_news: Any) -> None:
    """Recent photos follow the new version, in the background."""
    from apps.observations.tasks import redetect

    send_once(redetect)

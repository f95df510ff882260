"""News from observations to the apps that stand to its right; each is sent after the transaction is committed."""

from functools import partial
from typing import Any

import structlog
from django.db import transaction
from django.dispatch import Signal

logger = structlog.get_logger(__name__)

photos_detected = Signal()
"""Sent after the detections of a batch are committed: `photo_ids: list[int]`, `model_version: ModelVersion`."""

comment_added = Signal()
"""Somebody wrote a remark: `comment_id: int`. A double post of the same is one."""

photos_withdrawn = Signal()
"""Photos were deleted: `public_ids: list[UUID]`, `sha256s: list[str]` of the originals, in the same order."""


def tell_on_commit(signal: Signal, *, sender: type[Any], **news: Any) -> None:
    """Send when the current transaction is committed; a receiver that breaks is logged and stops nobody."""
    transaction.on_commit(partial(_tell, signal, sender, news))


def _tell(signal: Signal, sender: type[Any], news: dict[str, Any]) -> None:
    for receiver, answer in signal.send_robust(sender=sender, **news):
        if isinstance(answer, Exception):
            logger.error("signal_receiver_failed", receiver=str(receiver), exc_info=answer)

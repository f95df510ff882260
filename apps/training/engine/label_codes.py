"""Weights from elsewhere name animals in words; surveys name them by codes. One rule leads from one to the other."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from typing import Final

_CODE: Final = re.compile(r"[A-Za-z0-9_-]{1,40}")


def label_code(name: str) -> str:
    """The code by which a survey knows a label of a model: itself if it is one, else made of its letters.

    "Folsomia candida" is FOLSOMIA_CANDIDA. A name without a Latin letter or digit gets one from its digest.
    """
    if _CODE.fullmatch(name):
        return name
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    words = re.findall(r"[A-Za-z0-9]+", plain)
    return "_".join(words).upper()[:40] or f"LABEL_{hashlib.sha256(name.encode()).hexdigest()[:8].upper()}"

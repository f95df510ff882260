"""Which label of a survey a class of an imported set is, and making those that are missing."""

import hashlib
from collections.abc import Iterable, Mapping

from django.utils.text import slugify

from apps.observations.models import Label, Survey

CODE_LENGTH = 40


def labels_by_name(survey: Survey, names: Iterable[str]) -> dict[str, Label]:
    """Labels for the names that the survey knows: by code, else by code or scientific name in any case."""
    labels = list(Label.objects.filter(survey=survey).order_by("-is_active", "pk"))
    exact = {label.code: label for label in labels}
    loose: dict[str, Label] = {}
    for label in labels:
        for name in (label.code, label.scientific_name):
            if name:
                loose.setdefault(name.casefold(), label)
    found = {name: exact.get(name) or loose.get(name.casefold()) for name in names}
    return {name: label for name, label in found.items() if label}


def make_labels(survey: Survey, names: Iterable[str], known: Mapping[str, Label]) -> dict[str, Label]:
    """All labels for the names; those unknown are made. The name itself is kept, so that it is found again."""
    found = dict(known)
    taken = set(Label.objects.filter(survey=survey).values_list("code", flat=True))
    for name in names:
        if name in found:
            continue
        code = _code(name, taken)
        taken.add(code)
        found[name] = Label.objects.create(
            survey=survey,
            code=code,
            scientific_name="" if name == code else name[:160],
            rank=Label.Rank.OTHER,
        )
    return found


def _code(name: str, taken: set[str]) -> str:
    if len(name) <= CODE_LENGTH and name.isascii() and name.replace("-", "").replace("_", "").isalnum():
        code = name
    else:
        code = slugify(name)[:CODE_LENGTH]
    if code and code not in taken:
        return code
    mark = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{code[: CODE_LENGTH - 9]}-{mark}".lstrip("-")

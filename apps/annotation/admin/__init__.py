"""The experts' loop in the curators' console."""

from apps.annotation.admin import (
    answers,
    conflicts,
    exports,
    freezes,
    golden,
    imports,
    labels,
    policy,
    queue,
    reviews,
    starts,
)

__all__ = [
    "answers",
    "conflicts",
    "exports",
    "freezes",
    "golden",
    "imports",
    "labels",
    "policy",
    "queue",
    "reviews",
    "starts",
]

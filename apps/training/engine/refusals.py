"""Why a weights file from outside is refused: a stable code, and what its sentence needs."""

from __future__ import annotations

from typing import Any, Final

from apps.training.engine.weights import WeightsError

_LONGEST_DETAIL: Final = 200


class RefusedWeightsError(WeightsError):
    """`code` and `details` are shown to people: what a file says of itself is cut and made printable first."""

    def __init__(self, code: str, **details: Any) -> None:
        self.code = code
        self.details = {name: shown(value) for name, value in details.items()}
        told = ", ".join(f"{name} {value}" for name, value in self.details.items())
        super().__init__(f"{code}: {told}" if told else code)


def shown(value: Any) -> Any:
    """Numbers that JSON has as they are; else a short text without control characters or tricks of direction."""
    if value is None or (isinstance(value, bool | int | float) and abs(value) <= 1 << 53):
        return value
    if isinstance(value, int):
        return "…"  # Python writes no numbers of thousands of digits
    text = value if isinstance(value, str) else str(value)
    return "".join(c if c.isprintable() else "�" for c in text[:_LONGEST_DETAIL])

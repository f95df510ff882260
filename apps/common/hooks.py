"""A place where apps to the right register functions that those to the left, which must not import them, call."""

from collections.abc import Callable, Iterator
from typing import Generic, ParamSpec, TypeVar

import structlog

logger = structlog.get_logger(__name__)
P = ParamSpec("P")
R = TypeVar("R")


class Hook(Generic[P, R]):
    """Functions of other apps, asked in the order in which they registered."""

    def __init__(self) -> None:
        self._functions: list[Callable[P, R]] = []

    def register(self, function: Callable[P, R]) -> Callable[P, R]:
        """May be used as a decorator; registering twice is the same as once."""
        if function not in self._functions:
            self._functions.append(function)
        return function

    def unregister(self, function: Callable[P, R]) -> None:
        self._functions.remove(function)

    def answers(self, *args: P.args, **kwargs: P.kwargs) -> Iterator[R]:
        """The answer of each; the error of any is the caller's."""
        for function in list(self._functions):
            yield function(*args, **kwargs)

    def sound_answers(self, *args: P.args, **kwargs: P.kwargs) -> Iterator[R]:
        """As `answers`, but one that breaks is logged and left out: for pages, which are whole without it."""
        for function in list(self._functions):
            try:
                answer = function(*args, **kwargs)
            except Exception:
                logger.exception("hook_failed", hook=f"{function.__module__}.{function.__qualname__}")
            else:
                yield answer

"""How work on a run can end other than well."""

import errno
from typing import Any, Final

NO_SPACE: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
DISK_FULL: Final = "disk_full"


class StoppedError(Exception):
    """The worker was told to end: the run waits for another."""


class CancelledError(Exception):
    """Somebody cancelled the run."""


class RunFailedError(Exception):
    """The next attempt would fail as well: `code` is one of `run_texts.FAILURES`."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(detail or code)
        self.code = code
        self.detail = detail


class RunBrokeError(Exception):
    """Something went wrong that another attempt may not meet: `code` is one of `run_texts.FAILURES`."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


def failure_behind(error: BaseException) -> RunFailedError | None:
    """The end that an exception of the worker itself means, if trying again is of no use."""
    if isinstance(error, RunFailedError):
        return error
    if isinstance(error, OSError) and error.errno in NO_SPACE:
        return RunFailedError(DISK_FULL, str(error))
    return None


def readable(value: Any) -> Any:
    """What the database keeps of a job's words: neither NUL nor half a character, and numbers that JSON knows."""
    if isinstance(value, dict):
        return {readable(str(key)): readable(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [readable(one) for one in value]
    if isinstance(value, str):
        return value.replace("\x00", "").encode(errors="replace").decode()
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):  # noqa: PLR0124 - NaN
        return None
    return value

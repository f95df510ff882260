"""Structured logs: one JSON object a line in production, readable lines on a terminal."""

import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

LEFT_OUT = "[left out]"
_MAX_TEXT = 2_000
_PRIVATE_KEY = re.compile(
    r"pass(word|wd)?\b|secret|token|authorization|cookie|api_?key|e_?mail|latitude|longitude|location|coordinates|\blat\b|\blon\b",
    re.IGNORECASE,
)
_CREDENTIALS = re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^/\s@'\"]*:[^/\s@'\"]*@", re.IGNORECASE)
_BEARER = re.compile(r"\b(Bearer|Basic)\s+[A-Za-z0-9._~+/=-]{8,}")


def leave_out_private(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Last line of defence: nothing secret and no coordinates in a log, whoever wrote the line."""
    for key, value in event.items():
        event[key] = LEFT_OUT if _PRIVATE_KEY.search(key) else _cleaned(value, limit=key != "exception")
    return event


def _cleaned(value: Any, *, limit: bool = True) -> Any:
    if isinstance(value, str):
        text = _BEARER.sub(rf"\1 {LEFT_OUT}", _CREDENTIALS.sub(r"\1***@", value))
        return text[:_MAX_TEXT] if limit else text
    if isinstance(value, dict):
        return {k: LEFT_OUT if _PRIVATE_KEY.search(str(k)) else _cleaned(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_cleaned(item) for item in value]
    return value


_SHARED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def configure_logging(*, log_format: str, level: str) -> dict[str, Any]:
    """Set structlog up and give Django's LOGGING dictionary."""
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.processors.format_exc_info,
            leave_out_private,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "structured": {
                "()": structlog.stdlib.ProcessorFormatter,
                "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
                "foreign_pre_chain": [*_SHARED, structlog.processors.format_exc_info, leave_out_private],
            }
        },
        "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "structured"}},
        "root": {"handlers": ["console"], "level": level},
        "loggers": {
            "django.server": {"level": "WARNING"},
            "celery.beat": {"level": "WARNING"},
            "fontTools": {"level": "WARNING"},
        },
    }

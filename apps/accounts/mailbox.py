"""The demonstration's mails, as Django's file backend wrote them."""

import email
import email.policy
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

from django.conf import settings

_SHOWN = 20
_FILES_READ = 40
_SEPARATOR = "-" * 79


@dataclass(frozen=True, slots=True)
class ReadMail:
    recipient: str
    subject: str
    sent_at: datetime | None
    text: str


def read_mails() -> list[ReadMail]:
    """The latest mails, newest first; none when there is no folder for them."""
    folder = Path(str(getattr(settings, "EMAIL_FILE_PATH", None) or "/nonexistent"))
    if not folder.is_dir():
        return []
    files = sorted(folder.glob("*.log"), key=lambda file: file.stat().st_mtime, reverse=True)
    mails: list[ReadMail] = []
    for file in files[:_FILES_READ]:
        written = file.read_text(errors="replace").split(f"\n{_SEPARATOR}\n")
        mails += [_parse(text) for text in reversed(written) if text.strip()]
        if len(mails) >= _SHOWN:
            break
    return mails[:_SHOWN]


def _date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)  # "-0000" is read as naive


def _parse(text: str) -> ReadMail:
    message = email.message_from_string(text.lstrip("\n"), policy=email.policy.default)
    body = message.get_body(preferencelist=("plain",))
    return ReadMail(
        recipient=str(message["To"] or ""),
        subject=str(message["Subject"] or ""),
        sent_at=_date(str(message["Date"] or "")),
        text=body.get_content() if body else "",
    )

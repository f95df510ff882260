"""The migrated database is kept as a template, so that the next test run copies it instead of migrating for 10 seconds.

A template belongs to its migrations, by their digest: an edited migration makes another one. The few newest stay.
"""

import hashlib
import uuid
from pathlib import Path

from django.db import DatabaseError, connection

_PREFIX = "podura_test_template_"
_KEPT = 4
_CHECKOUT = Path(__file__).resolve().parents[2]


def use_template() -> None:
    """Have the test database made from the template, where it is there."""
    name = _name()
    with connection._nodb_cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name])
        if cursor.fetchone():
            connection.settings_dict["TEST"]["TEMPLATE"] = name


def keep_template() -> None:
    """Copy the test database, to which no test has written yet; other test processes may be doing the same."""
    name, source = _name(), connection.settings_dict["NAME"]
    if connection.settings_dict["TEST"].get("TEMPLATE") == name:
        return
    connection.close()  # a database is copied while nobody is connected to it
    unfinished = f"{_PREFIX}{uuid.uuid4().hex[:8]}_unfinished"
    quote = connection.ops.quote_name
    with connection._nodb_cursor() as cursor:
        try:
            cursor.execute(f"CREATE DATABASE {quote(unfinished)} TEMPLATE {quote(source)}")
        except DatabaseError:
            return
        try:
            cursor.execute(f"ALTER DATABASE {quote(unfinished)} RENAME TO {quote(name)}")
        except DatabaseError:  # another process was first
            cursor.execute(f"DROP DATABASE {quote(unfinished)}")
        cursor.execute(
            "SELECT datname FROM pg_database WHERE starts_with(datname, %s) ORDER BY oid DESC", [_PREFIX]
        )
        for (old,) in cursor.fetchall()[_KEPT:]:
            try:
                cursor.execute(f"DROP DATABASE {quote(old)}")
            except DatabaseError:  # it is being copied
                continue


def _name() -> str:
    digest = hashlib.sha256((_CHECKOUT / "requirements.txt").read_bytes())
    for path in sorted(_CHECKOUT.glob("apps/*/migrations/*.py")):
        digest.update(str(path.relative_to(_CHECKOUT)).encode() + b"\0" + path.read_bytes())
    return _PREFIX + digest.hexdigest()[:16]

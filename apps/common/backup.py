"""Backup and restore of everything that cannot be made again: the database and the stored files.

A backup is a folder: `database.dump` (pg_dump, custom format), `files/<storage>/<name>`, and `manifest.json` with the
SHA-256 of each. It is written under another name and renamed when it is complete.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from django.core.files import File
from django.core.files.storage import Storage, storages
from django.db import connection

STORAGES = ("default", "renditions")
_CHUNK = 1024 * 1024


class BackupError(Exception):
    """Why there is no backup, or no restore; for a person."""


def postgres_program(name: str) -> str:
    """`pg_dump` or `pg_restore` of the newest installed version: an older one refuses a newer server."""
    newest = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda p: float(p.parts[-3]))
    program = str(newest[-1]) if newest else shutil.which(name)
    if not program:
        raise BackupError(f"{name} is not installed (Debian: postgresql-client)")
    return program


def _connection_environment() -> dict[str, str]:
    """The variables of libpq: a password on the command line could be read by every user of the machine."""
    given = connection.settings_dict
    names = {
        "PGHOST": "HOST",
        "PGPORT": "PORT",
        "PGUSER": "USER",
        "PGPASSWORD": "PASSWORD",
        "PGDATABASE": "NAME",
    }
    own = {variable: str(given[key]) for variable, key in names.items() if given.get(key)}
    return {k: v for k, v in os.environ.items() if not k.startswith("PG")} | own


def _run(argv: list[str]) -> None:
    done = subprocess.run(argv, env=_connection_environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise BackupError(f"{Path(argv[0]).name} failed: {done.stderr.strip()[-2000:]}")


def _names(storage: Storage, folder: str = "") -> Iterator[str]:
    try:
        folders, files = storage.listdir(folder)
    except FileNotFoundError:
        return
    for name in sorted(files):
        if name:
            yield f"{folder}/{name}" if folder else name
    for name in sorted(folders):
        yield from _names(storage, f"{folder}/{name}" if folder else name)


def _copy(source: BinaryIO | File[bytes], target: Path) -> str:
    """Gives the SHA-256 of what was written."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with target.open("wb") as out:
        while block := source.read(_CHUNK):
            digest.update(block)
            out.write(block)
    return digest.hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def make_backup(*, target: Path) -> Path:
    """Write a backup into a new folder below `target`, named after the time (UTC); returns that folder.

    The database first: files are never overwritten, so every file that the dump names is still there afterwards,
    except those deleted meanwhile.
    """
    name = datetime.now(UTC).strftime("%Y-%m-%dT%H%M%SZ")
    folder, partial = target / name, target / f"{name}.partial"
    if folder.exists():
        raise BackupError(f"{folder} exists already")
    partial.mkdir(parents=True, mode=0o700)
    dump = partial / "database.dump"
    _run([postgres_program("pg_dump"), "--format=custom", "--no-owner", f"--file={dump}"])
    files: dict[str, dict[str, str]] = {}
    for alias in STORAGES:
        storage = storages[alias]
        files[alias] = {}
        for stored in _names(storage):
            try:
                with storage.open(stored) as source:
                    files[alias][stored] = _copy(source, partial / "files" / alias / stored)
            except FileNotFoundError:  # deleted by its owner while we were copying
                continue
    manifest = {"made_at": name, "database_sha256": _sha256(dump), "files": files}
    (partial / "manifest.json").write_text(json.dumps(manifest, indent=1))
    partial.rename(folder)
    return folder


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
    except (OSError, ValueError) as error:
        raise BackupError(f"{folder} is not a complete backup") from error
    for alias, files in manifest["files"].items():
        for name in files:
            if alias not in STORAGES or name.startswith("/") or re.search(r"(^|/)\.\.(/|$)", name):
                raise BackupError(f"{folder}: {name!r} does not belong into a backup")
    return dict(manifest)


def _verify(folder: Path, manifest: dict[str, Any]) -> None:
    """Before anything is touched: half a restore is worse than none."""
    if _sha256(folder / "database.dump") != manifest["database_sha256"]:
        raise BackupError("database.dump is damaged")
    for alias, files in manifest["files"].items():
        for name, digest in files.items():
            path = folder / "files" / alias / name
            if not path.is_file() or _sha256(path) != digest:
                raise BackupError(f"files/{alias}/{name} is missing or damaged")


def restore_backup(*, folder: Path) -> int:
    """Bring a backup back into an empty database and storages without those files; returns the number of files."""
    manifest = _read_manifest(folder)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_tables WHERE schemaname = 'public' AND tablename LIKE 'django%'"
        )
        if cursor.fetchone()[0]:
            raise BackupError(
                "The database is not empty: restore into a new one, e.g. PODURA_DB_NAME=podura_restored"
            )
    connection.close()
    _verify(folder, manifest)
    for alias, files in manifest["files"].items():
        taken = next((name for name in files if storages[alias].exists(name)), None)
        if taken:
            raise BackupError(f"The storage {alias!r} already has {taken}: restore into an empty one")
    # PostGIS may already be there (bin/services makes it); everything else is as in the dump, or nothing is.
    dump = str(folder / "database.dump")
    _run([
        postgres_program("pg_restore"), "--no-owner", "--clean", "--if-exists", "--single-transaction",
        f"--dbname={connection.settings_dict['NAME']}", dump,
    ])  # fmt: skip
    number = 0
    for alias, files in manifest["files"].items():
        for name in files:
            with (folder / "files" / alias / name).open("rb") as source:
                stored = storages[alias].save(name, File(source))
            if stored != name:
                raise BackupError(f"{name} was stored as {stored}")
            number += 1
    return number

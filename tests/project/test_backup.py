"""Backup and restore, with the real programs, on the real private server."""

import json
import os
import secrets
import subprocess

import psycopg
import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.db import connection

from apps.common.backup import BackupError, make_backup, restore_backup
from tests.factories import PhotoFactory
from tests.support.processes import CHECKOUT, site_environment

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def empty_database():
    """Name of a new database on the same server."""
    name = f"podura_restore_{secrets.token_hex(4)}"
    given = connection.settings_dict
    server = {"host": given["HOST"], "user": given["USER"], "dbname": "postgres"}
    if given["PORT"]:
        server["port"] = given["PORT"]
    if given["PASSWORD"]:
        server["password"] = given["PASSWORD"]
    with psycopg.connect(**server, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
    yield name
    with psycopg.connect(**server, autocommit=True) as admin:
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_what_was_backed_up_comes_back_into_an_empty_database_and_storage(tmp_path, empty_database):
    photo = PhotoFactory(name="été.jpg")
    stored = storages["default"].save("originals/é 1.jpg", ContentFile(b"bytes of a photo"))
    env = os.environ | site_environment() | {"DJANGO_SETTINGS_MODULE": "tests.settings"}
    made = subprocess.run(
        [CHECKOUT / "bin" / "backup", tmp_path / "to"], env=env, capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr
    folder = made.stdout.strip().splitlines()[-1]
    storages["default"].delete(stored)

    url = env["DATABASE_URL"].rpartition("/")[0] + f"/{empty_database}"
    other = env | {
        "DATABASE_URL": url, "PODURA_DB_NAME": empty_database, "STORAGE_URL": f"file://{tmp_path}/media",
    }  # fmt: skip
    back = subprocess.run(
        [CHECKOUT / "bin" / "restore", folder], env=other, capture_output=True, text=True, check=False
    )
    assert back.returncode == 0, back.stderr
    assert (tmp_path / "media" / "private" / stored).read_bytes() == b"bytes of a photo"
    look = "from apps.observations.models import Photo; p = Photo.objects.get(); print(p.public_id, p.name, p.survey.slug)"
    told = subprocess.run(
        [CHECKOUT / ".venv" / "bin" / "python", "manage.py", "shell", "-v", "0", "-c", look],
        cwd=CHECKOUT, env=other | {"PYTHONIOENCODING": "utf-8"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert told.stdout.split() == [str(photo.public_id), "été.jpg", photo.survey.slug], told.stderr

    again = subprocess.run(
        [CHECKOUT / "bin" / "restore", folder], env=other, capture_output=True, text=True, check=False
    )
    assert again.returncode == 1
    assert "not empty" in again.stderr


def test_a_database_that_is_not_empty_is_not_touched(tmp_path):
    PhotoFactory()
    folder = make_backup(target=tmp_path)
    with pytest.raises(BackupError, match="not empty"):
        restore_backup(folder=folder)


def test_a_backup_that_was_broken_off_or_tampered_with_is_refused(tmp_path):
    folder = make_backup(target=tmp_path)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["default"]["../../etc/passwd"] = "0" * 64
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BackupError, match="does not belong"):
        restore_backup(folder=folder)
    (folder / "manifest.json").unlink()
    with pytest.raises(BackupError, match="not a complete backup"):
        restore_backup(folder=folder)


def test_a_password_is_not_on_the_command_line(monkeypatch, tmp_path):
    seen = []

    def remember(argv, **options):
        seen.append((argv, options["env"]))
        return subprocess.CompletedProcess(argv, 1, "", "no")

    monkeypatch.setitem(connection.settings_dict, "PASSWORD", "hunter2")
    monkeypatch.setattr("apps.common.backup.subprocess.run", remember)
    with pytest.raises(BackupError):
        make_backup(target=tmp_path)
    assert "hunter2" not in str(seen[0][0])
    assert seen[0][1]["PGPASSWORD"] == "hunter2"

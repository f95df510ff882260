"""Zip archives: read entry by entry in the background, each file once, hostile ones refused by name."""

import io
import os
import stat
import struct
import time
import zipfile
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.files.storage import storages
from django.db.models.functions import Now

from apps.common import leased
from apps.common.leased import LeaseLostError, WorkStatus
from apps.observations.models import ArchiveUpload, DiscardedFile, Photo, RefusedFile
from apps.observations.services import archives
from apps.observations.services.archives import is_archive, read_archive, read_next_archive, receive_archive
from apps.observations.services.intake import RefusedPictureError, receive_photo, refusal_message
from apps.observations.services.observations import observation_progress
from apps.observations.tasks import purge_files, read_archives, sweep
from tests.factories import ObservationFactory
from tests.support.pictures import jpeg, png, zip_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def observation():
    return ObservationFactory()


def receive(observation, content: bytes, name: str = "plates.zip") -> ArchiveUpload:
    return receive_archive(observation=observation, file=io.BytesIO(content), name=name)


def read_all() -> None:
    while read_next_archive(seconds=60):
        pass


def zip_with(*entries) -> bytes:
    """Entries are (ZipInfo or name, bytes)."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry, content in entries:
            archive.writestr(entry, content)
    return file.getvalue()


def stored_archives() -> list[str]:
    folder = Path(storages["default"].path("archives"))
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def refusals(observation) -> dict[str, str]:
    return {row.name: row.code for row in RefusedFile.objects.filter(observation=observation)}


def test_each_picture_of_an_archive_becomes_a_photo(observation):
    content = zip_of(
        **{"a.jpg": jpeg(seed=1), "folder/b.png": png(seed=2), "folder/deep/c.jpg": jpeg(seed=3)}
    )
    archive = receive(observation, content)
    assert archive.entries == 3
    assert observation_progress(observation)["archives_pending"] == 1
    read_all()
    assert sorted(Photo.objects.values_list("name", flat=True)) == ["a.jpg", "b.png", "c.jpg"]
    archive.refresh_from_db()
    assert (archive.status, archive.next_entry) == (WorkStatus.DONE, 3)
    assert not refusals(observation)
    assert observation_progress(observation)["archives_pending"] == 0


def test_the_stored_zip_is_removed_when_it_is_read(observation):
    archive = receive(observation, zip_of(a=jpeg()))
    path = Path(archive.file.path)
    assert path.exists()
    read_all()
    purge_files()
    assert not path.exists()
    assert not DiscardedFile.objects.exists()


def test_files_that_are_no_pictures_are_listed_with_their_reason_and_the_rest_goes_on(observation):
    receive(
        observation,
        zip_of(
            **{
                "a.txt": b"hello",
                "b.jpg": jpeg(),
                "c.jpg": b"",
                "d.jpg": jpeg()[:400],
                "e.zip": zip_of(x=b"y"),
            }
        ),
    )
    read_all()
    assert Photo.objects.get().name == "b.jpg"
    assert refusals(observation) == {
        "a.txt": "not_a_picture",
        "c.jpg": "empty",
        "d.jpg": "truncated",
        "e.zip": "archive_nested",
    }


def test_what_computers_add_by_themselves_is_skipped_without_a_word(observation):
    receive(
        observation,
        zip_of(
            **{
                "plates/": b"",
                "plates/.DS_Store": b"x",
                "__MACOSX/plates/._a.jpg": b"x",
                "plates/._a.jpg": b"x",
                "Thumbs.db": b"x",
                "plates/desktop.ini": b"x",
                "plates/a.jpg": jpeg(),
            }
        ),
    )
    read_all()
    assert Photo.objects.count() == 1
    assert not refusals(observation)


def unix_entry(name: str, kind: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.create_system = 3
    entry.external_attr = (kind | 0o777) << 16
    return entry


def test_names_that_lead_outside_links_and_devices_are_refused(observation):
    receive(
        observation,
        zip_with(
            ("../../outside.jpg", jpeg(seed=1)),
            ("/etc/absolute.jpg", jpeg(seed=2)),
            ("C:\\windows\\drive.jpg", jpeg(seed=3)),
            ("a\\..\\..\\backslash.jpg", jpeg(seed=4)),
            (unix_entry("link.jpg", stat.S_IFLNK), b"/etc/passwd"),
            (unix_entry("device.jpg", stat.S_IFCHR), b""),
            ("fine/a..b.jpg", jpeg(seed=5)),
        ),
    )
    read_all()
    assert refusals(observation) == {
        "outside.jpg": "archive_unsafe_name",
        "absolute.jpg": "archive_unsafe_name",
        "drive.jpg": "archive_unsafe_name",
        "backslash.jpg": "archive_unsafe_name",
        "link.jpg": "archive_link",
        "device.jpg": "archive_link",
    }
    assert Photo.objects.get().name == "a..b.jpg"


def test_a_bomb_is_stopped_while_it_unpacks(observation):
    receive(observation, zip_with(("bomb.png", b"\0" * 20_000_000), ("a.jpg", jpeg())))
    read_all()
    assert refusals(observation) == {"bomb.png": "archive_bomb"}
    assert Photo.objects.count() == 1


def test_a_size_that_the_archive_lies_about_is_counted_while_reading(observation, settings):
    settings.PICTURE_MAX_BYTES = 100_000
    content = bytearray(zip_with(("big.png", os.urandom(300_000))))
    for signature, at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        position = content.index(signature) + at
        content[position : position + 4] = struct.pack("<I", 1000)
    receive(observation, bytes(content))
    read_all()
    assert refusals(observation)["big.png"] in ("too_many_bytes", "archive_damaged")
    assert not Photo.objects.exists()


def test_an_entry_larger_than_a_picture_may_be_is_not_unpacked(observation, settings):
    settings.PICTURE_MAX_BYTES = 100_000
    receive(observation, zip_with(("big.png", os.urandom(300_000))))
    read_all()
    assert refusals(observation) == {"big.png": "too_many_bytes"}


def test_damaged_entries_are_refused_alone(observation):
    content = bytearray(zip_of(**{"a.jpg": jpeg(seed=1), "b.jpg": jpeg(seed=2)}))
    content[200] ^= 0xFF
    receive(observation, bytes(content))
    read_all()
    assert refusals(observation) == {"a.jpg": "archive_damaged"}
    assert Photo.objects.get().name == "b.jpg"


def with_header_field(content: bytes, local_at: int, central_at: int, value: int) -> bytes:
    changed = bytearray(content)
    for signature, at in ((b"PK\x03\x04", local_at), (b"PK\x01\x02", central_at)):
        position = -1
        while (position := changed.find(signature, position + 1)) >= 0:
            changed[position + at : position + at + 2] = struct.pack("<H", value)
    return bytes(changed)


def test_an_encrypted_archive_is_refused_as_a_whole(observation):
    with pytest.raises(RefusedPictureError) as refusal:
        receive(observation, with_header_field(zip_of(a=jpeg()), 6, 8, 1))
    assert refusal.value.code == "archive_encrypted"


def test_an_unknown_compression_is_refused_per_file(observation):
    receive(observation, with_header_field(zip_of(**{"a.jpg": jpeg()}), 8, 10, 99))
    read_all()
    assert refusals(observation) == {"a.jpg": "archive_method"}


@pytest.mark.parametrize(
    "content",
    [b"PK\x03\x04" + b"\0" * 100, zip_of(a=jpeg())[:-30], b"PK\x05\x06", os.urandom(5000), b"plain text"],
    ids=["start", "cut", "end", "noise", "text"],
)
def test_what_is_no_readable_zip_is_refused_as_a_whole(observation, content):
    before = stored_archives()
    with pytest.raises(RefusedPictureError) as refusal:
        receive(observation, content)
    assert refusal.value.code == "archive_not_a_zip"
    assert not ArchiveUpload.objects.exists()
    assert stored_archives() == before


def test_an_invalid_name_encoding_is_an_answer_not_an_error(observation):
    content = with_header_field(zip_of(**{"abc.jpg": jpeg()}), 6, 8, 0x800).replace(
        b"abc.jpg", b"\xff\xfe\xfa.jpg"
    )
    with pytest.raises(RefusedPictureError) as refusal:
        receive(observation, content)
    assert refusal.value.code == "archive_not_a_zip"


def test_too_many_files_are_refused_before_any_is_read(observation):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for number in range(10_000):
            archive.writestr(f"{number}.jpg", b"")
    began = time.monotonic()
    with pytest.raises(RefusedPictureError) as refusal:
        receive(observation, file.getvalue())
    assert refusal.value.code == "archive_too_many_files"
    assert "2000" in refusal.value.message.replace(",", "").replace("\u202f", "")
    assert time.monotonic() - began < 2


def test_a_directory_too_long_to_be_read_is_refused_unread(observation, settings, monkeypatch):
    settings.ARCHIVE_MAX_ENTRIES = 1
    content = zip_of(**{"x" * 60_000: b""})
    monkeypatch.setattr(archives.zipfile, "ZipFile", None)
    with pytest.raises(RefusedPictureError) as refusal:
        receive(observation, content)
    assert refusal.value.code == "archive_too_many_files"


def test_an_archive_larger_than_the_limit_is_refused(observation, settings):
    settings.ARCHIVE_MAX_BYTES = 1000
    for content in (os.urandom(2000), zip_with(("zeros", b"\0" * 5000))):
        with pytest.raises(RefusedPictureError) as refusal:
            receive(observation, content)
        assert refusal.value.code == "archive_too_large"


def test_reading_goes_on_where_it_was_interrupted(observation):
    receive(observation, zip_of(**{f"{seed}.jpg": jpeg(seed=seed) for seed in range(4)}, **{"bad.jpg": b"x"}))
    (archive,) = ArchiveUpload.objects.claim(limit=1)
    read_archive(archive, archive.file.open("rb"), until=time.monotonic() - 1)
    archive.refresh_from_db()
    assert (archive.status, archive.attempts, archive.next_entry) == (WorkStatus.PENDING, 0, 0)
    read_all()
    read_archives()
    assert Photo.objects.count() == 4
    assert RefusedFile.objects.count() == 1


def test_a_worker_killed_between_storing_and_writing_its_position_repeats_without_doubles(
    observation, monkeypatch
):
    receive(observation, zip_of(**{"bad.jpg": b"x", "a.jpg": jpeg(seed=1), "b.jpg": jpeg(seed=2)}))

    class KilledError(BaseException):
        pass

    def killed(*_args):
        raise KilledError

    for _death in range(2):
        with monkeypatch.context() as patched:
            patched.setattr(archives, "_advance", killed)
            with pytest.raises(KilledError):
                read_next_archive(seconds=60)
        ArchiveUpload.objects.update(lease_until=Now() - timedelta(seconds=1))
    read_all()
    assert sorted(Photo.objects.values_list("name", flat=True)) == ["a.jpg", "b.jpg"]
    assert RefusedFile.objects.count() == 1
    assert ArchiveUpload.objects.get().status == WorkStatus.DONE


def test_an_entry_that_killed_its_worker_twice_is_left_out(observation):
    receive(observation, zip_of(**{"a.jpg": jpeg(seed=1), "b.jpg": jpeg(seed=2)}))
    for _death in range(2):
        assert ArchiveUpload.objects.claim(limit=1)
        ArchiveUpload.objects.update(lease_until=Now() - timedelta(seconds=1))
    read_all()
    assert refusals(observation) == {"a.jpg": "decoder_limit"}
    assert Photo.objects.get().name == "b.jpg"
    assert ArchiveUpload.objects.get().status == WorkStatus.DONE


def test_a_worker_that_lost_its_lease_stops(observation):
    receive(observation, zip_of(**{"a.jpg": jpeg(seed=1), "b.jpg": jpeg(seed=2)}))
    (stale,) = ArchiveUpload.objects.claim(limit=1)
    ArchiveUpload.objects.update(lease_until=Now() - timedelta(seconds=1))
    (current,) = ArchiveUpload.objects.claim(limit=1)
    with pytest.raises(LeaseLostError):
        read_archive(stale, stale.file.open("rb"), until=time.monotonic() + 60)
    read_archive(current, current.file.open("rb"), until=time.monotonic() + 60)
    assert Photo.objects.count() == 2


def test_a_worker_told_to_stop_gives_the_archive_back(observation):
    receive(observation, zip_of(**{"a.jpg": jpeg()}))
    leased.ask_to_stop()
    try:
        read_next_archive(seconds=60)
    finally:
        leased._stopping[0] = 0
    archive = ArchiveUpload.objects.get()
    assert (archive.status, archive.attempts) == (WorkStatus.PENDING, 0)


def test_photos_sent_earlier_are_named_with_their_day(observation):
    earlier = ObservationFactory(contributor=observation.contributor, survey=observation.survey)
    sent = receive_photo(observation=earlier, file=io.BytesIO(jpeg(seed=1)), name="x.jpg").photo
    receive(
        observation,
        zip_of(**{"again.jpg": jpeg(seed=1), "new.jpg": jpeg(seed=2), "new too.jpg": jpeg(seed=2)}),
    )
    read_all()
    refused = RefusedFile.objects.get()
    assert (refused.name, refused.code, refused.params["photo"]) == (
        "again.jpg",
        "duplicate",
        str(sent.public_id),
    )
    assert str(sent.created_at.year) in refusal_message(refused.code, refused.params)
    assert Photo.objects.filter(observation=observation).count() == 1


def test_a_zip_that_vanished_fails_with_a_reason(observation):
    archive = receive(observation, zip_of(a=jpeg()))
    Path(archive.file.path).unlink()
    read_all()
    archive.refresh_from_db()
    assert (archive.status, archive.failure_reason) == (WorkStatus.FAILED, "archive_damaged")


def test_content_tells_an_archive_not_its_name():
    assert is_archive(io.BytesIO(zip_of(a=b"x")))
    assert not is_archive(io.BytesIO(jpeg()))
    assert not is_archive(io.BytesIO(b""))


def test_a_storage_that_does_not_answer_costs_no_attempt(observation, monkeypatch):
    receive(observation, zip_of(**{"a.jpg": jpeg()}))

    def away(*_args, **_kwargs):
        raise ConnectionError

    with monkeypatch.context() as patched:
        patched.setattr(type(storages["default"]), "open", away)
        assert not read_next_archive(seconds=60)
    archive = ArchiveUpload.objects.get()
    assert (archive.status, archive.attempts) == (WorkStatus.PENDING, 0)
    read_all()
    assert Photo.objects.count() == 1


def test_an_error_of_ours_ends_the_attempt_and_after_the_last_the_archive_fails(observation, monkeypatch):
    receive(observation, zip_of(**{"a.jpg": jpeg()}))

    def broken(*_args, **_kwargs):
        raise RuntimeError("a fault")

    monkeypatch.setattr(archives, "_opened", broken)
    for attempt in (1, 2, 3):
        assert not read_next_archive(seconds=60)
        assert ArchiveUpload.objects.get().attempts == attempt
    archive = ArchiveUpload.objects.get()
    assert archive.status == WorkStatus.FAILED
    assert archive.failure_reason.startswith("archive_failed")
    path = Path(archive.file.path)
    sweep()
    sweep()
    purge_files()
    assert not path.exists()

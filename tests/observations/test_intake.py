"""The one door for pictures: what is stored of a sound one, and that nothing is stored of the others."""

import hashlib
import resource
import threading
import unicodedata
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pytest
from django.core.files.storage import storages
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import DatabaseError
from django.utils import translation
from PIL import Image

from apps.observations import decoding
from apps.observations.models import DiscardedFile, Observation, Photo, RefusedFile
from apps.observations.services import intake
from apps.observations.services.deletion import delete_observation, delete_photo
from apps.observations.services.intake import RefusedPictureError, receive_photo, refusal_message
from apps.observations.services.observations import (
    accept_proposals,
    clean_name,
    create_observation,
    decline_proposals,
    observation_progress,
    proposals,
    update_observation,
)
from apps.observations.tasks import purge_files
from apps.training.engine.pictures import PictureLimits
from tests.factories import ObservationFactory, SurveyFactory, UserFactory
from tests.support.pictures import (
    jpeg,
    jpeg_of_size,
    picture,
    png_of_size,
    refused_pictures,
    saved,
    taken_pictures,
    with_exif,
)

pytestmark = pytest.mark.django_db
TAKEN, REFUSED = taken_pictures(), refused_pictures()
DATE = {0x0132: "2024:05:06 07:08:09"}
NORTH_EAST = {1: "N", 2: (48.0, 30.0, 0.0), 3: "E", 4: (2.0, 15.0, 0.0)}


@pytest.fixture
def observation():
    return ObservationFactory()


def receive(observation, content: bytes, name: str = "plate.jpg") -> intake.ReceivedPhoto:
    return receive_photo(observation=observation, file=BytesIO(content), name=name)


def stored_files() -> set[str]:
    return {
        str(path)
        for alias in ("default", "renditions")
        for path in Path(storages[alias].location).rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("name", sorted(TAKEN))
def test_a_sound_picture_is_kept_byte_by_byte_with_renditions_without_metadata(observation, name):
    content = TAKEN[name]
    received = receive(observation, content, name)
    photo = Photo.objects.get()
    assert received.photo == photo
    assert not received.is_duplicate
    assert photo.original.read() == content
    assert photo.sha256 == hashlib.sha256(content).hexdigest()
    assert photo.size_bytes == len(content)
    assert photo.name == name
    assert name not in photo.original.name
    assert photo.perceptual_hash is not None
    for field, side in ((photo.display, 2560), (photo.thumbnail, 480)):
        rendition = Image.open(field)
        assert rendition.format == "JPEG"
        assert rendition.mode == "RGB"
        assert max(rendition.size) <= side
        assert not rendition.getexif()
        assert set(rendition.info) <= {
            "jfif",
            "jfif_version",
            "jfif_unit",
            "jfif_density",
            "progressive",
            "progression",
        }
    assert (photo.width_px > photo.height_px) == (rendition.width > rendition.height)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_hostile_or_broken_file_is_refused_with_a_reason_and_leaves_nothing(observation, name):
    before = stored_files()
    with pytest.raises(RefusedPictureError) as refusal:
        receive(observation, REFUSED[name], name)
    for language in ("en", "fr"):
        with translation.override(language):
            assert len(refusal.value.message) > 20
            assert "%" not in refusal.value.message
    assert not Photo.objects.exists()
    assert stored_files() == before


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (REFUSED["empty.jpg"], "empty"),
        (REFUSED["truncated.jpg"], "truncated"),
        (REFUSED["long-side.png"], "too_long_side"),
        (REFUSED["many-pixels.png"], "too_many_pixels"),
        (REFUSED["animated.webp"], "animated"),
        (REFUSED["one-pixel.png"], "too_small"),
        (REFUSED["drawing.svg"], "unsupported_format"),
        (REFUSED["page.jpg"], "not_a_picture"),
        (REFUSED["postscript.jpg"], "unsupported_format"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_reason_is_the_right_one(observation, content, code):
    with pytest.raises(RefusedPictureError) as refusal:
        receive(observation, content)
    assert refusal.value.code == code


def test_a_turned_photo_is_stored_upright(observation):
    photo = receive(observation, with_exif({0x0112: 6})).photo
    assert (photo.width_px, photo.height_px) == (64, 96)
    assert Image.open(photo.display).size == (64, 96)


def test_the_same_bytes_again_give_the_earlier_photo_and_store_nothing(observation):
    first = receive(observation, jpeg())
    files = stored_files()
    for target in (
        observation,
        ObservationFactory(contributor=observation.contributor, survey=observation.survey),
    ):
        again = receive(target, jpeg(), "other name.jpg")
        assert again.is_duplicate
        assert again.photo == first.photo
    assert stored_files() == files
    assert Photo.objects.count() == 1


def test_the_same_bytes_of_someone_else_or_for_another_survey_are_another_photo(observation):
    receive(observation, jpeg())
    assert not receive(ObservationFactory(survey=observation.survey), jpeg()).is_duplicate
    assert not receive(ObservationFactory(contributor=observation.contributor), jpeg()).is_duplicate
    assert Photo.objects.count() == 3


def test_a_twin_that_arrives_in_the_same_moment_is_recognised(observation, monkeypatch):
    looked_for = intake._sent_before
    answers = iter([None])
    monkeypatch.setattr(intake, "_sent_before", lambda *args: next(answers, looked_for(*args)))
    receive(observation, jpeg())
    files = stored_files()
    answers = iter([None])
    assert receive(observation, jpeg()).is_duplicate
    assert stored_files() == files


def test_a_file_whose_row_cannot_be_written_is_removed(observation, monkeypatch):
    before = stored_files()

    def fail(*_args, **_kwargs):
        raise DatabaseError("disk full")

    monkeypatch.setattr(Photo, "save", fail)
    with pytest.raises(DatabaseError):
        receive(observation, jpeg())
    assert stored_files() == before


@pytest.mark.django_db(transaction=True)
def test_a_photo_for_an_observation_deleted_meanwhile_stores_nothing(observation):
    stale = Observation.objects.get(pk=observation.pk)
    before = stored_files()
    delete_observation(observation=observation)
    with pytest.raises(RefusedPictureError) as refusal:
        receive(stale, jpeg())
    assert refusal.value.code == "observation_deleted"
    assert stored_files() == before


def test_limits_come_from_the_settings(observation, settings):
    settings.PICTURE_MAX_BYTES = 500
    with pytest.raises(RefusedPictureError) as refusal:
        receive(observation, jpeg(width=400, height=400))
    assert refusal.value.code == "too_many_bytes"
    assert "500" in refusal.value.message


# --- Metadata ----------------------------------------------------------------------------------------------


def test_date_place_and_camera_of_the_file_become_proposals(observation):
    tags = DATE | {0x010F: "Leica\0\0", 0x0110: "DMC\r\nX-Injected: 1"}
    photo = receive(observation, with_exif(tags, NORTH_EAST)).photo
    photo.refresh_from_db()
    assert photo.proposed_at.year == 2024
    assert photo.proposed_location.coords == pytest.approx((2.25, 48.5))
    assert not photo.is_flagged
    assert photo.camera == "Leica DMC X-Injected: 1"
    observation.refresh_from_db()
    assert observation.observed_at is None
    assert observation.location is None


@pytest.mark.parametrize(
    "tags",
    [
        {0x0132: "0000:00:00 00:00:00"},
        {0x0132: "2024:02:31 00:00:00"},
        {0x0132: "1970:01:01 00:00:00"},
        {0x0132: "2999:01:01 00:00:00"},
        {0x0132: "yesterday"},
        {0x0132: "2024:05:06 25:61:61"},
    ],
    ids=str,
)
def test_an_impossible_date_is_left_out_and_flagged(observation, tags):
    photo = receive(observation, with_exif(tags)).photo
    assert photo.proposed_at is None
    assert photo.is_flagged


@pytest.mark.parametrize(
    "gps",
    [
        {1: "N", 2: (0.0, 0.0, 0.0), 3: "E", 4: (0.0, 0.0, 0.0)},
        {1: "N", 2: (91.0, 0.0, 0.0), 3: "E", 4: (2.0, 0.0, 0.0)},
        {1: "N", 2: (48.0, 0.0, 0.0), 3: "E", 4: (181.0, 0.0, 0.0)},
        {1: "X", 2: (48.0, 0.0, 0.0), 3: "E", 4: (2.0, 0.0, 0.0)},
        {1: "N", 2: (48.0, 99.0, 0.0), 3: "E", 4: (2.0, 0.0, 0.0)},
        {1: "N", 2: (48.0, 0.0, 0.0)},
    ],
    ids=str,
)
def test_an_impossible_place_is_left_out_and_flagged(observation, gps):
    photo = receive(observation, with_exif({}, gps)).photo
    assert photo.proposed_location is None
    assert photo.is_flagged


def test_the_earliest_date_and_the_first_place_are_proposed_and_can_be_accepted(observation):
    receive(observation, with_exif({0x0132: "2024:05:07 10:00:00"}, seed=1))
    receive(observation, with_exif({0x0132: "2024:05:06 10:00:00"}, NORTH_EAST, seed=2))
    offered = proposals(observation)
    assert offered
    assert offered.observed_at.day == 6
    accepted = accept_proposals(observation=observation)
    assert accepted.observed_at == offered.observed_at
    assert accepted.location == offered.location
    assert accepted.public_location is not None
    assert not proposals(accepted)


def test_declined_proposals_do_not_come_back(observation):
    receive(observation, with_exif(DATE, NORTH_EAST))
    declined = decline_proposals(observation=observation)
    assert (declined.observed_at, declined.location) == (None, None)
    receive(observation, with_exif(DATE, NORTH_EAST, seed=9))
    assert not proposals(declined)


# --- Names and texts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\photos\\plate.jpg", "plate.jpg"),
        ("a\0b.jpg", "ab.jpg"),
        ("line\r\nSet-Cookie: x.jpg", "line Set-Cookie: x.jpg"),
        ("\u202egpj.exe", "gpj.exe"),
        ("e\u0301tang.jpg", "étang.jpg"),
        ("", "photo"),
        ("...", "..."),
        ("x" * 400 + ".jpg", "x" * 255),
        ("🦗 <b>.jpg", "🦗 <b>.jpg"),
    ],
)
def test_a_files_name_is_a_clean_label_only(observation, name, expected):
    assert clean_name(name) == expected
    photo = receive(observation, jpeg(), name).photo
    photo.refresh_from_db()
    assert photo.name == expected
    assert unicodedata.is_normalized("NFC", photo.name)


def test_texts_of_an_observation_are_cleaned_and_cut():
    observation = create_observation(
        contributor=UserFactory(),
        survey=SurveyFactory(),
        title="a\0b\u202e" + "t" * 300,
        comment="one\r\ntwo\x07",
    )
    observation.refresh_from_db()
    assert observation.title == ("ab" + "t" * 300)[:160]
    assert observation.comment == "one\ntwo"


def test_only_what_a_contributor_may_change_can_be_changed(observation):
    with pytest.raises(TypeError):
        update_observation(observation=observation, contributor=UserFactory())
    changed = update_observation(
        observation=observation, observed_at=datetime(2025, 1, 2, tzinfo=UTC), title=" x "
    )
    assert (changed.title, changed.observed_at.year) == ("x", 2025)


def test_progress_counts_photos_by_state(observation):
    for seed in range(4):
        receive(observation, jpeg(seed=seed))
    claimed = Photo.objects.claim(limit=2)
    claimed[0].finish()
    claimed[1].finish(status="failed", reason="corrupt")
    progress = observation_progress(observation)
    assert progress == {
        "total": 4,
        "waiting": 2,
        "processing": 0,
        "done": 1,
        "failed": 1,
        "archives_pending": 0,
    }


def test_every_refusal_has_a_sentence_with_its_values():
    for code in intake._REFUSALS:
        text = refusal_message(
            code, {"limit": 50 * 1024 * 1024, "width": 1, "height": 1, "sent_at": "2024-05-06T07:08:09Z"}
        )
        assert text
        assert "%" not in text
    assert refusal_message("unheard-of", {})
    assert refusal_message("too_small", {})


# --- Deletion --------------------------------------------------------------------------------------------------


def test_deleting_a_photo_removes_its_rows_now_and_its_files_after(observation):
    before = stored_files()
    keep, gone = receive(observation, jpeg(seed=1)).photo, receive(observation, jpeg(seed=2)).photo
    delete_photo(photo=gone)
    assert list(Photo.objects.all()) == [keep]
    assert DiscardedFile.objects.count() == 3
    purge_files()
    purge_files()
    assert not DiscardedFile.objects.exists()
    assert len(stored_files() - before) == 3
    assert keep.original.read()


def test_deleting_an_observation_leaves_nothing(observation):
    before = stored_files()
    receive(observation, jpeg())
    intake.record_refusal(observation=observation, name="x", code="corrupt")
    delete_observation(observation=observation)
    delete_observation(observation=observation)
    purge_files()
    assert not any(model.objects.exists() for model in (Observation, Photo, RefusedFile, DiscardedFile))
    assert stored_files() == before


# --- The bounded process ------------------------------------------------------------------------------------------


def pool(**changes) -> decoding.DecodingPool:
    options = {"limits": PictureLimits(), "seconds": 10.0, "memory_bytes": 2 * 1024**3} | changes
    return decoding.DecodingPool(**options)


@pytest.mark.slow
def test_a_decoder_without_memory_refuses_and_the_next_picture_is_decoded():
    small = pool(memory_bytes=420 * 1024**2)
    large = saved(picture(9000, 9000), "PNG", compress_level=1)
    with pytest.raises(decoding.PictureError) as refusal:
        small.prepare(BytesIO(large), size_bytes=len(large))
    assert refusal.value.code == "decoder_limit"
    assert small.prepare(BytesIO(jpeg()), size_bytes=len(jpeg())).width_px == 96
    small.close()


def test_a_decoder_that_takes_too_long_is_ended():
    hasty = pool(seconds=0.0)
    with pytest.raises(decoding.PictureError) as refusal:
        hasty.prepare(BytesIO(jpeg()), size_bytes=len(jpeg()))
    assert refusal.value.code == "decoder_limit"
    hasty.close()


def test_a_decoder_killed_while_it_waits_is_replaced():
    shared = pool()
    shared.prepare(BytesIO(jpeg()), size_bytes=len(jpeg()))
    child = shared._idle.queue[-1]
    child._process.kill()
    child._process.wait()
    assert shared.prepare(BytesIO(jpeg()), size_bytes=len(jpeg())).width_px == 96
    shared.close()


def test_a_decoder_killed_at_work_refuses_its_picture_only():
    class Slow(BytesIO):
        def read(self, size=-1):
            child._process.kill()
            child._process.wait()
            return super().read(size)

    shared = pool()
    shared.prepare(BytesIO(jpeg()), size_bytes=len(jpeg()))
    child = shared._idle.queue[-1]
    with pytest.raises(decoding.PictureError) as refusal:
        shared.prepare(Slow(jpeg()), size_bytes=len(jpeg()))
    assert refusal.value.code == "decoder_limit"
    assert shared.prepare(BytesIO(jpeg()), size_bytes=len(jpeg())).width_px == 96
    shared.close()


def test_many_threads_share_the_decoders():
    shared, widths = pool(), []

    def send(seed):
        content = jpeg(seed=seed, width=100 + seed)
        widths.append((seed, shared.prepare(BytesIO(content), size_bytes=len(content)).width_px))

    threads = [threading.Thread(target=send, args=(seed,)) for seed in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert sorted(widths) == [(seed, 100 + seed) for seed in range(8)]
    shared.close()


def test_a_decoder_sees_none_of_the_sites_secrets():
    shared = pool()
    shared.prepare(BytesIO(jpeg()), size_bytes=len(jpeg()))
    child = shared._idle.queue[-1]._process.pid
    lines = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
    names = {line.partition(b"=")[0].decode() for line in lines if line}
    assert names <= {"PATH", "LANG", "OMP_NUM_THREADS"}
    shared.close()


@pytest.mark.slow
def test_hundreds_of_photos_do_not_make_the_process_grow(observation):
    def resident_kb():
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 1024

    receive(observation, jpeg(seed=10_000, width=3000, height=2000))
    before = resident_kb()
    for seed in range(200):
        content = jpeg(seed=seed, width=1600, height=1200, quality=95)
        receive_photo(observation=observation, file=SimpleUploadedFile("x.jpg", content), name="x.jpg")
    assert resident_kb() - before < 60_000


def test_bombs_do_not_grow_the_process(observation):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for content in (png_of_size(60_000, 60_000), jpeg_of_size(65_000, 65_000), png_of_size(20_000, 10_000)):
        with pytest.raises(RefusedPictureError):
            receive(observation, content)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


def test_an_import_in_the_background_sends_bytes_for_a_curator_and_lets_people_go_first(observation):
    content = jpeg(seed=77)
    imported = receive_photo(
        observation=observation,
        file=BytesIO(content),
        name="import/images/0001.jpg",
        priority=Photo.Priority.LOW,
    )
    sent = receive_photo(
        observation=ObservationFactory(survey=observation.survey), file=BytesIO(jpeg(seed=78)), name="a.jpg"
    )
    assert imported.photo.contributor == observation.contributor
    (first,) = Photo.objects.claim(limit=1)
    assert first == sent.photo
    again = receive_photo(observation=observation, file=BytesIO(content), name="other name.jpg")
    assert again.is_duplicate
    assert again.photo == imported.photo
    assert again.photo.observation == observation

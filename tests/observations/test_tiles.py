"""Large photos get deep-zoom tiles: complete, without metadata, for whom the photo is; and nothing is left over."""

import io
import os
import shutil
import subprocess
import sys
import time
import uuid
from datetime import timedelta
from importlib import import_module
from pathlib import Path

import pytest
from django.conf import settings as site
from django.contrib.auth.models import AnonymousUser
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.db import IntegrityError, connection, transaction
from django.db.models.functions import Now
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from PIL import Image

from apps.common.health import oldest_waiting_s
from apps.common.leased import WorkStatus
from apps.observations import tile_cutting
from apps.observations.models import DiscardedFile, Observation, Photo, TilePyramid
from apps.observations.pyramid import TILE_PX, levels_of, tile_count
from apps.observations.results import picture_part
from apps.observations.services import tiles
from apps.observations.services.deletion import delete_photo, purge_discarded_files
from apps.observations.services.intake import receive_photo
from apps.observations.services.tiles import cut_next_pyramid, request_missing_tiles, tiles_of
from apps.observations.tasks import cut_waiting_tiles, sweep
from apps.training.engine.pictures import DEFAULT_LIMITS, PictureError
from tests.factories import ObservationFactory, PhotoFactory, UserFactory
from tests.support.pictures import jpeg, picture, saved

pytestmark = pytest.mark.django_db
WIDTH, HEIGHT = 2_700, 1_100


@pytest.fixture(autouse=True)
def _no_tiles_of_other_tests() -> None:
    shutil.rmtree(storages["renditions"].path("tiles"), ignore_errors=True)


def send(content: bytes | None = None, **of_observation: object) -> Photo:
    observation = ObservationFactory.create(**of_observation)
    content = content or jpeg(width=WIDTH, height=HEIGHT)
    return receive_photo(observation=observation, file=io.BytesIO(content), name="plate.jpg").photo


def stored(photo: Photo) -> dict[str, bytes]:
    folder = Path(storages["renditions"].path(again(photo).tile_pyramid.folder_name))
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*.jpg")}


def folders() -> set[str]:
    root = Path(storages["renditions"].path("tiles"))
    return {path.name for path in root.iterdir()} if root.exists() else set()


def address(photo: Photo, level: int, column: int, row: int) -> str:
    return reverse("observations:tile", args=[photo.public_id, level, column, row])


def again(photo: Photo) -> Photo:
    return Photo.objects.get(pk=photo.pk)


class TestGeometry:
    @pytest.mark.parametrize(
        ("size", "levels"),
        [
            ((512, 512), [(512, 512)]),
            ((513, 10), [(257, 5), (513, 10)]),
            ((1025, 700), [(257, 175), (513, 350), (1025, 700)]),
            ((1, 1), [(1, 1)]),
        ],
    )
    def test_each_level_has_half_the_sides_of_the_next_and_the_smallest_is_one_tile(self, size, levels):
        assert [(level.width, level.height) for level in levels_of(*size)] == levels
        assert (levels_of(*size)[0].columns, levels_of(*size)[0].rows) == (1, 1)

    @pytest.mark.parametrize("size", [(2561, 300), (12_000, 9_000), (30_000, 2), (2, 30_000)])
    def test_tiles_cover_each_level_once(self, size):
        for level in levels_of(*size):
            boxes = [level.box(column, row) for column, row in level.tiles()]
            assert sum((right - left) * (bottom - top) for left, top, right, bottom in boxes) == (
                level.width * level.height
            )
            assert all(right > left and bottom > top for left, top, right, bottom in boxes)
            assert max(box[2] for box in boxes) == level.width
            assert max(box[3] for box in boxes) == level.height


class TestCutting:
    def test_a_large_photo_s_tiles_show_the_photo(self):
        photo = send(saved(picture(WIDTH, HEIGHT, seed=3), "PNG"))
        assert cut_next_pyramid()
        pyramid = TilePyramid.objects.get()
        assert (pyramid.status, pyramid.attempts) == (WorkStatus.DONE, 1)
        content = stored(photo)
        assert len(content) == pyramid.tiles == tile_count(WIDTH, HEIGHT)
        assert sum(map(len, content.values())) == pyramid.size_bytes
        for level in levels_of(WIDTH, HEIGHT):
            whole = Image.new("RGB", (level.width, level.height))
            for column, row in level.tiles():
                box = level.box(column, row)
                tile = Image.open(io.BytesIO(content[f"{level.level}/{column}_{row}.jpg"]))
                assert tile.size == (box[2] - box[0], box[3] - box[1])
                whole.paste(tile, box[:2])
            expected = picture(WIDTH, HEIGHT, seed=3).resize(whole.size, Image.Resampling.BOX)
            difference = [
                abs(a - b)
                for a, b in zip(
                    whole.resize((60, 24)).tobytes(), expected.resize((60, 24)).tobytes(), strict=True
                )
            ]
            assert max(difference) < 24
            assert sum(difference) / len(difference) < 2

    def test_tiles_carry_no_metadata(self):
        exif = Image.Exif()
        exif[0x010F] = "SecretCamera"
        photo = send(jpeg(width=WIDTH, height=HEIGHT, exif=exif.tobytes(), comment=b"SecretPlace"))
        cut_next_pyramid()
        for content in stored(photo).values():
            assert b"Secret" not in content
            assert not {"exif", "comment", "icc_profile"} & set(Image.open(io.BytesIO(content)).info)

    def test_a_turned_photo_is_cut_upright(self):
        exif = Image.Exif()
        exif[0x0112] = 6
        photo = send(jpeg(width=WIDTH, height=HEIGHT, exif=exif.tobytes()))
        assert (photo.width_px, photo.height_px) == (HEIGHT, WIDTH)
        cut_next_pyramid()
        assert len(stored(photo)) == tile_count(HEIGHT, WIDTH)
        (smallest,) = (content for name, content in stored(photo).items() if name.startswith("0/"))
        assert Image.open(io.BytesIO(smallest)).size == (
            levels_of(HEIGHT, WIDTH)[0].width,
            levels_of(HEIGHT, WIDTH)[0].height,
        )

    def test_a_photo_that_its_display_rendition_holds_wholly_gets_none(self):
        photo = send(jpeg(width=2_560, height=300))
        assert not TilePyramid.objects.exists()
        assert request_missing_tiles() == 0
        assert tiles_of(photo) is None

    def test_run_twice_it_does_nothing_twice(self):
        photo = send()
        cut_waiting_tiles()
        before = list(TilePyramid.objects.values()), stored(photo)
        cut_waiting_tiles()
        sweep()
        cut_waiting_tiles()
        assert (list(TilePyramid.objects.values()), stored(photo)) == before
        assert len(folders()) == 1

    def test_photos_that_came_before_get_theirs_by_the_sweep(self):
        photo = send()
        TilePyramid.objects.all().delete()
        sweep()
        assert TilePyramid.objects.get().photo == photo
        assert TilePyramid.objects.get().priority == TilePyramid.Priority.LOW
        sweep()
        assert TilePyramid.objects.count() == 1

    def test_the_migration_asks_for_those_of_all_earlier_large_photos(self):
        large = PhotoFactory(width_px=2_561, height_px=10)
        PhotoFactory(width_px=2_560, height_px=2_560)
        with connection.cursor() as cursor:
            cursor.execute(import_module("apps.observations.migrations.0025_tiles_of_older_photos").REQUEST)
        assert TilePyramid.objects.get().photo == large
        assert TilePyramid.objects.get().status == WorkStatus.PENDING

    def test_waiting_tiles_raise_no_alarm(self):
        send()
        Photo.objects.update(status=WorkStatus.DONE)
        TilePyramid.objects.update(queued_at=Now() - timedelta(days=3))
        assert oldest_waiting_s() is None

    def test_the_database_refuses_a_finished_row_without_tiles(self):
        send()
        with pytest.raises(IntegrityError), transaction.atomic():
            TilePyramid.objects.update(status=WorkStatus.DONE)


@pytest.mark.slow
class TestTrouble:
    def test_a_missing_original_fails_once_and_for_good(self):
        photo = send()
        Path(photo.original.path).unlink()
        assert cut_next_pyramid()
        pyramid = TilePyramid.objects.get()
        assert (pyramid.status, pyramid.failure_reason, pyramid.folder) == (
            WorkStatus.FAILED,
            "original_missing",
            None,
        )
        assert not cut_next_pyramid()
        assert tiles_of(again(photo)) is None

    @pytest.mark.parametrize(
        "content", [b"no picture any more", jpeg(width=WIDTH, height=HEIGHT)[:4000], jpeg()]
    )
    def test_an_original_that_is_no_longer_that_picture_fails_and_leaves_nothing(self, content):
        photo = send()
        Path(photo.original.path).write_bytes(content)
        Photo.objects.update(size_bytes=len(content))
        assert cut_next_pyramid()
        assert TilePyramid.objects.get().status == WorkStatus.FAILED
        purge_discarded_files()
        assert folders() == set()

    def test_too_little_memory_costs_attempts_and_leaves_nothing(self, settings):
        send()
        settings.PICTURE_DECODE_BYTES = 90 * 1024 * 1024
        for _attempt in range(4):
            cut_next_pyramid()
        pyramid = TilePyramid.objects.get()
        assert (pyramid.status, pyramid.attempts, pyramid.failure_reason) == (
            WorkStatus.FAILED,
            3,
            "decoder_limit",
        )
        purge_discarded_files()
        assert folders() == set()

    def test_a_storage_that_breaks_half_way_leaves_nothing_and_the_next_attempt_is_whole(self, monkeypatch):
        photo = send()
        saved_tiles, save = [], type(storages["renditions"]).save

        def breaking(self, name, content, **options):
            saved_tiles.append(name)
            if len(saved_tiles) == 7:
                raise OSError("disk full")
            return save(self, name, content, **options)

        monkeypatch.setattr(type(storages["renditions"]), "save", breaking)
        assert cut_next_pyramid()
        assert TilePyramid.objects.get().status == WorkStatus.PENDING
        assert TilePyramid.objects.get().failure_reason == "OSError"
        assert cut_next_pyramid()
        purge_discarded_files()
        assert folders() == {str(TilePyramid.objects.get().folder)}
        assert len(stored(again(photo))) == tile_count(WIDTH, HEIGHT)

    def test_a_worker_told_to_stop_gives_the_photo_back(self, monkeypatch):
        send()
        monkeypatch.setattr(tiles, "is_stopping", lambda: True)
        assert cut_next_pyramid()
        pyramid = TilePyramid.objects.get()
        assert (pyramid.status, pyramid.attempts) == (WorkStatus.PENDING, 0)
        purge_discarded_files()
        assert folders() == set()

    def test_a_worker_that_lost_its_claim_writes_nothing_and_removes_what_it_wrote(self, monkeypatch):
        photo = send()
        begin = tiles._begin

        def losing(pyramid):
            folder = begin(pyramid)
            TilePyramid.objects.update(lease_token=uuid.uuid4())
            return folder

        with monkeypatch.context() as patched:
            patched.setattr(tiles, "_begin", losing)
            patched.setattr(tiles, "_TILES_BETWEEN_CHECKS", 10_000)
            assert cut_next_pyramid()
        assert TilePyramid.objects.get().status == WorkStatus.PROCESSING
        TilePyramid.objects.update(lease_until=Now() - timedelta(seconds=1))
        assert cut_next_pyramid()
        purge_discarded_files()
        assert folders() == {str(TilePyramid.objects.get().folder)}
        assert len(stored(again(photo))) == tile_count(WIDTH, HEIGHT)

    def test_what_a_killed_worker_had_written_is_removed_by_the_next_attempt(self):
        photo = send()
        (pyramid,) = TilePyramid.objects.claim(limit=1)
        folder = tiles._begin(pyramid)
        storages["renditions"].save(f"tiles/{folder}/3/0_0.jpg", ContentFile(b"half a pyramid"))
        TilePyramid.objects.update(lease_until=Now() - timedelta(seconds=1))  # it was killed here
        sweep()
        assert cut_next_pyramid()
        purge_discarded_files()
        assert folders() == {str(TilePyramid.objects.get().folder)} != {str(folder)}
        assert len(stored(again(photo))) == tile_count(WIDTH, HEIGHT)

    def test_a_worker_killed_three_times_is_given_up_with_a_reason(self):
        send()
        for _attempt in range(3):
            TilePyramid.objects.claim(limit=1)
            TilePyramid.objects.update(lease_until=Now() - timedelta(seconds=1))
        sweep()
        assert (TilePyramid.objects.get().status, TilePyramid.objects.get().failure_reason) == (
            "failed",
            "worker_lost",
        )

    def test_a_child_that_lies_about_its_tiles_is_not_believed(self):
        def answer(*frames: tuple[int, int, int, bytes]) -> list[object]:
            reader, writer = os.pipe()
            for level, column, row, content in frames:
                os.write(writer, tile_cutting._FRAME.pack(level, column, row, len(content)) + content)
            os.close(writer)
            with os.fdopen(reader, "rb") as pipe:
                return list(tile_cutting._received(pipe, 600, 10, 1.0))

        jpeg_start = b"\xff\xd8\xff\xe0"
        right = [(1, 0, 0, jpeg_start), (1, 1, 0, jpeg_start), (0, 0, 0, jpeg_start), (255, 0, 0, b"{}")]
        assert len(answer(*right)) == 3
        wrong_order = [right[1], right[0], *right[2:]]
        not_a_tile = [(1, 0, 0, b"<script>"), *right[1:]]
        too_early = [right[0], right[3]]
        outside = [(9, 500, 500, jpeg_start), *right[1:]]
        one_more = [*right[:3], (0, 1, 0, jpeg_start), right[3]]
        for frames in (wrong_order, not_a_tile, too_early, outside, one_more):
            with pytest.raises(ValueError, match="tile"):
                answer(*frames)
        with pytest.raises(EOFError):
            answer(*right[:2])
        with pytest.raises(PictureError, match="corrupt"):
            answer((255, 0, 0, b'{"code": "corrupt", "params": {}}'))

    def test_a_caller_that_stops_early_leaves_no_process_behind(self):
        content = jpeg(width=4_000, height=4_000)
        found = tile_cutting.cut_tiles(
            io.BytesIO(content), size_bytes=len(content), width_px=4_000, height_px=4_000,
            limits=DEFAULT_LIMITS, seconds=30, memory_bytes=3 * 1024**3,
        )  # fmt: skip
        next(found)
        found.close()
        children = subprocess.run(
            ["ps", "--ppid", str(os.getpid()), "-o", "args="], capture_output=True, text=True, check=False
        ).stdout
        assert "tile_cutting" not in children

    def test_a_child_without_a_parent_ends(self):
        child = subprocess.Popen(
            [sys.executable, "-m", "apps.observations.tile_cutting",
             *map(str, (3 * 1024**3, 30, 10**7, 10**8, 30_000, 10**6, 3_000, 3_000))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=site.BASE_DIR,
        )  # fmt: skip
        child.stdin.close()
        child.stdout.close()
        assert child.wait(20) is not None


class TestDeletion:
    def test_a_photo_s_tiles_go_with_it(self):
        photo = send()
        cut_next_pyramid()
        other = send(jpeg(width=WIDTH, height=HEIGHT, seed=9))
        cut_next_pyramid()
        delete_photo(photo=photo)
        assert DiscardedFile.objects.filter(name__startswith="tiles/").count() == 1
        purge_discarded_files()
        assert folders() == {str(again(other).tile_pyramid.folder)}
        assert len(stored(other)) == tile_count(WIDTH, HEIGHT)
        assert not DiscardedFile.objects.exists()

    def test_those_of_a_photo_deleted_while_they_are_cut_go_too(self, monkeypatch):
        photo = send()
        begin = tiles._begin

        def deleting(pyramid):
            folder = begin(pyramid)
            storages["renditions"].save(f"tiles/{folder}/3/9_9.jpg", ContentFile(b"first"))
            delete_photo(photo=photo)
            return folder

        monkeypatch.setattr(tiles, "_begin", deleting)
        assert cut_next_pyramid()
        purge_discarded_files()
        assert folders() == set()
        assert not TilePyramid.objects.exists()

    def test_removing_a_folder_that_is_gone_is_no_error(self):
        DiscardedFile.objects.create(storage="renditions", name=f"tiles/{uuid.uuid4()}/")
        assert purge_discarded_files() == 1
        assert not DiscardedFile.objects.exists()


class TestAddresses:
    @pytest.fixture
    def photo(self) -> Photo:
        photo = send()
        cut_next_pyramid()
        return again(photo)

    def test_tiles_of_a_photo_say_where_they_are(self, photo):
        found = tiles_of(photo)
        assert found["url"] == f"/photos/{photo.public_id}/tiles/{{level}}/{{column}}_{{row}}.jpg"
        assert found["tile_px"] == TILE_PX == 512
        assert found["levels"][-1] == {"level": 3, "width": WIDTH, "height": HEIGHT, "columns": 6, "rows": 3}
        assert found["levels"][0] == {"level": 0, "width": 338, "height": 138, "columns": 1, "rows": 1}
        for level in found["levels"]:
            url = found["url"].format(
                level=level["level"], column=level["columns"] - 1, row=level["rows"] - 1
            )
            response = Client().get(url)
            assert response.status_code == 200
            width, height = Image.open(io.BytesIO(response.getvalue())).size
            assert (level["columns"] - 1) * TILE_PX + width == level["width"]
            assert (level["rows"] - 1) * TILE_PX + height == level["height"]

    def test_there_are_none_before_they_are_all_there(self):
        photo = send()
        assert tiles_of(photo) is None
        assert Client().get(address(photo, 0, 0, 0)).status_code == 404
        cut_next_pyramid()
        assert tiles_of(again(photo)) is not None

    @pytest.mark.parametrize(
        "place", [(4, 0, 0), (3, 6, 0), (3, 0, 3), (0, 1, 0), (99, 0, 0), (3, 10**30, 0)]
    )
    def test_what_lies_outside_is_not_found(self, photo, place):
        assert Client().get(address(photo, *place)).status_code == 404

    def test_a_file_that_is_gone_is_not_found(self, photo):
        storages["renditions"].delete(f"{photo.tile_pyramid.folder_name}3/0_0.jpg")
        assert Client().get(address(photo, 3, 0, 0)).status_code == 404

    def test_headers_are_those_of_every_rendition(self, photo):
        response = Client().get(address(photo, 3, 1, 1))
        assert response["Content-Type"] == "image/jpeg"
        assert response["X-Content-Type-Options"] == "nosniff"
        assert "private" in response["Cache-Control"]
        assert "max-age=3600" in response["Cache-Control"]
        assert (
            Client().get(address(photo, 3, 1, 1), headers={"If-None-Match": response["ETag"]}).status_code
            == 304
        )
        assert Client().post(address(photo, 3, 1, 1)).status_code == 405

    def test_a_public_store_is_asked_directly(self, photo, settings, monkeypatch):
        settings.IS_PUBLIC_STORE = True
        monkeypatch.setattr(
            type(storages["renditions"]), "url", lambda _self, name: f"https://store/{name}?signed"
        )
        response = Client().get(address(photo, 3, 1, 1))
        assert response.status_code == 302
        assert response["Location"] == f"https://store/{photo.tile_pyramid.folder_name}3/1_1.jpg?signed"
        assert "max-age=240" in response["Cache-Control"]

    def test_who_may_not_see_the_photo_sees_none_of_its_tiles(self, photo):
        Observation.objects.update(visibility=Observation.Visibility.PRIVATE)

        def status(user) -> int:
            client = Client()
            if user:
                client.force_login(user)
            return client.get(address(photo, 3, 0, 0)).status_code

        assert status(None) == 404
        assert status(UserFactory()) == 404
        assert status(photo.contributor) == 200
        assert status(UserFactory(is_staff=True)) == 200
        assert not Photo.objects.visible_to(AnonymousUser()).exists()

    def test_a_tile_costs_one_query(self, photo):
        with CaptureQueriesContext(connection) as queries:
            Client().get(address(photo, 3, 0, 0))
        assert len(queries) == 1


def test_curators_see_the_work_and_set_it_going_again(settings):
    settings.STAFF_TWO_FACTOR = False
    send()
    TilePyramid.objects.update(status=WorkStatus.FAILED, attempts=3, failure_reason="decoder_limit")
    client = Client()
    client.force_login(UserFactory(is_staff=True, is_superuser=True))
    listing = reverse("admin:observations_tilepyramid_changelist")
    assert "too much memory" in client.get(listing).content.decode()
    row = TilePyramid.objects.get()
    assert client.get(reverse("admin:observations_tilepyramid_change", args=[row.pk])).status_code == 200
    client.post(listing, {"action": "try_again", "_selected_action": [row.pk]})
    assert TilePyramid.objects.get().status == WorkStatus.PENDING


@pytest.mark.slow
def test_a_hundred_megapixels_are_cut_in_bounded_memory_and_time():
    script = (
        "import io, resource, time\n"
        "from PIL import Image\n"
        "from apps.observations.tile_cutting import cut_tiles\n"
        "from apps.training.engine.pictures import DEFAULT_LIMITS\n"
        "exif = Image.Exif(); exif[0x0112] = 6\n"
        "file = io.BytesIO()\n"
        "Image.effect_noise((1200, 900), 60).convert('RGB').resize((12000, 9000)).save(\n"
        "    file, 'JPEG', quality=85, progressive=True, exif=exif.tobytes())\n"
        "tiles = cut_tiles(file, size_bytes=file.tell(), width_px=9000, height_px=12000, limits=DEFAULT_LIMITS,\n"
        "    seconds=60, memory_bytes=3 * 1024**3)\n"
        "print(sum(1 for _tile in tiles), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)\n"
    )
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=site.BASE_DIR,
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    number, peak_mb = map(int, done.stdout.split())
    assert number == tile_count(9_000, 12_000)
    assert peak_mb < 1_500
    assert time.monotonic() - began < 120


class TestPicturePart:
    @pytest.mark.parametrize(
        "size", [(96, 64), (2_560, 300), (2_561, 777), (300, 5_119), (5_121, 303), (10_243, 77), (20_481, 21)]
    )
    def test_the_display_s_size_is_known_without_opening_it(self, size):
        for content in (jpeg(width=size[0], height=size[1]), saved(picture(*size), "PNG")):
            photo = send(content)
            part = picture_part(photo, viewer=AnonymousUser())
            with photo.display.open("rb") as file:
                assert Image.open(file).size == (part["display_width"], part["display_height"])

    def test_it_says_where_everything_is(self, client):
        photo = send()
        assert picture_part(photo, viewer=photo.contributor)["tiles"] is None
        cut_next_pyramid()
        part = picture_part(again(photo), viewer=photo.contributor)
        assert (part["id"], part["width"], part["height"]) == (str(photo.public_id), WIDTH, HEIGHT)
        assert part["tiles"]["levels"][-1]["width"] == WIDTH
        assert all(client.get(part[name]).status_code == 200 for name in ("display", "thumbnail"))

    def test_a_file_s_name_is_for_those_who_may_know_the_place(self):
        photo = PhotoFactory(name="behind the church of Ploumanac'h.jpg")
        names = {
            user: picture_part(photo, viewer=user)["name"]
            for user in (photo.contributor, UserFactory(is_staff=True), UserFactory(is_expert=True))
        }
        assert list(names.values()) == [photo.name, photo.name, str(photo.public_id)[:8]]

    def test_it_costs_no_query_with_its_rows_at_hand(self, django_assert_num_queries):
        send()
        cut_next_pyramid()
        photo = Photo.objects.select_related("observation", "tile_pyramid").get()
        with django_assert_num_queries(0):
            assert picture_part(photo, viewer=AnonymousUser())["tiles"]
